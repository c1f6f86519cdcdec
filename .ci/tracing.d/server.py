"""What the check starts: the program with its own cluster, a receiver of spans, and a gateway that records `traceparent`."""

import contextlib
import http.server
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request

PROGRAM = "target/debug/payments"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status, answer = self.server.answer(self.path, self.headers, body)
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def listening(answer):
    """An HTTP server that answers POST by the function; its URL."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.answer = answer
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class Program:
    """The running program."""

    def __init__(self, process, base):
        self.process, self.base = process, base

    def send(self, method, path, body=None, **headers):
        """The status, the headers and the JSON of an answer, and the seconds until it came."""
        headers = {"Authorization": "Bearer sk_demo_acme", "Content-Type": "application/json"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, headers, method=method)
        began = time.monotonic()
        try:
            answer = urllib.request.urlopen(request, timeout=30)
        except urllib.error.HTTPError as error:
            answer = error
        text = answer.read()
        took = time.monotonic() - began
        is_json = answer.headers.get_content_type().endswith("json")
        return answer.status, answer.headers, json.loads(text) if is_json else text, took

    def exports(self):
        """Whether the SDK's thread is running, which it is if and only if spans are sent."""
        threads = pathlib.Path(f"/proc/{self.process.pid}/task").glob("*/comm")
        return any(thread.read_text().startswith("OpenTelemetry") for thread in threads)

    def end(self):
        """Drains; the exit status and the seconds that the drain took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60), time.monotonic() - began


@contextlib.contextmanager
def program(**settings):
    """The program with these settings, on a free port, with a cluster that ends with it."""
    work = pathlib.Path(tempfile.mkdtemp(prefix="tracing.", dir="/var/tmp"))
    # The cluster may run as another user, who must be able to enter the folder.
    work.chmod(0o755)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    own = {"DEV_POSTGRES_DIR": f"{work}/cluster", "BIND": "127.0.0.1:0", "SANDBOX_BIND": "127.0.0.1:0"}
    log = work / "log"
    with open(log, "w") as out:
        process = subprocess.Popen([PROGRAM], stdout=out, stderr=out, env=inherited | own | settings)
    try:
        base, end = None, time.monotonic() + 60
        while not base:
            assert process.poll() is None and time.monotonic() < end, log.read_text()
            base = next((l.split()[-1] for l in log.read_text().splitlines() if l.startswith("payments listens on")), None)
            time.sleep(0.05)
        yield Program(process, base)
    except BaseException:
        print(log.read_text()[-4000:])
        raise
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(work)
