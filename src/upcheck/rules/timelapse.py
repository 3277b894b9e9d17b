"""Rules in a time-lapse: every duration is divided by one factor, and every value is what it would have been.

Of a rule that waits five minutes, a real Prometheus then makes up its mind in five seconds (at 60x). What counts
seconds in an expression is put back to those of the time that is played: `rate(errors[5m]) > 10` becomes
`(rate(errors[5s]) / 60) > 10`, and `time()` runs 60 times as fast.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from upcheck.rules.promql import Binary, Call, Expr, Number, Paren, Selector, Subquery, duration, parse
from upcheck.rules.suite import seconds

_PER_SECOND = ("rate", "irate", "deriv")
_CALENDAR = (
    "minute", "hour", "day_of_week", "day_of_month", "day_of_year", "days_in_month", "month", "year",
)  # fmt: skip
_CLOCKS = ("_timestamp_seconds", "_start_time_seconds")
_RULE_TIMES = ("for", "keep_firing_for")
_GROUP_TIMES = ("interval", "query_offset")
_ROUTE_TIMES = ("group_wait", "group_interval", "repeat_interval")
_LOOKBACK = 300.0  # seconds: Prometheus' default of --query.lookback-delta
_RESEND = 60.0  # seconds: its default of --rules.alert.resend-delay
_FOR_GRACE = 600.0  # seconds: its default of --rules.alert.for-grace-period
_SHORTEST = 0.001  # seconds; Prometheus knows no shorter


class LapseError(ValueError):
    """What can't be played in a time-lapse, and why."""


@dataclass(frozen=True, slots=True)
class Lapse:
    """*factor* seconds of the time that is played pass in one of ours.

    Its time 0 is *epoch* of ours. With *wall_clock*, gauges that hold a time (`..._timestamp_seconds`) tell ours.
    """

    factor: float
    epoch: float = 0.0
    wall_clock: bool = False

    def duration(self, played: float) -> float:
        """*played* seconds, as those of ours; no shorter than a millisecond, which is the shortest there is."""
        return max(played / self.factor, _SHORTEST)

    def promql(self, text: str) -> str:
        """The expression *text*, of which each value is what it would be in the time that is played.

        Raises PromQLError for what is none, LapseError for `@` with a time.
        """
        return str(self._expr(parse(text)))

    def rules(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """A rule file: its groups with intervals, waits and expressions of the lapse. Templates stay as they are."""
        made = copy.deepcopy(dict(document))
        for group in made.get("groups", ()):
            self._shorten(group, _GROUP_TIMES)
            for rule in group["rules"]:
                self._shorten(rule, _RULE_TIMES)
                rule["expr"] = self.promql(str(rule["expr"]))
        return made

    def alertmanager(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """A configuration of Alertmanager: when groups are told, and told again. Its calendar stays as it is."""
        made = copy.deepcopy(dict(document))
        self._shorten(made.get("global", {}), ("resolve_timeout",))
        # Alertmanager's defaults hold where the topmost route says nothing.
        made["route"] = {"group_wait": "30s", "group_interval": "5m", "repeat_interval": "4h"} | made["route"]
        routes = [made["route"]]
        while routes:
            route = routes.pop()
            self._shorten(route, _ROUTE_TIMES)
            routes += route.get("routes", ())
        return made

    def flags(self) -> tuple[str, ...]:
        """What Prometheus must be started with, so that its own times are of the lapse."""
        return (
            f"--query.lookback-delta={duration(self.duration(_LOOKBACK))}",
            f"--rules.alert.resend-delay={duration(self.duration(_RESEND))}",
            f"--rules.alert.for-grace-period={duration(self.duration(_FOR_GRACE))}",
        )

    def _shorten(self, table: dict[str, Any], keys: tuple[str, ...]) -> None:
        for key in keys:
            if key in table:
                table[key] = duration(self.duration(seconds(str(table[key]))))

    def _expr(self, node: Expr) -> Expr:
        lapsed = replace(node, **{field.name: self._field(getattr(node, field.name)) for field in fields(node)})
        if isinstance(lapsed, Selector | Subquery):
            return self._selected(lapsed)
        return self._called(lapsed) if isinstance(lapsed, Call) else lapsed

    def _field(self, value: Any) -> Any:
        if isinstance(value, Expr):
            return self._expr(value)
        if isinstance(value, tuple) and value and isinstance(value[0], Expr):
            return tuple(self._expr(one) for one in value)
        return value

    def _selected(self, node: Selector | Subquery) -> Expr:
        if node.at and node.at not in ("start()", "end()"):
            raise LapseError(f"{node}: a time after @ is none of the time that is played")
        times = ("range", "offset", "step") if isinstance(node, Subquery) else ("range", "offset")
        shorter = {key: getattr(node, key) / self.factor for key in times if getattr(node, key) is not None}
        made = replace(node, **shorter)
        is_clock = isinstance(made, Selector) and made.range is None and made.name.endswith(_CLOCKS)
        return Paren(Binary("*", made, Number(self.factor))) if self.wall_clock and is_clock else made

    def _called(self, node: Call) -> Expr:
        if node.function in _PER_SECOND:
            return Paren(Binary("/", node, Number(self.factor)))
        if node.function == "predict_linear":
            series, ahead = node.args
            return replace(node, args=(series, Binary("/", Paren(ahead), Number(self.factor))))
        if node.function == "time" or (node.function == "timestamp" and not self.wall_clock):
            return self._played(node)
        if node.function == "timestamp":
            return Paren(Binary("*", node, Number(self.factor)))
        if node.function in _CALENDAR and not node.args:
            return replace(node, args=(Call("vector", (self._played(Call("time")),)),))
        return node

    def _played(self, ours: Expr) -> Expr:
        """A time of ours, as that of the time that is played."""
        since = Paren(Binary("-", ours, Number(self.epoch))) if self.epoch else ours
        return Paren(Binary("*", since, Number(self.factor)))
