from __future__ import annotations

from pathlib import Path

import pytest

from upcheck.documents import DocumentError
from upcheck.rules import configs


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("groups: []", "rules"),
        ("global: {}\nscrape_configs: []", "prometheus"),
        ("route: {receiver: a}\nreceivers: [{name: a}]", "alertmanager"),
        ("services: {}", None),
        ("- a", None),
        ("", None),
    ],
)
def test_a_file_is_known_by_its_keys(tmp_path: Path, text: str, kind: str | None) -> None:
    (tmp_path / "a.yml").write_text(text)
    assert configs.kind(tmp_path / "a.yml") == kind


def test_what_is_no_yaml_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text("groups: [")
    with pytest.raises(DocumentError):
        configs.kind(tmp_path / "a.yml")


@pytest.mark.parametrize(
    ("text", "tool", "sentence"),
    [
        ("groups: [{name: a, rules: [{alert: b, expr: up >}]}]", "promtool", "could not parse expression"),
        ("scrape_configs: [{job_nam: a}]", "promtool", "field job_nam not found"),
        ("route: {receiver: b}\nreceivers: [{name: a}]", "amtool", "undefined receiver"),
    ],
)
def test_the_right_tool_refuses(
    tmp_path: Path, tool_paths: dict[str, Path], text: str, tool: str, sentence: str
) -> None:
    (tmp_path / "a.yml").write_text(text)
    what = configs.kind(tmp_path / "a.yml")
    assert what is not None
    assert configs.TOOLS[what] == tool
    verdict = configs.check(tool_paths[tool], tmp_path / "a.yml")
    assert not verdict.ok
    assert sentence in verdict.text
