"""What prometheus-operator reads (rules, monitors, probes, Alertmanager's configuration), and Grafana's sidecar."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from upcheck import documents, yaml_checks
from upcheck.blackbox import modules
from upcheck.kubernetes import NAME, PORT, Cluster, ExportError, Object, common, named
from upcheck.settings import Settings
from upcheck.stack.services import addressed
from upcheck.targets import UnprobedError, probed

API = "monitoring.coreos.com/v1"
RECEIVERS = f"{NAME}-receivers"  # the Secret of what Alertmanager reads as it sends; yours to make
_ALERTMANAGER = "/etc/alertmanager"  # where the operator mounts `configSecret` and `secrets`


def rules(settings: Settings, cluster: Cluster) -> Iterator[Object]:
    """A PrometheusRule for each file of rules."""
    for path in sorted((settings.monitoring / "prometheus/rules").glob("*.yml")):
        groups = (_plain(documents.load(path, texts=True)) or {}).get("groups")
        if not isinstance(groups, list):
            raise ExportError(
                f"{path} has no list under 'groups', so it is no file of rules; `promtool check rules` says more"
            )
        for group in groups:
            if "limit" in group:
                group["limit"] = int(group["limit"])
        yield cluster.made(API, "PrometheusRule", named(NAME, path.stem), component="rules", spec={"groups": groups})


def service_monitor(cluster: Cluster) -> Object:
    """Each pod's page of metrics; the job is called `collector`, as in prometheus.yml."""
    selector = {"matchLabels": {**common(), "app.kubernetes.io/component": "collector"}}
    # The nodes are told of by a node_exporter on each, which a cluster with the operator has: an alert on both is one
    # too many.
    drop = [{"sourceLabels": ["__name__"], "regex": "node_.+", "action": "drop"}]
    endpoints = [{"port": "http", "path": "/metrics", "interval": "15s", "metricRelabelings": drop}]
    spec = {"jobLabel": "app.kubernetes.io/component", "selector": selector, "endpoints": endpoints}
    return cluster.made(API, "ServiceMonitor", NAME, component="collector", spec=spec)


def probes(settings: Settings, cluster: Cluster) -> tuple[list[Object], list[str]]:
    """A Probe for each module that checks in YAML are a case of, and what has to be said of the others."""
    if not cluster.prober and not settings.probe_networks:
        why = "probe_networks in pyproject.toml is empty, so the collector's /probe would refuse them"
        return [], [f"no Probe: {why}; set it, or name another prober: --prober blackbox-exporter:9115"]
    known = modules.load(settings.probes) if settings.probes.is_file() else {}
    targets: dict[str, dict[str, None]] = {}
    left: Counter[str] = Counter()
    for path in sorted(settings.checks.rglob("*.yml")):
        for check in yaml_checks.load(path):
            try:
                module, target = probed(check, f"http://{NAME}:{PORT}", os.environ)
                if module not in known and not cluster.prober:
                    raise UnprobedError(f"{settings.probes} has no module {module}")
                targets.setdefault(module, {})[target] = None
            except UnprobedError as error:
                left[f"{path.relative_to(settings.root)}: {error}"] += 1
    made = []
    for module, asked in sorted(targets.items()):
        spec = {
            "jobName": f"probe-{module}",
            "module": module,
            "prober": {"url": cluster.prober or f"{NAME}:{PORT}", "path": "/probe"},
            "targets": {"staticConfig": {"static": list(asked)}},
        }
        made.append(cluster.made(API, "Probe", named(NAME, module), component="probe", spec=spec))
    return made, [f"no Probe for {count} of {why}" for why, count in left.items()]


def alertmanager(settings: Settings, cluster: Cluster) -> Iterator[Object]:
    """The Secret for `configSecret` of an Alertmanager: the configuration, and its templates."""
    path = settings.monitoring / "alertmanager/alertmanager.yml"
    if not path.is_file():
        return
    made = _plain(documents.load(path))
    _mounted(made, {})
    _moved(made, f"{NAME}.{cluster.namespace}:{PORT}" if cluster.namespace else f"{NAME}:{PORT}")
    templates = [file for pattern in made.get("templates", ()) for file in sorted(path.parent.glob(pattern))]
    if templates:
        made["templates"] = [f"{_ALERTMANAGER}/config/*.tmpl"]
    texts = {"alertmanager.yaml": yaml.safe_dump(made, sort_keys=False, allow_unicode=True, width=4096)}
    texts |= {f"{file.stem}.tmpl": file.read_text(encoding="utf-8") for file in templates}
    yield cluster.made("v1", "Secret", f"{NAME}-alertmanager", component="alertmanager", stringData=texts)


def _moved(made: Object, collector: str) -> None:
    """Let webhooks that are the collector's, as the watchdog's, find it in the cluster."""
    for receiver in made.get("receivers") or ():
        for webhook in receiver.get("webhook_configs") or ():
            if "url" in webhook:
                webhook["url"] = addressed(str(webhook["url"]), {PORT: collector})


def _mounted(value: Any, seen: dict[str, str]) -> None:
    """Let the files of secrets be found where the operator mounts the Secret `upcheck-receivers`."""
    for key, one in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(one, dict | list):
            _mounted(one, seen)
        elif str(key).endswith("_file") and isinstance(one, str) and not Path(one).is_absolute():
            name = Path(one).name
            if seen.setdefault(name, one) != one:
                raise ExportError(f"{seen[name]} and {one}: keys of a Secret have no folders; rename one of the two")
            value[key] = f"{_ALERTMANAGER}/secrets/{RECEIVERS}/{name}"


def dashboards(settings: Settings, cluster: Cluster) -> Iterator[Object]:
    """A ConfigMap for each dashboard, which the sidecar of Grafana's chart finds by its label."""
    for path in sorted((settings.monitoring / "grafana/dashboards").rglob("*.json")):
        yield cluster.made(
            "v1", "ConfigMap", named(NAME, "dashboard", path.stem), component="dashboard",
            labels={"grafana_dashboard": "1"}, annotations={"grafana_folder": path.parent.name},
            data={path.name: path.read_text(encoding="utf-8")},
        )  # fmt: skip


def _plain(value: Any) -> Any:
    """*value* in dicts and lists of its own."""
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list) else value
