"""promtool as functions that return verdicts. Source: its own output, 2.42 to 3.x."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from upcheck import command

TIMEOUT = 120.0  # seconds for one run

# One run keeps to one core, because we run as many at once as there are cores. A heap that may grow to three
# times what is live halves the collector's share; test databases in memory save their fsyncs.
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder to make private folders in, which is what promtool does
MEMORY = 2 * 1024**3  # bytes for one run; it takes 34 MB
ENVIRON = {"GOMAXPROCS": "1", "GOGC": "200"}
if os.access(_SHARED_MEMORY, os.W_OK):
    ENVIRON["TMPDIR"] = str(_SHARED_MEMORY)


_HELD = re.compile(r"^Unit Testing:  (.*)\n  SUCCESS$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One expectation of a rule test that did not come true.

    *subject* is the alert's name or the PromQL expression, *time* its evaluation time as promtool writes it;
    *expected* and *got* are one line per alert or sample; *error* is set where the expression could not run.
    """

    subject: str
    time: str
    expected: tuple[str, ...] = ()
    got: tuple[str, ...] = ()
    error: str = ""
    is_alert: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether promtool accepted a file, and what it said; of several, those that it named as *held*."""

    ok: bool
    text: str
    held: frozenset[str] = frozenset()


def test_rules(promtool: Path, files: Sequence[Path]) -> Verdict:
    """Run `promtool test rules` once over *files*: one verdict on all of them; 2.x also names those that held.

    Raises CommandError where promtool gives no answer that can be judged.
    """
    answer = command.run([promtool, "test", "rules", *files], timeout=TIMEOUT, environ=ENVIRON, memory=MEMORY)
    successes = sum(line.strip() == "SUCCESS" for line in answer.stdout.splitlines())
    if answer.code == 0 and successes != len(files):
        raise command.CommandError(f"promtool exited 0, but with {successes} SUCCESS for {len(files)} files")
    return Verdict(answer.code == 0, answer.stderr, frozenset(_HELD.findall(answer.stdout)))


def check_rules(promtool: Path, *files: Path) -> Verdict:
    """`promtool check rules`: one verdict on all *files*."""
    return _check([promtool, "check", "rules", *files])


def check_config(promtool: Path, file: Path) -> Verdict:
    """`promtool check config`: prometheus.yml and every rule file it loads."""
    return _check([promtool, "check", "config", file])


def check_metrics(promtool: Path, exposition: str) -> Verdict:
    """`promtool check metrics`: format and lint of an exposition."""
    return _check([promtool, "check", "metrics"], exposition)


def _check(argv: Sequence[str | Path], stdin: str = "") -> Verdict:
    answer = command.run(argv, timeout=TIMEOUT, stdin=stdin, environ={"GOMAXPROCS": "1"})
    # Before 3.0 findings go to stderr and "Checking FILE" to stdout; lints alone exit 3.
    return Verdict(answer.code == 0, answer.stderr.strip() or answer.stdout.strip())


_ALERT = re.compile(r"^\s*alertname:\s*(?P<subject>.*?), time:\s*(?P<time>[^,\s]+),\s*$")
_EXPR = re.compile(r'^\s*expr: "(?P<subject>.*)", time:\s*(?P<time>[^,\s]+),\s*(?:err:\s*(?P<error>.*))?$')
_LABELS = re.compile(r"^\s*Labels:\{(.*)\},?\s*$")
_ANNOTATIONS = re.compile(r"^\s*Annotations:\{(.*)\},?\s*$")


def mismatches(text: str) -> list[Mismatch]:
    """The mismatches in what `promtool test rules` printed on stderr, in its order."""
    found: list[Mismatch] = []
    lines = text.splitlines()
    starts = [i for i, line in enumerate(lines) if _ALERT.match(line) or _EXPR.match(line)]
    for start, end in pairwise([*starts, len(lines)]):
        head, body = lines[start], lines[start + 1 : end]
        if match := _ALERT.match(head):
            half = next((i for i, line in enumerate(body) if line.strip().startswith("got:")), len(body))
            found.append(
                Mismatch(match["subject"], match["time"], _alerts(body[:half]), _alerts(body[half:]), is_alert=True)
            )
        elif match := _EXPR.match(head):
            subject = match["subject"].replace('\\"', '"').replace("\\\\", "\\")
            found.append(
                Mismatch(subject, match["time"], _samples(body, "exp:"), _samples(body, "got:"), match["error"] or "")
            )
    return found


def _alerts(lines: Sequence[str]) -> tuple[str, ...]:
    """One line per alert: its labels, and its annotations where it has any."""
    alerts: list[str] = []
    for line in lines:
        if match := _LABELS.match(line):
            alerts.append(f"{{{match[1]}}}")
        elif (match := _ANNOTATIONS.match(line)) and match[1] and alerts:
            alerts[-1] += f" {match[1]}"
    return tuple(sorted(alerts))


def _samples(lines: Sequence[str], label: str) -> tuple[str, ...]:
    text = next((line.strip().removeprefix(label).strip() for line in lines if line.strip().startswith(label)), "")
    return (
        () if text in ("", "nil") else tuple(part.strip() for part in re.split(r", (?=\{|[a-zA-Z_:])(?![^{]*\})", text))
    )
