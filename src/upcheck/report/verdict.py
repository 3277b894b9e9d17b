"""The verdict that a person reads in five seconds: what held, what did not, why, what to do."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from upcheck.dependencies import behind
from upcheck.history import Streak
from upcheck.report.block import block
from upcheck.result import ExitCode, Kind, Outcome, Result, exit_code

_TITLES = {Kind.CHECK: "checks", Kind.RULE: "rules", Kind.CONFIG: "configs"}
_GOOD = {Kind.CHECK: "held", Kind.RULE: "held", Kind.CONFIG: "valid"}
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")
MAX_BLOCKS = 50  # failures told in full
MAX_NAMES = 5  # of checks that are blocked by one
MAX_REASONS = 10  # reasons that the rest is counted by
Style = Callable[[str, str], str]  # a text and the name of a colour


def plain(text: str, _: str) -> str:
    """No colour: for files, pipes and tests."""
    return text


def counts(results: Sequence[Result], style: Style = plain) -> list[str]:
    """A line for each kind of check that ran, and one for rules that ship without a test."""
    alerts = {name for result in results for name in result.facts.get("alerts", ())}
    lines: list[str] = []
    for kind in Kind:
        mine = [result for result in results if result.kind is kind]
        if mine or (kind is Kind.RULE and alerts):
            lines.append(_count(kind, mine, alerts, style))
    return lines


def _count(kind: Kind, results: Sequence[Result], alerts: set[str], style: Style) -> str:
    tally = Counter(result.outcome for result in results)
    good = tally[Outcome.HELD]
    told = [f"{good} {_GOOD[kind]}"] if good else []
    told += [f"{tally[outcome]} {outcome}" for outcome in Outcome if outcome is not Outcome.HELD and tally[outcome]]
    colour = (
        "red" if tally[Outcome.FAILED] or tally[Outcome.ERROR] or tally[Outcome.BLOCKED] or not results else "green"
    )
    text = ", ".join(told) or "no tests"
    line = f"{_TITLES[kind]:<11} {style(text, colour)}{' ' * max(1, 24 - len(text))} {_remark(kind, results, alerts)}"
    return line.rstrip()


def _remark(kind: Kind, results: Sequence[Result], alerts: set[str]) -> str:
    if kind is Kind.CONFIG:
        return "  ".join(Path(str(result.facts.get("file", result.check))).name for result in results)
    if kind is Kind.RULE:
        return _proven(results, alerts)
    slowest = max(results, key=lambda result: result.duration)
    return f"slowest {slowest.duration * 1000:.0f} ms  {slowest.facts.get('name', slowest.check)}"


def _proven(results: Sequence[Result], alerts: set[str]) -> str:
    """Which alerts the tests that held have seen both fire and keep silent."""
    held = [result for result in results if result.outcome is Outcome.HELD]
    fired = {name for result in held for name in result.facts.get("fires", ())}
    silent = {name for result in held for name in result.facts.get("silent", ())}
    if not alerts:
        return ""
    count = f"{len(alerts)} alert{'s' if len(alerts) > 1 else ''}"
    if lacking := sorted(alerts - fired) or sorted(alerts - silent):
        what = "fired" if alerts - fired else "silent"
        more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
        return f"{count}, never seen {what}: {', '.join(lacking[:3])}{more}"
    return f"{count}, each seen to fire and to keep silent"


def failures(results: Sequence[Result], streak: Callable[[str], Streak | None], style: Style = plain) -> list[str]:
    """A block for each result that did not hold: where it stands, what was asked, got and wanted, since when.

    What has one cause is one block, with a line for all that is blocked by it. Beyond MAX_BLOCKS the rest is counted,
    by reason.
    """
    blocked = behind(results)
    bad = [result for result in results if result.outcome.bad]
    bad.sort(key=lambda result: (str(result.facts.get("file")), int(result.facts.get("line", 0))))
    causes = Counter(map(_cause, bad))
    lines: list[str] = []
    blocks, rest = 0, Counter[str]()
    for result in bad:
        if not (others := causes.pop(_cause(result), 0)):
            continue
        if blocks == MAX_BLOCKS:
            rest[result.reason.partition("\n")[0][:100]] += others
            continue
        blocks += 1
        more = [f"  and {others - 1} more for the same reason"] if others > 1 else []
        lines += [
            *_block(result, streak, style),
            *more,
            *_behind(blocked.pop(result.check, []), "behind it", style),
            "",
        ]
    for cause, several in blocked.items():
        reason = several[0].reason.partition(": ")[2]
        lines += [*_behind(several, f"by {cause}", style), *block({"got": reason}).splitlines(), ""]
    if rest:
        lines += [f"and {sum(rest.values())} more", *_digest(rest), ""]
    return lines


def _behind(blocked: Sequence[Result], by: str, style: Style) -> list[str]:
    """A line for what is *blocked*: how many, and the names of the first."""
    if not blocked:
        return []
    names = [str(result.facts.get("name", result.check)) for result in blocked]
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    count = f"{len(names)} check{'s' if len(names) > 1 else ''}"
    return [f"{style('BLOCKED ', 'magenta')} {count} {by} ({', '.join(names[:MAX_NAMES])}{more})"]


def hint(results: Sequence[Result], target: str) -> str:
    """What to type where nothing listens at *target*; else empty."""
    refused = [one for one in results if one.facts.get("got") == "Connection refused"]
    if not any(f" {target}/" in str(one.facts.get("asked")) for one in refused):
        return ""
    return f"nothing listens at {target}: `make collector` starts a collector, --target=URL names another service"


def _digest(reasons: Counter[str]) -> list[str]:
    shown = [f"  {count:>6} {reason}" for reason, count in reasons.most_common(MAX_REASONS)]
    left = len(reasons) - len(shown)
    return [*shown, f"         and {left} reasons more"] if left else shown


def _cause(result: Result) -> tuple[object, ...]:
    """Equal for results that did not hold for one cause; a live check's failure is a cause of its own."""
    told = result.facts.get("diff") or result.facts.get("got")
    alone = result.check if result.kind is Kind.CHECK and result.outcome is Outcome.FAILED else ""
    return result.outcome, result.reason, told, alone


