"""Alertmanager's webhook: twice, late, too much, and wrong; and what the real Alertmanager sends."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from tests.test_shipped_monitoring import serving, wait_for
from upcheck.alertmanager import push
from upcheck.collector.signature import Signatures
from upcheck.collector.webhook import MAX_FIRING, PATH, Webhook
from upcheck.exposition import page
from upcheck.servers import free_port

T1, T2 = "2024-01-01T00:00:00Z", "2024-01-01T01:00:00.123456789+01:00"


def alert(name: str = "Down", status: str = "firing", starts: str = T1, **labels: str) -> dict[str, Any]:
    labels = {"alertname": name, "severity": "critical"} | labels
    ends = "0001-01-01T00:00:00Z" if status == "firing" else "2024-01-01T02:00:00Z"
    return {
        "status": status,
        "labels": labels,
        "annotations": {},
        "startsAt": starts,
        "endsAt": ends,
        "fingerprint": name,
    }


def notification(*alerts: dict[str, Any]) -> dict[str, Any]:
    return {"version": "4", "groupKey": "{}", "status": "firing", "receiver": "upcheck", "alerts": list(alerts)}


class Service:
    """A webhook, and how to talk to it."""

    def __init__(self, signatures: Signatures | None = None) -> None:
        self.webhook = Webhook(signatures)
        routes = [Route(PATH, self.webhook.take, methods=["POST"]), Route(PATH, self.webhook.show, methods=["GET"])]
        self.app = Starlette(routes=routes)

    def ask(self, requests: list[httpx.Request]) -> list[httpx.Response]:
        async def asking() -> list[httpx.Response]:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(self.app)) as client:
                return [await client.send(request) for request in requests]

        return asyncio.run(asking())

    def send(self, *bodies: bytes) -> list[httpx.Response]:
        return self.ask([httpx.Request("POST", f"http://collector{PATH}", content=body) for body in bodies])

    def tell(self, *alerts: dict[str, Any]) -> httpx.Response:
        return self.send(json.dumps(notification(*alerts)).encode())[0]

    def firing(self) -> list[str]:
        (answer,) = self.ask([httpx.Request("GET", f"http://collector{PATH}")])
        return [one["labels"]["alertname"] for one in answer.json()["alerts"]]

    def said(self, name: str) -> float:
        lines = page(self.webhook.blocks()).decode().splitlines()
        return float(next(line.split()[-1] for line in lines if line.startswith(name + " ")))


@pytest.fixture
def service() -> Service:
    return Service()


def test_what_fires_is_shown_and_counted(service: Service) -> None:
    answer = service.tell(alert("Down"), alert("Slow", severity="warning"), alert("Odd", severity="<b>"))
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "alerts": 3})
    assert set(service.firing()) == {"Down", "Slow", "Odd"}
    assert service.said('upcheck_alerts_firing{severity="critical"}') == 1
    assert service.said('upcheck_alerts_firing{severity="other"}') == 1
    service.tell(alert("Down", "resolved"))
    assert set(service.firing()) == {"Slow", "Odd"}


def test_what_is_sent_twice_or_late_changes_nothing(service: Service) -> None:
    for _ in range(2):
        service.tell(alert("Down"))
    service.tell(alert("Down", "resolved"))
    service.tell(alert("Down"))
    assert service.firing() == []
    service.tell(alert("Down", starts=T2))
    service.tell(alert("Down", "resolved"))
    assert service.firing() == ["Down"], "it fires since later than what is resolved late"
    assert service.said('upcheck_webhook_alerts_total{status="firing"}') == 2
    assert service.said('upcheck_webhook_alerts_total{status="duplicate"}') == 3


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "the body is no JSON"),
        (b"[" * 100_000, "the body is no JSON: nested too deeply"),
        (b"[]", "expected Alertmanager's notification: an object with a list under 'alerts'"),
        (b"{}", "with a list under 'alerts'"),
        (b'{"alerts": {}}', "with a list under 'alerts'"),
        (b'{"version": "3", "alerts": []}', "version '3': expected Alertmanager's notification of version 4"),
        (b'{"alerts": [7]}', "alerts[0]: expected an object"),
        (b'{"alerts": [{"status": "burning"}]}', "alerts[0].status: expected firing or resolved, not 'burning'"),
        (b'{"alerts": [{"status": "firing", "labels": {"a": 1}}]}', "alerts[0].labels: expected an object of text"),
        (
            b'{"alerts": [{"status": "firing", "labels": {}, "startsAt": "soon"}]}',
            "alerts[0].startsAt: expected a time",
        ),
        (b'{"alerts": [{"status": "firing", "labels": {}, "startsAt": 7}]}', "alerts[0].startsAt: expected a time"),
    ],
)
def test_what_is_no_notification_is_refused_with_a_sentence(service: Service, body: bytes, sentence: str) -> None:
    (answer,) = service.send(body)
    assert answer.status_code == 400
    assert sentence in answer.json()["error"]
    assert service.said('upcheck_webhook_refused_total{code="400"}') == 1


def test_a_notification_is_taken_whole_or_not_at_all(service: Service) -> None:
    assert service.tell(alert("Down"), alert("Slow", status="burning")).status_code == 400
    assert service.firing() == []


def test_more_alerts_than_are_kept_are_refused_and_nothing_is_lost_silently(service: Service) -> None:
    answer = service.tell(*(alert(f"A{number}") for number in range(20_000)))
    assert answer.status_code == 413
    assert "20000 alerts in one notification: at most 10000 are kept" in answer.json()["error"]
    for start in range(0, MAX_FIRING, 1000):
        assert service.tell(*(alert(f"A{number}") for number in range(start, start + 1000))).status_code == 200
    answer = service.tell(alert("One more"))
    assert answer.status_code == 503
    assert "send these again later" in answer.json()["error"]
    assert service.tell(alert("A7")).status_code == 200, "what fires already needs no room"
    service.tell(alert("A7", "resolved"))
    assert service.tell(alert("One more")).status_code == 200


def test_ten_thousand_notifications_a_minute_are_taken_or_told_to_come_again(service: Service) -> None:
    body = json.dumps(notification(alert("Down"))).encode()
    answers = service.send(*[body] * 3000)
    codes = {answer.status_code for answer in answers}
    assert codes <= {200, 429}
    assert sum(answer.status_code == 200 for answer in answers) >= 2000
    for answer in answers:
        assert answer.status_code == 200 or int(answer.headers["Retry-After"]) >= 1


BODY = json.dumps(notification(alert("Down"))).encode()
NOW = 1_700_000_000.0


def signed(when: float = NOW, secret: str = "correct horse", body: bytes = BODY) -> str:
    return Signatures(secret, clock=lambda: when).sign(body)


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        (None, "expected t=<unix time>,v1="),
        ("", "expected t=<unix time>,v1="),
        ("t=1,v1=zz", "expected t=<unix time>,v1="),
        ("t=" + "9" * 500 + ",v1=" + "0" * 64, "expected t=<unix time>,v1="),
        (signed().replace("v1=", "v1=0")[:-1], "it is not of this body, or made with another secret"),
        (signed(secret="wrong horse"), "made with another secret"),
        (signed(body=BODY + b" "), "it is not of this body"),
        (signed(NOW - 301), "more than 300 s from ours"),
        (signed(NOW + 301), "more than 300 s from ours"),
    ],
    ids=["none", "empty", "shape", "long", "forged", "secret", "body", "old", "early"],
)
def test_what_is_not_signed_as_it_should_be_is_refused(header: str | None, sentence: str) -> None:
    service = Service(Signatures("correct horse", clock=lambda: NOW))
    headers = {} if header is None else {"X-Signature": header}
    (answer,) = service.ask([httpx.Request("POST", f"http://collector{PATH}", content=BODY, headers=headers)])
    assert answer.status_code == 401
    assert sentence in answer.json()["error"]
    assert "correct horse" not in answer.text
    assert service.firing() == []
    assert service.said('upcheck_webhook_refused_total{code="401"}') == 1


def test_a_signature_counts_once() -> None:
    service = Service(Signatures("correct horse", clock=lambda: NOW))
    first, again, later = (
        httpx.Request("POST", f"http://collector{PATH}", content=BODY, headers={"X-Signature": header})
        for header in (signed(), signed(), signed(NOW + 1))
    )
    answers = service.ask([first, again, later])
    assert [answer.status_code for answer in answers] == [200, 401, 200]
    assert "it was used before" in answers[1].json()["error"]


def test_what_was_used_is_forgotten_when_it_is_too_old_to_be_used() -> None:
    now = [NOW]
    signatures = Signatures("correct horse", clock=lambda: now[0])
    for _ in range(100):
        assert signatures.refusal(signatures.sign(BODY), BODY) is None
        now[0] += 10
    assert len(signatures._used) <= 62


CONFIG = """\
route: {receiver: upcheck, group_wait: 100ms, group_interval: 200ms, repeat_interval: 1h}
receivers: [{name: upcheck, webhook_configs: [{url: "http://127.0.0.1:%d/api/monitoring/alerts"}]}]
"""


@pytest.fixture
def listening(service: Service) -> Iterator[int]:
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(service.app, port=port, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    yield port
    server.should_exit = True
    thread.join(10)


def test_the_real_alertmanager_is_understood(
    service: Service, listening: int, tool_paths: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "alertmanager.yml").write_text(CONFIG % listening)
    address = f"127.0.0.1:{free_port()}"
    argv: list[str | Path] = [
        tool_paths["alertmanager"], f"--config.file={tmp_path / 'alertmanager.yml'}", f"--storage.path={tmp_path}",
        f"--web.listen-address={address}", "--cluster.listen-address=",
    ]  # fmt: skip

    def firing(count: float) -> Callable[[], bool]:
        return lambda: service.said('upcheck_alerts_firing{severity="critical"}') == count

    told = {"labels": {"alertname": "Down", "severity": "critical"}, "startsAt": T1}
    with serving(argv, f"http://{address}", tmp_path / "log") as url:
        assert push(url, [told]) is None
        wait_for(firing(1), lambda: (tmp_path / "log").read_text())
        assert push(url, [told | {"endsAt": "2024-01-01T02:00:00Z"}]) is None
        wait_for(firing(0), lambda: (tmp_path / "log").read_text())
    assert service.said('upcheck_webhook_alerts_total{status="resolved"}') == 1
