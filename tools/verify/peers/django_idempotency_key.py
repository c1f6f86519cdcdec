"""A Django service that uses django-idempotency-key as its README shows, with storage and lock in memory, its defaults. One setting
differs from the default: a repeat gets the first request's status, not 409."""

import json
import time
import uuid
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse
from django.urls import path
from idempotency_key.decorators import idempotency_key

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    DEBUG=False,
    IDEMPOTENCY_KEY={"CONFLICT_STATUS_CODE": None},
    MIDDLEWARE=["idempotency_key.middleware.ExemptIdempotencyKeyMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="of this run",
)
orders = []


def account(request):
    return request.headers.get("Authorization")


def without_account(order):
    return {name: value for name, value in order.items() if name != "account"}


@idempotency_key(optional=False)
def make(request):
    body = json.loads(request.body)
    time.sleep(0.1)
    if "X-Fail" in request.headers:
        return JsonResponse({"error": "on request"}, status=500)
    if body.get("quantity", 1) > 100:
        return JsonResponse({"error": "out of stock"}, status=409)
    order = {"id": str(uuid.uuid4()), "state": "new", **body, "account": account(request)}
    orders.append(order)
    return JsonResponse(without_account(order), status=201, headers={"Location": f"/orders/{order['id']}"})


def ship(request, id):
    order = next(order for order in orders if order["id"] == id)
    order["state"] = "shipped"
    return JsonResponse(without_account(order))


def listed(request):
    customer = request.GET.get("customer")
    own = [order for order in orders if order["account"] == account(request) and order["customer"] == customer]
    return JsonResponse([without_account(order) for order in own], safe=False)


def read(request, id):
    found = [order for order in orders if order["account"] == account(request) and order["id"] == id]
    return JsonResponse(without_account(found[0])) if found else JsonResponse({"error": "unknown"}, status=404)


@idempotency_key(optional=False)
def collection(request):
    return make(request) if request.method == "POST" else listed(request)


urlpatterns = [
    path("orders", collection),
    path("others", make),
    path("orders/<str:id>", read),
    path("orders/<str:id>/ship", ship),
]


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 128


class Quiet(WSGIRequestHandler):
    def log_message(self, *_):
        pass


django.setup()
with make_server("127.0.0.1", 0, get_wsgi_application(), Server, Quiet) as server:
    print("ports", server.server_port, flush=True)
    server.serve_forever()
