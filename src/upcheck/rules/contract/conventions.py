"""What people need: names that say what something is, severity, annotations, alerts that can be told apart."""

from __future__ import annotations

import re
from collections.abc import Iterator

from upcheck.rules.contract.finding import Context, Finding, at_mark
from upcheck.rules.contract.reading import Rule
from upcheck.settings import nearest

SEVERITIES = ("critical", "high", "warning", "medium", "info", "low")
_RECORDING = re.compile(r"[a-zA-Z_0-9]*:[a-zA-Z_0-9]+:[a-zA-Z_0-9]+")
_ALERT = re.compile(r"[A-Z][a-zA-Z0-9]*")
_RUNBOOK = re.compile(r"https?://[^\s/]+(/\S*)?")
_LEVELS = "level:metric:operations, such as job:http_requests:rate5m"


def check(context: Context) -> Iterator[Finding]:
    """naming, severity, annotations and duplicate."""
    seen: dict[tuple[str, tuple[tuple[str, str], ...]], Rule] = {}
    for rule in context.found.rules:
        if not rule.is_alert:
            if not _RECORDING.fullmatch(rule.name):
                yield _finding(rule, "naming", "a recording rule's name has three parts", _LEVELS)
            continue
        if not _ALERT.fullmatch(rule.name):
            yield _finding(rule, "naming", "an alert's name is CamelCase", f"call it {_camel(rule.name)}")
        yield from _severity(rule)
        yield from _annotations(rule)
        first = seen.setdefault((rule.name, tuple(sorted(rule.labels.items()))), rule)
        if first is not rule:
            where = f"{first.file.path.name}:{first.mark[0]}"
            fix = f"{where} has the same name and labels: give one another severity, or another name"
            yield _finding(rule, "duplicate", "a second alert of this name and these labels", fix)


def _finding(rule: Rule, check: str, sentence: str, fix: str) -> Finding:
    return at_mark(rule.file, rule.mark, len(rule.name), check, sentence, fix)


def _camel(name: str) -> str:
    return "".join(word[:1].upper() + word[1:] for word in re.findall(r"[a-zA-Z0-9]+", name)) or "SomethingIsWrong"


def _severity(rule: Rule) -> Iterator[Finding]:
    severity = rule.labels.get("severity")
    if severity is None:
        yield _finding(rule, "severity", "it has no label severity", f"one of {', '.join(SEVERITIES)}")
    elif severity not in SEVERITIES and "{{" not in severity:
        mark = rule.node["labels"].values_at["severity"]
        hint = nearest(severity, SEVERITIES)[2:]
        yield at_mark(rule.file, mark, len(severity), "severity", "no severity that routes know", hint)


def _annotations(rule: Rule) -> Iterator[Finding]:
    given = rule.annotations
    if not given.get("summary"):
        yield _finding(rule, "annotations", "it has no annotation summary", "one line: what is wrong, and where")
    if not any(given.get(name) for name in ("description", "runbook", "runbook_url")):
        fix = "description or runbook_url: what it means, and what to do"
        yield _finding(rule, "annotations", "nothing says what to do", fix)
    url = given.get("runbook_url")
    if url is not None and "{{" not in url and not _RUNBOOK.fullmatch(url):
        mark = rule.node["annotations"].values_at["runbook_url"]
        yield at_mark(rule.file, mark, len(url), "annotations", "runbook_url is no address", "https://host/path")
