from __future__ import annotations

import json
import sqlite3
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.conftest import Repo, Serve, answer
from tests.test_promtool import GOOD, RULES, TESTS
from upcheck.history import History
from upcheck.result import Kind, Outcome, Result

pytestmark = pytest.mark.slow

CHECKS = """
    import pytest
    from upcheck import check

    @check(every="30s", timeout="2s", severity="warning")
    def test_holds(http):
        assert http.get("/health").status_code == 200

    def test_fails(http):
        assert http.get("/health").status_code == 201

    @pytest.fixture
    def broken():
        raise OSError("no such service")

    def test_errs(broken): ...

    @pytest.mark.skip(reason="later")
    def test_skipped(): ...

    @pytest.mark.xfail(reason="known")
    def test_known():
        assert False
"""


def results(repo: Repo, *arguments: str) -> dict[str, Result]:
    """Run the repo and read its results back, by their names."""
    lines = repo.path / "results.jsonl"
    lines.unlink(missing_ok=True)
    repo.pytest(f"--results={lines}", *arguments)
    found = [Result.from_json(line) for line in lines.read_text().splitlines() if line.startswith('{"check"')]
    return {str(result.facts.get("name", result.check)): result for result in found}


@pytest.fixture
def url(serve: Serve) -> str:
    return serve(answer(body='{"overall": "healthy"}'))


@pytest.fixture
def checks(repo: Repo) -> Repo:
    import textwrap

    repo.write("checks/test_a.py", textwrap.dedent(CHECKS))
    return repo


@pytest.mark.parametrize("arguments", [(), ("-n", "2"), ("-p", "no:cacheprovider"), ("-p", "no:terminal")])
def test_each_item_is_one_result(checks: Repo, url: str, arguments: tuple[str, ...]) -> None:
    found = results(checks, f"--target={url}", *arguments)
    assert {name: result.outcome for name, result in found.items()} == {
        "test_holds": Outcome.HELD,
        "test_fails": Outcome.FAILED,
        "test_errs": Outcome.ERROR,
        "test_skipped": Outcome.SKIPPED,
        "test_known": Outcome.SKIPPED,
    }


def test_a_result_says_what_was_asked_got_and_wanted(checks: Repo, url: str) -> None:
    found = results(checks, f"--target={url}")
    failed, held, error = found["test_fails"], found["test_holds"], found["test_errs"]
    assert failed.check == "checks/test_a.py::test_fails"
    assert failed.facts["asked"] == f"GET {url}/health"
    assert str(failed.facts["got"]).startswith("200 OK in ")
    assert str(failed.facts["want"]).startswith('assert http.get("/health").status_code == 201   (assert 200 == 201')
    assert (failed.facts["file"], failed.facts["line"], failed.facts["severity"]) == (
        "checks/test_a.py",
        10,
        "critical",
    )
    assert (held.facts["every"], held.facts["timeout"], held.facts["severity"]) == (30, 2, "warning")
    assert error.reason == "OSError: no such service"
    assert 0 < held.duration < 2


def test_results_are_kept_in_the_history(checks: Repo, url: str) -> None:
    for _ in range(2):
        results(checks, f"--target={url}")
    with History(checks.path / ".upcheck/history.sqlite") as history:
        kept = history.results("checks/test_a.py::test_fails")
    assert [result.outcome for result in kept] == [Outcome.FAILED] * 2
    assert kept[0].facts["severity"] == "critical"


def test_the_summary_and_junit_tell_the_same(checks: Repo, url: str) -> None:
    told = checks.pytest(f"--target={url}", "--junitxml=junit.xml")
    told.stdout.fnmatch_lines(["checks      1 held, 1 failed, 1 error, 2 skipped*slowest * ms*"])
    cases = ET.parse(checks.path / "junit.xml").findall(".//testcase")
    properties = {
        case.get("name"): {one.get("name"): one.get("value") for one in case.iter("property")} for case in cases
    }
    assert properties["test_holds"]["upcheck.severity"] == "warning"


def test_the_textfile_is_written(checks: Repo, url: str) -> None:
    checks.pytest(f"--target={url}", "--metrics-textfile=upcheck.prom")
    text = (checks.path / "upcheck.prom").read_text()
    assert 'probe_success{check="checks/test_a.py::test_holds",severity="warning"} 1.0' in text
    assert 'probe_success{check="checks/test_a.py::test_fails",severity="critical"} 0.0' in text


