"""`upcheck export kubernetes`: held against the schemas, and run as a pod would run it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.conftest import ROOT, Repo
from tests.waiting import eventually
from upcheck.kubernetes import Cluster, ExportError, Object, export
from upcheck.servers import free_port
from upcheck.settings import Settings

# Models made of the schemas. They have a plugin of pytest, which would be loaded where they are installed.
SCHEMAS = (
    "cloudcoil==0.6.0",
    "cloudcoil.models.kubernetes==1.32.1.3",
    "cloudcoil.models.prometheus_operator==0.80.1.0",
)
KINDS = {
    "ConfigMap", "Secret", "Service", "StatefulSet", "CronJob", "PrometheusRule", "ServiceMonitor", "Probe",
}  # fmt: skip
SHARDS = 3


def read(text: str) -> list[Object]:
    return list(yaml.safe_load_all(text))


@pytest.fixture(scope="module")
def objects() -> list[Object]:
    """What is exported of the repo that ships, as it stands in the YAML."""
    cluster = Cluster(namespace="monitoring", shards=SHARDS, prober="blackbox:9115", labels={"release": "stack"})
    return read(export(Settings.load(ROOT, {}), cluster).text())


def of(objects: list[Object], kind: str) -> list[Object]:
    return [one for one in objects if one["kind"] == kind]


def pods(objects: list[Object]) -> dict[str, Object]:
    """The pod templates, by the kind that makes the pods."""
    (cron,) = of(objects, "CronJob")
    (pods,) = of(objects, "StatefulSet")
    return {"StatefulSet": pods["spec"]["template"], "CronJob": cron["spec"]["jobTemplate"]["spec"]["template"]}


Refusals = Callable[[list[Object]], list[str]]


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> Refusals:
    """What the schemas of Kubernetes and of prometheus-operator have against each object; nothing is an empty text."""
    folder = tmp_path_factory.mktemp("schemas")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-compile", "--target", str(folder), *SCHEMAS]
    subprocess.run(pip, check=True, timeout=120)

    def told(objects: list[Object]) -> list[str]:
        ran = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("schemas.py"))],
            env=os.environ | {"PYTHONPATH": str(folder)}, input=json.dumps(objects), capture_output=True, text=True,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        found: list[str] = json.loads(ran.stdout)
        return found

    return told


def test_each_object_is_of_its_schema_and_what_is_not_is_refused(objects: list[Object], refusals: Refusals) -> None:
    wrong: list[tuple[str, tuple[Any, ...], Any]] = [
        ("StatefulSet", ("spec", "replicas"), "three"),
        ("StatefulSet", ("spec", "template", "spec", "containers", 0, "imagee"), "upcheck"),
        ("PrometheusRule", ("spec", "groups", 0, "rules", 0, "for"), "5 minutes"),
        ("Probe", ("spec", "target"), {}),
    ]
    made = []
    for kind, path, value in wrong:
        place = json.loads(json.dumps(of(objects, kind)[0]))
        made.append(place)
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value
    *good, replicas, imagee, duration, target = refusals([*objects, *made])
    assert {one["kind"] for one in objects} == KINDS
    assert set(good) == {""}
    assert "spec.replicas" in replicas
    assert imagee == target == "it has what the schema does not know"
    assert "spec.groups.0.rules.0.for" in duration


def test_all_that_is_named_is_there(objects: list[Object]) -> None:
    (service,) = of(objects, "Service")
    (sets,) = of(objects, "StatefulSet")
    (monitor,) = of(objects, "ServiceMonitor")
    labels = sets["spec"]["template"]["metadata"]["labels"].items()
    assert sets["spec"]["selector"]["matchLabels"].items() <= labels
    assert service["spec"]["selector"].items() <= labels
    assert not service["spec"]["selector"].items() <= pods(objects)["CronJob"]["metadata"]["labels"].items()
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert service["metadata"]["labels"][monitor["spec"]["jobLabel"]] == "collector"
    assert monitor["spec"]["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]
    assert sets["spec"]["serviceName"] == service["metadata"]["name"]
    maps = {one["metadata"]["name"]: one["data"] for one in of(objects, "ConfigMap")}
    for template in pods(objects).values():
        spec = template["spec"]
        volumes = {one["name"] for one in spec["volumes"]}
        volumes |= {one["metadata"]["name"] for one in sets["spec"]["volumeClaimTemplates"]}
        for container in spec["containers"]:
            assert {one["name"] for one in container["volumeMounts"]} == volumes
            assert all(one["secretRef"]["optional"] for one in container["envFrom"])
        (repo,) = (one["projected"]["sources"] for one in spec["volumes"] if one["name"] == "repo")
        for source in repo:
            keys = {item["key"] for item in source["configMap"]["items"]}
            assert keys == maps[source["configMap"]["name"]].keys()


def test_every_object_has_the_namespace_and_the_labels(objects: list[Object]) -> None:
    for one in objects:
        assert one["metadata"]["namespace"] == "monitoring"
        assert one["metadata"]["labels"]["release"] == "stack"
    names = [(one["kind"], one["metadata"]["name"]) for one in objects]
    assert len(names) == len(set(names))


def test_pods_are_as_restricted_as_pod_security_knows(objects: list[Object]) -> None:
    for template in pods(objects).values():
        spec = template["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]
        assert {kind for one in spec["volumes"] for kind in one if kind != "name"} <= {"projected", "emptyDir"}


def test_each_pod_has_a_shard_and_the_first_is_number_one(objects: list[Object]) -> None:
    (sets,) = of(objects, "StatefulSet")
    assert (sets["spec"]["replicas"], sets["spec"]["ordinals"]) == (SHARDS, {"start": 1})
    watch = next(one for one in pods(objects)["StatefulSet"]["spec"]["containers"] if one["name"] == "watch")
    assert f"--shard=$(SHARD)/{SHARDS}" in watch["command"]
    assert watch["env"][0]["name"] == "SHARD"


def test_probes_ask_what_a_module_can_and_the_rest_is_told(repo: Repo) -> None:
    repo.write("collector.py", "")
    repo.write(
        "checks/all.yml",
        """
