"""The client's half, in Python's standard library: store the key, send the request, and do what `retry` says.

    BASE=http://127.0.0.1:8080 python3 examples/clients/client.py
"""

import json, os, pathlib, sys, time, urllib.error, urllib.request, uuid

BASE = os.environ.get("BASE", "http://127.0.0.1:8080")
KEYS = pathlib.Path(os.environ.get("KEYS", "keys"))  # this folder survives a crash of this process, like your database
GIVE_UP_AFTER = 60  # seconds; after this time, a person or a later job sends the request again with the same key


def post(decision, path, body):
    """Carries out one decision once. `decision` is your name for it, such as "pay order 7". A new decision needs a new name."""
    KEYS.mkdir(exist_ok=True)
    note = KEYS / uuid.uuid5(uuid.NAMESPACE_URL, decision).hex
    if not note.exists():  # before the first sending, so that a restarted process finds the key
        note.write_text(str(uuid.uuid4()))
    key, deadline, pause = note.read_text(), time.monotonic() + GIVE_UP_AFTER, 0.2
    while True:
        status, answer, wait = send("POST", path, body, key)
        # No answer, a 202, or a problem with `retry: again`: send the same request with the same key.
        if not (status in (0, 202) or answer.get("retry") == "again"):
            return status, answer  # a success, or a problem whose `retry` is fix, new-key or never: the caller decides what to do
        if time.monotonic() > deadline:
            raise TimeoutError(f"{decision}: outcome unknown; send it again later with the same key")
        time.sleep(wait or pause)
        pause = min(pause * 2, 5)


def send(method, path, body, key):
    headers = {"Authorization": "Bearer sk_demo_acme", "Content-Type": "application/json", "Idempotency-Key": key}
    request = urllib.request.Request(BASE + path, json.dumps(body).encode(), headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=15) as response:
            return response.status, json.load(response), float(response.headers.get("Retry-After", 0))
    except urllib.error.HTTPError as problem:
        text = problem.read()
        answer = json.loads(text) if text.startswith(b"{") else {"retry": "again"}  # not JSON: from a proxy, not from the API
        return problem.code, answer, float(problem.headers.get("Retry-After", 0))
    except (OSError, ValueError):  # the request or its answer was lost: the client can't know whether it took effect
        return 0, {}, 0


if __name__ == "__main__":
    run = sys.argv[1] if len(sys.argv) > 1 else uuid.uuid4().hex[:8]
    order = lambda name, sku, n: post(f"{run} order {name}", "/v1/orders", {"customer": f"py-{run}", "items": [{"sku": sku, "quantity": n}]})
    pay = lambda name, order_id, card: post(f"{run} pay {name}", "/v1/charges", {"order_id": order_id, "payment_method": card})
    status, made = order("a", "pro-monthly", 1)
    print("order", status, made["status"])
    status, charge = pay("a", made["id"], "pm_card_lost_reply")
    print("lost reply", status, charge["status"])
    status, second = order("b", "pro-monthly", 1)
    status, declined = pay("b", second["id"], "pm_card_visa_chargeDeclined")
    print("declined", status, declined["type"], declined["retry"])
    status, charge = pay("b with another card", second["id"], "pm_card_visa")  # a new decision needs a new key
    print("another card", status, charge["status"])
    status, refused = order("c", "sticker", 10000)
    print("out of stock", status, refused["type"], refused["retry"])