def test_a_path_that_pytest_takes_for_its_root_is_refused(
    checks: Repo, tmp_path_factory: pytest.TempPathFactory
) -> None:
    there = tmp_path_factory.mktemp("elsewhere") / "upcheck.prom"
    there.write_text("")
    told = checks.pytester.runpytest_subprocess("--metrics-textfile", str(there))
    assert told.ret == pytest.ExitCode.USAGE_ERROR
    told.stderr.fnmatch_lines([f"*type --metrics-textfile={there}, with the equals sign*"])
    assert checks.pytester.runpytest_subprocess(f"--metrics-textfile={there}", "-k", "known").ret == 0


def test_nagios_is_one_line_and_an_exit_code(checks: Repo, url: str) -> None:
    told = checks.pytest(f"--target={url}", "--nagios")
    assert told.ret == 2
    assert len(told.outlines) == 1
    assert told.outlines[0].startswith(
        "UPCHECK CRITICAL - 1 held, 1 failed, 1 error, 2 skipped: test_fails (assert 200 == 201"
    )
    assert checks.pytest(f"--target={url}", "--nagios", "-k", "test_holds").ret == 0
    assert checks.pytest(f"--target={url}", "--nagios", "-k", "nothing").ret == 3


def test_a_target_that_refuses_is_failed_with_the_cause(checks: Repo) -> None:
    found = results(checks, "--target=http://127.0.0.1:1", "-k", "holds")
    assert found["test_holds"].outcome is Outcome.FAILED
    assert found["test_holds"].facts["got"] == "Connection refused"
    told = checks.pytest("--target=http://127.0.0.1:1", "-k", "holds")
    told.stdout.fnmatch_lines(["nothing listens at http://127.0.0.1:1: `make collector` starts a collector*"])


def test_a_typo_in_a_mark_is_one_error_with_its_cure(checks: Repo, url: str) -> None:
    checks.write("checks/test_typo.py", 'from upcheck import check\n@check(evry="1m")\ndef test_a(): ...\n')
    found = results(checks, f"--target={url}")
    assert found["test_holds"].outcome is Outcome.HELD
    typo = found["checks/test_typo.py"]
    assert typo.outcome is Outcome.ERROR
    assert typo.facts["got"] == "check() has no argument 'evry'; did you mean 'every'?"


def test_a_typo_in_a_plain_pytest_mark_is_a_usage_error(repo: Repo) -> None:
    repo.write("checks/test_typo.py", 'import pytest\n@pytest.mark.check(evry="1m")\ndef test_a(): ...\n')
    told = repo.pytest()
    assert told.ret == pytest.ExitCode.USAGE_ERROR
    told.stderr.fnmatch_lines(["*test_typo.py::test_a: @check has no argument 'evry'; did you mean 'every'?"])


@pytest.mark.parametrize("options", [(), ("-p", "no:terminal")])
@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("raise SystemExit(0)", "SystemExit: 0 raised while checks/test_broken.py was imported"),
        ("import nothing_of_the_kind", "ModuleNotFoundError: No module named 'nothing_of_the_kind'"),
        ("def (", "SyntaxError: invalid syntax"),
        ("raise OSError('no file')", "OSError: no file"),
        (
            "from upcheck import check\n@check\ndef api_answers(): ...",
            "api_answers has @check, but pytest collects only",
        ),
    ],
)
def test_a_file_that_can_not_be_imported_is_one_error(
    checks: Repo, url: str, code: str, why: str, options: tuple[str, ...]
) -> None:
    checks.write("checks/test_broken.py", code)
    found = results(checks, f"--target={url}", *options)
    assert found["checks/test_broken.py"].outcome is Outcome.ERROR
    assert str(found["checks/test_broken.py"].facts["got"]).startswith(why)
    assert found["test_holds"].outcome is Outcome.HELD


def test_a_file_whose_name_hides_its_checks_is_an_error(checks: Repo, url: str) -> None:
    checks.write("checks/api.py", "from upcheck import check\n@check\ndef test_a(): ...\n")
    checks.write("checks/shared.py", "TIMEOUT = 3\n")
    found = results(checks, f"--target={url}")
    assert found["checks/api.py"].outcome is Outcome.ERROR
    assert "api.py has checks, but pytest collects only files named test_*.py" in str(
        found["checks/api.py"].facts["got"]
    )
    assert "checks/shared.py" not in found


@pytest.mark.parametrize("option", ["--results=gone/r", "--metrics-textfile=gone/r"])
def test_a_path_whose_folder_is_not_there_is_a_usage_error(repo: Repo, option: str) -> None:
    told = repo.pytest(option)
    assert told.ret == pytest.ExitCode.USAGE_ERROR
    told.stderr.fnmatch_lines([f"*{option}: there is no folder {repo.path}/gone"])


