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


def test_an_emptied_configuration_is_no_valid_one(tmp_path: Path, tool_paths: dict[str, Path]) -> None:
    for name, tool in (("prometheus", "promtool"), ("alertmanager", "amtool")):
        file = tmp_path / f"{name}.yml"
        file.write_text("# nothing left\n")
        assert configs.kind(file) == name
        assert not configs.check(tool_paths[tool], file).ok


def test_what_is_no_yaml_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text("groups: [")
    with pytest.raises(DocumentError):
        configs.kind(tmp_path / "a.yml")


@pytest.mark.parametrize(
    ("text", "tool", "sentence"),
    [
        ("gruops: [{name: a, rules: []}]", "promtool", "field gruops not found"),
        ("rout: {receiver: a}\nrecievers: [{name: a}]", "amtool", "field rout not found"),
        (
            "scrape_configs: []\nrule_files: [rulez/*.yml]",
            "promtool",
            "line 2: rule_files: rulez/*.yml matches no file",
        ),
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
