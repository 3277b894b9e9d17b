"""The drill, for real: what ships comes to its receivers as promtool and the routes say, and what is broken is told."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.conftest import ROOT
from upcheck.cli import main
from upcheck.documents import DocumentError
from upcheck.drill import DrillError, Outcome, drill
from upcheck.servers.sinks import Sinks
from upcheck.settings import Settings

pytestmark = pytest.mark.slow

SHIPPED = Settings.load(ROOT, {})


@pytest.fixture
def repo(tmp_path: Path, tool_paths: dict[str, Path]) -> Settings:
    """A monitoring repo with one alert, which tells all who can be told."""
    for name in ("monitoring/alertmanager", "monitoring/prometheus"):
        shutil.copytree(ROOT / name, tmp_path / name)
    (tmp_path / "rules_tests").mkdir()
    shutil.copy(ROOT / "rules_tests/checks.yml", tmp_path / "rules_tests")
    (tmp_path / ".tools").symlink_to(tool_paths["promtool"].parent)
    return Settings.load(tmp_path, {})


def told(outcome: Outcome, status: str) -> set[str]:
    return {str(one.integration) for one in outcome.told if one.status == status}


@pytest.mark.usefixtures("tool_paths")
def test_alerts_come_to_their_receivers_and_are_over() -> None:
    names = ["CheckDown", "HighMemoryUsage", "CodexLowCacheHitRatio", "ServiceDown", "CodexAvailabilityViolated"]
    found = {one.alert: one for one in drill(SHIPPED, names)}
    assert sorted(found) == sorted(names)
    assert {name: one.problems for name, one in found.items()} == dict.fromkeys(names, ())
    critical = {"critical/pagerduty", "critical/slack", "critical/email"}
    assert told(found["ServiceDown"], "firing") == told(found["ServiceDown"], "resolved") == critical
    assert told(found["HighMemoryUsage"], "firing") == {"warning/slack"}
    assert told(found["CodexLowCacheHitRatio"], "resolved") == {"info/webhook"}
    # Two alerts are one message; on a busy machine the second may miss the first message, and is in the next.
    firing = [one for one in found["ServiceDown"].told if one.status == "firing"]
    assert any("[FIRING 2] ServiceDown of vibebox (critical)" in one.text for one in firing)
    for one in firing:
        assert re.search(r"\[FIRING [12]\] ServiceDown of vibebox \(critical\)", one.text)
        assert "runbooks/vibebox.md#servicedown" in one.text
    cache = found["CodexLowCacheHitRatio"]
    first = next(one for one in cache.told if one.status == "firing")
    assert cache.began is not None
    assert first.at - cache.epoch - cache.began > 4.5, "five minutes of its group's wait are five seconds"


@pytest.mark.usefixtures("tool_paths")
def test_an_alert_that_always_fires_is_told_again_and_again_and_is_never_over() -> None:
    (found,) = drill(SHIPPED, ["Watchdog"])
    assert found.problems == ()
    assert found.began is not None
    assert 0 <= found.began < 1
    assert found.simulated.ended is None
    assert told(found, "firing") == {"watchdog/webhook"}
    assert len(found.told) > 1
    assert told(found, "resolved") == set()


def answers_500() -> Sinks:
    sinks = Sinks()
    sinks.status = 500
    return sinks


def hangs() -> Sinks:
    sinks = Sinks()
    sinks.pause = 60.0
    return sinks


def with_slack(repo: Settings, folder: Path, text: str) -> Settings:
    """A copy of *repo* in *folder*, whose messages to Slack say *text*."""
    shutil.copytree(repo.root, folder, symlinks=True)
    file = folder / "monitoring/alertmanager/alertmanager.yml"
    before = file.read_text()
    after = re.sub(r"title: '[^']*', text: '[^']*'", f"title: alert, text: '{text}'", before)
    assert after != before
    file.write_text(after)
    return Settings.load(folder, {})


def test_what_does_not_come_to_a_receiver_is_told(repo: Settings, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("repos")
    fails = with_slack(repo, folder / "fails", "{{ .None.Such }}")
    mute = with_slack(repo, folder / "mute", "look")
    night = datetime(2026, 11, 18, 23, tzinfo=UTC)
    plays: list[Callable[[], list[Outcome]]] = [
        lambda: drill(repo, ["CheckDown"], sinks=answers_500),
        lambda: drill(repo, ["CheckDown"], sinks=hangs),
        lambda: drill(fails, ["CheckDown"]),
        lambda: drill(mute, ["CheckDown"]),
        lambda: drill(repo, ["CheckFlapping"], at=night),
    ]
    with ThreadPoolExecutor(len(plays)) as pool:  # they wait, most of the time
        refused, hung, failed, nothing, muted = (one for (one,) in pool.map(lambda play: play(), plays))

    assert told(refused, "firing") == told(refused, "resolved") == {"critical/email"}
    assert [problem.partition(";")[0] for problem in refused.problems] == [
        "critical/pagerduty was not told",
        "critical/slack was not told",
    ]
    assert "500" in refused.problems[0], "alertmanager says why"

    assert told(hung, "resolved") == {"critical/email"}, "who hangs holds up nobody else"
    assert hung.problems == (
        "critical/pagerduty was not told that it is over",
        "critical/slack was not told that it is over",
    )

    assert told(failed, "firing") == {"critical/email", "critical/pagerduty"}
    (problem,) = failed.problems
    assert problem.startswith("critical/slack was not told; alertmanager says: ")
    assert "None" in problem, "the place of the mistake"

    (problem,) = nothing.problems
    assert problem.startswith("critical/slack was told, but neither the alert's name nor its summary: 'alert\\nlook")

    assert (muted.receivers, muted.told, muted.problems) == ((), (), ())
    assert muted.fired is not None


@pytest.mark.parametrize(
    ("before", "after", "error", "sentence"),
    [
        (
            'webhook_configs: [{url: "https://hooks.example.com/alerts"}]',
            "pushover_configs: [{user_key: a, token: b}]",
            DrillError,
            "receiver info: there is no stand-in for pushover_configs; there are some for webhook, slack, pagerduty,",
        ),
        ("receivers:\n", "receivers:\n  - [\n", DocumentError, "alertmanager.yml"),
        (
            "receiver: info",
            "receiver: nobody",
            DrillError,
            'amtool refuses it: undefined receiver "nobody" used in route',
        ),
    ],
)
def test_a_configuration_that_can_not_be_drilled_is_told(
    repo: Settings, before: str, after: str, error: type[Exception], sentence: str
) -> None:
    file = repo.monitoring / "alertmanager/alertmanager.yml"
    file.write_text(file.read_text().replace(before, after))
    with pytest.raises(error) as told:
        drill(repo, ["CheckDown"])
    assert sentence in str(told.value)


def test_a_repo_without_rule_tests_is_told(repo: Settings) -> None:
    (repo.rules_tests / "checks.yml").unlink()
    with pytest.raises(DrillError, match="no rule test there fires an alert, so there is nothing to play"):
        drill(repo)


def test_what_happens_is_a_line_each(monkeypatch: pytest.MonkeyPatch, repo: Settings) -> None:
    monkeypatch.chdir(repo.root)
    (repo.root / "pyproject.toml").write_text("[tool.upcheck]\n")
    result = CliRunner().invoke(main, ["rules", "drill", "CheckDown"])
    assert result.exit_code == 0, result.output
    *happened, verdict = result.output.splitlines()
    assert verdict == "as promtool and the routes say"
    said = [line.split()[2] for line in happened]
    assert said == ["fault", "firing", *["received"] * 3, "over", *["resolved"] * 3]
    assert "critical/slack: [FIRING 1] CheckDown" in result.output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["HighCpuUsag"], "HighCpuUsag: no rule defines it; did you mean 'HighCpuUsage'?"),
        (["--at", "noon"], "--at noon: expected a time such as 2026-11-21 23:00"),
    ],
)
def test_a_mistake_is_told_before_anything_starts(arguments: list[str], sentence: str) -> None:
    result = CliRunner().invoke(main, ["rules", "drill", *arguments])
    assert result.exit_code == 2
    assert sentence in result.output
