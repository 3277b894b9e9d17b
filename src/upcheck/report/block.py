"""The facts of a failure as aligned lines: asked, got, want."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LABELS = ("asked", "got", "want", "since", "see")
MAX_LINES = 40
MAX_COLUMNS = 400


def block(facts: Mapping[str, Any]) -> str:
    """The lines of a failure, indented by two; empty where the facts say nothing."""
    lines: list[str] = []
    for label in LABELS:
        text = str(facts.get(label, "")).rstrip()
        for number, line in enumerate(text.splitlines()):
            lines.append(f"  {label if number == 0 else '':<6} {line[:MAX_COLUMNS]}")
    lines += [f"  {line[:MAX_COLUMNS]}" for line in str(facts.get("diff", "")).splitlines()]
    if len(lines) > MAX_LINES:
        lines[MAX_LINES:] = [f"  ... {len(lines) - MAX_LINES} more lines"]
    return "\n".join(lines)
