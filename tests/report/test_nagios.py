from __future__ import annotations

import pytest

from upcheck.report import nagios
from upcheck.result import Outcome, Result


def result(outcome: Outcome, severity: str = "critical", reason: str = "") -> Result:
    return Result("a", outcome, 0, 0, reason=reason, facts={"name": "test_a", "severity": severity})


HELD, ERROR, SKIPPED = result(Outcome.HELD), result(Outcome.ERROR, reason="no tool"), result(Outcome.SKIPPED)
CRITICAL, WARNING = result(Outcome.FAILED, reason="503 | x\ny"), result(Outcome.FAILED, "warning")


@pytest.mark.parametrize(
    ("results", "status"),
    [
        ([HELD, SKIPPED], nagios.OK),
        ([HELD, WARNING], nagios.WARNING),
        ([WARNING], nagios.WARNING),
        ([HELD, WARNING, ERROR], nagios.UNKNOWN),
        ([HELD, ERROR, WARNING, CRITICAL], nagios.CRITICAL),
        ([SKIPPED], nagios.UNKNOWN),
        ([], nagios.UNKNOWN),
    ],
)
def test_status(results: list[Result], status: int) -> None:
    assert nagios.status(results) == status


def test_the_line_is_one_with_one_pipe() -> None:
    assert nagios.line([HELD, CRITICAL, ERROR]) == (
        "UPCHECK CRITICAL - 1 held, 1 failed, 1 error: test_a (503 / x y); test_a (no tool) "
        "| held=1 failed=1 error=1 blocked=0 maintenance=0"
    )
    assert nagios.line([]) == "UPCHECK UNKNOWN - no check ran | held=0 failed=0 error=0 blocked=0 maintenance=0"
    assert nagios.line([CRITICAL] * 9).count("test_a") == 5
