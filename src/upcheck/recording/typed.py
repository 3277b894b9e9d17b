"""A Python module that records a service's events, with the types of the catalogue: for editors, mypy and readers."""

from __future__ import annotations

from textwrap import dedent

from upcheck.catalog import Event, Field, Service

_TYPES = {
    "text": "str",
    "number": "float",
    "seconds": "float",
    "bytes": "float",
    "http_status": "int",
    "boolean": "bool",
}
_LONGEST = 110  # characters of a line
_MOST_WORDS = 12  # of a Literal; more are text


def module(service: Service) -> str:
    """The text of the module: a class with a method for each event."""
    name = "".join(part.capitalize() for part in service.name.replace("-", "_").split("_"))
    methods = "\n".join(_method(service, event) for event in service.events.values())
    bound = "\n".join(
        f'        self._{event} = recorder.event("{service.name}", "{event}")' for event in service.events
    )
    literal = "from typing import Literal\n\n" if "Literal[" in methods else ""
    head = f'''\
        """What {service.name} records. Made of {service.path.name} by `upcheck services python {service.name}`."""

        from __future__ import annotations

        '''
    return (
        dedent(head)
        + literal
        + "from upcheck.recording import Recorder\n\n\n"
        + f'class {name}:\n    """{service.about}"""\n\n'
        + "    def __init__(self, recorder: Recorder) -> None:\n"
        + f'        """*recorder* has read {service.path.name}: `Recorder.load("monitoring/services")`."""\n'
        + f"{bound}\n\n{methods}"
    )


def function(event: Event) -> str:
    """What the method for *event* is called: `update_` what is only set, `record_` everything else."""
    return f"{'update' if all(one.action == 'set' for one in event.records) else 'record'}_{event.name}"


def _method(service: Service, event: Event) -> str:
    arguments = [f"{field.name}: {_type(service, event, field)}{' = None' * field.optional}" for field in event.fields]
    head = f"    def {function(event)}({', '.join(['self', *arguments])}) -> None:"
    if len(head) > _LONGEST:
        lines = ",\n        ".join(["self", *arguments])
        head = f"    def {function(event)}(\n        {lines},\n    ) -> None:"
    told = [f"        {field.name}: {field.about}." for field in event.fields if field.about]
    words = "\n".join([f'        """{event.help}', *(["", *told, "        "] if told else [])])
    call = ", ".join(field.name for field in event.fields)
    return f'{head}\n{words}"""\n        self._{event.name}({call})\n'


def _type(service: Service, event: Event, field: Field) -> str:
    words = _words(service, event, field)
    if field.type == "text" and words and len(words) <= _MOST_WORDS:
        kind = f"Literal[{', '.join(f'{word!r}'.replace(chr(39), chr(34)) for word in words)}]"
    else:
        kind = _TYPES[field.type]
    return f"{kind} | None" if field.optional else kind


def _words(service: Service, event: Event, field: Field) -> list[str]:
    """The values of the labels that *field* fills, where each of them lists its values; else none."""
    labels = [
        label
        for record in event.records
        for label in service.metrics[record.metric].labels
        if record.labels.get(label.name) == f"${field.name}"
    ]
    if any(label.values is None for label in labels) or any("http." in name for name in field.span):
        return []
    return sorted({value for label in labels for value in label.values or ()})
