"""Uses a client that openapi-python-client generated: an order, its replay, and a typed problem."""

import os
import sys
import uuid

sys.path.insert(0, os.getcwd())
from generated import AuthenticatedClient
from generated.api.orders import create_order
from generated.models import NewItem, NewOrder, Order, Problem, Retry

client = AuthenticatedClient(base_url=os.environ["BASE"], token="sk_demo_acme")
key = str(uuid.uuid4())


def order(quantity):
    body = NewOrder(customer="ada", items=[NewItem(sku="pro-monthly" if quantity < 100 else "sticker", quantity=quantity)])
    return create_order.sync_detailed(client=client, body=body, idempotency_key=key)


first, again = order(1), order(1)
assert first.status_code == 201 and isinstance(first.parsed, Order), first
assert again.parsed.id == first.parsed.id and again.headers["idempotency-replayed"] == "true", again
reused = order(2)
assert isinstance(reused.parsed, Problem) and reused.parsed.retry == Retry.NEW_KEY, reused
key = str(uuid.uuid4())
refused = order(1000).parsed
assert isinstance(refused, Problem) and refused.type_ == "/problems/out-of-stock" and refused.retry == Retry.FIX, refused
assert refused.sku == "sticker" and refused.available == 10, refused
print("generated Python client: an order, its replay, and problems with their advice")
