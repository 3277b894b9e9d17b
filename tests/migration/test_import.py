"""What others have configured, as checks: each is read by the loader of checks, and what is left is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from upcheck import yaml_checks
from upcheck.cli import main

GATUS = """
endpoints:
  - name: website
    group: core
    url: "https://shop.example/health"
    interval: 1m30s
    method: POST
    body: "{}"
    headers: {X-Token: "${TOKEN}", Content-Type: text/plain}
    client: {timeout: 5s, insecure: true, ignore-redirect: true, oauth2: {}}
    conditions:
      - "[STATUS] == any(200, 204)"
      - "[RESPONSE_TIME] < 300"
      - "[BODY] == pat(*fine*)"
      - "[BODY].status == UP"
      - "[CERTIFICATE_EXPIRATION] > 48h"
    alerts:
      - {type: slack, failure-threshold: 5, success-threshold: 4}
      - {type: email}
  - {name: any answer, url: "http://shop.example/"}
  - {name: good or moved, url: "http://shop.example/", conditions: ["[STATUS] < 400"]}
  - {name: twice, url: "tcp://db:5432", conditions: ["[CONNECTED] == true"]}
  - {name: twice, url: "tls://db:5432", client: {insecure: true}}
  - {name: query, url: "https://shop.example/g", method: POST, graphql: true, body: "{ a }"}
  - name: dns
    url: "192.0.2.53"
    dns: {query-name: shop.example., query-type: MX}
    conditions: ["[DNS_RCODE] == NOERROR"]
  - {name: ping, url: "icmp://shop.example", conditions: ["[RESPONSE_TIME] <= 12s"]}
  - {name: live, url: "wss://shop.example/live"}
  - {name: mail, url: "starttls://mail.example:587", client: {insecure: true}}
  - {name: shell, url: "ssh://shop.example", ssh: {username: me, password: x}}
  - {name: rpc, url: "grpcs://shop.example:443", client: {insecure: true}}
  - {name: off, url: "http://shop.example/", enabled: false}
  - {name: rare, url: "sctp://shop.example:1"}
maintenance: {start: "23:00", duration: 1h}
"""


def imported(kind: str, *files: Path) -> Result:
    return CliRunner().invoke(main, ["import", kind, *map(str, files)])


def checks(result: Result, folder: Path) -> dict[str, yaml_checks.YamlCheck]:
    """What the loader of checks reads in what was printed."""
    assert result.exit_code == 0, result.output
    file = folder / "checks.yml"
    file.write_text(result.stdout)
    return {check.name: check for check in yaml_checks.load(file)}


def left(result: Result) -> list[str]:
    return [line.strip() for line in result.stderr.splitlines()[1:]]


def test_gatus(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(GATUS)
    result = imported("gatus", tmp_path / "config.yaml")
    found = checks(result, tmp_path)
    assert list(found) == [
        "core/website", "any answer", "good or moved", "twice", "twice (2)", "query", "dns", "ping",
        "live", "mail", "shell", "rpc",
    ]  # fmt: skip
    web = found["core/website"]
    assert (web.declaration.every, web.declaration.timeout) == (90, 5)
    assert (web.declaration.failure_threshold, web.declaration.success_threshold) == (3, 2)
    assert web.expect == {"status": [200, 204], "latency": "300ms", "body": "fine", "certificate_days": 2}
    assert web.asking["verify"] is False
    assert web.asking["follow_redirects"] is False
    assert web.asking["headers"] == {"X-Token": "${TOKEN}", "Content-Type": "text/plain"}
    assert found["any answer"].expect["status"] == ["1xx", "2xx", "3xx", "4xx", "5xx"]
    assert found["good or moved"].expect["status"] == ["1xx", "2xx", "3xx"]
    assert json.loads(found["query"].asking["body"]) == {"query": "{ a }"}
    assert (found["twice"].kind, found["twice (2)"].kind, found["ping"].kind) == ("tcp", "tls", "icmp")
    assert (found["dns"].subject, found["dns"].expect) == ("shop.example", {"rcode": "NOERROR"})
    assert found["ping"].declaration.timeout == 13, "the latency is less than the timeout"
    assert {name: check.kind for name, check in found.items() if name in ("live", "mail", "shell", "rpc")} == {
        "live": "websocket", "mail": "smtp", "shell": "ssh", "rpc": "grpc",
    }  # fmt: skip
    assert found["mail"].asking == {"starttls": True, "verify": False}
    assert left(result) == [
        "core/website: who is told (email, slack): routes of Alertmanager say that",
        "core/website: the condition '[BODY].status == UP': write it as a test in Python",
        "core/website: `oauth2`",
        "shell: the login: only the banner is read",
        "off: it is not enabled",
        "rare: sctp://shop.example:1: nothing here speaks sctp",
        "maintenance: windows stand in pyproject.toml: [[tool.upcheck.maintenance]]",
    ]
    assert result.stderr.startswith("12 checks; not carried over: 7\n")


MODULES = """
modules:
  web:
    prober: http
    timeout: 4s
    http:
      valid_status_codes: [200, 301]
      method: POST
      headers: {Accept: text/plain}
      basic_auth: {username: me, password: hunter2}
      no_follow_redirects: true
      fail_if_body_not_matches_regexp: [fine, "^a+$"]
      fail_if_header_matches: [{header: X, regexp: y}]
      tls_config: {insecure_skip_verify: true, min_version: TLS12}
  mail:
    prober: tcp
    tcp:
      preferred_ip_protocol: ip4
      query_response: [{expect: "^220 "}, {send: "EHLO x"}, {expect: "^250 "}, {starttls: true}]
      tls: true
      tls_config: {server_name: mail.example, ca_file: ca.pem, min_version: TLS12}
  names:
    prober: dns
    dns:
      query_name: shop.example
      query_type: SOA
      transport_protocol: tcp
      valid_rcodes: [NOERROR, NXDOMAIN]
      validate_answer_rrs: {fail_if_not_matches_regexp: [".*SOA.*"]}
  ping: {prober: icmp, icmp: {ttl: 5, payload_size: 100}}
  plain: {prober: icmp}
  rpc: {prober: grpc, grpc: {service: shop.Orders, tls: true}}
  odd: {prober: smoke}
  unused: {prober: tcp}
