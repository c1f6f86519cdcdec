"""Receives the sandbox's events. Prints its URL, and appends each delivery to the file as one line of JSON."""

import http.server
import json
import sys

MAIL = sys.argv[1]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        with open(MAIL, "a", encoding="utf-8") as mail:
            print(json.dumps({"signature": self.headers["Stripe-Signature"], "body": body}), file=mail, flush=True)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(f"http://127.0.0.1:{server.server_port}/hook", flush=True)
server.serve_forever()
