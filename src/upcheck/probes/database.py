"""What the probes of databases have in common: a URL with a user and a password, TLS, shares and lags to be judged."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

from upcheck.declaration import seconds
from upcheck.exposition import labelled
from upcheck.probes import Phase, Probe, ProbeError, ProbeFailure, Reason, Run
from upcheck.probes.addresses import Place
from upcheck.probes.tls import Trust

MAX_ROWS = 10_000  # of a query


@dataclass(frozen=True, slots=True)
class Login:
    """Where a database is, and who asks it: *user*, *password* and *database* are empty where the URL has none."""

    place: Place
    user: str
    password: str = field(repr=False)
    database: str
    tls: bool

    @classmethod
    def of(cls, url: str, schemes: Mapping[str, bool], port: int) -> Login:
        """The login in *url*. *schemes* say by name whether they mean TLS. Raises ProbeError, without the URL in it."""
        shape = f"{next(iter(schemes))}://user:password@host:{port}/database"
        try:
            parts = urlsplit(url)
            host, at = parts.hostname, parts.port or port
        except ValueError:
            raise ProbeError(f"url: expected {shape}; write / @ : of a password as %2F %40 %3A") from None
        if parts.scheme not in schemes or not host:
            raise ProbeError(f"url: expected {shape}, not a URL of {parts.scheme or 'no scheme'!r}")
        if parts.query or parts.fragment:
            raise ProbeError("url: what follows a ? or # is not read: TLS and files are keys beside url, such as tls")
        place = Place.of(f"[{host}]:{at}" if ":" in host else f"{host}:{at}")
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        return cls(place, user, password, unquote(parts.path.removeprefix("/")), schemes[parts.scheme])


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Database(Probe):
    """A probe of the database at *url*; with *tls*, under what `Trust` says. *latency* is judged by whoever asks."""

    url: str = field(kw_only=False, repr=False)
    deadline: float = 10.0
    tls: bool = False
    verify: bool = True
    ca_file: str | None = None
    server_name: str | None = None
    certificate: str | None = None
    key: str | None = None
    login: Login = field(init=False)
    trust: Trust = field(init=False)
    subject: ClassVar[str] = "url"
    schemes: ClassVar[Mapping[str, bool]]
    port: ClassVar[int]

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "login", Login.of(self.url, self.schemes, self.port))
        put(self, "trust", Trust(self.verify, self.ca_file, self.server_name, self.certificate, self.key))

    @property
    def asked(self) -> str:
        """Its kind, where, and which database."""
        database = f"/{self.login.database}" if self.login.database else ""
        return f"{self.kind} {self.login.place.shown}{database}"

    @property
    def secured(self) -> bool:
        """Whether TLS is wanted, by the key or by the scheme."""
        return self.tls or self.login.tls


def loaded(module: str) -> Any:
    """The driver *module*; None where it is not installed. It is loaded before a probe's time begins to run."""
    try:
        return importlib.import_module(module)
    except ImportError:  # psycopg raises it, too, where there is no libpq
        return None


def missing(package: str, extra: str) -> ProbeFailure:
    """The failure of a probe whose driver is not installed."""
    sentence = f"not asked: {package} is not installed: pip install 'upcheck[{extra}]'"
    return ProbeFailure(Reason.MISSING_EXTRA, sentence, Phase.RESOLVE)


def span(name: str, value: str | float | None) -> float | None:
    """The seconds of the expectation *name*, such as `30s`. Raises ProbeError."""
    try:
        return None if value is None else seconds(value)
    except ValueError as error:
        raise ProbeError(f"{name}: {error}") from None


def share(name: str, value: float | None) -> None:
    """Raises ProbeError where the expectation *name* is no share of a whole."""
    if value is not None and not 0 < value <= 1:
        raise ProbeError(f"{name}: expected a share above 0 and up to 1, such as 0.8, not {value!r}")


def judge_answer(run: Run, rows: Sequence[Sequence[str | None]], many: int | None, wanted: object) -> None:
    """Fail where a query did not give *many* rows, or the first column of the first is not *wanted*, as text."""
    if len(rows) > MAX_ROWS:
        raise run.fail(
            Reason.BODY_TOO_LARGE, f"more than {MAX_ROWS:,} rows: no more were read; put a LIMIT to the query"
        )
    if many is not None and len(rows) != many:
        raise run.fail(Reason.UNEXPECTED_ANSWER, f"the query gave {len(rows)} rows, wanted {many}")
    if wanted is None:
        return
    value = rows[0][0] if rows and rows[0] else None
    if value != str(wanted):
        got = "no row" if not rows else "NULL" if value is None else repr(value[:100])
        raise run.fail(Reason.UNEXPECTED_ANSWER, f"the query gave {got}, wanted {str(wanted)!r}")


def judge_share(run: Run, words: str, used: float, limit: float, most: float | None) -> None:
    """Fail where *used* is more than the share *most* of *limit*; *words* say what is used."""
    if most is None:
        return
    if limit <= 0:
        unknown = f"{words}: how many there may be is not known, wanted at most {100 * most:g} % of them"
        raise run.fail(Reason.NEAR_LIMIT, unknown)
    if used > most * limit:
        told = f"{used:,.0f} of {limit:,.0f} {words} in use ({100 * used / limit:.3g} %)"
        raise run.fail(Reason.NEAR_LIMIT, f"{told}, wanted at most {100 * most:g} %")


def judge_lag(run: Run, lag: float | None, most: float | None, *, replica: bool) -> None:
    """Fail where a replica is more than *most* seconds behind, or it is not known how far; or it is no replica."""
    if most is None:
        return
    if not replica:
        raise run.fail(Reason.WRONG_ROLE, f"this is no replica, wanted one that is at most {most:g} s behind")
    if lag is None:
        raise run.fail(
            Reason.REPLICATION_LAG, f"the replica can't tell how far behind it is, wanted at most {most:g} s"
        )
    if lag > most:
        raise run.fail(Reason.REPLICATION_LAG, f"the replica is {lag:.1f} s behind, wanted at most {most:g} s")


def timed(run: Run, kind: str, phase: str, began: float) -> float:
    """Tell how long *phase* took, since the monotonic second *began*; the monotonic second that it is now."""
    now = run.spent("processing", began)
    run.metrics[f'probe_{kind}_duration_seconds{{phase="{phase}"}}'] = now - began
    return now


def versioned(kind: str, version: str) -> str:
    """The sample that tells the *version* of a server."""
    return labelled(f"probe_{kind}_version_info", [("version", version[:64])])
