"""A payment provider for docs/copying.md. It honours idempotency keys, keeps books, and never answers the first call in time."""

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

books = {}
lock = threading.Lock()


class Provider(BaseHTTPRequestHandler):
    def do_GET(self):
        reference = parse_qs(urlparse(self.path).query).get("reference", [None])[0]
        with lock:
            entries = [entry for key, entry in books.items() if reference in (None, key)]
        self.answer(200, entries)

    def do_POST(self):
        entry = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with lock:
            first = not books
            books.setdefault(self.headers["Idempotency-Key"], entry)
        if first:
            # Longer than any caller waits.
            time.sleep(30)
        self.answer(201, entry)

    def answer(self, status, body):
        data = json.dumps(body).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        except ConnectionError:
            pass

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Provider).serve_forever()
