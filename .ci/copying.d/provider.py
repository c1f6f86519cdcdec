"""A payment provider for docs/copying.md. It honours idempotency keys, and lists its payments.

It carries out the first payment and does not answer in time. The first call of the second payment gets a redirect to a place that
also carries out payments: a client that follows it has paid without knowing by which sending."""

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

payments = {}
moved = []
calls = []
lock = threading.Lock()


class Provider(BaseHTTPRequestHandler):
    def do_GET(self):
        url = urlparse(self.path)
        reference = parse_qs(url.query).get("reference", [None])[0]
        with lock:
            found = [entry for key, entry in payments.items() if reference in (None, key)]
        self.answer(200, moved if url.path == "/moved" else found)

    def do_POST(self):
        entry = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        reference = self.headers["Idempotency-Key"]
        if self.path == "/moved":
            moved.append(entry)
            return self.answer(201, entry)
        with lock:
            if reference not in calls:
                calls.append(reference)
                nth_payment = len(calls)
            else:
                nth_payment = 0
            if nth_payment == 2:
                return self.answer(307, {}, "/moved")
            payments.setdefault(reference, entry)
        if nth_payment == 1:
            # Longer than any caller waits.
            time.sleep(30)
        self.answer(201, entry)

    def answer(self, status, body, location=None):
        data = json.dumps(body).encode()
        try:
            self.send_response(status)
            if location:
                self.send_header("Location", location)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        except ConnectionError:
            pass

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Provider).serve_forever()