checks:
  - {name: page, url: "https://shop.example/", expect: {status: 200, latency: 1s}}
  - {name: same page, url: "https://shop.example/"}
  - {name: front, url: "${SHOP_URL}/front"}
  - {name: port, tcp: "db:5432"}
  - {name: port that must be shut, port: 22}
  - {name: posted, url: /order, method: POST}
  - {name: with a token, url: "https://shop.example/?key=${API_TOKEN}"}
  - {name: with a user, url: "https://me:pw@shop.example/"}
""",
    )
    exported = export(Settings.load(repo.path, {}), Cluster(prober="blackbox:9115"))
    made = {one["metadata"]["name"]: one["spec"] for one in of(exported.objects, "Probe")}
    assert {name: one["targets"]["staticConfig"]["static"] for name, one in made.items()} == {
        "upcheck-http-2xx": ["https://shop.example/"],
        "upcheck-tcp-connect": ["db:5432"],
    }
    assert made["upcheck-http-2xx"]["prober"] == {"url": "blackbox:9115", "path": "/probe"}
    assert exported.left == [
        "no Probe for 1 of checks/all.yml: the variable SHOP_URL is not set in the environment",
        "no Probe for 2 of checks/all.yml: no module asks so",
        "no Probe for 1 of checks/all.yml: a secret is part of what is asked",
        "no Probe for 1 of checks/all.yml: a user or a password is part of what is asked",
    ]


def test_the_collector_is_the_prober_once_it_may_ask(repo: Repo) -> None:
    repo.write("collector.py", "")
    repo.write("checks/all.yml", "checks: [{name: a, url: /live}]")
    told = export(Settings.load(repo.path, {}), Cluster())
    assert (of(told.objects, "Probe"), len(told.left)) == ([], 1)
    assert told.left[0].startswith("no Probe: probe_networks in pyproject.toml is empty")
    repo.write("monitoring/exporters/blackbox.yml", (ROOT / "monitoring/exporters/blackbox.yml").read_text())
    (probe,) = of(
        export(Settings.load(repo.path, {"UPCHECK_PROBE_NETWORKS": "10.0.0.0/8"}), Cluster()).objects, "Probe"
    )
    assert probe["spec"]["prober"]["url"] == "upcheck:9909"
    assert probe["spec"]["targets"]["staticConfig"]["static"] == ["http://upcheck:9909/live"]


def test_the_rule_tests_hold_of_the_resources(objects: list[Object], tmp_path: Path) -> None:
    shutil.copytree(ROOT / "rules_tests", tmp_path / "rules_tests")
    rules = tmp_path / "monitoring/prometheus/rules"
    rules.mkdir(parents=True)
    shutil.copytree(ROOT / "monitoring/alertmanager", tmp_path / "monitoring/alertmanager")
    for one in of(objects, "PrometheusRule"):
        name = one["metadata"]["name"].removeprefix("upcheck-")
        (rules / f"{name}.yml").write_text(yaml.safe_dump(one))
    told = typed(tmp_path, "rules", "test", "rules_tests", "monitoring")
    assert told.returncode == 0, told.stdout + told.stderr
    assert " held" in told.stdout
    assert {path.stem for path in rules.iterdir()} == {
        path.stem for path in (ROOT / "monitoring/prometheus/rules").glob("*.yml")
    }


def test_amtool_takes_the_configuration_as_the_operator_mounts_it(
    objects: list[Object], tool_paths: dict[str, Path], tmp_path: Path
) -> None:
    (secret,) = of(objects, "Secret")
    mounted = tmp_path / "config"
    mounted.mkdir()
    for name, text in secret["stringData"].items():
        (mounted / name).write_text(text.replace("/etc/alertmanager/config", str(mounted)))
    argv = [str(tool_paths["amtool"]), "check-config", str(mounted / "alertmanager.yaml")]
    told = subprocess.run(argv, capture_output=True, text=True, timeout=20)
    assert told.returncode == 0, told.stderr
    assert "1 templates" in told.stdout
    text = secret["stringData"]["alertmanager.yaml"]
    assert "/etc/alertmanager/secrets/upcheck-receivers/slack-url" in text
    assert "url: http://upcheck.monitoring:9909/push/watchdog" in text
    assert "127.0.0.1" not in text


def test_a_push_is_waited_for_where_it_comes_to(repo: Repo) -> None:
    repo.write("collector.py", "")
    repo.write("checks/jobs.yml", "checks: [{name: the backup ran, push: {name: backup, grace: 1d}}]")
    one = export(Settings.load(repo.path, {}), Cluster())
    assert pods(one.objects)["CronJob"]["spec"]["containers"][0]["command"][-1] == (
        "--deselect=checks/jobs.yml::the backup ran"
    )
    assert [line for line in one.left if "push" in line] == []
    (line,) = [line for line in export(Settings.load(repo.path, {}), Cluster(shards=3)).left if "push" in line]
    assert line == "a push comes to one pod of 3, and another may wait for it: checks/jobs.yml::the backup ran"


def typed(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "upcheck.cli", *arguments]
    environ = os.environ | {"UPCHECK_TOOLS": str(ROOT / ".tools")}
    return subprocess.run(argv, cwd=folder, env=environ, capture_output=True, text=True, timeout=120)


def mounted(objects: list[Object], template: Object, folder: Path) -> None:
    """The files of the volume `repo` in *folder*, as the kubelet lays them: behind a link."""
    maps = {one["metadata"]["name"]: one["data"] for one in of(objects, "ConfigMap")}
    (repo,) = (one["projected"]["sources"] for one in template["spec"]["volumes"] if one["name"] == "repo")
    data = folder / "..2026_11_22_02_00_00.1"
    for source in repo:
        for item in source["configMap"]["items"]:
            path = data / item["path"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(maps[source["configMap"]["name"]][item["key"]])
    (folder / "..data").symlink_to(data.name)
    for path in data.iterdir():
        (folder / path.name).symlink_to(Path("..data") / path.name)


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def run(argv: list[str], **more: Any) -> subprocess.Popen[str]:
        started.append(subprocess.Popen(argv, text=True, **more))
        return started[-1]

    yield run
    for process in started:
        process.terminate()
        process.wait(20)


def test_a_pod_runs_what_it_is_told_out_of_the_config_maps(objects: list[Object], tmp_path: Path, start: Start) -> None:
    template = pods(objects)["StatefulSet"]
    srv = tmp_path / "srv"
    srv.mkdir()
    mounted(objects, template, srv)
    containers = {one["name"]: one for one in template["spec"]["containers"]}
    address = f"http://127.0.0.1:{free_port()}"

    def command(name: str) -> list[str]:
        said = [part.replace("$(SHARD)", "1").replace(f"1/{SHARDS}", "1/1") for part in containers[name]["command"]]
        return [str(Path(sys.executable).parent / said[0]), *said[1:]]

    environ = os.environ | {"UPCHECK_HISTORY": str(tmp_path / "history.sqlite"), "PYTHONDONTWRITEBYTECODE": "1"}
    environ["UPCHECK_TOOLS"] = str(ROOT / ".tools")  # the image has promtool
    port = address.rpartition(":")[2]
    collector = [part.replace("0.0.0.0", "127.0.0.1") for part in command("collector")]
    start([*collector, "--port", port], cwd=srv, env=environ, stdout=subprocess.DEVNULL)
    watch = [part.replace("http://127.0.0.1:9909", address) for part in command("watch")]
    start([*watch, "checks/endpoints.yml"], cwd=srv, env=environ, stdout=subprocess.DEVNULL)

    def counted() -> bool:
        try:
            return "upcheck_check_runs_total{" in httpx.get(f"{address}/metrics").text
        except httpx.TransportError:
            return False

    eventually(counted)
    alive = containers["watch"]["livenessProbe"]["exec"]["command"]
    assert subprocess.run([sys.executable, *alive[1:]], cwd=srv, env=environ, timeout=20).returncode == 0
    (once,) = pods(objects)["CronJob"]["spec"]["containers"]
    argv = [part.replace("http://upcheck:9909", address) for part in once["command"][1:]]
    argv = [sys.executable, "-m", "upcheck.cli", *argv]
    told = subprocess.run(argv, cwd=srv, env=environ, capture_output=True, text=True, timeout=60)
    assert told.returncode == 0, told.stdout
    assert " held, 6 skipped" in told.stdout  # four services and the stack, which nobody named, and the objectives


def test_files_are_split_into_config_maps_and_one_that_is_too_large_is_refused(repo: Repo) -> None:
    repo.write("collector.py", "")
    for name in ("a", "b", "c"):
        repo.write(f"checks/{name}.py", f"# {name}\n" + "x = 1\n" * 80_000)
    maps = of(export(Settings.load(repo.path, {}), Cluster()).objects, "ConfigMap")
    assert [sorted(one["data"]) for one in maps] == [
        ["checks..a.py"],
        ["checks..b.py"],
        ["checks..c.py", "collector.py", "pyproject.toml"],
    ]
    repo.write("checks/d.json", "1" * 1_000_000)
    with pytest.raises(ExportError, match=r"d\.json has 976 KiB, and a ConfigMap takes 900: leave it out of the repo"):
        export(Settings.load(repo.path, {}), Cluster())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--namespace", "My_Space"), "namespace 'My_Space': Kubernetes takes a-z, 0-9 and - within"),
        (("--label", "release"), "--label release: expected KEY=VALUE"),
        (("--label", "team=a b"), "label team=a b: Kubernetes takes letters"),
        (("--label", "a=b", "--label", "a=c"), "--label a=c: expected KEY=VALUE, and a once"),
        (("--label", "app.kubernetes.io/name=shop"), "it is upcheck's own, by which its objects find each other"),
        (("--shards", "0"), "0 is not in the range"),
        (("--prober", "http://blackbox:9115"), "expected HOST:PORT, such as blackbox-exporter:9115"),
        (("--namespace", ""), "--namespace: expected a name"),
        (("--image", ""), "image: expected one that the Dockerfile makes"),
    ],
)
def test_what_kubernetes_would_not_take_is_refused(repo: Repo, arguments: tuple[str, ...], said: str) -> None:
    repo.write("collector.py", "")
    told = typed(repo.path, "export", "kubernetes", *arguments)
    assert (told.returncode, told.stdout) == (2, "")
    assert said in told.stderr


@pytest.mark.parametrize(
    ("path", "content", "said"),
    [
        ("monitoring/prometheus/rules/a.yml", "groups: [", "a.yml:2:1: not YAML"),
        ("monitoring/prometheus/rules/a.yml", "rules: []", "a.yml has no list under 'groups'"),
        ("checks/a.yml", "checks: [{name: a, urll: /}]", "a.yml:1"),
        ("checks/b.py", b"\xff\xfe", "b.py is not UTF-8: a ConfigMap holds text"),
        ("monitoring/alertmanager/alertmanager.yml", "route: [", "alertmanager.yml:2:1: not YAML"),
    ],
)
def test_files_that_can_not_be_read_are_named(repo: Repo, path: str, content: str | bytes, said: str) -> None:
    repo.write("collector.py", "")
    repo.write("checks/ok.yml", "checks: [{name: a, url: /}]")
    file = repo.path / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    told = typed(repo.path, "export", "kubernetes", "--prober", "blackbox:9115")
    assert (told.returncode, told.stdout) == (2, "")
    assert said in told.stderr


def test_a_repo_without_a_collector_is_told_so(repo: Repo) -> None:
    told = typed(repo.path, "export", "kubernetes")
    assert told.returncode == 2
    assert "has no collector.py, which a pod runs: `upcheck init` writes one" in told.stderr
