"""What `/probe` may be made to connect to: the decision is on the address, whatever it is called."""

from __future__ import annotations

import itertools
import json
import socket
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.collector.test_application import inside
from tests.conftest import Serve, answer
from tests.faults.test_network import resolving
from tests.probes.conftest import place
from upcheck.collector import Collector
from upcheck.probes import Reason, single
from upcheck.probes.reach import Reach
from upcheck.probes.tcp import Tcp

MODULES = {
    "http": {"prober": "http", "http": {"preferred_ip_protocol": "ip4"}},
    "tcp": {"prober": "tcp", "tcp": {"preferred_ip_protocol": "ip4"}},
    "dns": {"prober": "dns", "dns": {"query_name": "a.test", "preferred_ip_protocol": "ip4"}},
    "icmp": {"prober": "icmp", "icmp": {"preferred_ip_protocol": "ip4"}},
    "grpc": {"prober": "grpc", "grpc": {"preferred_ip_protocol": "ip4"}},
}
Probed = Callable[..., httpx.Response]


@pytest.fixture
def probed(tmp_path: Path) -> Probed:
    """`probed(module, target, networks)`: what /probe answers."""
    file = tmp_path / "blackbox.yml"
    file.write_text(json.dumps({"modules": MODULES}))

    def ask(module: str, target: str, networks: str | None = "10.0.0.0/8", debug: str = "false") -> httpx.Response:
        told: list[httpx.Response] = []

        async def one(client: httpx.AsyncClient) -> None:
            params = {"module": module, "target": target, "debug": debug}
            headers = {"X-Prometheus-Scrape-Timeout-Seconds": "3"}
            told.append(await client.get("/probe", params=params, headers=headers))

        inside(Collector(probes=file, probe_networks=networks), one)
        return told[0]

    return ask


@pytest.fixture
def secret(serve: Serve) -> tuple[int, list[str]]:
    """The port of something inside that must not be asked, and whether it was."""
    heard: list[str] = []

    def talk(connection: socket.socket) -> None:
        heard.append("asked")
        answer(body="secret")(connection)

    return int(place(serve(talk)).rpartition(":")[2]), heard


def test_nothing_may_be_asked_by_default(probed: Probed, secret: tuple[int, list[str]]) -> None:
    told = probed("http", f"http://127.0.0.1:{secret[0]}/", None)
    assert told.status_code == 403
    assert "127.0.0.1 is in none of the networks that may be probed" in told.text
    assert secret[1] == []


@pytest.mark.parametrize("module", ["http", "tcp", "dns", "grpc", "icmp"])
def test_every_prober_is_bound(probed: Probed, secret: tuple[int, list[str]], module: str) -> None:
    target = "127.0.0.1" if module == "icmp" else f"127.0.0.1:{secret[0]}"
    assert probed(module, target).status_code == 403
    assert secret[1] == []


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "localhost", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "[::1]", "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "0.0.0.0", "[::]",
    ],
)  # fmt: skip
def test_however_it_is_written(probed: Probed, secret: tuple[int, list[str]], host: str) -> None:
    told = probed("http", f"http://{host}:{secret[0]}/")
    assert told.status_code in (400, 403) or "probe_success 0" in told.text
    assert secret[1] == []
    told = probed("tcp", f"{host}:{secret[0]}")
    assert told.status_code in (400, 403) or "probe_success 0" in told.text
    assert secret[1] == []


def test_what_may_be_asked_is(probed: Probed, secret: tuple[int, list[str]]) -> None:
    told = probed("http", f"http://127.0.0.1:{secret[0]}/", "127.0.0.0/8")
    assert (told.status_code, "probe_success 1" in told.text) == (200, True)
    assert secret[1] == ["asked"]


def test_debug_tells_why(probed: Probed) -> None:
    told = probed("tcp", "127.0.0.1:1", debug="true")
    assert told.status_code == 200
    assert "Probe failed: address_refused" in told.text
    assert "probe_success 0" in told.text


