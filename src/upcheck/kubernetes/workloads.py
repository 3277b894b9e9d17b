"""What runs in the cluster: the repo's files as ConfigMaps, a pod for each shard of the checks, and a CronJob."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from upcheck import yaml_checks
from upcheck.kubernetes import NAME, PORT, Cluster, ExportError, Object, common
from upcheck.settings import Settings

MOST = 900 * 1024  # bytes of a ConfigMap, of which etcd takes 1 MiB with all that is around them
SECRET = f"{NAME}-env"  # of the variables that checks and the collector read; yours to make
_SRV, _DATA = "/srv", "/var/lib/upcheck"
_USER = 65532  # the image's
_SUFFIXES = {".py", ".yml", ".yaml", ".json", ".toml", ".ini", ".txt", ".pem", ".crt", ".csv", ".proto"}
_SELECTOR = {"app.kubernetes.io/name": NAME, "app.kubernetes.io/component": "collector"}
_ALIVE = (
    "import sys, time; from upcheck.history import History as H; from upcheck.settings import here; "
    "sys.exit(time.time() - max(one.updated for one in H(here().history, read_only=True).engines()) > 60)"
)


def pushed(settings: Settings) -> list[str]:
    """The checks in YAML that wait for a push, which comes to the pod of the collector. Raises DocumentError."""
    return [
        f"{path.relative_to(settings.root).as_posix()}::{check.name}"
        for path in sorted(settings.checks.rglob("*.yml"))
        for check in yaml_checks.load(path)
        if check.kind == "push"
    ]


def made(settings: Settings, cluster: Cluster, pushed: list[str]) -> list[Object]:
    """ConfigMaps of the files, a Service, a StatefulSet with a pod for each shard, and the CronJob.

    The CronJob leaves out the checks that are *pushed* to. Raises ExportError for a file that a ConfigMap can't hold.
    """
    maps = {f"{NAME}-repo-{number}": texts for number, texts in enumerate(_maps(settings))}
    volumes: list[Object] = [_repo(maps), {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}]
    read = hashlib.sha256(json.dumps(maps).encode()).hexdigest()[:16]
    ports = [{"name": "http", "port": PORT, "targetPort": "http"}]
    return [
        *(
            cluster.made("v1", "ConfigMap", name, component="repo", data={_key(one): texts[one] for one in texts})
            for name, texts in maps.items()
        ),
        cluster.made("v1", "Service", NAME, component="collector", spec={"selector": _SELECTOR, "ports": ports}),
        _shards(cluster, volumes, read),
        _cron(cluster, volumes, pushed),
    ]


def _shards(cluster: Cluster, volumes: list[Object], read: str) -> Object:
    """The StatefulSet: each pod has its history, which its collector exposes; a new pod where *read* has changed."""
    collector = _container(cluster, "collector", ["python", "collector.py", "--host", "0.0.0.0"], "256Mi")  # noqa: S104
    collector |= {
        "ports": [{"name": "http", "containerPort": PORT}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 10},
        "livenessProbe": {"httpGet": {"path": "/live", "port": "http"}, "periodSeconds": 10, "initialDelaySeconds": 10},
    }
    argv = ["upcheck", "watch", "--log=json", f"--target=http://127.0.0.1:{PORT}", f"--shard=$(SHARD)/{cluster.shards}"]
    number = {"fieldRef": {"fieldPath": "metadata.labels['apps.kubernetes.io/pod-index']"}}
    watch = _container(cluster, "watch", argv, "512Mi") | {
        "env": [{"name": "SHARD", "valueFrom": number}],
        "livenessProbe": {
            "exec": {"command": ["python", "-c", _ALIVE]},
            "initialDelaySeconds": 60, "periodSeconds": 60, "timeoutSeconds": 20,
        },
    }  # fmt: skip
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}}
    labels = {**common(), **_SELECTOR, **cluster.labels}
    spec = {
        "serviceName": NAME,
        "replicas": cluster.shards,
        "ordinals": {"start": 1},
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": _SELECTOR},
        "template": {
            "metadata": {"labels": labels, "annotations": {"upcheck/repo": read}},
            "spec": {**_pod(volumes), "containers": [collector, watch]},
        },
        "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": claim}],
    }
    return cluster.made("apps/v1", "StatefulSet", NAME, component="collector", spec=spec)


def _cron(cluster: Cluster, volumes: list[Object], pushed: list[str]) -> Object:
    """All checks once an hour, in a process without a past: its Job fails where one does not hold."""
    argv = ["upcheck", "run", f"--target=http://{NAME}:{PORT}", *(f"--deselect={one}" for one in pushed)]
    once = _container(cluster, "run", argv, "512Mi")
    pod = _pod([*volumes, {"name": "data", "emptyDir": {}}]) | {"restartPolicy": "Never", "containers": [once]}
    labels = {**common(), "app.kubernetes.io/component": "run", **cluster.labels}
    job = {"backoffLimit": 0, "activeDeadlineSeconds": 600, "template": {"metadata": {"labels": labels}, "spec": pod}}
    spec = {
        "schedule": "17 * * * *",
        "concurrencyPolicy": "Forbid",
        "startingDeadlineSeconds": 300,
        "successfulJobsHistoryLimit": 1,
        "failedJobsHistoryLimit": 3,
        "jobTemplate": {"spec": job},
    }
    return cluster.made("batch/v1", "CronJob", f"{NAME}-run", component="run", spec=spec)


def _container(cluster: Cluster, name: str, command: list[str], memory: str) -> Object:
    return {
        "name": name,
        "image": cluster.image,
        "command": command,
        "workingDir": _SRV,
        "envFrom": [{"secretRef": {"name": SECRET, "optional": True}}],
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": memory}},
        "securityContext": {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "repo", "mountPath": _SRV},
            {"name": "data", "mountPath": _DATA},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - in the container
        ],
    }  # fmt: skip


def _pod(volumes: list[Object]) -> Object:
    """What every pod has: no rights in the cluster, and those of Pod Security's `restricted` in its node."""
    return {
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True, "runAsUser": _USER, "runAsGroup": _USER, "fsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumes": volumes,
    }  # fmt: skip


