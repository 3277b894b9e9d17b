"""Targets of the catalogue and of the checks, as files; and in a real Prometheus, which reads them as they change."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from tests.conftest import ROOT
from tests.waiting import eventually
from upcheck import catalog, run, targets
from upcheck.cli import main
from upcheck.documents import DocumentError
from upcheck.prometheus import Prometheus
from upcheck.servers import prometheus
from upcheck.servers.exporter import exporter
from upcheck.settings import Settings

MODULES = "monitoring/exporters/blackbox.yml"
SHOP = """\
service: shop
about: It sells things.
metrics: {shop_open: {layer: business, type: gauge, help: Whether it is open.}}
"""
CHECKS = """\
checks:
  - {name: there, url: "${SHOP_URL}/health"}
  - {name: again, url: "${SHOP_URL}/health", every: 5m}
  - {name: not here, url: "${OTHER_URL}/health"}
  - {name: ours, url: /live}
  - {name: posted, url: "${SHOP_URL}/orders", method: POST}
  - {name: a port, tcp: "127.0.0.1:1"}
  - {name: a secret, url: "${SHOP_URL}/?key=${SHOP_TOKEN}"}
  - {name: a password, url: "http://me:secret@127.0.0.1/"}
"""


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text('[tool.upcheck]\nprobe_networks = "127.0.0.0/8"\n')
    for name, text in (
        ("monitoring/services/shop.yml", SHOP),
        ("checks/shop/health.yml", CHECKS),
        (MODULES, (ROOT / MODULES).read_text()),
    ):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def scraped(repo: Path, *urls: str) -> None:
    (repo / "monitoring/services/shop.yml").write_text(f"{SHOP}scrape: {list(urls)}\n")


def test_pages_of_metrics_have_their_service_scheme_and_path(repo: Path) -> None:
    assert targets.services(Settings.load(repo, {})) == []
    scraped(repo, "http://10.0.0.5:3000/api/metrics", "https://shop.example")
    found = targets.services(Settings.load(repo, {}))
    assert [dict(one) for one in found] == [
        {
            "targets": ["10.0.0.5:3000"],
            "labels": {"service": "shop", "__scheme__": "http", "__metrics_path__": "/api/metrics"},
        },
        {
            "targets": ["shop.example:443"],
            "labels": {"service": "shop", "__scheme__": "https", "__metrics_path__": "/metrics"},
        },
    ]


def test_urls_of_checks_are_those_that_probe_can_ask_and_that_are_known(repo: Path) -> None:
    here = {"SHOP_URL": "http://127.0.0.1:3000", "SHOP_TOKEN": "s3cret"}
    assert [dict(one) for one in targets.checks(Settings.load(repo, {}), here)] == [
        {"targets": ["http://127.0.0.1:3000/health"], "labels": {"__param_module": "http_2xx", "service": "shop"}},
        {"targets": ["127.0.0.1:1"], "labels": {"__param_module": "tcp_connect", "service": "shop"}},
    ]
    assert [one["targets"] for one in targets.checks(Settings.load(repo, {}), {})] == [["127.0.0.1:1"]]
    assert targets.checks(Settings.load(repo, {"UPCHECK_PROBE_NETWORKS": " "}), here) == []


@pytest.mark.parametrize("url", ["10.0.0.5:3000", "http://10.0.0.5/metrics?a=b", "http://me:secret@10.0.0.5"])
def test_what_is_no_page_of_metrics_is_refused(repo: Path, url: str) -> None:
    scraped(repo, url)
    with pytest.raises(DocumentError, match="without a query, such as http://10"):
        catalog.load(repo / "monitoring/services/shop.yml")


def test_what_ships_scrapes_nothing_that_nobody_runs() -> None:
    settings = Settings.load(ROOT, {})
    folder = ROOT / "monitoring/prometheus/targets"
    assert {name: (folder / name).read_text() for name in ("services.yml", "checks.yml")} == targets.texts(settings, {})
    assert [yaml.safe_load(text) for text in targets.texts(settings, {}).values()] == [[], []]


def test_check_tells_what_has_drifted(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repo)

    def typed(*arguments: str) -> tuple[int, list[str]]:
        told = CliRunner().invoke(main, ["services", "targets", *arguments])
        return told.exit_code, told.output.splitlines()

    assert typed()[1] == [f"monitoring/prometheus/targets/{name}.yml written" for name in ("services", "checks")]
    assert typed("--check") == (0, [])
    scraped(repo, "http://10.0.0.5:3000")
    said = "monitoring/prometheus/targets/services.yml is not what it would be made: type upcheck services targets"
    assert typed("--check") == (1, [said])
    assert typed() == (0, ["monitoring/prometheus/targets/services.yml written"])
    assert typed() == (0, ["nothing to write: all is as it would be made"])


@pytest.mark.usefixtures("tool_paths")
def test_an_edit_is_scraped_and_probed_without_a_restart(repo: Path) -> None:
    settings = Settings.load(repo, {})
    folder = repo / "monitoring/prometheus/targets"
    targets.write(settings, {}, folder)
    jobs = yaml.safe_load((ROOT / "monitoring/prometheus/prometheus.yml").read_text())["scrape_configs"]
    shipped = [job for job in jobs if "file_sd_configs" in job]
    with (
        exporter(lambda path: f'shop_open{{path="{path}"}} 1\n') as shop,
        run.collector(Settings.load(ROOT, {}), UPCHECK_PROBE_NETWORKS="127.0.0.0/8") as collector,
    ):
        text = yaml.safe_dump({"global": {"scrape_interval": "1s"}, "scrape_configs": shipped})
        path = folder.parent / "prometheus.yml"
        path.write_text(text.replace("127.0.0.1:9909", collector.removeprefix("http://")))
        with prometheus(Settings.load(ROOT, {}), path, repo / "tsdb") as url:
            asked = Prometheus(url)
            assert asked.query("up") == []
            scraped(repo, f"http://{shop.address}/api/metrics")
            targets.write(settings, {"SHOP_URL": f"http://{shop.address}"}, folder)
            eventually(lambda: len(asked.query("up == 1")) == 3)
            (page,) = asked.query("shop_open")
            assert (page.labels["path"], page.labels["service"]) == ("/api/metrics", "shop")
            (probe,) = asked.query("probe_success == 1")
            assert (probe.labels["instance"], probe.labels["service"]) == (f"http://{shop.address}/health", "shop")
            (port,) = asked.query("probe_success == 0")
            assert port.labels["instance"] == "127.0.0.1:1"
