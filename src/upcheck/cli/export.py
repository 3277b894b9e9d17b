"""`upcheck export`: this repo in another program's words."""

from __future__ import annotations

import click

from upcheck.cli.repo import settings_here


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def export() -> None:
    """This repo in another program's words."""


@export.command()
@click.option("--namespace", metavar="NAME", help="Where the objects are; default: kubectl's.")
@click.option(
    "--image", metavar="IMAGE", help="What `docker build .` made of the Dockerfile; default: upcheck:VERSION."
)
@click.option(
    "--shards", type=click.IntRange(1, 1000), default=1, show_default=True, help="Pods that share the checks."
)
@click.option(
    "--prober", default="", metavar="HOST:PORT", help="Who answers /probe for Probes; default: the collector."
)
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="On every object; can be given again.")
def kubernetes(namespace: str | None, image: str | None, shards: int, prober: str, labels: tuple[str, ...]) -> None:
    """Print this repo as Kubernetes objects, for a cluster with prometheus-operator.

    A StatefulSet with the collector and `upcheck watch`, a CronJob with `upcheck run`, PrometheusRules, a
    ServiceMonitor, Probes, Alertmanager's configuration, Grafana's dashboards. Secrets are named, never written.

    \b
    Examples:
      upcheck export kubernetes | kubectl apply -f -
      upcheck export kubernetes --namespace monitoring --label release=kube-prometheus-stack
      upcheck export kubernetes --shards 3 --image registry.example/upcheck:7 > upcheck.yml
      upcheck export kubernetes --prober blackbox-exporter:9115
    """
    from upcheck.documents import DocumentError
    from upcheck.kubernetes import Cluster, ExportError
    from upcheck.kubernetes import export as made

    told: dict[str, str] = {}
    for one in labels:
        key, equals, value = one.partition("=")
        if not equals or key in told:
            raise click.UsageError(f"--label {one}: expected KEY=VALUE" + (f", and {key} once" if key in told else ""))
        told[key] = value
    if namespace == "":
        raise click.UsageError("--namespace: expected a name; without the option, the objects go where kubectl is")
    try:
        more = {} if image is None else {"image": image}
        cluster = Cluster(namespace=namespace or "", shards=shards, prober=prober, labels=told, **more)
        exported = made(settings_here(needed=True), cluster)
    except (DocumentError, ExportError, OSError) as error:
        raise click.UsageError(str(error)) from None
    click.echo(exported.text(), nl=False)
    for sentence in exported.left:
        click.echo(sentence, err=True)
