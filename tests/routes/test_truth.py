"""Our evaluation against amtool and a real Alertmanager: what they say is right."""

from __future__ import annotations

import json
import random
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.test_shipped_monitoring import serving, wait_for
from upcheck.routes import Routes
from upcheck.servers import free_port

LABELS = ["a", "b", "c"]
VALUES = ["x", "y", "xy", "x y", 'q"t', "a,b", "ü", "1.10", "true", "back\\slash", "{x}", "two\nlines"]
PATTERNS = ["x|y", "x.*", ".*", ".+", "", "(?i)X", "[xy]+", "x\\d?", "\\pL", "[[:alpha:]]", "x$", "^y", "(?s).*l"]
HALF_HOUR = 1800  # seconds: intervals here begin and end with one, in any of their time zones
RECEIVERS = ["r0", "r1", "r2", "r3"]


@st.composite
def matchers(draw: st.DrawFn) -> dict[str, Any]:
    """A condition in one of the three notations."""
    label, notation = draw(st.sampled_from(LABELS)), draw(st.integers(0, 3))
    if notation == 0:
        return {"match": {label: draw(st.sampled_from([*VALUES, ""]))}}
    if notation == 1:
        return {"match_re": {label: draw(st.sampled_from(PATTERNS))}}
    texts = []
    for label in draw(st.lists(st.sampled_from(LABELS), min_size=1, max_size=2, unique=True)):
        op = draw(st.sampled_from(["=", "!=", "=~", "!~"]))
        value = draw(st.sampled_from(VALUES if len(op) == 1 else PATTERNS))
        bare = value.isalnum() and draw(st.booleans())
        space = draw(st.sampled_from(["", " "]))
        texts.append(f"{label}{space}{op}{space}{value if bare else json.dumps(value, ensure_ascii=False)}")
    if notation == 2:
        return {"matchers": texts}
    return {"matchers": [draw(st.sampled_from(["%s", "{%s}"])) % ",".join(texts)]}


