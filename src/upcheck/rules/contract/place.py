"""Text inside a file, each character of which knows where it stands, whatever quotes and folds it is written in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from upcheck import documents
from upcheck.documents import Map, Mark, Seq
from upcheck.rules.contract.expression import Node, Span, parse
from upcheck.rules.promql import PromQLError

_PROPERTY = re.compile(r"(?:[&!]\S*[ \t]*)*")
_ESCAPE = re.compile(
    r"\\(?:x[0-9a-fA-F]{2}|(?:u[dD][89abAB][0-9a-fA-F]{2}\\)?u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", re.DOTALL
)


class File:
    """A file's text, by lines."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = path.read_text(encoding="utf-8").split("\n")

    def scalar(self, value: str, mark: Mark) -> Passage:
        """The YAML or JSON scalar that begins at *mark* and means *value*."""
        return Passage(self, value, _marks(self.lines, value, mark))

    def at(self, root: Any, path: Sequence[str | int]) -> Passage:
        """The scalar at *path* below the document *root*."""
        value: Any = root
        for step in path:
            value = value[step]
        return self.scalar(str(value), documents.where(root, path))


@dataclass
class Passage:
    """*text*, and the mark of each of its characters in *file*.

    One that stands for another, *written*, has in *offsets* where each of its characters is in that one.
    """

    file: File
    text: str
    marks: list[Mark]
    written: Passage | None = None
    offsets: list[int] = field(default_factory=list)

    def mark(self, offset: int) -> Mark:
        """Line and column of the character at *offset*."""
        return self.marks[min(offset, len(self.marks) - 1)] if self.marks else (1, 1)

    def replaced(self, pieces: Iterable[tuple[str, int]]) -> Passage:
        """Another text in its place, made of *pieces*: each a text and the offset here where it stands.

        A piece that is this text itself keeps its marks; any other is all at its beginning.
        """
        text, offsets = "", list[int]()
        end = 0
        for piece, at in pieces:
            same = self.text.startswith(piece, at)
            offsets += [at + index if same else at for index in range(len(piece))]
            text += piece
            end = at + len(piece) if same else at
        marks = [self.mark(offset) for offset in offsets] or self.marks[:1]
        offsets = [self.as_written(Span(offset, 0)).at for offset in [*offsets, end]]
        return Passage(self.file, text, marks, self.written or self, offsets)

    def as_written(self, span: Span) -> Span:
        """Where *span* is in what it stands for."""
        if self.written is None:
            return span
        begin, end = self.offsets[span.at], self.offsets[min(span.at + span.length, len(self.offsets) - 1)]
        return Span(begin, end - begin)

    @cached_property
    def tree(self) -> Node | None:
        """It as PromQL; None where it is none, see *problem*."""
        try:
            return parse(self.text)
        except PromQLError:
            return None  # `problem` says why

    @property
    def problem(self) -> str:
        """Why it is no PromQL."""
        try:
            parse(self.text)
        except PromQLError as error:
            return str(error)
        return ""

    def word(self, span: Span) -> str:
        """The text at *span*."""
        return self.text[span.at : span.at + span.length]


def _marks(lines: list[str], value: str, start: Mark) -> list[Mark]:
    """Where each character of *value* stands; all at *start* where it can't be told, as behind an alias."""
    line, column = start[0] - 1, start[1] - 1
    column += len(_PROPERTY.match(lines[line], column)[0])  # type: ignore[index]  # it matches the empty text, too
    opening = lines[line][column : column + 1]
    if opening in ("|", ">"):
        line, column = line + 1, 0
    elif opening in ("'", '"'):
        column += 1
    reader = _Reader(lines, line, column, opening)
    marks: list[Mark] = []
    for character in value:
        mark = reader.next(character)
        if mark is None:
            return [start] * max(1, len(value))
        marks.append(mark)
    return marks or [start]


class _Reader:
    """Goes through a scalar as it is written, beside what it means."""

    def __init__(self, lines: list[str], line: int, column: int, quote: str) -> None:
        self._lines, self._line, self._column, self._quote = lines, line, column, quote

    def next(self, character: str) -> Mark | None:
        """Where *character* stands, which is what comes next; None where something else does."""
        if not character.isspace():
            self._skip()
        here = (self._line + 1, self._column + 1)
        if self._line >= len(self._lines):
            return None
        rest = self._lines[self._line][self._column : self._column + 12]
        if self._quote == '"' and rest.startswith("\\"):
            self._column += len(_ESCAPE.match(rest)[0])  # type: ignore[index]  # of whatever follows a backslash
        elif self._quote == "'" and rest.startswith("''"):
            self._column += 2
        elif rest[:1] == character:
            self._column += 1
        elif not character.isspace():
            return None  # a space may stand for the end of a line, and its mark is there
        elif character == "\n" and self._quote == "|":
            self._line, self._column = self._line + 1, 0
        return here

    def _skip(self) -> None:
        """Pass over what is folded: spaces, ends of lines, a backslash before one."""
        while self._line < len(self._lines):
            text = self._lines[self._line]
            end = len(text)
            while self._column < end and text[self._column].isspace():
                self._column += 1
            escaped = self._quote == '"' and text[self._column :] == "\\"
            if self._column < end and not escaped:
                return
            self._line, self._column = self._line + 1, 0


def maps(value: Any) -> list[Map]:
    """The mappings among *value*'s elements; none where it is no list."""
    return [one for one in value if isinstance(one, Map)] if isinstance(value, Seq) else []