def _block(result: Result, streak: Callable[[str], Streak | None], style: Style) -> list[str]:
    facts = dict(result.facts)
    title = str(facts.get("name", result.check))
    if result.kind is Kind.CONFIG:
        title = Path(str(facts.get("file", title))).name
    if result.kind is not Kind.CHECK and not facts.get("diff") and result.reason != facts.get("got"):
        title += f": {result.reason}"
    place = f"{facts.get('file', '')}:{facts.get('line', '')}".strip(":")
    if result.kind is Kind.CHECK and (run := streak(result.check)) and run.outcome is result.outcome:
        facts["since"] = since(run)
    word = style(f"{result.outcome.upper():<8}", "red" if result.outcome is Outcome.FAILED else "magenta")
    return [f"{word} {title:<56} {place}".rstrip(), *block(facts).splitlines()]


def since(streak: Streak) -> str:
    """`14:02:10, third failure in a row; last held 14:00:07`; with the day where it was not today."""
    count = _ORDINALS[streak.runs - 1] if streak.runs <= len(_ORDINALS) else f"{streak.runs}th"
    noun = "failure" if streak.outcome is Outcome.FAILED else streak.outcome.value
    held = f"last held {clock(streak.last_held)}" if streak.last_held is not None else "has never held"
    return f"{clock(streak.since)}, {count} {noun} in a row; {held}"


def clock(moment: float) -> str:
    """*moment* (unix seconds) as local time, with the day where it is not today."""
    then = time.localtime(moment)
    today = time.strftime("%Y-%m-%d") == time.strftime("%Y-%m-%d", then)
    return time.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M", then)


def total(results: Sequence[Result], seconds: float, style: Style = plain) -> str:
    """The last line: `held in 1.9 s`, or what did not hold."""
    tally = Counter(result.outcome for result in results)
    if exit_code(results) is ExitCode.HELD:
        return style(f"held in {seconds:.1f} s", "green")
    if not tally:
        return style("nothing ran, so nothing is known", "magenta")
    bad = ", ".join(f"{tally[outcome]} {outcome}" for outcome in Outcome if tally[outcome])
    return style(f"{bad} in {seconds:.1f} s", "red" if tally[Outcome.FAILED] else "magenta")
