"""The file store after a crash: broken notes never block a decision, and a decision never gets another request.

BASE=.. API_KEY=.. STORE=folder python3 notes.py CLIENT..
"""

import hashlib
import json
import os
import pathlib
import subprocess
import sys
import uuid

customer = uuid.uuid4().hex
decision = f"order of {customer}"
folder = pathlib.Path(os.environ["STORE"]) / hashlib.sha256(decision.encode()).hexdigest()
folder.mkdir(parents=True)
(folder / "key-0").write_bytes(b"")
(folder / "key-1").write_bytes(f"{uuid.uuid4()} 0123".encode())
(folder / "key-2").write_bytes(b"\0" * 102)


def start(quantity):
    asked = {"customer": customer, "items": [{"sku": "pro-monthly", "quantity": quantity}]}
    client = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    client.stdin.write(json.dumps({"decision": decision, "path": "/v1/orders", "body": asked}).encode() + b"\n")
    client.stdin.close()
    return client


clients = [start(1), start(1)]
results = [json.loads(client.stdout.read()) for client in clients]
assert all(result["outcome"] == "done" for result in results), results
assert results[0]["key"] == results[1]["key"] and results[0]["body"]["id"] == results[1]["body"]["id"], results

other = start(2)
said, complaint = other.stdout.read(), other.stderr.read().decode()
assert said == b"" and other.wait(60) != 0 and "another request" in complaint, (said, complaint)
# Each finished run has removed its mark, so a refusal would count as a no.
assert not list(folder.glob("open-*")), list(folder.iterdir())
print("ok     broken notes don't block, and a decision keeps its request")
