"""Results as metric families, in blackbox_exporter's words where it has them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

from upcheck.result import Outcome, Result

MAX_LABEL = 120  # characters; pytest IDs can be of any length


def label(text: str) -> str:
    """*text* as a label value: as it is, or cut and made unique by a hash of the whole."""
    if len(text) <= MAX_LABEL:
        return text
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:12]
    return f"{text[: MAX_LABEL - 13]}#{digest}"


def families(results: Iterable[Result]) -> CollectorRegistry:
    """A registry with the state of each check at its last run.

    `probe_success` is absent where a check could not tell (`error`) or was skipped: that is not "down".
    """
    registry = CollectorRegistry()
    success = Gauge(
        "probe_success", "Whether the check held (1) or failed (0).", ["check", "severity"], registry=registry
    )
    duration = Gauge("probe_duration_seconds", "How long the check took.", ["check"], registry=registry)
    last = Gauge("upcheck_last_run_timestamp_seconds", "When the check last ran.", ["check"], registry=registry)
    outcomes = Gauge(
        "upcheck_check_outcome", "1 for the outcome of the last run.", ["check", "outcome"], registry=registry
    )
    for result in results:
        check = label(result.check)
        last.labels(check).set(result.started)
        for outcome in Outcome:
            outcomes.labels(check, outcome.value).set(outcome is result.outcome)
        if result.outcome in (Outcome.HELD, Outcome.FAILED):
            success.labels(check, result.facts.get("severity", "")).set(result.outcome is Outcome.HELD)
            duration.labels(check).set(result.duration)
    return registry


def write_textfile(path: Path, results: Iterable[Result]) -> None:
    """Write *results* for node_exporter's textfile collector: the whole file at once or not at all."""
    write_to_textfile(str(path), families(results))
