"""A Starlette service that uses asgi-idempotency-header as its README shows, with the backend in memory."""

import asyncio
import socket
import uuid

import uvicorn
from idempotency_header_middleware import IdempotencyHeaderMiddleware
from idempotency_header_middleware.backends import MemoryBackend
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.routing import Route

orders = []


def account(request):
    return request.headers.get("authorization")


def without_account(order):
    return {name: value for name, value in order.items() if name != "account"}


async def make(request):
    body = await request.json()
    await asyncio.sleep(0.1)
    if "x-fail" in request.headers:
        return JSONResponse({"error": "on request"}, 500)
    if body.get("quantity", 1) > 100:
        return JSONResponse({"error": "out of stock"}, 409)
    order = {"id": str(uuid.uuid4()), "state": "new", **body, "account": account(request)}
    orders.append(order)
    return JSONResponse(without_account(order), 201, {"Location": f"/orders/{order['id']}"})


async def ship(request):
    order = next(order for order in orders if order["id"] == request.path_params["id"])
    order["state"] = "shipped"
    return JSONResponse(without_account(order))


async def listed(request):
    customer = request.query_params.get("customer")
    own = [order for order in orders if order["account"] == account(request) and order["customer"] == customer]
    return JSONResponse([without_account(order) for order in own])


async def read(request):
    own = [order for order in orders if order["account"] == account(request)]
    found = [order for order in own if order["id"] == request.path_params["id"]]
    return JSONResponse(without_account(found[0])) if found else JSONResponse({"error": "unknown"}, 404)


app = Starlette(
    routes=[
        Route("/orders", make, methods=["POST"]),
        Route("/others", make, methods=["POST"]),
        Route("/orders", listed, methods=["GET"]),
        Route("/orders/{id}", read, methods=["GET"]),
        Route("/orders/{id}/ship", ship, methods=["POST"]),
    ],
    middleware=[Middleware(IdempotencyHeaderMiddleware, backend=MemoryBackend())],
)

listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen(128)
print("ports", listener.getsockname()[1], flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listener])
