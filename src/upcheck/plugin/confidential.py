"""Secrets out of pytest's reports and our Results, before anything shows, writes or sends them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from upcheck.redaction import redacted_values, redactor
from upcheck.result import FACT, Outcome, Result

# What others select, count and label by: a word there is no secret, though a password may be spelled like it.
_STRUCTURE = frozenset(("kind", "name", "file", "severity", "code", "fires", "silent", "alerts"))
# What a check that held says: words of structure, and numbers.
_QUIET = {FACT + name for name in (*_STRUCTURE, "line", "every", "timeout", "status", "phases", "certificate_expiry")}
_PLACES = frozenset(("style", "path", "filename"))  # of pytest's tracebacks
_HIDDEN = "upcheck_hidden"  # how many sections a report had when its secrets were hidden


def hide(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Replace the secrets in *report*: its traceback, what was printed and logged, its properties.

    Again where sections were added since. One that passed, printed nothing and has no texts to tell costs nothing.
    """
    sections, properties = report.sections, getattr(report, "user_properties", [])
    if getattr(report, _HIDDEN, None) == len(sections):
        return
    if report.passed and not sections and _QUIET.issuperset([name for name, _ in properties]):
        return
    hide_in = redactor()
    report.longrepr = _hidden(report.longrepr, hide_in)
    report.sections = [(name, hide_in(text)) for name, text in sections]
    properties[:] = [(name, _property(name, value, hide_in)) for name, value in properties]
    if reason := getattr(report, "wasxfail", ""):
        report.wasxfail = hide_in(reason)  # type: ignore[union-attr]  # pytest's own, where a failure was expected
    setattr(report, _HIDDEN, len(sections))


def without_secrets(result: Result) -> Result:
    """*result* with the secrets replaced in its reason and in what it asked, got and wanted."""
    if result.outcome is Outcome.HELD:  # it has numbers to tell, and no texts
        return result
    hide_in = redactor()
    facts = {name: _property(FACT + name, value, hide_in) for name, value in result.facts.items()}
    return replace(result, reason=hide_in(result.reason), facts=facts)


def _property(name: str, value: Any, hide_in: Callable[[str], str]) -> Any:
    if name.startswith(FACT):
        return value if name.removeprefix(FACT) in _STRUCTURE else redacted_values(value, hide_in)
    found = redacted_values(value, hide_in)
    shown = str(found)  # which is what JUnit's XML has of a value that is not plain
    return found if hide_in(shown) == shown else hide_in(shown)


def _hidden(part: Any, hide_in: Callable[[str], str]) -> Any:
    """The same *part* of a `longrepr`, with the secrets replaced."""
    if isinstance(part, str):
        return hide_in(part)
    if isinstance(part, list | tuple):
        return type(part)([_hidden(one, hide_in) for one in part])
    if hasattr(part, "__dict__") and type(part).__module__.startswith("_pytest."):
        for name, value in vars(part).items():
            if name not in _PLACES:
                object.__setattr__(part, name, _hidden(value, hide_in))
    return part
