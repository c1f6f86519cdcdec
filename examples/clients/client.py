"""The client's half, in Python with httpx: store the key, send, and do what `retry` says. Copy this file into your service.

    pip install httpx            (and psycopg, to keep the keys in PostgreSQL)
    echo '{"decision": "order 7", "path": "/v1/orders", "body": {"customer": "ada", "items": [{"sku": "sticker", "quantity": 1}]}}' |
        BASE=http://127.0.0.1:8080 API_KEY=sk_demo_acme python3 client.py

Run it twice: the second run gets the same answer. docs/clients.md says why each rule is as it is.
"""

import asyncio
import contextlib
import dataclasses
import email.utils
import hashlib
import itertools
import json
import os
import pathlib
import random
import re
import sys
import time
import typing
import uuid

import httpx

LONGEST = 1 << 20  # bytes of one answer; the API's answers have a few kilobytes
FIRST_PAUSE = 0.2  # seconds; doubles with each sending


@dataclasses.dataclass(frozen=True)
class Result:
    """How a decision ended.

    done: it took effect once, and `body` is the object. no: it has no effect, and `body` is the problem that says why.
    unknown: call `post` again later with the same decision. Only where `body` has `"retry": "never"`, look at its `resource` instead.
    """

    outcome: typing.Literal["done", "no", "unknown"]
    key: str
    status: int | None = None
    body: dict | None = None


class Store(typing.Protocol):
    """Where the keys are kept. What `begin` has written survives a crash of this process and of its machine."""

    def begin(self, decision: str, request: str) -> tuple[str, typing.Any]:
        """The key of the decision, the same for every process, and a mark that a request is about to be sent."""

    def end(self, mark: typing.Any) -> bool:
        """Removes the mark: each sending was answered. False if other runs of the decision left theirs."""


class FileStore:
    """A folder for each decision. For one machine, on a file system with hard links."""

    def __init__(self, root):
        self.root = pathlib.Path(root)

    def begin(self, decision, request):
        folder = self.root / hashlib.sha256(decision.encode()).hexdigest()
        folder.mkdir(parents=True, exist_ok=True)
        mark = folder / f"open-{uuid.uuid4()}"
        with open(mark, "x") as file:
            file.write(f"{uuid.uuid4()} {request}\n")
            file.flush()
            os.fsync(file.fileno())
        for number in itertools.count():
            # A link is created whole or not at all, by one process only. What a crash left empty or incomplete is
            # skipped.
            note = folder / f"key-{number}"
            with contextlib.suppress(FileExistsError):
                os.link(mark, note)
            if whole := re.fullmatch(r"([0-9a-f-]{36}) ([0-9a-f]{64})\n", note.read_text(errors="replace")):
                break
        if whole[2] != request:
            mark.unlink()
            raise ValueError(f"another request was sent for this decision: {decision}")
        for changed in (folder, self.root):
            directory = os.open(changed, os.O_RDONLY)
            os.fsync(directory)
            os.close(directory)
        return whole[1], mark

    def end(self, mark):
        mark.unlink()
        return not any(mark.parent.glob("open-*"))


class SqlStore:
    """A row of the table in docs/clients.md for each decision. `connect` gives a connection whose `with` commits: a pool's, in your service."""

    def __init__(self, connect):
        self.connect = connect

    def begin(self, decision, request):
        with self.connect() as connection:
            row = connection.execute(
                """INSERT INTO decisions (decision, key, request, open_runs) VALUES (%s, %s, %s, 1)
                   ON CONFLICT (decision) DO UPDATE SET open_runs = decisions.open_runs + 1
                   WHERE decisions.request = excluded.request RETURNING key""",
                (decision, uuid.uuid4(), request),
            ).fetchone()
        if row is None:
            raise ValueError(f"another request was sent for this decision: {decision}")
        return str(row[0]), decision

    def end(self, mark):
        with self.connect() as connection:
            return connection.execute(
                "UPDATE decisions SET open_runs = open_runs - 1 WHERE decision = %s RETURNING open_runs", (mark,)
            ).fetchone() == (0,)


