"""A monitoring repo as Kubernetes objects, for a cluster with prometheus-operator.

    checks/, conftest.py, ... ── files ──> ConfigMaps ──┐ mounted as /srv
                                                        ├──> StatefulSet: collector and `upcheck watch`, a pod a shard
    monitoring/prometheus/rules ──> PrometheusRules     └──> CronJob: `upcheck run`
    monitoring/alertmanager ──> Secret    monitoring/grafana ──> ConfigMaps    checks in YAML ──> Probes

Kubernetes 1.28 or newer: a pod knows its number. Nothing here talks to a cluster.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

import upcheck
from upcheck.settings import Settings

NAME = "upcheck"
PORT = 9909
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")

Object = dict[str, Any]


class ExportError(Exception):
    """What can't be said in Kubernetes' objects, in a sentence."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """What is to be known of the cluster: *image* holds upcheck, *labels* are put on every object.

    *prober* is the address of what serves /probe for Probes. Raises ExportError for what Kubernetes would not take.
    """

    namespace: str = ""
    image: str = f"upcheck:{upcheck.__version__}"
    shards: int = 1
    prober: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.namespace and not _DNS_LABEL.fullmatch(self.namespace):
            raise ExportError(
                f"namespace '{self.namespace}': Kubernetes takes a-z, 0-9 and - within, 63 characters at most"
            )
        if self.prober and not re.fullmatch(r"[^/:\s]+:\d{1,5}", self.prober):
            raise ExportError(f"prober '{self.prober}': expected HOST:PORT, such as blackbox-exporter:9115")
        if not self.image:
            raise ExportError(f"image: expected one that the Dockerfile makes, such as {NAME}:{upcheck.__version__}")
        for key, value in self.labels.items():
            if key in {*common(), "app.kubernetes.io/component"}:
                raise ExportError(
                    f"label {key}: it is {NAME}'s own, by which its objects find each other; take another"
                )
            if not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(value):
                raise ExportError(
                    f"label {key}={value}: Kubernetes takes letters, digits, -, _ and . within, at most 63"
                )

    def made(self, api: str, kind: str, name: str, *, component: str = "", **rest: Any) -> Object:
        """An object of *kind* called *name*, with the labels of all, and *rest*."""
        namespace = {"namespace": self.namespace} if self.namespace else {}
        own = {"app.kubernetes.io/component": component} if component else {}
        labels = {**common(), **own, **self.labels, **rest.pop("labels", {})}
        annotations = {"annotations": found} if (found := rest.pop("annotations", {})) else {}
        metadata = {"name": name, **namespace, "labels": labels, **annotations}
        return {"apiVersion": api, "kind": kind, "metadata": metadata, **rest}


def common() -> dict[str, str]:
    """The labels of whatever is exported, as Kubernetes recommends them."""
    return {"app.kubernetes.io/name": NAME, "app.kubernetes.io/managed-by": NAME}


def named(*parts: str) -> str:
    """An object's name of *parts*, in the letters that a DNS label has."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower())[:63].strip("-")


@dataclass(frozen=True, slots=True)
class Exported:
    """The *objects*, and sentences about what of the repo is *left* to `upcheck watch` alone."""

    objects: list[Object]
    left: list[str]

    def text(self) -> str:
        """What `kubectl apply -f -` reads: a document for each object."""
        head = "# Made by `upcheck export kubernetes`: change the repo that it was made of. See docs/kubernetes.md.\n"
        return head + "".join(f"---\n{_yaml(one)}" for one in self.objects)


def export(settings: Settings, cluster: Cluster) -> Exported:
    """The repo at `settings.root` as objects for *cluster*.

    Raises ExportError, and DocumentError for a file of rules, of checks or of Alertmanager that can't be read.
    """
    from upcheck.kubernetes import operator, workloads

    probes, left = operator.probes(settings, cluster)
    pushed = workloads.pushed(settings)
    if pushed and cluster.shards > 1:
        left.append(f"a push comes to one pod of {cluster.shards}, and another may wait for it: {', '.join(pushed)}")
    objects = [
        *workloads.made(settings, cluster, pushed),
        operator.service_monitor(cluster),
        *probes,
        *operator.rules(settings, cluster),
        *operator.alertmanager(settings, cluster),
        *operator.dashboards(settings, cluster),
    ]
    seen: set[tuple[str, str]] = set()
    for one in objects:
        which = one["kind"], one["metadata"]["name"]
        if which in seen:
            raise ExportError(
                f"two files would be the {which[0]} {which[1]}: Kubernetes' names have less letters; rename one"
            )
        seen.add(which)
    return Exported(objects, left)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, _: object) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def _yaml(one: Object) -> str:
    return yaml.dump(one, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=4096)
