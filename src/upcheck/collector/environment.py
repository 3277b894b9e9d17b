"""The environment variables of the collector, read once and validated. Times are milliseconds there, seconds here."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from upcheck.bearer import token_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DEFAULT_PORT = 9909
METRICS_PATH = "/metrics"
PROBE_PATHS = ("/live", "/ready", "/health/live", "/health/ready")

_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")
_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)+")
_WORDS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class EnvironmentVariableError(ValueError):
    """A variable that can't be used, in a sentence that names it, its value and what is expected; no token's value."""


@dataclass(frozen=True, slots=True)
class Environment:
    """What the environment says to the collector. Intervals and timeouts in seconds.

    *cpu_budget* is percent of one CPU, *probes* whether /live and /ready are served, *metrics* whether the metrics are,
    *metrics_path* a further path under which they stand. A field that holds a secret is in no repr.
    """

    system_interval: float = 10.0
    app_interval: float = 5.0
    business_interval: float = 60.0
    buffer_size: int = 1000
    cpu_budget: float = 2.0
    health_interval: float = 10.0
    health_timeout: float = 5.0
    probes: bool = True
    token: str | None = field(default=None, repr=False)
    token_file: Path | None = None
    metrics: bool = True
    port: int = DEFAULT_PORT
    metrics_path: str = METRICS_PATH
    alertmanager: bool = False
    alertmanager_url: str = field(default="http://localhost:9093", repr=False)  # may hold a password
    webhook_secret: str | None = field(default=None, repr=False)
    service_name: str | None = None
    service_version: str | None = None

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Environment:
        """What *environ* says; what it does not name has the default. Raises EnvironmentVariableError."""
        values: dict[str, object] = {}
        for name, (key, parse) in _VARIABLES.items():
            if name in environ:
                values[key] = parse(name, environ[name])
        if "token" in values and "token_file" in values:
            raise EnvironmentVariableError("METRICS_TOKEN and METRICS_TOKEN_FILE are both set: unset one of them")
        return cls(**values)  # type: ignore[arg-type]  # each parser gives its field's type


def _refused(name: str, text: str, expected: str) -> EnvironmentVariableError:
    value = f"={text[:80]!r}" if text.strip() else " is empty"
    return EnvironmentVariableError(f"{name}{value}: expected {expected}, or leave it unset")


def _number(low: float, high: float, unit: str, scale: float = 1) -> Callable[[str, str], float]:
    def parse(name: str, text: str) -> float:
        value = float(text) if _NUMBER.fullmatch(text.strip()) else math.nan
        if not low <= value <= high:
            raise _refused(name, text, f"{unit} from {low:g} to {high:.0f}")
        return value / scale

    return parse


def _whole(low: int, high: int, unit: str) -> Callable[[str, str], int]:
    def parse(name: str, text: str) -> int:
        stripped = text.strip()
        value = int(stripped) if stripped.isascii() and stripped.isdigit() and len(stripped) < 20 else -1
        if not low <= value <= high:
            raise _refused(name, text, f"{unit} from {low} to {high}")
        return value

    return parse


def _flag(name: str, text: str) -> bool:
    try:
        return _WORDS[text.strip().lower()]
    except KeyError:
        raise _refused(name, text, "true or false") from None


def _token(name: str, text: str) -> str:
    token = token_of(text)
    if token is None:
        found = "is not one" if text.strip() else "is empty"
        raise EnvironmentVariableError(
            f"{name} {found}: expected up to 4096 printable ASCII characters without blanks, or leave it unset"
        )
    return token


def _file(name: str, text: str) -> Path:
    if not text.strip() or "\0" in text:
        raise _refused(name, text, "the path of a file that holds the token")
    return Path(text)


def _path(name: str, text: str) -> str:
    if len(text) > 200 or not _PATH.fullmatch(text):
        raise _refused(name, text, "a path such as /metrics")
    return text


def _url(name: str, text: str) -> str:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not text.isprintable() or " " in text:
        shown = text if "@" not in text else "***"  # it may hold a password
        raise _refused(name, shown, "a URL such as http://localhost:9093")
    return text.rstrip("/")


def _text(name: str, text: str) -> str:
    if not text.strip() or len(text) > 200 or not text.isprintable():
        raise _refused(name, text, "text of up to 200 printable characters")
    return text.strip()


_interval = _number(100, 3_600_000, "milliseconds", 1000)
_VARIABLES: dict[str, tuple[str, Callable[[str, str], object]]] = {
    "METRICS_SYSTEM_INTERVAL": ("system_interval", _interval),
    "METRICS_APP_INTERVAL": ("app_interval", _interval),
    "METRICS_BUSINESS_INTERVAL": ("business_interval", _interval),
    "METRICS_BUFFER_SIZE": ("buffer_size", _whole(1, 1_000_000, "a number of entries")),
    "METRICS_CPU_BUDGET": ("cpu_budget", _number(0.1, 100, "percent of one CPU")),
    "METRICS_TOKEN": ("token", _token),
    "METRICS_TOKEN_FILE": ("token_file", _file),
    "HEALTH_CHECK_INTERVAL": ("health_interval", _interval),
    "HEALTH_CHECK_TIMEOUT": ("health_timeout", _number(10, 600_000, "milliseconds", 1000)),
    "HEALTH_ENABLE_PROBES": ("probes", _flag),
    "PROMETHEUS_ENABLED": ("metrics", _flag),
    "PROMETHEUS_PORT": ("port", _whole(1, 65535, "a port")),
    "PROMETHEUS_PATH": ("metrics_path", _path),
    "ALERT_MANAGER_ENABLED": ("alertmanager", _flag),
    "ALERT_MANAGER_URL": ("alertmanager_url", _url),
    "WEBHOOK_SECRET": ("webhook_secret", _token),
    "SERVICE_NAME": ("service_name", _text),
    "SERVICE_VERSION": ("service_version", _text),
}