class Client:
    """Times are in seconds. `pause` is the longest pause between two sendings, whatever Retry-After says."""

    def __init__(self, base: str, api_key: str, store: Store, answer=15.0, pause=10.0, deadline=60.0):
        self.base, self.api_key, self.store = base, api_key, store
        self.answer, self.pause, self.deadline = answer, pause, deadline
        # A connection for each sending: what a proxy left on a connection can't become the answer to another request.
        self.http = httpx.AsyncClient(timeout=None, limits=httpx.Limits(max_keepalive_connections=0), follow_redirects=False)

    async def post(self, path: str, body: dict, decision: str) -> Result:
        """Carries out one decision once. `decision` is your name for it, such as "pay order 7": a new decision, a new name."""
        data = json.dumps(body, sort_keys=True).encode()
        request = hashlib.sha256(path.encode() + b"\n" + data).hexdigest()
        key, mark = await asyncio.to_thread(self.store.begin, decision, request)
        end, backoff, unanswered = time.monotonic() + self.deadline, FIRST_PAUSE, False
        while True:
            response, body = await self._send(path, data, key, min(self.answer, end - time.monotonic()))
            advice = advice_of(response, body)
            unanswered = unanswered or advice is None
            retry_after = seconds(response.headers.get("Retry-After", "")) if response else 0
            pause = max(min(retry_after, self.pause), backoff / 2) + random.random() * backoff / 2
            if advice in ("done", "fix", "new-key", "never") or time.monotonic() + pause >= end:
                break
            await asyncio.sleep(pause)
            backoff = min(backoff * 2, self.pause)
        # While a sending may still be on its way, it may still take effect. Then `fix` is not an answer.
        alone = not unanswered and await asyncio.to_thread(self.store.end, mark)
        outcome = {"done": "done", "new-key": "no", "fix": "no" if alone else "unknown"}.get(advice, "unknown")
        return Result(outcome, key, response and response.status_code, body)

    async def _send(self, path, data, key, limit):
        """One sending. (None, None) if no whole answer came in time: the request may have taken effect or not."""
        headers = {"Authorization": f"Bearer {self.api_key}", "Content-Type": "application/json", "Idempotency-Key": key}
        try:
            async with asyncio.timeout(limit), self.http.stream(
                "POST", self.base + path, content=data, headers=headers
            ) as response:
                text = bytearray()
                async for piece in response.aiter_bytes(1 << 16):
                    text += piece
                    if len(text) > LONGEST:
                        return None, None
        except (httpx.HTTPError, TimeoutError):
            return None, None
        with contextlib.suppress(ValueError, RecursionError):
            body = json.loads(text)
            if isinstance(body, dict):
                return response, body
        return response, None


def advice_of(response, body):
    """`done`, or the API's own advice. None if this is not a final answer, or not the API's."""
    if response is None or body is None:
        return None
    if 200 <= response.status_code < 300:
        final = response.status_code != 202 and "Idempotency-Expires" in response.headers
        return "done" if final else None
    media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    advice = body.get("retry") if media_type == "application/problem+json" else None
    return advice if advice in ("again", "fix", "new-key", "never") else None


def seconds(retry_after):
    """What Retry-After says, a number or a date. 0 if it says nothing that makes sense."""
    try:
        if retry_after.isdecimal():
            return int(retry_after)
        return email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time()
    except (TypeError, ValueError, OverflowError, IndexError):
        return 0


async def main():
    """Reads decisions from the standard input, one JSON object per line, and prints how each ended. The hostile proxy drives this."""
    where = os.environ.get("STORE", "keys")
    store = FileStore(where)
    if where.startswith("postgresql:"):
        import psycopg

        store = SqlStore(lambda: psycopg.connect(where))
    names = {"answer": "ANSWER_SECONDS", "pause": "PAUSE_SECONDS", "deadline": "DEADLINE_SECONDS"}
    limits = {limit: float(os.environ[name]) for limit, name in names.items() if name in os.environ}
    client = Client(os.environ["BASE"], os.environ["API_KEY"], store, **limits)
    for line in sys.stdin:
        asked = json.loads(line)
        result = await client.post(asked["path"], asked["body"], asked["decision"])
        print(json.dumps(dataclasses.asdict(result)), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