def route(below: st.SearchStrategy[list[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """A route with *below* under it."""
    return st.builds(
        lambda condition, rest, routes: {**condition, **rest, "routes": routes},
        matchers(),
        st.fixed_dictionaries({}, optional={"receiver": st.sampled_from(RECEIVERS), "continue": st.booleans()}),
        below,
    )


TREES = st.lists(route(st.lists(route(st.lists(route(st.just([])), max_size=2)), max_size=2)), min_size=1, max_size=4)
ALERTS = st.lists(st.dictionaries(st.sampled_from(LABELS), st.sampled_from(VALUES), max_size=3), min_size=4, max_size=4)


@settings(max_examples=60, derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(tree=TREES, alerts=ALERTS)
def test_routes_are_taken_as_amtool_takes_them(tool_paths: dict[str, Path], tree: Any, alerts: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "alertmanager.yml")
        document = {"route": {"receiver": "r0", "routes": tree}, "receivers": [{"name": one} for one in RECEIVERS]}
        file.write_text(json.dumps(document))

        def asked(alert: dict[str, str]) -> str:
            labels = [f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in alert.items()]
            argv = ["config", "routes", "test", f"--config.file={file}", *labels]
            told = subprocess.run([str(tool_paths["amtool"]), *argv], capture_output=True, text=True, timeout=20)
            assert told.returncode == 0, told.stderr + file.read_text()
            return told.stdout.strip()

        with ThreadPoolExecutor(2) as pool:
            told = list(pool.map(asked, alerts))
        routes = Routes.load(file)
        assert [",".join(routes.of(alert).receivers) for alert in alerts] == told


def interval(dice: random.Random, now: datetime) -> dict[str, Any]:
    """An interval that holds *now*, or misses it by little."""
    span: dict[str, Any] = {}
    if dice.random() < 0.5:
        span["location"] = dice.choice(["UTC", "Europe/Berlin", "Asia/Kolkata", "Pacific/Auckland", "America/Lima"])
    day = now + timedelta(days=dice.choice([-1, 0, 0, 0, 1]))
    back = day.day - 32
    if dice.random() < 0.5:
        first, last = sorted(dice.sample(range(25), 2))
        span["times"] = [{"start_time": f"{first:02}:00", "end_time": f"{last:02}:00"}]
    if dice.random() < 0.4:
        span["weekdays"] = dice.choice([[day.strftime("%A").lower()], ["Monday:Friday"], ["saturday", "sunday"]])
    if dice.random() < 0.4:
        span["days_of_month"] = dice.choice([[str(day.day)], ["1:15"], ["-1"], [f"{back}:-1"], ["-16:-1"], [31]])
    if dice.random() < 0.3:
        span["months"] = dice.choice([[day.strftime("%B").lower()], ["1:6"], ["july:december"], [str(day.month)]])
    if dice.random() < 0.3:
        span["years"] = dice.choice([[str(day.year)], ["2020:2024"], ["2020:2099"]])
    return span


INHIBITIONS = [
    {"source_matchers": ['kind="down"'], "target_matchers": ['kind!="down"'], "equal": ["instance"]},
    {"source_match": {"severity": "critical"}, "target_match": {"severity": "warning"}, "equal": ["team", "rack"]},
    {"source_match_re": {"kind": "s.+"}, "target_match_re": {"kind": "sl.w|sick"}, "equal": ["instance", "team"]},
    {"source_matchers": ['rack="r1"', "team=~t1|"], "target_matchers": ["severity=info"]},
]


class Sink:
    """A webhook's receiver: who was told of what."""

    def __init__(self) -> None:
        self.told: set[tuple[str, str]] = set()
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                sink.told |= {(body["receiver"], one["labels"]["id"]) for one in body["alerts"]}
                self.send_response(200)
                self.end_headers()

            def log_message(self, *arguments: object) -> None: ...

        class Server(ThreadingHTTPServer):
            request_queue_size = 512  # all at once: what finds no place is told again a minute later

        self.server = Server(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/"

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def sink() -> Iterator[Sink]:
    found = Sink()
    yield found
    found.close()


def test_inhibition_and_intervals_as_alertmanager_has_them(
    tool_paths: dict[str, Path], sink: Sink, tmp_path: Path
) -> None:
    if (left := HALF_HOUR - time.time() % HALF_HOUR) < 30:
        time.sleep(left)  # no interval begins or ends while we look
    dice, now = random.Random(7), datetime.now(UTC)
    spans = {f"i{number}": [interval(dice, now) for _ in range(dice.choice([1, 1, 2]))] for number in range(60)}
    below = [
        {"receiver": "timed", "matchers": [f'timed="{name}-{how}"'], f"{how}_time_intervals": [name]}
        for name in spans
        for how in ("mute", "active")
    ]
    document = {
        "route": {
            "receiver": "rest", "group_by": ["..."], "group_wait": "1s",
            "routes": [{"receiver": "both", "matchers": ['team="t1"'], "continue": True}, *below],
        },
        "inhibit_rules": INHIBITIONS,
        "time_intervals": [{"name": name, "time_intervals": some} for name, some in list(spans.items())[:40]],
        "mute_time_intervals": [{"name": name, "time_intervals": some} for name, some in list(spans.items())[40:]],
        "receivers": [{"name": name, "webhook_configs": [{"url": sink.url}]} for name in ("timed", "both", "rest")],
    }  # fmt: skip
    file = tmp_path / "alertmanager.yml"
    file.write_text(json.dumps(document))
    alerts = [{"timed": f"{name}-{how}", "instance": "its own"} for name in spans for how in ("mute", "active")]
    for _ in range(40):
        values = {"kind": ["down", "slow", "sick", "full"], "severity": ["critical", "warning", "info"],
                  "instance": ["a", "b", ""], "team": ["t1", "t2", ""], "rack": ["r1", "r2", "r3"]}  # fmt: skip
        alerts.append({name: value for name, some in values.items() if (value := dice.choice(some))})
    alerts = [{"alertname": "A", "id": str(number), **labels} for number, labels in enumerate(alerts)]
    url = f"http://127.0.0.1:{free_port()}"
    argv: list[str | Path] = [
        tool_paths["alertmanager"], f"--config.file={file}", f"--storage.path={tmp_path / 'data'}",
        f"--web.listen-address={url.removeprefix('http://')}", "--cluster.listen-address=",
    ]  # fmt: skip
    routes = Routes.load(file)

    ours = [routes.of(one, at=now, beside=[other for other in alerts if other is not one]) for one in alerts]
    wanted = {(receiver, one.labels["id"]) for one in ours for receiver in one.receivers}
    assert sum(one.receivers == [] and "timed" in one.labels for one in ours) == len(spans)  # muted, or not active
    assert 10 < sum(one.labels.get("timed", "").endswith("mute") and one.receivers == [] for one in ours) < 50
    with serving(argv, url, tmp_path / "log"), httpx.Client(base_url=url, trust_env=False) as client:
        assert client.post("/api/v2/alerts", json=[{"labels": one} for one in alerts]).status_code == 200
        wait_for(lambda: sink.told >= wanted, lambda: f"lacking {wanted - sink.told}")
        time.sleep(1)  # for what should not come, too
        theirs = {one["labels"]["id"]: one for one in client.get("/api/v2/alerts").json()}
    by_fingerprint = {one["fingerprint"]: one["labels"] for one in theirs.values()}
    for one in ours:
        told = theirs[one.labels["id"]]
        assert [receiver["name"] for receiver in told["receivers"]] == [taken.receiver for taken in one.notifications]
        inhibiting = [by_fingerprint[source] for source in told["status"]["inhibitedBy"]]
        assert bool(inhibiting) is bool(one.inhibited), one
        assert all(source in one.inhibited_by for source in inhibiting)
        reached = {receiver for receiver, number in sink.told if number == one.labels["id"]}
        assert reached == set(one.receivers), (one, spans)
    assert 5 < sum(bool(one.inhibited) for one in ours) < 36
