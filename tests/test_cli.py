from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

import upcheck
from tests.conftest import ROOT
from upcheck.cli import main


@pytest.mark.parametrize(
    "command", [[], ["check"], ["history"], ["tools"], ["tools", "list"], ["tools", "install"], ["init"]]
)
def test_every_command_has_help(command: list[str]) -> None:
    told = CliRunner().invoke(main, [*command, "--help"])
    assert told.exit_code == 0
    assert "Usage:" in told.output


def test_version() -> None:
    assert CliRunner().invoke(main, ["--version"]).output == f"upcheck {upcheck.__version__}\n"


def test_tools_are_listed(tool_paths: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPCHECK_PROMTOOL", str(tool_paths["promtool"]))
    told = CliRunner().invoke(main, ["tools", "list"])
    assert told.exit_code == 0
    row = next(line for line in told.output.splitlines() if line.startswith("promtool"))
    assert row.split()[2:] == ["UPCHECK_PROMTOOL", str(tool_paths["promtool"])]


def test_tools_that_are_there_are_not_fetched_again(
    tool_paths: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPCHECK_PROMTOOL", str(tool_paths["promtool"]))
    told = CliRunner().invoke(main, ["tools", "install", "promtool"])
    assert (told.exit_code, "UPCHECK_PROMTOOL" in told.output) == (0, True)


def test_a_tool_that_is_none_is_a_usage_error() -> None:
    told = CliRunner().invoke(main, ["tools", "install", "promtol"])
    assert told.exit_code == 2
    assert "no tool is called 'promtol'; did you mean 'promtool'?" in told.output


def test_init_of_a_clone_asks_for_the_clone(tmp_path: Path) -> None:
    told = CliRunner().invoke(main, ["init", str(tmp_path / "repo")])
    assert told.exit_code == 0
    package = next(line for line in (tmp_path / "repo/Makefile").read_text().splitlines() if line.startswith("PACKAGE"))
    assert package == f"PACKAGE := --constraint '{ROOT}/constraints.txt' '{ROOT}'"


def test_init_writes_what_containers_need_without_the_library_s_source(tmp_path: Path) -> None:
    assert CliRunner().invoke(main, ["init", str(tmp_path)]).exit_code == 0
    text = (tmp_path / "Dockerfile").read_text()
    assert "pip install --no-cache-dir 'upcheck[otlp,postgres,mysql,websocket]==" in text
    assert "/source" not in text
    assert (tmp_path / "monitoring/compose.yml").is_file()
    assert (tmp_path / "monitoring/alertmanager/templates/upcheck.tmpl").is_file()


def test_init_where_nothing_can_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    told = CliRunner().invoke(main, ["init", str(tmp_path / "file/repo")])
    assert told.exit_code == 2
    assert "can't be written" in told.output


def test_init_writes_no_file_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text("mine")
    told = CliRunner().invoke(main, ["init", str(tmp_path)])
    assert told.exit_code == 2
    assert "already has Makefile" in told.output
    assert [path.name for path in tmp_path.iterdir()] == ["Makefile"]