def _maps(settings: Settings) -> list[dict[str, str]]:
    """What the checks and the collector read, by their paths below the root, in portions of a ConfigMap."""
    maps: list[dict[str, str]] = [{}]
    for path, text in _read(settings):
        size = len(text.encode())
        if size > MOST:
            raise ExportError(
                f"{path} has {size // 1024} KiB, and a ConfigMap takes {MOST // 1024}: leave it out of the repo"
            )
        if sum(len(one.encode()) for one in maps[-1].values()) + size > MOST:
            maps.append({})
        maps[-1][path] = text
    return maps


def _repo(maps: Mapping[str, Mapping[str, str]]) -> Object:
    """The volume in which the files have their paths again."""
    sources = [
        {"configMap": {"name": name, "items": [{"key": _key(path), "path": path} for path in texts]}}
        for name, texts in maps.items()
    ]
    return {"name": "repo", "projected": {"sources": sources}}


def _key(path: str) -> str:
    """A ConfigMap's key of a file: `/` is not one of its letters."""
    return re.sub(r"[^-._a-zA-Z0-9]", lambda found: ".." if found[0] == "/" else f"_{ord(found[0]):x}_", path)


def _read(settings: Settings) -> Iterator[tuple[str, str]]:
    """The files, by their paths below the root, with their texts."""
    for path in sorted(_found(settings)):
        try:
            yield path.relative_to(settings.root).as_posix(), path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise ExportError(f"{path} is not UTF-8: a ConfigMap holds text; leave it out of the repo") from None
        except OSError as error:
            raise ExportError(f"{path} can't be read: {error.strerror}") from None


def _found(settings: Settings) -> Iterator[Path]:
    for name in ("pyproject.toml", "collector.py", "conftest.py"):
        if (settings.root / name).is_file():
            yield settings.root / name
        elif name == "collector.py":
            raise ExportError(f"{settings.root} has no {name}, which a pod runs: `upcheck init` writes one")
    for folder in (settings.checks, settings.monitoring / "services", settings.monitoring / "health", settings.probes):
        if not folder.is_relative_to(settings.root):
            raise ExportError(
                f"{folder} is outside the repo, and would not be found in a pod: move it to {settings.root}"
            )
        there = folder.rglob("*") if folder.is_dir() else [folder]
        yield from (
            path for path in there if path.is_file() and path.suffix in _SUFFIXES and "__pycache__" not in path.parts
        )