@pytest.mark.parametrize("module", ["http", "tcp"])
def test_a_name_that_leads_elsewhere_the_second_time(
    probed: Probed, secret: tuple[int, list[str]], monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    leads = itertools.chain(["10.9.9.9"], itertools.repeat("127.0.0.1"))
    asked: list[str] = []

    def told(host: str) -> list[str]:
        asked.append(host)
        return [next(leads)]

    resolving(monkeypatch, told)
    first = probed(module, f"rebinds.test:{secret[0]}")
    assert "probe_success 0" in first.text  # it was asked at 10.9.9.9, and nowhere else
    assert asked == ["rebinds.test"]
    assert secret[1] == []
    assert probed(module, f"rebinds.test:{secret[0]}").status_code == 403
    assert secret[1] == []


def test_one_good_address_does_not_excuse_a_bad_one(
    probed: Probed, secret: tuple[int, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(monkeypatch, lambda _: ["10.9.9.9", "127.0.0.1"])
    assert probed("http", f"http://both.test:{secret[0]}/").status_code == 403
    assert secret[1] == []


def test_each_address_that_is_tried_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, lambda _: ["127.0.0.1", "127.0.0.2"])
    with socket.create_server(("127.0.0.2", 0)) as listener:
        where = f"both.test:{listener.getsockname()[1]}"
        assert single.ask(Tcp(where)).success
        result = single.ask(Tcp(where), reach=Reach(["127.0.0.1/32"]))
    assert result.reason is Reason.ADDRESS_REFUSED
    assert result.sentence.startswith("127.0.0.2 is in none")


@pytest.mark.parametrize(
    "where", ["http://127.0.0.2:{port}/", "http://2130706434:{port}/", "http://there.test:{port}/"]
)
def test_a_redirect_is_judged_anew(
    probed: Probed, serve: Serve, secret: tuple[int, list[str]], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    resolving(monkeypatch, lambda _: ["127.0.0.2"])
    first = serve(answer("302 Found", "", f"Location: {where.format(port=secret[0])}"))
    told = probed("http", f"{first}/", "127.0.0.1/32")
    assert told.status_code == 403
    assert "127.0.0.2 is in none of the networks" in told.text


@pytest.mark.parametrize("host", ["169.254.169.254", "[::ffff:169.254.169.254]", "metadata.test"])
def test_link_local_addresses_are_never_meant(
    probed: Probed, serve: Serve, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    resolving(monkeypatch, lambda _: ["169.254.169.254"])
    everything = "0.0.0.0/0 ::/0"
    assert probed("http", f"http://{host}/latest", everything).status_code == 403
    first = serve(answer("302 Found", "", f"Location: http://{host}/latest"))
    redirected = probed("http", f"{first}/", everything)
    assert redirected.status_code == 403 or "probe_success 0" in redirected.text


@pytest.mark.parametrize(
    ("networks", "address", "allowed"),
    [
        (None, "169.254.169.254", True),
        ([], "192.0.2.1", False),
        (["192.0.2.0/24"], "192.0.2.1", True),
        (["192.0.2.0/24"], "::ffff:192.0.2.1", True),
        (["192.0.2.0/24"], "2002:c000:201::", True),
        (["192.0.2.0/24"], "64:ff9b::c000:201", True),
        (["192.0.2.0/24"], "198.51.100.1", False),
        (["::/0"], "192.0.2.1", False),
        (["::/0"], "fe80::1%lo", False),
        (["fe80::/10"], "fe80::1%lo", True),
        (["0.0.0.0/0"], "169.254.1.1", False),
        (["169.254.0.0/16"], "169.254.1.1", True),
    ],
)
def test_what_a_network_means(networks: list[str] | None, address: str, allowed: bool) -> None:
    assert (Reach(networks).refuses(address) == "") is allowed
