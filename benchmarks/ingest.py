"""Ingestion: events a second by JSON and spans a second by OTLP on one core of the collector, with nothing lost.

`python -m benchmarks.ingest`. The real collector serves the repo's catalogue on loopback, without its rate limit for
one client; batches come over one kept connection. What counts is the collector's own CPU time, and what /metrics says
afterwards against what was sent. There is no peer: OpenTelemetry's collector is in no package that tests may use.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time

import psutil
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from benchmarks.stage import ROOT

BATCH = 2000
BATCHES = 50
COLLECTOR = """
from upcheck.collector import Collector, ingest
ingest.RATE = ingest.BURST = 1e12
Collector().serve(["--port", "0"])
"""


def events() -> bytes:
    told = {"service": "coderunner", "event": "api_request", "method": "POST", "seconds": 0.25}
    return json.dumps(
        [told | {"endpoint": f"/api/{number % 50}", "status": 200 + 100 * (number % 4)} for number in range(BATCH)]
    ).encode()


def spans() -> bytes:
    """Spans as an SDK sends them: ten attributes each, of which four are used."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "coderunner"
    scope = resource.scope_spans.add()
    for number in range(BATCH):
        span = scope.spans.add(
            name="GET /api", kind=Span.SPAN_KIND_SERVER, trace_id=os.urandom(16), span_id=os.urandom(8),
            start_time_unix_nano=10**18, end_time_unix_nano=10**18 + 250_000_000,
        )  # fmt: skip
        for key, value in (
            ("http.request.method", "GET"), ("http.route", f"/api/{number % 50}"), ("url.path", "/api/7"),
            ("url.scheme", "https"), ("server.address", "shop"), ("network.protocol.version", "1.1"),
            ("user_agent.original", "Mozilla/5.0"), ("client.address", "127.0.0.1"), ("deployment", "blue"),
        ):  # fmt: skip
            span.attributes.add(key=key).value.string_value = value
        span.attributes.add(key="http.response.status_code").value.int_value = 200
    return request.SerializeToString()


def rate(port: int, process: psutil.Process, path: str, body: bytes, content_type: str) -> tuple[float, float]:
    """What the collector takes in a CPU-second, and in a second on the wall."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for batches in (3, BATCHES):  # the first to warm up
        began, cpu = time.monotonic(), sum(process.cpu_times()[:2])
        for _ in range(batches):
            connection.request("POST", path, body, {"Content-Type": content_type})
            answer = connection.getresponse()
            text = answer.read()
            if answer.status != 200:
                sys.exit(f"{path}: {answer.status} {text!r:.300}")
    taken = BATCH * BATCHES
    return taken / (sum(process.cpu_times()[:2]) - cpu), taken / (time.monotonic() - began)


def recorded(port: int) -> float:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("coderunner_api_requests_total{"))


def main() -> None:
    with subprocess.Popen([sys.executable, "-c", COLLECTOR], cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        port = int(server.stdout.readline().split()[1].rpartition(":")[2])
        process = psutil.Process(server.pid)
        json_cpu, json_wall = rate(port, process, "/api/events", events(), "application/json")
        otlp_cpu, otlp_wall = rate(port, process, "/v1/traces", spans(), "application/x-protobuf")
        lost = 2 * BATCH * (BATCHES + 3) - recorded(port)
        rss = process.memory_info().rss / 2**20
        server.terminate()
    line = {
        "json_events_per_s": round(json_cpu),
        "otlp_spans_per_s": round(otlp_cpu),
        "lost": int(lost),
        "json_events_per_wall_s": round(json_wall),
        "otlp_spans_per_wall_s": round(otlp_wall),
        "rss_mb": round(rss, 1),
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
