"""Uses a client that openapi-generator made, for the whole story: order, payment, decline, 202, 409, 422, pages, refund."""

import os
import sys
import time
import uuid

sys.path.insert(0, os.path.join(os.getcwd(), "openapi-generator"))
import payments_client as made

client = made.ApiClient(made.Configuration(host=os.environ["BASE"], access_token="sk_demo_acme"))
orders, charges, refunds = made.OrdersApi(client), made.ChargesApi(client), made.RefundsApi(client)


def key():
    return str(uuid.uuid4())


def refusal(call):
    """The problem of an answer that is not a success."""
    try:
        call()
    except made.ApiException as exception:
        assert isinstance(exception.data, made.Problem), exception
        assert exception.headers["Retry-Advice"] == exception.data.retry.value, exception.headers
        return exception.status, exception.data
    raise AssertionError("no refusal")


def order(name, quantity=1, sku="pro-monthly"):
    new = made.NewOrder(customer=customer, items=[made.NewItem(sku=sku, quantity=quantity)], metadata={"number": "A-1001"})
    return orders.create_order_with_http_info(name, new)


def pay(name, order_id, card):
    return charges.create_charge_with_http_info(name, made.NewCharge(order_id=order_id, payment_method=card))


customer, name = f"ada-{key()}", key()
first, again = order(name), order(name)
assert first.status_code == 201 and first.data.metadata == {"number": "A-1001"}, first
assert again.data == first.data and again.headers["idempotency-replayed"] == "true", again

status, problem = refusal(lambda: order(name, quantity=2))
assert (status, problem.type, problem.retry) == (422, "/problems/idempotency-key-reused", made.Retry.NEW_MINUS_KEY), problem
status, problem = refusal(lambda: order(key(), quantity=1000, sku="sticker"))
assert (status, problem.type, problem.retry) == (409, "/problems/out-of-stock", made.Retry.FIX), problem
# A generated client checks the limits itself, but no schema can forbid the past.
past = made.NewEntitlement(customer=customer, feature="pro", expires_at="2020-01-01T00:00:00Z")
status, problem = refusal(lambda: made.EntitlementsApi(client).grant_entitlement(key(), past))
assert (status, problem.errors[0].pointer) == (422, "/expires_at"), problem

status, problem = refusal(lambda: pay(key(), first.data.id, "pm_card_visa_chargeDeclined"))
assert (status, problem.retry) == (402, made.Retry.NEW_MINUS_KEY), problem
declined = charges.get_charge(problem.charge_id)
assert declined.status == made.PaymentStatus.FAILED and declined.failure_code, declined
paid = pay(key(), first.data.id, "pm_card_visa")
assert paid.status_code == 201 and isinstance(paid.data, made.Charge) and paid.data.processing is None, paid

second, name = order(key()).data, key()
answer = pay(name, second.id, "pm_card_lost_reply")
assert answer.status_code == 202 and isinstance(answer.data, made.ProcessingCharge), answer
assert answer.data.status == "processing" and answer.data.processing.attempts >= 1, answer
deadline = time.monotonic() + 60
while answer.status_code == 202 and time.monotonic() < deadline:
    time.sleep(int(answer.headers["retry-after"]))
    answer = pay(name, second.id, "pm_card_lost_reply")
assert answer.status_code == 201 and isinstance(answer.data, made.Charge), answer

pages, after = [], None
while True:
    page = orders.list_orders(customer=customer, limit=1, after=after)
    pages += page.data
    if not page.has_more:
        break
    after = page.data[-1].id
assert [one.id for one in pages] == [second.id, first.data.id], pages

name = key()
part = refunds.create_refund_with_http_info(paid.data.id, name, made.NewRefund(amount=900, metadata={"reason": "damaged"}))
assert part.status_code == 201 and (part.data.amount, part.data.metadata) == (900, {"reason": "damaged"}), part
rest = refunds.create_refund_with_http_info(paid.data.id, key())
assert rest.status_code == 201 and rest.data.amount == 4900 - 900, rest
assert orders.get_order(first.data.id).status == made.OrderStatus.REFUNDED
# Every event has the schema of its data.
# One call looks at a bounded part of the feed, so the client continues from the page's cursor, even after an empty
# page.
events, cursor = [], None
while True:
    page = made.EventsApi(client).list_events(limit=100, object_id=str(paid.data.id), after=cursor)
    events += page.data
    cursor = page.cursor
    if not page.has_more:
        break
assert [event.type for event in events] == ["charge.succeeded"], events
print("openapi-generator's Python client: order, payment, decline, 202, 409, 422, pages, refund")
