"""What the alerts of a repo compare with what: of that, panels make their thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from upcheck import documents
from upcheck.dashboards import Condition, Threshold
from upcheck.rules.promql import COMPARISONS, Binary, Expr, Negation, Number, Paren, PromQLError, parse
from upcheck.settings import nearest

_COLOURS = {"warning": "orange", "medium": "orange", "info": "yellow", "low": "yellow"}  # what is worse is red
_MIRRORED = {">": "<", ">=": "<=", "<": ">", "<=": ">="}


class Conditions:
    """The alerts of all rule files below a folder, by name."""

    def __init__(self, rules: Path) -> None:
        """Raises DocumentError for a rule file that can't be read."""
        self._alerts: dict[str, dict[str, Mapping[str, Any]]] = {}
        for file in sorted(rules.glob("*.yml")):
            for group in (documents.load(file) or {}).get("groups", ()):
                for rule in group["rules"]:
                    if "alert" in rule:
                        self._alerts.setdefault(rule["alert"], {})[file.stem] = rule

    def of(self, name: str) -> Condition:
        """The condition of the alert *name*, or of `file/name` where several files have one of that name.

        Raises ValueError where there is none, or it compares nothing with a number: the sentence says which are there.
        """
        file, _, alert = name.rpartition("/")
        rules = self._alerts.get(alert, {})
        if not rules:
            raise ValueError(f"there is no alert '{alert}'{nearest(alert, self._alerts)}")
        if file and file not in rules:
            raise ValueError(f"{file}.yml has no alert '{alert}'{nearest(file, rules)}")
        if not file and len(rules) > 1:
            several = " or ".join(f"{stem}/{alert}" for stem in rules)
            raise ValueError(f"several files have an alert '{alert}': write {several}")
        return _condition(alert, rules[file or next(iter(rules))])


def _condition(alert: str, rule: Mapping[str, Any]) -> Condition:
    colour = _COLOURS.get(rule.get("labels", {}).get("severity", ""), "red")
    try:
        found = _compared(parse(str(rule["expr"])))
    except PromQLError as error:
        raise ValueError(f"the alert '{alert}' can't be read: {error}") from None
    if found is None:
        raise ValueError(f"the alert '{alert}' compares nothing with a number, so it has no threshold: leave it out")
    op, left, value = found
    runbook = rule.get("annotations", {}).get("runbook_url", "")
    return Condition(alert, str(left), Threshold(op, value, colour), runbook)


def _compared(expr: Expr) -> tuple[str, Expr, float] | None:
    """The first comparison of *expr* with a number: its sign, what is compared, and with what."""
    if isinstance(expr, Paren):
        return _compared(expr.expr)
    if not isinstance(expr, Binary):
        return None
    if expr.op in COMPARISONS:
        right, left = _number(expr.right), _number(expr.left)
        if right is not None:
            return expr.op, expr.left, right
        if left is not None:
            return _MIRRORED.get(expr.op, expr.op), expr.right, left
    return _compared(expr.left) or _compared(expr.right)


def _number(expr: Expr) -> float | None:
    if isinstance(expr, Paren):
        return _number(expr.expr)
    if isinstance(expr, Negation):
        inside = _number(expr.expr)
        return None if inside is None else -inside
    return expr.value if isinstance(expr, Number) else None
