from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from upcheck import documents
from upcheck.documents import DocumentError


@pytest.fixture
def read(tmp_path: Path):  # type: ignore[no-untyped-def]
    def load(text: str | bytes) -> object:
        path = tmp_path / "a.yml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return documents.load(path)

    return load


def test_scalars_are_those_of_yaml_1_2(read) -> None:  # type: ignore[no-untyped-def]
    text = "on: yes\noctal: 010\nclock: 1:30\nhex: 0x1f\nnot: null\ntext: '5'\nhalf: .5\nbig: 1e3\nyes: true\n"
    assert read(text) == {
        "on": "yes", "octal": 10, "clock": "1:30", "hex": 31, "not": None,
        "text": "5", "half": 0.5, "big": 1000.0, "yes": True,
    }  # fmt: skip
    assert read("[.inf, -.inf]") == [math.inf, -math.inf]
    assert math.isnan(read(".nan"))


def test_anchors_and_merges(read) -> None:  # type: ignore[no-untyped-def]
    assert read("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: *a") == {
        "a": {"x": 1, "y": 2},
        "b": {"x": 1, "y": 3},
        "c": {"x": 1, "y": 2},
    }


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(9)
)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: 1\na: 2", ":2:1: key 'a' stands here a second time (first at line 1)"),
        ("a: !!python/object:os.system x", ":1:4: tag tag:yaml.org,2002:python/object:os.system is not supported"),
        ("a: !secret x", ":1:4: tag !secret is not supported"),
        ("[" * 10_000, "nested deeper than 60 levels"),
        (BOMB, "more than 500,000 values once aliases are expanded"),
        ("a: *b", ":1:4: alias *b names no anchor above it"),
        ("a: b: c", ":1:5: not YAML: mapping values are not allowed in this context"),
        ("a: 1\n---\nb: 2", ":2:1: a second document"),
        ("? [a]\n: 2", ":1:3: a key must be plain text"),
        ("a: [1", "not YAML"),
        (b"a: \xff", "not UTF-8 (byte 3)"),
        (b"a: " + b"x" * (documents.MAX_BYTES + 1), "larger than 8 MiB"),
    ],
)
def test_what_can_not_be_meant_is_refused_with_its_place(read, text: str | bytes, sentence: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DocumentError) as caught:
        read(text)
    assert sentence in str(caught.value)
    assert "a.yml:" in str(caught.value)


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"gone\.yml:1:1: can't be read: No such file"):
        documents.load(tmp_path / "gone.yml")


def test_places(read) -> None:  # type: ignore[no-untyped-def]
    root = read("checks:\n  - name: a\n    expect: {status: 200}\n")
    assert documents.where(root, ["checks", 0, "expect", "status"]) == (3, 22)
    assert documents.where(root, ["checks", 0, "expect", "status"], key=True) == (3, 14)
    assert documents.where(root, ["checks", 7]) == (2, 3)
    assert documents.where(root, []) == (1, 1)


texts = st.text().map("t".__add__)  # PyYAML leaves texts such as 0E0 unquoted, which YAML 1.2 reads as numbers
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, width=32) | texts,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(texts, children, max_size=4),
    max_leaves=20,
)


@given(values)
def test_what_pyyaml_writes_is_read_as_it_was(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    path = tmp_path_factory.getbasetemp() / "round.yml"
    path.write_text(yaml.safe_dump(value), encoding="utf-8")
    assert documents.load(path) == value


def test_all_documents_are_read_on_request(tmp_path: Path) -> None:
    file = tmp_path / "a.yml"
    file.write_text("a: 1\n---\n---\nb: 2\n")
    first, nothing, last = documents.load_all(file)
    assert (first, nothing, last) == ({"a": 1}, None, {"b": 2})
    assert last.keys_at["b"] == (4, 1)
    file.write_text("")
    assert documents.load_all(file) == []


def test_scalars_stay_as_they_are_written_on_request(tmp_path: Path) -> None:
    file = tmp_path / "a.yml"
    file.write_text("a: [1.10, yes, true, 0x10, ~, '~', null, '']")
    assert documents.load(file, texts=True) == {"a": ["1.10", "yes", "true", "0x10", None, "~", None, ""]}
