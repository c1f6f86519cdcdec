"""Gives each request of schemathesis a new key, because no two of its requests are the same.

An invalid key that the generator chose stays, so that the fuzzer also tests how the API refuses one.
"""

import re
import uuid

import schemathesis

BARE = re.compile(r"[!#-+\--:<-\[\]-~]{1,255}")


@schemathesis.hook
def before_call(context, case, kwargs):
    key = (case.headers or {}).get("Idempotency-Key")
    if isinstance(key, str) and BARE.fullmatch(key):
        case.headers["Idempotency-Key"] = str(uuid.uuid4())