def test_marks_of_a_class_are_inherited_and_overridden(repo: Repo) -> None:
    code = "from upcheck import check\n@check(every='5m', severity='info')\nclass TestA:\n"
    code += "    def test_a(self): ...\n    @check(every='1m')\n    def test_b(self): ...\n"
    repo.write("checks/test_class.py", code)
    found = results(repo)
    assert (found["test_a"].facts["every"], found["test_a"].facts["severity"]) == (300, "info")
    assert (found["test_b"].facts["every"], found["test_b"].facts["severity"]) == (60, "info")


def test_checks_in_yaml(repo: Repo, url: str) -> None:
    text = "checks:\n  - {name: good, url: /, expect: {body: healthy}}\n"
    text += "  - {name: bad, url: /, expect: {status: 503, body: x}}\n"
    repo.write("checks/endpoints.yml", text)
    found = results(repo, f"--target={url}")
    assert found["good"].outcome is Outcome.HELD
    assert found["bad"].facts["want"] == "status 503, a body that contains 'x'"
    assert (found["bad"].facts["file"], found["bad"].facts["line"]) == ("checks/endpoints.yml", 3)
    told = repo.pytest(f"--target={url}")
    told.stdout.fnmatch_lines([f"  asked  GET {url}/", "  got    200 OK in * ms: *healthy*", "  want   status 503*"])


def test_a_mistake_in_yaml_is_a_sentence_without_a_traceback(repo: Repo, url: str) -> None:
    repo.write("checks/endpoints.yml", "checks:\n  - {name: a, url: /, evry: 1m}\n")
    repo.write("checks/other.yml", "checks:\n  - {name: other, url: /}\n")
    found = results(repo, f"--target={url}")
    assert found["other"].outcome is Outcome.HELD
    assert str(found["checks/endpoints.yml"].facts["got"]) == "unknown key 'evry'; did you mean 'every'?"
    assert found["checks/endpoints.yml"].facts["line"] == 2
    told = repo.pytest(f"--target={url}")
    told.stdout.no_fnmatch_line("*Traceback*")
    told.stdout.no_fnmatch_line("*yaml_checks.py*")


def test_all_mistakes_of_a_yaml_file_are_told(repo: Repo, url: str) -> None:
    repo.write("checks/endpoints.yml", "checks:\n  - {name: a, url: /, evry: 1m}\n  - {name: b}\n")
    facts = results(repo, f"--target={url}")["checks/endpoints.yml"].facts
    first, second = str(facts["got"]).splitlines()
    assert (facts["line"], first) == (2, "unknown key 'evry'; did you mean 'every'?")
    assert second.endswith(
        "endpoints.yml:3:5: lacks 'url': an http or https URL, or a path such as /health below the target"
    )


def test_rule_tests_and_configurations(repo: Repo) -> None:
    repo.write("monitoring/rules.yml", RULES)
    repo.write("monitoring/compose.yml", "services: {}\n")
    repo.write("monitoring/alertmanager.yml", "route: {receiver: b}\nreceivers: [{name: a}]\n")
    text = (TESTS % (GOOD, 1)).replace("[rules.yml]", "[../monitoring/rules.yml]")
    repo.write("rules_tests/a.yml", text + text.partition("tests:\n")[2].replace("fires", "late").replace("2m", "30s"))
    repo.write("rules_tests/b.yml", "rule_files: [../monitoring/gone.yml]\ntests: []\n")
    found = results(repo)
    assert {name: (result.kind, result.outcome) for name, result in found.items()} == {
        "fires": (Kind.RULE, Outcome.HELD),
        "late": (Kind.RULE, Outcome.FAILED),
        "rule_files": (Kind.RULE, Outcome.FAILED),
        "tests": (Kind.RULE, Outcome.FAILED),
        "rules": (Kind.CONFIG, Outcome.HELD),
        "alertmanager": (Kind.CONFIG, Outcome.FAILED),
    }
    assert str(found["late"].facts["diff"]).splitlines()[2] == "  + nothing fires"
    assert 'undefined receiver "b"' in str(found["alertmanager"].facts["got"])
    assert found["rule_files"].reason == "passes for no reason (unmatched-rule-files)"


