"""The Alertmanager configuration that ships, with its receivers turned to stand-ins, and what these were told."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from upcheck import documents
from upcheck.drill.plays import DrillError
from upcheck.routes import Routes
from upcheck.rules.timelapse import Lapse
from upcheck.servers.sinks import Message, Sinks

LABEL = "drill"  # on each alert, to tell drills apart: in groups, in inhibitions and in messages
_MARK = "{{ .Status }} {{ .GroupLabels.drill }}"
_RESOLVED_BY_DEFAULT = {"webhook": True, "pagerduty": True, "slack": False, "email": False}
_ALWAYS = [{"times": [{"start_time": "00:00", "end_time": "24:00"}]}]
_NEVER = [{"years": ["1970"]}]


@dataclass(frozen=True, slots=True)
class Integration:
    """One way in which a receiver is told: of a *kind*, and whether also that an alert is over."""

    receiver: str
    kind: str
    number: int
    resolved: bool
    place: str  # of the messages that it sends

    def __str__(self) -> str:
        return f"{self.receiver}/{self.kind}"


@dataclass(frozen=True, slots=True)
class Told:
    """What a message says: of which drill, that it fires or is over, and the *text* that a person reads."""

    integration: Integration
    at: float
    status: str
    drill: str
    text: str


def redirected(
    path: Path, routes: Routes, lapse: Lapse, at: datetime, sinks: Sinks
) -> tuple[dict[str, Any], list[Integration]]:
    """The configuration at *path* in a time-lapse, as at the moment *at*, and how its receivers are told.

    Raises DrillError for a kind of receiver that there is no stand-in for, DocumentError.
    """
    made = lapse.alertmanager(json.loads(json.dumps(documents.load(path))))  # an alias is a thing of its own then
    made["global"] = {"smtp_smarthost": sinks.smarthost, "smtp_require_tls": False} | {
        key: value for key, value in made.get("global", {}).items() if key in ("smtp_from", "resolve_timeout")
    }
    made["templates"] = [str(path.parent / pattern) for pattern in made.get("templates", ())]
    for route in _routes(made["route"]):
        if "group_by" in route and "..." not in route["group_by"]:
            route["group_by"] = [*route["group_by"], LABEL]
    made["route"].setdefault("group_by", [LABEL])
    for rule in made.get("inhibit_rules", ()):
        rule["equal"] = [*rule.get("equal", ()), LABEL]
    holds = {one.name: one.contains(at) for one in routes.configuration.intervals}
    for key in ("time_intervals", "mute_time_intervals"):
        for interval in made.get(key, ()):
            interval["time_intervals"] = _ALWAYS if holds[interval["name"]] else _NEVER
    integrations = [one for receiver in made["receivers"] for one in _turned(receiver, sinks)]
    return made, integrations


def read(message: Message, integrations: Mapping[str, Integration]) -> Told:
    """What *message*, of one of *integrations* by their places, says."""
    integration = integrations[message.mark.split()[-1] if message.mark else message.place]
    status, drill, text = _READERS[integration.kind](message)
    return Told(integration, message.at, status, drill, text)


def _routes(route: dict[str, Any]) -> list[dict[str, Any]]:
    return [route, *(one for child in route.get("routes", ()) for one in _routes(child))]


def _turned(receiver: dict[str, Any], sinks: Sinks) -> list[Integration]:
    """Turn each integration of *receiver* to the stand-ins."""
    found = []
    for key in [key for key in receiver if key != "name"]:
        kind = key.removesuffix("_configs")
        if kind not in _TURN:
            raise DrillError(
                f"receiver {receiver['name']}: there is no stand-in for {key}; there are some for {', '.join(_TURN)}"
            )
        for number, told in enumerate(receiver[key]):
            place = f"/{receiver['name']}/{kind}/{number}"
            resolved = bool(told.get("send_resolved", _RESOLVED_BY_DEFAULT[kind]))
            for name in [name for name in told if name.endswith("_file") or name == "http_config"]:
                del told[name]
            _TURN[kind](told, f"{sinks.url}{place}", place, sinks)
            found.append(Integration(receiver["name"], kind, number, resolved, place))
    return found


def _webhook(told: dict[str, Any], url: str, _place: str, _sinks: Sinks) -> None:
    told["url"] = url


def _slack(told: dict[str, Any], url: str, _place: str, _sinks: Sinks) -> None:
    told["api_url"], told["callback_id"] = url, _MARK


def _pagerduty(told: dict[str, Any], url: str, _place: str, _sinks: Sinks) -> None:
    told.pop("service_key", None)
    told["url"], told["routing_key"] = url, "drill"
    told["details"] = {**told.get("details", {}), LABEL: _MARK}


def _email(told: dict[str, Any], _url: str, place: str, sinks: Sinks) -> None:
    for key in [key for key in told if key.startswith(("auth_", "tls_"))]:
        del told[key]
    told["smarthost"], told["require_tls"] = sinks.smarthost, False
    told["headers"] = {**told.get("headers", {}), "X-Upcheck": f"{_MARK} {place}"}


_TURN: Mapping[str, Callable[[dict[str, Any], str, str, Sinks], None]] = {
    "webhook": _webhook, "slack": _slack, "pagerduty": _pagerduty, "email": _email,
}  # fmt: skip

_PAGERDUTY = ("firing", "resolved", "num_firing", "num_resolved")  # details that it always has
_Read = tuple[str, str, str]


def _of_webhook(message: Message) -> _Read:
    body = message.body
    return body["status"], body["groupLabels"][LABEL], message.text


def _of_slack(message: Message) -> _Read:
    (shown,) = message.body["attachments"]
    status, drill = shown["callback_id"].split()
    return status, drill, "\n".join(shown.get(key, "") for key in ("title", "text", "pretext", "footer"))


def _of_pagerduty(message: Message) -> _Read:
    body = message.body
    details = body["payload"]["custom_details"]
    status, drill = details[LABEL].split()
    own = sorted((key in _PAGERDUTY, key) for key in details if key != LABEL)
    text = "\n".join([body["payload"]["summary"], *(details[key] for _, key in own)])
    return status, drill, text


def _of_email(message: Message) -> _Read:
    status, drill, _ = message.mark.split()
    return status, drill, message.text


_READERS: Mapping[str, Callable[[Message], _Read]] = {
    "webhook": _of_webhook, "slack": _of_slack, "pagerduty": _of_pagerduty, "email": _of_email,
}  # fmt: skip
