"""`upcheck demo`: made-up traffic through the real collector and Prometheus."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from upcheck.cli.repo import settings_here
from upcheck.settings import nearest

if TYPE_CHECKING:
    from upcheck.catalog import Service
    from upcheck.demo import Stage
    from upcheck.prometheus import Sample


@click.command()
@click.argument("service", default="all")
@click.option(
    "--fault", "faults", multiple=True, metavar="NAME", help="Have something go wrong; --fault list tells what."
)
@click.option("--for", "span", default="1h", metavar="TIME", show_default=True, help="End after TIME.")
def demo(service: str, faults: tuple[str, ...], span: str) -> None:
    """Watch a service of the catalogue, or all, without having one.

    Made-up traffic is recorded by the collector, which a real Prometheus scrapes; it loads the rules that ship.

    \b
    Examples:
      upcheck demo coderunner                    until Ctrl-C
      upcheck demo all --fault error-rate        what happens to the alerts
      upcheck demo vibebox --for 30s
    """
    from upcheck import catalog, run
    from upcheck.declaration import seconds
    from upcheck.demo import DemoError, stage
    from upcheck.demo.traffic import FAULTS, Traffic
    from upcheck.documents import DocumentError
    from upcheck.prometheus import PrometheusError

    if "list" in faults:
        for name, says in FAULTS.items():
            click.echo(f"{name:<12} {says}")
        return
    for fault in set(faults) - FAULTS.keys():
        raise click.UsageError(f"--fault {fault}: there is none{nearest(fault, FAULTS)}")
    settings = settings_here()
    try:
        end = time.monotonic() + seconds(span)
        services = _chosen(catalog.load_all(settings.monitoring / "services"), service)
        with stage(settings) as made:
            traffics = [Traffic(one, faults) for one in services]
            _introduce(made, services)
            seen: dict[str, str] = {}
            while time.monotonic() < end:
                made.tell(traffics)
                seen = _changes(made, seen)
                time.sleep(1.0)
    except ValueError as error:
        raise click.UsageError(f"--for: {error}") from None
    except (DemoError, DocumentError, PrometheusError, run.RunError) as error:
        raise click.ClickException(str(error)) from None
    except KeyboardInterrupt:
        click.echo()


def _chosen(services: list[Service], name: str) -> list[Service]:
    chosen = [one for one in services if name in ("all", one.name)]
    if not chosen:
        raise click.UsageError(f"there is no service '{name}'{nearest(name, [one.name for one in services])}")
    return chosen


def _introduce(made: Stage, services: list[Service]) -> None:
    count = sum(len(one.metrics) for one in services)
    click.echo(f"collector    {made.collector}/metrics")
    click.echo(f"prometheus   {made.prometheus}/alerts")
    click.echo(f"traffic      {', '.join(one.name for one in services)}: {count} metrics; Ctrl-C ends it")


def _changes(made: Stage, seen: dict[str, str]) -> dict[str, str]:
    """Print each alert whose state is another than in *seen*; the states now."""
    from upcheck.prometheus import Prometheus

    now = {_named(sample): sample.labels["alertstate"] for sample in Prometheus(made.prometheus).query("ALERTS")}
    clock = time.strftime("%H:%M:%S")
    for name in sorted(now.keys() | seen.keys()):
        state = now.get(name, "inactive")
        if state != seen.get(name, "inactive"):
            colour = {"firing": "red", "pending": "yellow"}.get(state, "green")
            click.echo(f"{clock}  {click.style(f'{state:<9}', colour)} {name}")
    return now


def _named(sample: Sample) -> str:
    """An alert by its name and what tells it from others of that name."""
    own = {key: value for key, value in sample.labels.items() if key not in _COMMON}
    labels = ", ".join(f"{key}={value}" for key, value in sorted(own.items()))
    return f"{sample.labels['alertname']}  {labels}".rstrip()


_COMMON = ("__name__", "alertname", "alertstate", "job", "instance")