def test_without_promtool_rule_tests_are_an_error_and_never_green(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    repo.write("monitoring/rules.yml", RULES)
    repo.write("rules_tests/a.yml", (TESTS % (GOOD, 1)).replace("[rules.yml]", "[../monitoring/rules.yml]"))
    monkeypatch.setenv("UPCHECK_TOOLS", str(repo.path / "nothing"))
    monkeypatch.setenv("PATH", "/nowhere")
    for result in results(repo).values():
        assert result.outcome is Outcome.ERROR
        assert "upcheck tools install" in result.reason


@pytest.mark.parametrize(
    ("text", "feature"),
    [
        (TESTS % (GOOD, 1) + "fuzzy_compare: true\n", "fuzzy_compare"),
        ((TESTS % (GOOD, 1)) + "    start_timestamp: 0\n", "start_timestamp"),
    ],
)
def test_a_feature_that_this_promtool_lacks_is_an_error_that_says_so(
    repo: Repo, monkeypatch: pytest.MonkeyPatch, text: str, feature: str
) -> None:
    repo.write("rules_tests/rules.yaml.in", RULES)
    repo.write("rules_tests/a.yml", text.replace("[rules.yml]", "[rules.yaml.in]"))
    promtool = repo.write("promtool", "#!/bin/sh\necho 'promtool, version 2.42.0 (branch: HEAD, revision: 1)'\n")
    promtool.chmod(0o755)
    monkeypatch.setenv("UPCHECK_PROMTOOL", str(promtool))
    result = results(repo)["fires"]
    assert result.outcome is Outcome.ERROR
    assert f"has no '{feature}': it came with 3." in result.reason


def test_a_newer_history_is_a_warning_and_no_failure(checks: Repo, url: str) -> None:
    (checks.path / ".upcheck").mkdir()
    with sqlite3.connect(checks.path / ".upcheck/history.sqlite") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    told = checks.pytest(f"--target={url}", "-k", "holds")
    assert told.ret == 0
    told.stdout.fnmatch_lines(["warning     history * was written by a newer upcheck (schema 99*"])


def test_a_broken_sink_warns_and_keeps_the_result_from_no_other(checks: Repo, url: str) -> None:
    checks.write("conftest.py", "def pytest_upcheck_result(result):\n    raise RuntimeError('sink is down')\n")
    told = checks.pytest(f"--target={url}", "-k", "holds", "--metrics-textfile=a.prom")
    assert told.ret == 0
    told.stdout.fnmatch_lines(["warning     sink is down"])
    assert "test_holds" in (checks.path / "a.prom").read_text()


def test_a_sink_of_the_users_own_gets_every_result(checks: Repo, url: str) -> None:
    checks.write(
        "conftest.py", "def pytest_upcheck_result(result, config):\n    print('SINK', result.check, result.outcome)\n"
    )
    told = checks.pytest(f"--target={url}", "-s")
    assert len([line for line in told.outlines if "SINK" in line]) == 5


def test_tests_that_are_no_checks_are_left_alone(repo: Repo) -> None:
    repo.write("tests/test_a.py", "def test_a(): assert False\n")
    repo.write("tests/a.yml", "checks: {}\n")
    told = repo.pytester.runpytest_subprocess("tests", f"--results={repo.path / 'r'}")
    told.assert_outcomes(failed=1)
    told.stdout.no_fnmatch_line("*upcheck*=*")
    said = [json.loads(line) for line in (repo.path / "r").read_text().splitlines()]
    assert [one for one in said if "began" not in one] == [{"expected": []}]
    assert not (repo.path / ".upcheck").exists()


def test_without_settings_the_plugin_keeps_still(pytester: pytest.Pytester) -> None:
    pytester.makefile(".yml", a="checks: {}")
    Path(pytester.mkdir("checks"), "a.yml").write_text("no: checks")
    pytester.makepyfile("def test_a(): ...")
    pytester.runpytest_subprocess().assert_outcomes(passed=1)
    assert not (pytester.path / ".upcheck").exists()


def test_settings_that_can_not_be_meant_are_a_usage_error(repo: Repo) -> None:
    repo.write("pyproject.toml", "[tool.upcheck]\ntagret = 'x'\n")
    told = repo.pytest()
    assert told.ret == pytest.ExitCode.USAGE_ERROR
    told.stderr.fnmatch_lines(["*has no key 'tagret'; did you mean 'target'?"])


def test_a_worker_that_dies_is_an_error(checks: Repo, url: str) -> None:
    checks.write("checks/test_dies.py", "import os\ndef test_dies():\n    os._exit(0)\n")
    found = results(checks, f"--target={url}", "-n", "2")
    assert found["test_dies"].outcome is Outcome.ERROR
    assert found["test_holds"].outcome is Outcome.HELD
