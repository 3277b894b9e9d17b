"""The examples of docs/stack.md: one Prometheus asked by another, and one that sends to another."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.test_docs import blocks
from upcheck import tools
from upcheck.prometheus import Prometheus, Sample
from upcheck.servers import prometheus
from upcheck.settings import Settings

SHIPPED = ROOT / "monitoring/prometheus"


def example(beginning: str) -> str:
    (found,) = [text for text in blocks(ROOT / "docs/stack.md", "") if text.startswith(beginning)]
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
    end = time.monotonic() + 30
    while not (found := Prometheus(url).query(query)):
        assert time.monotonic() < end, f"{url} has no {query}"
        time.sleep(0.2)
    return found


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