"""
PROMETHEUS = """
global: {scrape_interval: 30s}
scrape_configs:
  - job_name: web
    scrape_interval: 15s
    metrics_path: /probe
    params: {module: [web]}
    static_configs: [{targets: ["https://shop.example/", shop.example]}]
  - {job_name: mail, params: {module: [mail]}, static_configs: [{targets: ["mail.example:25"]}]}
  - {job_name: names, params: {module: [names]}, static_configs: [{targets: ["192.0.2.53"]}]}
  - job_name: ping
    params: {module: [ping]}
    static_configs: [{targets: [shop.example]}, {targets: [db], labels: {__param_module: plain}}]
  - {job_name: rpc, params: {module: [rpc]}, static_configs: [{targets: ["shop.example:443"]}]}
  - {job_name: odd, params: {module: [odd]}, static_configs: [{targets: [x]}]}
  - {job_name: gone, params: {module: [gone]}, static_configs: [{targets: [x]}]}
  - {job_name: files, params: {module: [web]}, file_sd_configs: [{files: ["*.json"]}]}
  - {job_name: node, static_configs: [{targets: ["a:9100"]}]}
"""


def test_blackbox(tmp_path: Path) -> None:
    (tmp_path / "blackbox.yml").write_text(MODULES)
    (tmp_path / "prometheus.yml").write_text(PROMETHEUS)
    result = imported("blackbox", tmp_path / "blackbox.yml", tmp_path / "prometheus.yml")
    found = checks(result, tmp_path)
    assert {name: check.kind for name, check in found.items()} == {
        "web: https://shop.example/": "url", "web: shop.example": "url", "mail: mail.example:25": "tcp",
        "names: 192.0.2.53": "dns", "ping: shop.example": "icmp", "ping: db": "icmp", "rpc: shop.example:443": "grpc",
    }  # fmt: skip
    web = found["web: shop.example"]
    assert (web.subject, web.declaration.every, web.declaration.timeout) == ("http://shop.example", 15, 4)
    assert web.expect == {"status": [200, 301], "body": "fine"}
    assert (web.asking["verify"], web.asking["follow_redirects"]) == (False, False)
    assert "hunter2" not in result.output
    mail = found["mail: mail.example:25"]
    assert [*mail.asking["query_response"][0].items()] == [("expect", "^220 ")]
    assert mail.asking["tls"] is True
    assert mail.asking["min_version"] == "TLSv1.2"
    assert mail.declaration.every == 30
    names = found["names: 192.0.2.53"]
    assert names.asking == {"type": "SOA", "server": "192.0.2.53", "protocol": "tcp"}
    assert names.expect["rcode"] == ["NOERROR", "NXDOMAIN"]
    assert names.expect["answer"] == {"fail_if_not_matches_regexp": [".*SOA.*"]}
    assert found["ping: shop.example"].asking == {"payload_size": 100, "ttl": 5}
    assert found["rpc: shop.example:443"].asking == {"service": "shop.Orders", "tls": True}
    told = left(result)
    for sentence in (
        "web: shop.example: the pattern '^a+$' of the body: write it as a test in Python",
        "web: shop.example: `fail_if_header_matches` of module web",
        "web: shop.example: `min_version` of tls_config",
        "web: shop.example: the password: set AUTHORIZATION to 'Basic' and base64 of user:password",
        "odd: x: module odd: nothing here is a prober 'smoke'",
        "gone: x: there is no module gone",
        "files: the targets that are discovered (file_sd_configs)",
        "unused: a module that no scrape_config asks for, so there is no target",
    ):
        assert sentence in told


def monitor(kind: str, name: str, **rest: Any) -> dict[str, Any]:
    return {"id": name, "name": name, "type": kind, "interval": 60, "maxretries": 0, "active": True, **rest}


KUMA = {
    "version": "1.23.0",
    "notificationList": [{"name": "slack"}],
    "monitorList": [
        monitor("group", "shop"),
        monitor("http", "front", parent="shop", url="https://shop.example/", method="GET", maxretries=2,
                accepted_statuscodes=["200-299", "304"], expiryNotification=True, headers='{"A": "b"}', maxredirects=0),
        monitor("keyword", "word", url="http://shop.example/", keyword="fine", method="POST", body="{}",
                ignoreTls=True),
        monitor("json-query", "json", url="http://shop.example/", jsonPath="$.a", headers="no json"),
        monitor("port", "db", hostname="db", port=5432),
        monitor("ping", "ping", hostname="shop.example", interval=20),
        monitor("dns", "dns", hostname="shop.example", dns_resolve_type="MX", dns_resolve_server="192.0.2.53",
                port=53),
        monitor("grpc-keyword", "rpc", grpcUrl="shop.example:443", grpcServiceName="Orders", grpcEnableTls=True),
        monitor("push", "nightly backup", interval=86400, maxretries=1),
        monitor("docker", "web", docker_container="web-1"),
        monitor("http", "off", url="http://x", active=False),
        monitor("http", "down", url="http://x", upsideDown=True),
        monitor("mqtt", "queue", hostname="x"),
    ],
}  # fmt: skip


def test_uptime_kuma(tmp_path: Path) -> None:
    (tmp_path / "backup.json").write_text(json.dumps(KUMA))
    result = imported("uptime-kuma", tmp_path / "backup.json")
    found = checks(result, tmp_path)
    assert {name: check.kind for name, check in found.items()} == {
        "shop/front": "url", "word": "url", "json": "url", "db": "tcp", "ping": "icmp", "dns": "dns", "rpc": "grpc",
        "nightly backup": "push", "web": "docker",
    }  # fmt: skip
    front = found["shop/front"]
    assert (front.declaration.failure_threshold, front.declaration.success_threshold) == (3, 1)
    assert front.expect == {"status": ["2xx", 304], "certificate_days": 14}
    assert front.asking == {"headers": {"A": "b"}, "follow_redirects": False}
    assert (found["word"].expect["body"], found["word"].asking["method"]) == ("fine", "POST")
    assert found["dns"].asking == {"type": "MX", "server": "192.0.2.53:53"}
    assert found["rpc"].asking == {"service": "Orders", "tls": True}
    assert found["nightly backup"].asking == {"grace": "48h"}
    assert found["web"].asking == {"container": "web-1"}
    assert left(result) == [
        "shop: a group: it is in the names of its checks",
        "json: the query '$.a' of JSON: write it as a test in Python",
        "json: its headers are no JSON",
        "rpc: the method and the keyword: gRPC's own health check is asked",
        "nightly backup: the address that its job calls: the collector's /push/nightly-backup now",
        "web: which engine it asks: this machine's, at unix:///var/run/docker.sock, is taken",
        "off: it is not active",
        "down: upside down: write it as a test in Python",
        "queue: nothing here is a monitor of type mqtt",
        "notifications: routes of Alertmanager say who is told",
    ]


@pytest.mark.parametrize(
    ("kind", "texts", "sentence"),
    [
        ("gatus", ["a: 1"], "no configuration of Gatus: it has no list of endpoints"),
        ("gatus", ["endpoints: [{name: x}]"], "an endpoint needs a name and a url, not {'name': 'x'}"),
        ("gatus", ["endpoints: [{name: x, url: 'tcp://a:1', interval: often}]"], "'often' is no duration"),
        ("gatus", ["a: [1"], "2:1: not YAML"),
        ("gatus", ["endpoints: [{name: x, url: 'tcp://a:1', client: [1]}]"], "not as the tool itself writes it: "),
        ("blackbox", ["a: 1", "scrape_configs: []"], "no modules of blackbox_exporter: it has no mapping `modules`"),
        ("blackbox", ["modules: {}", "a: 1"], "no prometheus.yml: it has no scrape_configs, which name the targets"),
        ("uptime-kuma", ["[1"], "not readable as JSON: "),
        ("uptime-kuma", ["{}"], "no backup of Uptime Kuma: it has no list monitorList"),
        ("uptime-kuma", ['{"monitorList": [{"name": "x", "type": "http", "accepted_statuscodes": ["ok"]}]}'],
         "'ok' is no range of status codes such as 200-299"),
    ],
)  # fmt: skip
def test_a_file_that_is_another_s(tmp_path: Path, kind: str, texts: list[str], sentence: str) -> None:
    files = [tmp_path / str(number) for number in range(len(texts))]
    for file, text in zip(files, texts, strict=True):
        file.write_text(text)
    result = imported(kind, *files)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {files[0]}: {sentence}"), result.stderr
    assert result.stdout == ""
