"""Templates in labels and annotations: whether they parse, and whether what they show is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches

from upcheck.documents import Map
from upcheck.rules.contract.expression import Span
from upcheck.rules.contract.finding import Context, Finding, at
from upcheck.rules.contract.labels import Labels
from upcheck.rules.contract.place import Passage
from upcheck.rules.contract.reading import Query, Rule

_STRING = re.compile(r'"(?:\\.|[^"\\])*"|`[^`]*`')
_ACTION = re.compile(rf"\{{\{{-?((?:{_STRING.pattern}|.)*?)-?\}}\}}", re.DOTALL)
_LABEL = re.compile(r"(?:\$labels|\.Labels|\$\.Labels)\.(\w+)")
_INDEXED = re.compile(r'\bindex\s+(?:\$labels|\.Labels|\$\.Labels)\s+"(\w+)"')
_VARIABLE = re.compile(r"\$(\w+)")
_ASSIGNED = re.compile(r"\$(\w+)\s*(?:,\s*\$(\w+)\s*)?:=")
_WORD = re.compile(r"(?<![\w.$])([a-zA-Z_]\w*)(?![\w(]*\.)")
_VALUE = re.compile(r"\$value\b|(?<![\w)])\.Value\b")
_BLOCKS = frozenset({"if", "range", "with", "define", "block"})
_KNOWN = frozenset({"labels", "externalLabels", "externalURL", "value"})
_FUNCTIONS = frozenset(
    re.findall(
        r"\w+",
        "query first label value sortByLabel strvalue args reReplaceAll safeHtml externalURL pathPrefix tableLink "
        "graphLink match title toUpper toLower humanize humanize1024 humanizeDuration humanizePercentage "
        "humanizeTimestamp toTime toDuration now parseDuration stripPort stripDomain urlQueryEscape tmpl and or not "
        "index slice len print printf println html js call urlquery eq ne lt le gt ge if else end range with define "
        "block template break continue true false nil",
    )
)


def check(context: Context) -> Iterator[Finding]:
    """template, in the labels and annotations of alerts."""
    for rule in context.found.rules:
        tree = rule.query.passage.tree
        if not rule.is_alert or tree is None:
            continue
        labels = context.world.of(tree)
        for key in ("labels", "annotations"):
            texts = rule.node.get(key)
            if not isinstance(texts, Map):
                continue
            for name, text in texts.items():
                if isinstance(text, str) and ("{{" in text or "}}" in text):
                    query = Query(rule.file.at(texts, [name]), "template", texts.keys_at[name][0])
                    yield from _template(rule, query, labels, in_labels=key == "labels")


def _template(rule: Rule, query: Query, labels: Labels, *, in_labels: bool) -> Iterator[Finding]:
    passage = query.passage
    problem = _problem(passage)
    if problem is not None:
        span, sentence, fix = problem
        yield at(query, span, "template", sentence, fix)
        return
    assigned = {name for found in _ASSIGNED.findall(passage.text) for name in found if name}
    ranged = "range" in passage.text or re.search(r"\bwith\b", passage.text) is not None
    for action in _ACTION.finditer(passage.text):
        for pattern in (_LABEL, _INDEXED):
            for match in pattern.finditer(action[1]):
                if match[0].startswith(".") and ranged:
                    continue  # the dot is another thing there
                span = Span(action.start(1) + match.start(1), len(match[1]))
                yield from _label(rule, query, labels, match[1], span)
        yield from _variables(query, action, assigned)
        if in_labels and (value := _VALUE.search(action[1])):
            span = Span(action.start(1) + value.start(), len(value[0]))
            fix = "each new value makes another alert, whose `for` begins anew: put it into an annotation"
            yield at(query, span, "template", "a label that changes with the value", fix)


def _label(rule: Rule, query: Query, labels: Labels, name: str, span: Span) -> Iterator[Finding]:
    if labels.can_have(name):
        return
    if name in rule.labels or name == "alertname":
        fix = "templates see the expression's labels, not those that the rule adds"
    else:
        own = sorted(labels.possible or ())
        close = get_close_matches(name, own, n=1)
        meant = f"did you mean '{close[0]}'? " if close else ""
        fix = f"{meant}it keeps {', '.join(own)}" if own else "it keeps no labels"
    yield at(query, span, "template", "the expression has no such label: it comes out empty", fix)


def _variables(query: Query, action: re.Match[str], assigned: set[str]) -> Iterator[Finding]:
    inside = _STRING.sub(lambda match: " " * len(match[0]), action[1])
    for match in _VARIABLE.finditer(inside):
        if match[1] not in _KNOWN | assigned:
            close = get_close_matches(match[1], _KNOWN, n=1)
            fix = (
                f"did you mean '${close[0]}'?"
                if close
                else f"there are {', '.join(f'${one}' for one in sorted(_KNOWN))}"
            )
            yield at(query, Span(action.start(1) + match.start(), len(match[0])), "template", "no such variable", fix)


def _problem(passage: Passage) -> tuple[Span, str, str] | None:
    """Why it is no template: where, a sentence, what would help."""
    text = passage.text
    left = _ACTION.sub(lambda match: " " * len(match[0]), text)
    for mark, other in (("{{", "}}"), ("}}", "{{")):
        if mark in left:
            return Span(left.index(mark), 2), f"{mark} without its {other}", "close it, or write it as text"
    opened: list[Span] = []
    for action in _ACTION.finditer(text):
        inside = _STRING.sub(lambda match: " " * len(match[0]), action[1])
        if inside.lstrip().startswith("/*"):
            continue
        words = _WORD.findall(inside)
        span = Span(action.start(), len(action[0]))
        wrong = _unknown(action, inside)
        if wrong is not None:
            return wrong
        if words[:1] == ["end"]:
            if not opened:
                return span, "an end of nothing", "remove it"
            opened.pop()
        elif words and words[0] in _BLOCKS:
            opened.append(span)
    return (opened[-1], "it has no end", "add {{ end }}") if opened else None


def _unknown(action: re.Match[str], inside: str) -> tuple[Span, str, str] | None:
    for match in _WORD.finditer(inside):
        if match[1] not in _FUNCTIONS:
            close = get_close_matches(match[1], _FUNCTIONS, n=1)
            fix = f"did you mean '{close[0]}'?" if close else "Prometheus' templates have no function of this name"
            return Span(action.start(1) + match.start(1), len(match[1])), "no such function", fix
    return None
