"""The answer of a monitoring plugin (Nagios, Icinga, Sensu): one line, performance data, an exit code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from upcheck.result import Outcome, Result

OK, WARNING, CRITICAL, UNKNOWN = range(4)
_NAMES = ("OK", "WARNING", "CRITICAL", "UNKNOWN")


def status(results: Sequence[Result]) -> int:
    """The worst that *results* say: failed critical, failed otherwise, could not tell (or nothing ran), held."""
    failed = [result for result in results if result.outcome is Outcome.FAILED]
    if any(result.facts.get("severity", "critical") == "critical" for result in failed):
        return CRITICAL
    outcomes = {result.outcome for result in results}
    if outcomes & {Outcome.ERROR, Outcome.BLOCKED}:
        return UNKNOWN
    if failed:
        return WARNING
    return OK if outcomes & {Outcome.HELD, Outcome.MAINTENANCE} else UNKNOWN


def line(results: Sequence[Result], warnings: Sequence[str] = ()) -> str:
    """Such as `UPCHECK CRITICAL - 1 failed, 22 held: test_api (503) | held=22 failed=1 error=0`, with one pipe."""
    counts = Counter(result.outcome for result in results)
    told = [f"{counts[outcome]} {outcome}" for outcome in Outcome if counts[outcome]] or ["no check ran"]
    bad = [result for result in results if result.outcome.bad]
    names = "; ".join(f"{result.facts.get('name', result.check)} ({_why(result)})" for result in bad[:5])
    names += f"; and {len(bad) - 5} more" if len(bad) > 5 else ""
    text = f"UPCHECK {_NAMES[status(results)]} - {', '.join(told)}" + (f": {names}" if names else "")
    text += "".join(f" (warning: {warning})" for warning in warnings)
    data = " ".join(f"{outcome}={counts[outcome]}" for outcome in Outcome if outcome is not Outcome.SKIPPED)
    return " ".join(text.replace("|", "/").split()) + f" | {data}"


def _why(result: Result) -> str:
    return str(result.facts.get("got", result.reason)) if result.outcome is Outcome.ERROR else result.reason
