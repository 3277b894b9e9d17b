"""What the pages say is so: links lead somewhere, commands exist, examples run."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from tests.conftest import ROOT, Repo, Serve, answer
from tests.test_run import upcheck
from upcheck import catalog, documents, rules, schema, yaml_checks
from upcheck.cli import main
from upcheck.routes import cases

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    return [textwrap.dedent(text) for _, kind, text in BLOCK.findall(page.read_text()) if kind == language]


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()) if "://" not in link]
    for link in links:
        path, _, anchor = link.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), link
        assert not anchor or anchor in anchors(there), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist(page: Path) -> None:
    text = page.read_text()
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z]+)", text, re.MULTILINE)) <= targets
    assert set(re.findall(r"(?:`|bin/|\$ )upcheck ([a-z]+)", text)) <= set(main.commands)
    plugin = (ROOT / "src/upcheck/plugin/__init__.py").read_text()
    assert set(re.findall(r"pytest [^\n`]*?(--[a-z-]+)", text)) <= set(re.findall(r"\"(--[a-z-]+)\"", plugin))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_are_read(page: Path, tmp_path: Path) -> None:
    for text in blocks(page, "python"):
        compile(text, str(page), "exec")
    (tmp_path / "rules_tests").mkdir()
    (tmp_path / "monitoring").symlink_to(ROOT / "monitoring")
    for text in blocks(page, "yaml"):
        file = tmp_path / "rules_tests/example.yml"
        file.write_text(text)
        if "\nservice:" in f"\n{text}":
            assert catalog.load(file).events
        elif "\nsignals:" in f"\n{text}":
            schema.validate(file, documents.load(file), "detection")
        elif "\nincidents:" in f"\n{text}":
            schema.validate(file, documents.load(file), "incidents")
        elif "\nchecks:" in f"\n{text}":
            assert yaml_checks.load(file)
        elif "alertmanager:" in text:
            loaded_routes = cases.load(file)
            assert [cases.miss(test, loaded_routes.routes) for test in loaded_routes.tests] == [None] * 3
        elif "tests:" in text:
            loaded = rules.load(file)
            assert loaded.entries
            assert not loaded.problems
            assert not loaded.entries[0].problem


def test_the_readme_s_check_fails_as_the_readme_says(repo: Repo, serve: Serve) -> None:
    readme = ROOT / "README.md"
    repo.write("checks/test_api.py", blocks(readme, "python")[0])
    url = serve(answer("503 Service Unavailable", "upstream connect error"))
    told = upcheck(repo, "check", "--target", url, "--metrics-textfile=api.prom").stdout
    shown = next(text for text in blocks(readme, "") if text.startswith("FAILED"))
    got = next(part for part in told.split("\n\n") if part.startswith("FAILED"))

    def still(text: str) -> list[str]:
        lines = re.sub(r"\d+ ms", "N ms", text.replace(url, "http://127.0.0.1:8080")).strip().splitlines()
        return lines[:-1]  # since when is another day's

    assert still(got) == still(shown)
    metric = next(text for text in blocks(readme, "") if text.startswith("probe_success"))
    assert metric.strip() in (repo.path / "api.prom").read_text()


def test_the_route_tests_say_what_the_page_says(repo: Repo) -> None:
    page = ROOT / "docs/routes.md"
    repo.write(
        "monitoring/alertmanager/alertmanager.yml", (ROOT / "monitoring/alertmanager/alertmanager.yml").read_text()
    )
    repo.write("rules_tests/test_routes.py", blocks(page, "python")[0])
    repo.write("rules_tests/routes.yml", blocks(page, "yaml")[0].replace("T12:00", "T23:00"))
    told = upcheck(repo, "rules", "test", "rules_tests").stdout
    (shown,) = (text for text in blocks(page, "") if text.startswith("FAILED"))
    assert shown in told
    repo.pytest("-k", "severity").assert_outcomes(passed=1, deselected=4)


def test_the_settings_page_names_every_setting(tmp_path: Path) -> None:
    from upcheck.settings import Settings

    (text,) = blocks(ROOT / "docs/checks.md", "toml")
    (tmp_path / "pyproject.toml").write_text(text)
    documented = Settings.load(tmp_path, {})
    (tmp_path / "pyproject.toml").unlink()
    assert documented == Settings.load(tmp_path, {})
    assert set(re.findall(r"^(\w+) =", text, re.MULTILINE)) == set(Settings.__slots__) - {"root"}
