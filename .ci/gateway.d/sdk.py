"""Stripe's library for Python against the sandbox: `sdk.py URL VERSION MAIL`."""

import json
import sys
import uuid

import stripe

url, version, mail = sys.argv[1:]
assert stripe.api_version == version, (stripe.api_version, version)


def client(retries=0, timeout=10, key="sk_test_ci"):
    http = stripe.RequestsClient(timeout=timeout)
    return stripe.StripeClient(key, base_addresses={"api": url}, max_network_retries=retries, http_client=http)


def payment(card, **more):
    return {
        "amount": 500, "currency": "eur", "payment_method": card, "confirm": True, "error_on_requires_action": True,
        "payment_method_types": ["card"], "metadata": {"reference": str(uuid.uuid4())},
    } | more


def refused(kind, call):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


once = client().v1
key, body = str(uuid.uuid4()), payment("pm_card_visa")
paid = once.payment_intents.create(body, {"idempotency_key": key})
assert (paid.status, paid.amount_received, paid.metadata["reference"]) == ("succeeded", 500, body["metadata"]["reference"])
assert once.payment_intents.retrieve(paid.id).id == paid.id
again = once.payment_intents.create(body, {"idempotency_key": key})
assert again.id == paid.id and again.last_response.headers["Idempotent-Replayed"] == "true"
refused(stripe.IdempotencyError, lambda: once.payment_intents.create(body | {"amount": 501}, {"idempotency_key": key}))

for card, code, decline in [
    ("pm_card_visa_chargeDeclined", "card_declined", "generic_decline"),
    ("pm_card_chargeDeclinedExpiredCard", "expired_card", None),
    ("pm_card_threeDSecure2Required", "authentication_required", "authentication_required"),
]:
    error = refused(stripe.CardError, lambda: once.payment_intents.create(payment(card)))
    assert (error.http_status, error.code, error.error.decline_code if decline else None) == (402, code, decline), error
error = refused(stripe.InvalidRequestError, lambda: once.payment_intents.create(payment("pm_card_none")))
assert (error.code, error.param) == ("resource_missing", "payment_method")
refused(stripe.AuthenticationError, lambda: client(key="sk_live_ci").v1.payment_intents.list())

parts = [once.refunds.create({"payment_intent": paid.id, "amount": 100}).id for _ in range(5)]
assert refused(stripe.InvalidRequestError, lambda: once.refunds.create({"payment_intent": paid.id})).code == "charge_already_refunded"
listed = [refund.id for refund in once.refunds.list({"payment_intent": paid.id, "limit": 2}).auto_paging_iter()]
assert listed == parts[::-1], (listed, parts)

for card in ["pm_card_lost_reply", "pm_card_gateway_error"]:
    lost = payment(card)
    intent = client(retries=3, timeout=1.5).v1.payment_intents.create(lost)
    made = once.payment_intents.list({"created": {"gte": intent.created - 60}, "limit": 100}).auto_paging_iter()
    assert sum(other.metadata["reference"] == lost["metadata"]["reference"] for other in made) == 1, card

events = [json.loads(line) for line in open(mail, encoding="utf-8")]
for event in events:
    stripe.Webhook.construct_event(event["body"], event["signature"], "whsec_ci")
    refused(stripe.SignatureVerificationError, lambda: stripe.Webhook.construct_event(event["body"] + " ", event["signature"], "whsec_ci"))
print(f"PyPI's stripe speaks {version} with the sandbox; {len(events)} events are signed right")
