"""Prints SQL: the database of a service that copied the modules of release 0.1.0, with the contents of its tables.

A ticket that was sold under the key `old`, and fine 9, whose payment was interrupted: its record is provisional, and a holder that is
gone has the lease."""

import hashlib
import json
import pathlib
import sys

SOURCE = pathlib.Path(sys.argv[1])
SERVICE = pathlib.Path(sys.argv[2])
OFFICE = "00000000-0000-0000-0000-000000000001"
TENANT = "74656e61-6e74-0000-0000-000000000001"


def digest(*parts, before=b""):
    sha = hashlib.sha256(before)
    for part in parts:
        sha.update(len(part).to_bytes(8, "big") + part)
    return sha


def fingerprint(method, path, body):
    canonical = json.dumps(body, separators=(",", ":"), sort_keys=True)
    return digest(method.encode(), path.encode(), canonical.encode(), before=b"\1").hexdigest()


# Diesel's own table, and the migrations by the versions that they have had since 0.1.0.
print("CREATE TABLE __diesel_schema_migrations (version varchar(50) PRIMARY KEY, run_on timestamp NOT NULL DEFAULT now());")
for folder in [
    SOURCE / "crates/idempotency/migrations/2026-11-25-000001_idempotency_keys",
    SOURCE / "crates/external-calls/migrations/2026-11-25-000002_settlements",
    SERVICE / "migrations/2026-11-28-101500_service",
]:
    print((folder / "up.sql").read_text())
    print(f"INSERT INTO __diesel_schema_migrations VALUES ('{folder.name.split('_')[0].replace('-', '')}');")

reply = json.dumps({"seat": "1A"}, separators=(",", ":"))
sold = fingerprint("POST", "/tickets", {"seat": "1A"})
print(f"INSERT INTO tickets VALUES ('{OFFICE}', '1A');")
print(
    f"""INSERT INTO idempotency_keys (account_id, scope, key, id, route, request_id, fingerprint_version, fingerprint, status,
    content_type, location, body, expires_at) VALUES ('{OFFICE}', 'account', 'old', gen_random_uuid(), 'POST /tickets',
    gen_random_uuid(), 1, '\\x{sold}', 201, 'application/json', '/tickets/1A', '{reply}', now() + interval '1 hour');"""
)

path = "/fines/9/payment"
scope, key = f"POST {path}", "f-9"
reference = digest(scope.encode(), key.encode(), before=bytes.fromhex(TENANT.replace("-", ""))).hexdigest()
print("INSERT INTO fines (tenant, id, cents, status) VALUES (1, 9, 3000, 'paying');")
print(
    f"""INSERT INTO idempotency_keys (account_id, scope, key, id, route, request_id, fingerprint_version, fingerprint, status,
    content_type, location, body) VALUES ('{TENANT}', '{scope}', '{key}', gen_random_uuid(), 'POST /fines/{{id}}/payment',
    gen_random_uuid(), 1, '\\x{fingerprint("POST", path, {})}', 202, 'application/json', '/fines/9', '{{}}');"""
)
print(
    f"""INSERT INTO settlements (account_id, reference, scope, key, request_id, call, location, next_attempt_at)
    VALUES ('{TENANT}', '{reference}', '{scope}', '{key}', gen_random_uuid(), '{{"tenant":1,"fine":9,"cents":3000}}', '/fines/9',
    now() + interval '1 hour');"""
)
