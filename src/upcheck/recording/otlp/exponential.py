"""Exponential histograms of OTLP as explicit buckets."""

from __future__ import annotations

from collections.abc import Sequence

from upcheck.recording.otlp import Buckets, OtlpError

_SCALES = range(-10, 21)  # those of the specification
_MOST = 4096  # buckets; SDKs send 160


def buckets(scale: int, offset: int, counts: Sequence[int], lowest: int, total: float) -> Buckets:
    """Buckets with the upper bounds 2 ** ((offset + index + 1) / 2 ** scale); *lowest* were zero or below.

    Raises OtlpError for what no SDK sends.
    """
    if scale not in _SCALES or len(counts) > _MOST or abs(offset) > 2**31:
        raise OtlpError(f"an exponential histogram of scale {scale} with {len(counts)} buckets: expected -10 to 20")
    exponents = [(offset + index + 1) / 2.0**scale for index in range(len(counts))]
    bounds = tuple(2.0**one if one < 1024 else 1.7e308 for one in exponents)
    return Buckets((0.0, *bounds), (lowest, *counts, 0), total)
