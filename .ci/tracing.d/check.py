"""Checks the spans that a receiver gets over a key's life, and requests while the collector is dead or not wanted."""

import json
import os
import socket
import subprocess
import tempfile
import time
import urllib.parse

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from server import PROGRAM, listening, program

# Neither may be in any span, in whatever attribute.
KEY, CUSTOMER = "key-of-ada-lovelace", "ada.lovelace@example.com"
ORDER = {"customer": CUSTOMER, "items": [{"sku": "pro-monthly", "quantity": 1}]}
# Seconds. A request takes some 20 ms; one that waited for a collector that never answers would take 10 s.
AT_ONCE = 4.0


def traceparent(number, sampled=True):
    return f"00-{number:032x}-{number:016x}-{sampled:02x}"


def gateway(seen):
    """Succeeds, and records what it was sent."""

    def answer(path, headers, body):
        seen.append((path, headers["traceparent"]))
        call = dict(urllib.parse.parse_qsl(body.decode()))
        intent = {"id": "pi_1", "object": "payment_intent", "status": "succeeded", "amount": int(call["amount"]),
                  "currency": call["currency"], "metadata": {"reference": call["metadata[reference]"]}}
        return 200, json.dumps(intent).encode()

    return answer


def receiver(bodies):
    def answer(path, headers, body):
        assert (path, headers["Content-Type"]) == ("/v1/traces", "application/x-protobuf"), (path, headers)
        bodies.append(body)
        return 200, b""

    return answer


def decoded(bodies):
    """The name of the service, and its spans, the earliest first."""
    names, spans = set(), []
    for body in bodies:
        for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            names.add(attributes(of_resource.resource)["service.name"])
            spans += [span for scope in of_resource.scope_spans for span in scope.spans]
    return names, sorted(spans, key=lambda span: span.start_time_unix_nano)


def attributes(of):
    return {pair.key: pair.value.string_value or pair.value.int_value for pair in of.attributes}


def of_trace(spans, number):
    """The span of the request, and those below, of the trace that a client began."""
    own = [span for span in spans if span.trace_id == number.to_bytes(16)]
    assert own, f"no span continues the trace {number}"
    assert own[0].parent_span_id == number.to_bytes(8), own[0]
    return own


def request_attributes(method, route, status, answer, **more):
    return {
        "http.request.method": method, "http.route": route, "url.path": route, "url.scheme": "http",
        "http.response.status_code": status, "request_id": answer["X-Request-Id"],
    } | {name.replace("__", "."): value for name, value in more.items()}


