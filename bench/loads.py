"""The loads: the load program loads the API, and pgbench loads PostgreSQL."""
import json, re, subprocess, sys, time

from machine import BIN, RELEASE, ROOT, POOL

CONNECTIONS = 32
# As many as the API gives one account: all connections but two.
PGBENCH_CLIENTS = POOL - 2
# In the open loop. A due request finds a free connection, unless the server stalls.
OPEN_LOOP_CONNECTIONS = 128

LIMIT = ROOT / "bench/limit.sql"
BARE_LIMIT = ROOT / "bench/limit-bare-tables.sql"

ID = "01a210ce-82d7-75e9-8dab-0e794b72f99f"
BODY = ('{"id":"%s","customer":"ada","status":"pending","currency":"EUR","amount":8900,"items":[{"sku":"pro-monthly","name":"Pro, a month","quantity":1,'
        '"unit_amount":4900},{"sku":"credits-1000","name":"1000 API credits","quantity":2,"unit_amount":2000}],"metadata":{},"created_at":"2026-11-25T03:44:59.095418Z"}' % ID)

# The values of one order, from PostgreSQL's log. limit.sql sends these values and random keys and ids.
VALUES = {
    "account": "01990000-0000-7000-8000-000000000001", "scope": "account", "skus": "{pro-monthly,credits-1000}", "customer": "ada", "status": "pending",
    "currency": "EUR", "amount": "8900", "type": "order.created", "data": BODY, "body": BODY,
    "items": '[{"sku":"pro-monthly","name":"Pro, a month","quantity":1,"unit_amount":4900,"reserves":false,"grants":{"feature":"pro","units":null,"days":30}},'
             '{"sku":"credits-1000","name":"1000 API credits","quantity":2,"unit_amount":2000,"reserves":false,"grants":{"feature":"api_credits","units":1000,"days":null}}]',
    "metadata": "{}", "credential": "01990000-0000-7000-8000-000000000003", "route": "POST /v1/orders", "version": "1", "fingerprint": "\\x4dbcd00e796fd542d502404062fbf308133147ec6def60b9fde86fe954a749b2", "code": "201",
    "content_type": "application/json", "location": f"/v1/orders/{ID}", "ttl": "24:00:00",
}


def load_command(server, work, seconds, connections=CONNECTIONS, **options):
    options |= {"port": server.port, "connections": connections, "seconds": seconds}
    return [RELEASE / "examples/load", work, *(word for name, value in options.items() for word in (f"--{name}", str(value)))]


def load(server, work, seconds, **options):
    """Returns what the load program prints. An unexpected status ends the run, because a fast refusal is not a result."""
    answer = subprocess.run(load_command(server, work, seconds, **options), check=True, capture_output=True, text=True)
    result = json.loads(answer.stdout)
    if not set(result["statuses"]) <= {"200" if work == "reads" else "201"}:
        sys.exit(f"{work} answered {result['statuses']}")
    return result


def pgbench(database, file, seconds):
    """Returns the transactions a second of a pgbench file."""
    # The ids of each round come after those of the one before: 13 digits of milliseconds, and three for the count.
    values = VALUES | {"n": str(int(time.time() * 1000) * 1000)}
    answer = subprocess.run([BIN / "pgbench", "-n", "-M", "prepared", "-c", str(PGBENCH_CLIENTS), "-j", "2", "-T", str(int(seconds)), "-f", file,
                             *(f"-D{name}={value}" for name, value in values.items()), database.url], capture_output=True, text=True)
    if answer.returncode != 0:
        sys.exit(f"pgbench failed: {answer.stdout}{answer.stderr}")
    return float(answer.stdout.split("tps = ")[1].split()[0])


def check_limit(statements):
    """Ends the run if limit.sql does not send the statements that the API sent for one order."""
    value = re.compile(r"\((?::\w+::text(?: \|\| )?)+\)(?:::uuid)?|(?<!:):\w+|\$\d+")
    ours = [value.sub("?", line.rstrip(";")) for line in LIMIT.read_text().splitlines() if line and not line.startswith(("--", "\\"))]
    sent = [value.sub("?", text) for text in statements]
    last = max((i for i, text in enumerate(sent) if text.startswith('INSERT INTO "orders"')), default=0)
    begin = max((i for i in range(last) if sent[i].startswith("BEGIN")), default=0)
    if sent[begin:begin + len(ours)] != ours:
        theirs, ours = "\n  ".join(sent[begin:begin + len(ours)]), "\n  ".join(ours)
        sys.exit(f"bench/limit.sql does not send the API's statements.\nThe API:\n  {theirs}\nbench/limit.sql:\n  {ours}")
