"""A proxy that loses every third answer: the server handles the request, but the client gets no answer.

    python3 lossy.py http://127.0.0.1:8080     prints its own address, then serves until it is killed
"""

import http.client
import http.server
import itertools
import sys
import threading
import urllib.parse

upstream = urllib.parse.urlsplit(sys.argv[1]).netloc
count = itertools.count(1)
lock = threading.Lock()


class Lossy(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def forward(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        skipped = ("host", "connection", "upgrade", "http2-settings", "content-length")
        headers = {name: value for name, value in self.headers.items() if name.lower() not in skipped}
        connection = http.client.HTTPConnection(upstream, timeout=30)
        connection.request(self.command, self.path, body or None, headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        with lock:
            lost = next(count) % 3 == 0
        self.close_connection = True
        if lost:
            return
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(text)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_PUT = forward

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Lossy)
print(f"http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
