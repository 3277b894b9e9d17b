"""amtool as functions that return verdicts."""

from __future__ import annotations

from pathlib import Path

from upcheck import command
from upcheck.promtool import TIMEOUT, Verdict


def check_config(amtool: Path, file: Path) -> Verdict:
    """`amtool check-config`: the file and the templates it names."""
    answer = command.run([amtool, "check-config", file], timeout=TIMEOUT)
    said = [line for line in f"{answer.stdout}\n{answer.stderr}".splitlines() if line.strip()]
    return Verdict(answer.code == 0, "\n".join(said))
