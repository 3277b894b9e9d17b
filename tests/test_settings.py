from __future__ import annotations

from pathlib import Path

import pytest

from upcheck.settings import Settings, SettingsError, declared


def test_defaults_are_resolved_against_the_root(tmp_path: Path) -> None:
    settings = Settings.load(tmp_path, {})
    assert settings.target == "http://127.0.0.1:9909"
    assert settings.history == tmp_path / ".upcheck/history.sqlite"
    assert not declared(tmp_path)


def test_environment_wins_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.upcheck]\ntarget = "http://file"\ntools = "bin"\n')
    assert Settings.load(tmp_path, {}).target == "http://file"
    assert Settings.load(tmp_path, {"UPCHECK_TARGET": "http://environment"}).target == "http://environment"
    assert Settings.load(tmp_path, {"UPCHECK_TOOLS": "/opt/tools"}).tools == Path("/opt/tools")
    assert Settings.load(tmp_path, {}).tools == tmp_path / "bin"
    assert Settings.load(tmp_path, {}).retention == 30 * 86400
    assert Settings.load(tmp_path, {"UPCHECK_RETENTION": "12h"}).retention == 12 * 3600
    with pytest.raises(SettingsError, match="UPCHECK_RETENTION: expected a duration"):
        Settings.load(tmp_path, {"UPCHECK_RETENTION": "-1"})
    assert declared(tmp_path)


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ('tagret = "x"', "[tool.upcheck] has no key 'tagret'; did you mean 'target'?"),
        ("target = 9909", "[tool.upcheck] target = 9909: expected text in quotes"),
        ("target = ", "not readable as TOML"),
        ('retention = "a while"', "[tool.upcheck] retention: expected a duration such as '30d'"),
    ],
)
def test_what_can_not_be_meant_is_refused_in_a_sentence(tmp_path: Path, table: str, sentence: str) -> None:
    (tmp_path / "pyproject.toml").write_text(f"[tool.upcheck]\n{table}\n")
    with pytest.raises(SettingsError) as caught:
        Settings.load(tmp_path, {})
    assert sentence in str(caught.value)
    assert "pyproject.toml" in str(caught.value)
