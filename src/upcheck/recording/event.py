"""Events: what has happened to a service, told in the fields of the catalogue, done to its metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from upcheck.catalog import STATUS_CLASSES, Event, Field
from upcheck.catalog import Record as Rule
from upcheck.recording.family import LIMIT, Action, Child, Overflow, Recorded, RecordingError
from upcheck.settings import nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

_EXPECTED = {
    "text": "text",
    "number": "a finite number",
    "seconds": "seconds, a number that is not negative",
    "bytes": "bytes, a number that is not negative",
    "http_status": "a status from 100 to 599",
    "boolean": "true or false",
}


_Constants = tuple[tuple[Action, float], ...]
_Valued = tuple[tuple[Action, int], ...]


class Step(NamedTuple):
    """What is done to one child: its action, with a number or with the value of the field of that index."""

    child: Child
    action: str
    value: float | int


class Actions(NamedTuple):
    """What is to be done for an event. *lasting*: the same holds for all further events with these label values."""

    steps: tuple[Step, ...]
    lasting: bool


class Recording:
    """One event, ready to be recorded: called with the values of its fields, in their order.

    What the values of the label fields lead to is worked out once and kept; after that a call is a lookup and an
    addition for each metric.
    """

    def __init__(
        self, event: Event, families: Mapping[str, Recorded], before: list[Callable[[], None]] | None = None
    ) -> None:
        """*before*: what is called before *families* are read."""
        self._before = before if before is not None else []
        self.event = event
        self.names = tuple(field.name for field in event.fields)
        self._families = families
        self._required = sum(not field.optional for field in event.fields)
        self._index = {name: index for index, name in enumerate(self.names)}
        used = [text[1:] for rule in event.records for text in rule.labels.values() if text.startswith("$")]
        used += [name for rule in event.records for name in rule.when]
        self._keys = sorted({self._index[name] for name in used})
        self._key: Callable[[Sequence[Any]], Any] = itemgetter(*self._keys) if self._keys else lambda _: ()
        self._known: dict[Any, tuple[_Constants, _Valued]] = {}
        self._numbers = [(self._index[name], least) for name, least in self._least()]

    def __call__(self, *values: Any) -> None:
        """Record one event. Raises RecordingError where a value is not what its field is; nothing is recorded then."""
        try:
            for index, least in self._numbers:
                if not least <= values[index] < LIMIT:
                    raise self._refusal(values)
            constants, valued = self._known[self._key(values)]
        except (KeyError, IndexError, TypeError):
            actions = self.actions(values)
            constants, valued = _apart(actions.steps)
            if actions.lasting:
                self._known[self._key(values)] = constants, valued
        for constant, amount in constants:
            constant(amount)
        for action, index in valued:
            action(values[index])

    def of(self, told: Mapping[str, Any]) -> None:
        """Record one event that is told as a mapping, as JSON has it."""
        try:
            values = [told[name] for name in self.names]
        except KeyError:
            self._refuse_others(told)  # first: a field that is missing may be there misspelt
            values = [told.get(name) for name in self.names]
        if len(told) != len(values):
            self._refuse_others(told)
        self(*values)

    def _refuse_others(self, told: Iterable[str]) -> None:
        for name in told:
            if name not in self._index:
                raise RecordingError(f"{self.event.name} has no field '{name}'{nearest(name, self.names)}")

    def actions(self, values: Sequence[Any]) -> Actions:
        """What is to be done for *values*; raises RecordingError where one of them is not what its field is."""
        self._check(values)
        padded = [*values, *[None] * (len(self.names) - len(values))]
        steps: list[Step] = []
        needed = [*self._keys, *(index for index, _ in self._numbers)]
        lasting = all(padded[index] is not None for index in needed)
        for rule in self.event.records:
            if not self._applies(rule, padded):
                continue
            family = self._families[rule.metric]
            names = [label.name for label in family.metric.labels]
            labels = tuple(self._word(rule, name, padded) for name in names)
            try:
                child = family.child(labels)
            except Overflow as overflow:
                child, lasting = overflow.child, False
            steps.append(
                Step(child, rule.action, self._index[rule.value] if isinstance(rule.value, str) else rule.value)
            )
        return Actions(tuple(steps), lasting)

    def before_reading(self, settle: Callable[[], None]) -> None:
        """Have *settle* called before the metrics are read: who puts records off until then has them done."""
        self._before.append(settle)

    def _applies(self, rule: Rule, values: Sequence[Any]) -> bool:
        needed = {text[1:] for text in rule.labels.values() if text.startswith("$")}
        if isinstance(rule.value, str):
            needed.add(rule.value)
        if any(values[self._index[name]] is None for name in needed):
            return False
        return all(not set(wanted).isdisjoint(self._words(name, values)) for name, wanted in rule.when.items())

    def _word(self, rule: Rule, label: str, values: Sequence[Any]) -> str:
        text = rule.labels[label]
        if not text.startswith("$"):
            return text
        words = self._words(text[1:], values)
        allowed = next(one.values for one in self._families[rule.metric].metric.labels if one.name == label)
        return next((word for word in words if allowed is None or word in allowed), words[0])

    def _words(self, name: str, values: Sequence[Any]) -> tuple[str, ...]:
        """How a label may show the value of the field *name*: a status as its code or its class."""
        field, value = self.event.fields[self._index[name]], values[self._index[name]]
        if field.type == "http_status" and value is not None:
            return str(int(value)), STATUS_CLASSES[int(value) // 100 - 1]
        if field.type == "boolean":
            return (field.words[not value],)
        return (value,) if isinstance(value, str) else (repr(value),)

    def _check(self, values: Sequence[Any]) -> None:
        if not self._required <= len(values) <= len(self.names):
            told = f"{len(values)} values"
            raise RecordingError(f"{self.event.name} takes {', '.join(self.names) or 'no field'}, not {told}")
        for field, value in zip(self.event.fields, values, strict=False):
            if value is None and field.optional:
                continue
            if not _fits(field, value):
                got = "nothing" if value is None else f"{value!r:.80}"
                raise RecordingError(f"{self.event.name}: {field.name}: expected {_EXPECTED[field.type]}, not {got}")

    def _refusal(self, values: Sequence[Any]) -> RecordingError:
        """What the check says of values of which one is out of bounds."""
        try:
            self._check(values)
        except RecordingError as error:
            return error
        return RecordingError(f"{self.event.name}: a counter only grows: a negative number can't be added")

    def _least(self) -> Iterator[tuple[str, float]]:
        """The fields that are recorded as numbers, and the least that each can be."""
        fields = {field.name: field for field in self.event.fields}
        for name in sorted({rule.value for rule in self.event.records if isinstance(rule.value, str)}):
            types = {self._families[rule.metric].metric.type for rule in self.event.records if rule.value == name}
            yield name, 0.0 if "counter" in types or fields[name].type != "number" else -LIMIT


def _apart(steps: Sequence[Step]) -> tuple[_Constants, _Valued]:
    """The steps with a number, and those with the value of a field."""
    done = [(step.child.action(step.action), step.value) for step in steps]
    return (
        tuple((action, value) for action, value in done if isinstance(value, float)),
        tuple((action, value) for action, value in done if isinstance(value, int)),
    )


def _fits(field: Field, value: Any) -> bool:
    if field.type in ("text", "boolean"):
        return isinstance(value, str if field.type == "text" else bool)
    if not isinstance(value, int | float) or not abs(value) < LIMIT:
        return False
    if field.type == "http_status":
        return 100 <= value <= 599 and value == int(value)  # 200.0, too: languages have numbers of one kind
    return field.type == "number" or value >= 0
