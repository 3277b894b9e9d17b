"""Values as Grafana writes them, and where an axis has its lines."""

from __future__ import annotations

import math

from upcheck.dashboards import UNITS

_TIMES = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
_SIZES = ((2.0**40, "TiB"), (2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B"))
_COUNTS = ((1e9, " B"), (1e6, " M"), (1e3, " K"), (1.0, ""))
_DECIMAL: tuple[float, ...] = (1, 2, 2.5, 5, 10)  # steps of an axis
_CLOCK: tuple[float, ...] = (15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400)
_BINARY: tuple[float, ...] = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1024)
_ENDS = {"reqps": " req/s", "ops": " ops/s", "cps": " c/s", "suffix:x": "x"}


def written(value: float, unit: str) -> str:
    """*value* in three digits, with the *unit* (of UNITS), or the word that the unit has for it."""
    for known, word, _ in UNITS[unit].words:
        if value == known:
            return word
    if not math.isfinite(value):
        return "no data"
    grafana = UNITS[unit].grafana
    if grafana == "percentunit":
        return f"{_digits(100 * value)}%"
    if grafana == "s":
        return _scaled(value, _TIMES, " ")
    if grafana in ("bytes", "Bps"):
        return _scaled(value, _SIZES, " ") + ("/s" if grafana == "Bps" else "")
    return _scaled(value, _COUNTS, "") + _ENDS.get(grafana, "")


def ticks(low: float, high: float, unit: str, most: int = 5) -> list[float]:
    """About *most* round numbers of the *unit*, between the first and the last of which are *low* and *high*."""
    wide = (high - low) or abs(high) or 1.0
    rough = wide / (most - 1)
    if UNITS[unit].grafana in ("bytes", "Bps") and rough >= 1:
        size, factors = 1024.0 ** math.floor(math.log(rough, 1024)), _BINARY
    elif UNITS[unit].grafana == "s" and 10 < rough <= _CLOCK[-1]:
        size, factors = 1.0, _CLOCK
    else:
        size, factors = 10.0 ** math.floor(math.log10(rough)), _DECIMAL
    step = next(size * factor for factor in factors if size * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil((low + wide) / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def _scaled(value: float, sizes: tuple[tuple[float, str], ...], gap: str) -> str:
    if value == 0:
        return f"0{gap}{sizes[-1][1] if sizes is not _TIMES else 's'}".rstrip()
    size, name = next(((size, name) for size, name in sizes if abs(value) >= size), sizes[-1])
    return f"{_digits(value / size)}{gap}{name}".rstrip()


def _digits(value: float) -> str:
    """Three digits that count, without zeros at the end."""
    places = 0 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value)) + 1e-9))
    text = f"{value:.{min(places, 4)}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text
