"""What was promised of the collector for a month, held against what was. Put your own services beside it."""

from __future__ import annotations

import pytest

from upcheck import check
from upcheck.sla import Objectives

FEW = 100  # runs, of which one failure alone would break a promise of 99%


@check(every="5m", severity="warning")
def test_the_collector_keeps_its_sla(sla: Objectives) -> None:
    liveness = sla("liveness", window="30d")
    if liveness.runs < FEW:
        pytest.skip(f"{liveness.runs} runs of liveness are too few to speak of a month")
    assert liveness.availability >= 0.999
    assert liveness.latency(0.99) <= 0.25