def the_life_of_a_key():
    bodies, calls = [], []
    # The queue is never sent on a timer: what arrives was sent by the drain.
    later = {"OTEL_BSP_SCHEDULE_DELAY": "3600000"}
    with listening(receiver(bodies)) as collector, listening(gateway(calls)) as bank:
        with program(OTEL_EXPORTER_OTLP_ENDPOINT=collector, GATEWAY_URL=bank, GATEWAY_KEY="sk_test_bank", **later) as api:
            assert api.exports()
            post = lambda number, path, body, key=KEY: api.send("POST", path, body, Idempotency_Key=key, traceparent=traceparent(number))
            answers = {
                1: post(1, "/v1/orders", ORDER),
                2: post(2, "/v1/orders", ORDER),
                3: post(3, "/v1/orders", ORDER | {"customer": "bob"}),
            }
            charge = {"order_id": answers[1][2]["id"], "payment_method": "pm_card_visa"}
            answers[4] = post(4, "/v1/charges", charge, key=f"charge-{KEY}")
            answers[5] = api.send("GET", f"/v1/idempotency-keys?key={KEY}", traceparent=traceparent(5))
            answers[6] = api.send("GET", "/nothing/here", traceparent=traceparent(6))
            assert [answers[number][0] for number in answers] == [201, 201, 422, 201, 200, 404], answers
            api.send("GET", "/health/ready")
            api.send("GET", "/metrics")
            api.send("GET", "/v1/orders", traceparent=traceparent(7, sampled=False))
            api.send("GET", "/v1/orders")
            assert not bodies, "spans were sent before the drain"
            status, took = api.end()
            assert status == 0 and took < 10, (status, took)
    names, spans = decoded(bodies)
    assert names == {"payments"}, names
    expected = {
        1: request_attributes("POST", "/v1/orders", 201, answers[1][1], idempotency__scope="account", idempotency__outcome="fresh"),
        2: request_attributes("POST", "/v1/orders", 201, answers[2][1], idempotency__scope="account", idempotency__outcome="replayed"),
        3: request_attributes("POST", "/v1/orders", 422, answers[3][1], idempotency__scope="account", idempotency__outcome="reused", problem="idempotency-key-reused"),
        4: request_attributes("POST", "/v1/charges", 201, answers[4][1], idempotency__scope="account", idempotency__outcome="fresh"),
        5: request_attributes("GET", "/v1/idempotency-keys", 200, answers[5][1]),
        6: request_attributes("GET", "/nothing/here", 404, answers[6][1], problem="not-found"),
    }
    del expected[6]["http.route"]
    for number, wanted in expected.items():
        span = of_trace(spans, number)[0]
        # All of them: an attribute that is not listed here is one that nobody has checked.
        assert attributes(span) == wanted, (attributes(span), wanted)
        route = wanted.get("http.route")
        assert span.name == " ".join(filter(None, [wanted["http.request.method"], route])), span.name
        assert span.kind == Span.SPAN_KIND_SERVER and span.end_time_unix_nano > span.start_time_unix_nano, span
    request, call = of_trace(spans, 4)
    host, port = bank.removeprefix("http://").split(":")
    assert call.name == "POST /v1/payment_intents" and call.kind == Span.SPAN_KIND_CLIENT, call
    assert call.parent_span_id == request.span_id, "the call lies below its request"
    assert attributes(call) == {
        "http.request.method": "POST", "url.full": f"{bank}/v1/payment_intents", "server.address": host, "server.port": int(port),
        "http.response.status_code": 200,
    }, attributes(call)
    assert calls == [("/v1/payment_intents", f"00-{4:032x}-{call.span_id.hex()}-01")], calls
    # Six traces of clients, one call, and the request without a trace; neither probes nor what a client does not sample.
    assert len(spans) == 8, [span.name for span in spans]
    secrets = [KEY, CUSTOMER, "sk_demo_acme", "sk_test_bank", "pm_card_visa"]
    for secret in secrets:
        assert not any(secret.encode() in body for body in bodies), f"{secret} was sent to the collector"
    print(f"{len(spans)} spans hold: names, parents, outcomes, and none of {secrets}")


def a_dead_collector():
    """One that takes connections and never answers, and one that is not there."""
    with socket.create_server(("127.0.0.1", 0)) as hanging, socket.create_server(("127.0.0.1", 0)) as gone:
        ports = {"hangs": hanging.getsockname()[1], "is not there": gone.getsockname()[1]}
        gone.close()
        for what, port in ports.items():
            # Full after 8 spans, and sent at once: everything that could wait for the collector does.
            small = {"OTEL_BSP_SCHEDULE_DELAY": "20", "OTEL_BSP_MAX_QUEUE_SIZE": "8", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "4"}
            with program(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}", **small) as api:
                assert api.exports()
                slowest = 0
                for number in range(100):
                    status, _, _, took = api.send("POST", "/v1/orders", ORDER, Idempotency_Key=f"{KEY}-{number}")
                    assert status == 201, status
                    slowest = max(slowest, took)
                assert slowest < AT_ONCE, f"a request took {slowest:.1f} s while the collector {what}"
                status, drain = api.end()
                assert status == 0 and drain < 10, (status, drain)
            print(f"the collector {what}: 100 orders, the slowest in {slowest * 1000:.0f} ms, drained in {drain:.1f} s")


def no_collector():
    for settings in {"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "OTEL_SDK_DISABLED": "true"}:
        with program(**settings) as api:
            assert api.send("POST", "/v1/orders", ORDER, Idempotency_Key=KEY)[0] == 201
            assert not api.exports(), f"spans are sent in spite of {settings}"
            assert api.end()[0] == 0
    wrong = {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://collector.example", "BIND": "127.0.0.1:0", "SANDBOX_BIND": "127.0.0.1:0"}
    with tempfile.TemporaryDirectory(dir="/var/tmp") as nothing:
        wrong["DEV_POSTGRES_DIR"] = f"{nothing}/cluster"
        ended = subprocess.run([PROGRAM], env=os.environ | wrong, capture_output=True, text=True, timeout=20)
        assert not os.listdir(nothing), "a wrong setting ends the start before anything is touched"
    line = 'payments: OTEL_EXPORTER_OTLP_ENDPOINT="https://collector.example" is wrong: it must begin with http://'
    assert ended.returncode == 2 and ended.stderr.startswith(line), ended
    print("without an endpoint nothing is sent; a wrong endpoint ends the start")


began = time.monotonic()
the_life_of_a_key()
a_dead_collector()
no_collector()
print(f"the traces hold ({time.monotonic() - began:.0f} s)")
