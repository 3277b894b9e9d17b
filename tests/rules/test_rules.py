from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_promtool import GOOD, RULES, TESTS, stand_in
from upcheck import rules
from upcheck.command import CommandError
from upcheck.documents import DocumentError
from upcheck.rules import Judge


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rules.yml").write_text(RULES)
    (tmp_path / "tests.yml").write_text(TESTS % (GOOD, 1))
    return tmp_path


@pytest.fixture
def judge(promtool_path: Path) -> Iterator[Judge]:
    judge = Judge(promtool_path)
    yield judge
    judge.close()


def test_entries_say_what_they_prove(folder: Path) -> None:
    loaded = rules.load(folder / "tests.yml")
    (entry,) = loaded.entries
    assert (entry.name, entry.line, entry.fires, entry.silent, entry.problem) == ("fires", 4, ("Down",), (), None)
    assert (loaded.alerts, loaded.problems) == (("Down",), ())


def test_a_dead_man_s_switch_has_no_silence_to_be_seen(folder: Path) -> None:
    (folder / "switch.yml").write_text(RULES.replace("up == 0", "vector(1)"))
    (folder / "tests.yml").write_text((TESTS % (GOOD, 1)).replace("rules.yml", "switch.yml"))
    (entry,) = rules.load(folder / "tests.yml").entries
    assert (entry.fires, entry.silent) == (("Down",), ("Down",))


def test_entries_without_a_name_or_with_the_same_are_told_apart(folder: Path) -> None:
    text = "rule_files: [rules.yml]\ntests:\n" + "  - alert_rule_test: [{alertname: Down, eval_time: 1m}]\n" * 2
    text += "  - {name: a, alert_rule_test: [{alertname: Down, eval_time: 1m}]}\n" * 3
    (folder / "tests.yml").write_text(text)
    assert [entry.name for entry in rules.load(folder / "tests.yml").entries] == [
        "test 1",
        "test 2",
        "a",
        "a #2",
        "a #3",
    ]


@pytest.mark.parametrize(
    ("text", "line", "sentence"),
    [
        ("rule_files: [rules.yml]\ntests: []\n", 2, "tests: is empty"),
        ("rule_files: [rules.yml]\n", 1, "tests: is empty"),
        ("tests: [{alert_rule_test: []}]\n", 1, "rule_files: names no rule file"),
        (
            "rule_files:\n  - rules.yml\n  - nothing*.yml\ntests: []\n",
            3,
            "nothing*.yml matches no file; promtool only warns",
        ),
    ],
)
def test_false_greens_of_a_file(folder: Path, text: str, line: int, sentence: str) -> None:
    (folder / "tests.yml").write_text(text)
    assert (line, sentence) in [
        (at, said[: len(sentence)]) for at, said in _without_prefix(rules.load(folder / "tests.yml"))
    ]


def _without_prefix(loaded: rules.TestFile) -> list[tuple[int, str]]:
    return [
        pair
        for one in loaded.problems
        for pair in ((one.line, one.text), (one.line, one.text.removeprefix("rule_files: ")))
    ]


@pytest.mark.parametrize(
    ("test", "sentence"),
    [
        (
            "{alert_rule_test: [{alertname: Dwon, eval_time: 1m}]}",
            "Dwon is defined in no loaded rule file (rules.yml); did you mean 'Down'?",
        ),
        ("{input_series: []}", "asserts nothing"),
    ],
)
def test_false_greens_of_an_entry(folder: Path, judge: Judge, test: str, sentence: str) -> None:
    (folder / "tests.yml").write_text(f"rule_files: [rules.yml]\ntests: [{test}]\n")
    loaded = rules.load(folder / "tests.yml")
    assert loaded.entries[0].problem
    assert sentence in loaded.entries[0].problem.text
    assert judge.judge(loaded, loaded.entries[0]).ok  # which is why we have to say it


@pytest.mark.parametrize("text", ["[]", "", "just text"])
def test_what_is_no_file_of_tests_is_refused(folder: Path, text: str) -> None:
    (folder / "tests.yml").write_text(text)
    with pytest.raises(DocumentError, match="expected a rule-test file"):
        rules.load(folder / "tests.yml")


def test_the_blame_falls_on_the_entry_alone(folder: Path, judge: Judge) -> None:
    good, bad = TESTS % (GOOD, 1), TESTS % ("[]", 1)
    entry = bad.partition("tests:\n")[2]
    anchored = good.replace("input_series: [", "input_series: &series [") + entry.replace(
        "name: fires", "name: silent"
    ).replace("""[{series: 'up{job="a"}', values: "0x5"}]""", "*series")
    (folder / "tests.yml").write_text(anchored)
    loaded = rules.load(folder / "tests.yml")
    verdicts = {entry.name: judge.judge(loaded, entry) for entry in loaded.entries}
    assert (verdicts["fires"].ok, verdicts["silent"].ok) == (True, False)
    assert rules.difference(verdicts["silent"].text).splitlines() == [
        "Down at 2m: - expected, + got",
        "  - nothing fires",
        '  + {alertname="Down", job="a", severity="critical"} summary="a, down"',
    ]


def test_a_key_that_promtool_does_not_know_fails_every_entry(folder: Path, judge: Judge) -> None:
    (folder / "tests.yml").write_text(TESTS % (GOOD, 1) + "fuzy_compare: true\n")
    loaded = rules.load(folder / "tests.yml")
    verdict = judge.judge(loaded, loaded.entries[0])
    assert not verdict.ok
    assert "field fuzy_compare not found" in rules.difference(verdict.text)


def test_many_files_cost_a_few_runs(folder: Path, promtool_path: Path) -> None:
    log = folder / "log"
    counting = stand_in(folder, f'echo run >> {log}; exec {promtool_path} "$@"')
    files = [folder / f"tests{number}.yml" for number in range(30)]
    for file in files:
        file.write_text(TESTS % (GOOD, 1))
    judge = Judge(counting)
    loaded = [rules.load(file) for file in files]
    judge.begin(loaded)
    assert all(judge.judge(file, file.entries[0]).ok for file in loaded)
    judge.close()
    assert len(log.read_text().splitlines()) <= judge.cores * rules.RUNS_PER_CORE


def test_a_file_that_stops_promtool_takes_no_other_down(folder: Path, promtool_path: Path) -> None:
    (folder / "deadly.yml").write_text(TESTS % (GOOD, 1))
    fragile = stand_in(folder, f'case "$*" in *deadly*) kill -9 $$;; *) exec {promtool_path} "$@";; esac')
    judge = Judge(fragile)
    files = [rules.load(folder / name) for name in ("deadly.yml", "tests.yml")]
    judge.begin(files)
    with pytest.raises(CommandError, match="killed by SIGKILL"):
        judge.judge(files[0], files[0].entries[0])
    assert judge.judge(files[1], files[1].entries[0]).ok
    judge.close()
