"""What schemathesis must know of keys: each request is another one, so each gets another key.

A key that the generator chose is left alone where it breaks the rules on purpose: how a bad key is refused is tested, too.
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
