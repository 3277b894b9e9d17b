"""The examples of docs/stack.md: two Prometheis, two Alertmanagers, and another machine that misses what is silent."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import yaml

from tests.conftest import ROOT
from tests.test_docs import blocks
from tests.waiting import eventually
from upcheck import alertmanager as api
from upcheck import run, tools
from upcheck.prometheus import Prometheus, Sample
from upcheck.rules.timelapse import Lapse
from upcheck.servers import alertmanager, free_port, prometheus
from upcheck.servers.sinks import Sinks
from upcheck.settings import Settings

pytestmark = pytest.mark.slow

SHIPPED = ROOT / "monitoring/prometheus"
LAPSE = Lapse(300)  # a receiver of what is for information is told after a second, the watchdog each 0.2 s
HURRY = ("--cluster.gossip-interval=50ms", "--cluster.probe-interval=200ms", "--cluster.probe-timeout=100ms")
WAIT = "--cluster.peer-timeout=1s"  # 15 s else
AGAIN = "--rules.alert.resend-delay=1s"  # 1m else, and what fires before a Prometheus has found Alertmanager is lost
QUIET = 2.0  # seconds in which what must not be told would have been


def example(beginning: str, language: str = "") -> str:
    (found,) = [text for text in blocks(ROOT / "docs/stack.md", language) if text.startswith(beginning)]
    return found


@dataclass(frozen=True, slots=True)
class Several:
    """The URLs of a Prometheus that is sent to, and of one that asks."""

    receiver: str
    above: str


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Several]:
    settings = Settings.load(ROOT, {})
    tools.ensure(["prometheus"], settings)
    folder = tmp_path_factory.mktemp("several")

    def written(name: str, text: str) -> Path:
        path = folder / f"{name}.yml"
        path.write_text(text)
        return path

    with ExitStack() as running:
        receiver = running.enter_context(
            prometheus(settings, written("r", ""), folder / "r", "--web.enable-remote-write-receiver")
        )
        shipped = (SHIPPED / "prometheus.yml").read_text().replace("_interval: 15s", "_interval: 1s")
        shipped = shipped.replace("rules/*.yml", f"{SHIPPED}/rules/*.yml")
        sends = example("remote_write:").replace("http://127.0.0.1:9091", receiver)
        below = running.enter_context(prometheus(settings, written("b", shipped + "\n" + sends), folder / "b"))
        asks = example("scrape_configs:").replace("127.0.0.1:9090", below.removeprefix("http://"))
        fast = "global: {scrape_interval: 1s}\n"
        yield Several(receiver, running.enter_context(prometheus(settings, written("a", fast + asks), folder / "a")))


def wait_for(url: str, query: str) -> list[Sample]:
    return eventually(lambda: Prometheus(url).query(query), lambda: f"{url} has no {query}")


def test_one_above_has_what_it_asks_for_with_the_labels_of_its_source(several: Several) -> None:
    (sample,) = wait_for(several.above, 'up{job="collector"}')
    assert sample.labels["cluster"] == "default"
    assert sample.labels["instance"] == "127.0.0.1:9909"
    assert wait_for(several.above, 'ALERTS{alertname="TargetDown", cluster="default"}')
    assert Prometheus(several.above).query('scrape_duration_seconds{job="collector"}') == []


def test_one_that_is_sent_to_has_all_samples(several: Several) -> None:
    (sample,) = wait_for(several.receiver, 'scrape_duration_seconds{job="collector"}')
    assert sample.labels["cluster"] == "default"
    assert wait_for(several.receiver, 'ALERTS{alertname="TargetDown"}')


def receivers(path: Path, watchdog: list[str], info: str = "") -> Path:
    """The configuration that ships, hurried, with receivers of our own for its webhooks; written to *path*."""
    made = LAPSE.alertmanager(yaml.safe_load((ROOT / "monitoring/alertmanager/alertmanager.yml").read_text()))
    made["templates"] = []
    for one in made["receivers"]:
        urls = watchdog if one["name"] == "watchdog" else [info] if info and one["name"] == "info" else []
        configs = [{"url": url, "send_resolved": False} for url in urls]
        one_name = one["name"]
        one.clear()
        one.update({"name": one_name, "webhook_configs": configs})
    made["global"] = {}
    path.write_text(json.dumps(made))  # JSON is YAML
    return path


@dataclass
class Pair:
    """Two Alertmanagers that started with the flags of the page, and what they have told of."""

    settings: Settings
    folder: Path
    sinks: Sinks
    running: dict[str, ExitStack] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ports = {name: f"127.0.0.1:{free_port()}" for name in ("10.0.0.1:9094", "10.0.0.2:9094")}
        self.configuration = receivers(self.folder / "pair.yml", [], self.sinks.url)

    def start(self, name: str) -> None:
        """Start the one called *name*, a or b."""
        line = example("alertmanager ").splitlines()["ab".index(name)]
        for documented, ours in self.ports.items():
            line = line.replace(documented, ours)
        flags = dict(flag.split("=", 1) for flag in line.split()[1:])
        listens = flags.pop("--cluster.listen-address")
        # These three are the server's own here: of the page, that it names them, and an address that is no wildcard.
        assert flags.keys() == {"--config.file", "--storage.path", "--web.listen-address", "--cluster.peer"}
        assert flags["--web.listen-address"] == f"10.0.0.{'ab'.index(name) + 1}:9093"
        others = [f"--cluster.peer={flags['--cluster.peer']}"]
        self.running[name] = ExitStack()
        self.urls[name] = self.running[name].enter_context(
            alertmanager(
                self.settings, self.configuration, self.folder / f"am-{name}", *others, *HURRY, WAIT, cluster=listens
            )
        )

    def together(self) -> None:
        """Until both know each other."""
        eventually(lambda: self.peers() == [2, 2], self.peers)

    def peers(self) -> list[int]:
        """How many each has, itself among them, once it is ready."""
        told = [httpx.get(f"{self.urls[name]}/api/v2/status", trust_env=False).json() for name in self.running]
        return [len(one["cluster"]["peers"]) if one["cluster"]["status"] == "ready" else 0 for one in told]

    def kill(self, name: str) -> None:
        self.running.pop(name).close()

    def send(self, alert: str, *names: str) -> None:
        """Have *alert* sent to those of *names*, as a Prometheus does."""
        for name in names:
            end = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
            assert (
                api.push(self.urls[name], [{"labels": {"alertname": alert, "severity": "info"}, "endsAt": end}]) is None
            )

    def told(self, alert: str) -> int:
        """How often somebody was told of *alert*."""
        return sum(alert == one.body["groupLabels"]["alertname"] for one in list(self.sinks.messages))

    def told_once(self, alert: str) -> None:
        eventually(lambda: self.told(alert), lambda: f"nobody was told of {alert}")
        time.sleep(QUIET)
        assert self.told(alert) == 1, alert


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    settings = Settings.load(ROOT, {})
    tools.ensure(["prometheus", "alertmanager"], settings)
    with Sinks() as sinks:
        made = Pair(settings, tmp_path, sinks)
        try:
            made.start("a")
            made.start("b")
            made.together()
            yield made
        finally:
            for one in made.running.values():
                one.close()


def replica(pair: Pair, name: str) -> Path:
    """The configuration of the page, of the Prometheus called *name*, with an alert that fires."""
    made = yaml.safe_load(example("global:").replace("replica: a", f"replica: {name}"))
    made["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [
        url.removeprefix("http://") for url in pair.urls.values()
    ]
    (pair.folder / "rules.yml").write_text(
        "groups: [{name: g, interval: 1s, rules: [{alert: Both, expr: vector(1), labels: {severity: info}}]}]"
    )
    made["rule_files"] = ["rules.yml"]
    path = pair.folder / f"prometheus-{name}.yml"
    path.write_text(yaml.safe_dump(made))
    return path


def test_two_alertmanagers_tell_once_share_silences_and_one_does_for_both(pair: Pair) -> None:
    with ExitStack() as running:
        for name in "ab":
            data = pair.folder / f"tsdb-{name}"
            running.enter_context(prometheus(pair.settings, replica(pair, name), data, AGAIN))
        pair.told_once("Both")
    (alert,) = httpx.get(f"{pair.urls['b']}/api/v2/alerts", params={"filter": "alertname=Both"}, trust_env=False).json()
    assert alert["labels"] == {"alertname": "Both", "severity": "info", "cluster": "default"}

    eventually(lambda: silenced(pair.urls["a"], "Quiet"), lambda: "no silence was made")
    eventually(lambda: silences(pair.urls["b"]) == ["Quiet"], lambda: silences(pair.urls["b"]))
    pair.send("Quiet", "a", "b")
    pair.kill("a")
    pair.send("Alone", "b")
    pair.told_once("Alone")

    pair.start("a")
    pair.together()
    pair.send("Alone", "a", "b")
    pair.send("Quiet", "a", "b")
    pair.send("Again", "a", "b")
    pair.told_once("Again")
    assert (pair.told("Both"), pair.told("Alone"), pair.told("Quiet")) == (1, 1, 0)


def silenced(url: str, alert: str) -> bool:
    now = datetime.now(UTC)
    silence = {
        "matchers": [{"name": "alertname", "value": alert, "isRegex": False, "isEqual": True}],
        "startsAt": now.isoformat(), "endsAt": (now + timedelta(minutes=5)).isoformat(),
        "createdBy": "a test", "comment": "a test",
    }  # fmt: skip
    return httpx.post(f"{url}/api/v2/silences", json=silence, trust_env=False).status_code == 200


def silences(url: str) -> list[str]:
    found = httpx.get(f"{url}/api/v2/silences", trust_env=False).json()
    return [one["matchers"][0]["value"] for one in found if one["status"]["state"] == "active"]


@pytest.mark.usefixtures("tool_paths")
def test_another_machine_misses_alerts_that_are_told_no_more(tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "checks").mkdir(parents=True)
    shutil.copyfile(ROOT / "collector.py", other / "collector.py")
    (other / "pyproject.toml").write_text("[tool.upcheck]\n")
    (check,) = [text for text in blocks(ROOT / "docs/stack.md", "yaml") if "push:" in text]
    (other / "checks/a.yml").write_text(check.replace("grace: 3m", "grace: 2s"))
    (url,) = [one["url"] for one in yaml.safe_load(example("- name: watchdog"))[0]["webhook_configs"][1:]]

    settings = Settings.load(ROOT, {})
    with ExitStack() as running:
        collector = running.enter_context(run.collector(Settings.load(other, {})))
        place = url.replace("http://other.example.com:9909", collector)
        configuration = receivers(tmp_path / "am.yml", [place])
        one = running.enter_context(ExitStack())
        tells = one.enter_context(alertmanager(settings, configuration, tmp_path / "am"))
        text = f"global: {{evaluation_interval: 1s}}\nrule_files: ['{SHIPPED}/rules/watchdog.yml']\n"
        text += (
            f"alerting: {{alertmanagers: [{{static_configs: [{{targets: ['{tells.removeprefix('http://')}']}}]}}]}}\n"
        )
        (tmp_path / "p.yml").write_text(text)
        running.enter_context(prometheus(settings, tmp_path / "p.yml", tmp_path / "p", AGAIN))
        eventually(lambda: (other / ".upcheck/push/watchdog-of-a.json").exists(), lambda: "nothing was told")
        assert outcome(other) == ("held", None)
        one.close()
        eventually(lambda: outcome(other) == ("failed", "no_report"), lambda: outcome(other))


def outcome(repo: Path) -> tuple[str, str | None]:
    """What `upcheck run` says of the only check, and why."""
    results = repo / "results"
    results.unlink(missing_ok=True)
    argv = [sys.executable, "-m", "upcheck.cli", "run", f"--results={results}"]
    subprocess.run(argv, cwd=repo, capture_output=True, timeout=30)
    (found,) = [line for line in map(json.loads, results.read_text().splitlines()) if "outcome" in line]
    return found["outcome"], found["facts"].get("code")
