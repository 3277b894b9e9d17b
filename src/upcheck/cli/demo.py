"""`upcheck demo`: made-up traffic through the real collector and Prometheus, in a time-lapse."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import click

from upcheck.cli.repo import settings_here
from upcheck.settings import nearest

if TYPE_CHECKING:
    from upcheck.demo import Stage
    from upcheck.demo.scenario import Scenario
    from upcheck.prometheus import Sample
    from upcheck.settings import Settings

_COMMON = ("__name__", "alertname", "alertstate", "job", "instance")
_LEAD = 360.0  # seconds of the time that is played before something goes wrong, so that all rates are known
_PATIENCE = 10.0  # seconds of ours that this may take


@click.command()
@click.argument("service", default="all")
@click.option(
    "--fault", "faults", multiple=True, metavar="NAME", help="Have something go wrong; --fault list tells what."
)
@click.option("--speed", type=click.FloatRange(1, 120), default=60, show_default=True, help="Seconds that pass in one.")
@click.option("--for", "span", default="1h", metavar="TIME", show_default=True, help="End TIME after all is up.")
def demo(service: str, faults: tuple[str, ...], speed: float, span: str) -> None:
    """Watch a service of the catalogue, or all, without having one.

    Made-up traffic is recorded by the collector, which a real Prometheus scrapes; it loads the rules that ship, in a
    time-lapse: at 60, an alert that waits five minutes fires in five seconds.

    \b
    Examples:
      upcheck demo coderunner                     until Ctrl-C
      upcheck demo vibebox --fault brute-force    what happens to the alerts
      upcheck demo all --fault list               what can go wrong
    """
    from upcheck import run
    from upcheck.declaration import seconds
    from upcheck.demo import DemoError, stage
    from upcheck.documents import DocumentError
    from upcheck.prometheus import PrometheusError
    from upcheck.servers import ServerError

    settings = settings_here()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended by either, it leaves nothing behind
    try:
        scenarios = _chosen(settings, service)
        if "list" in faults:
            _list(scenarios)
            return
        _known(scenarios, faults)
        length = seconds(span)
        with stage(settings, scenarios, speed, monitors=True) as made:
            _introduce(made)
            made.play(min(_LEAD / speed, _PATIENCE))
            _told("fault" if faults else "healthy", ", ".join(faults), "red" if faults else "green")
            made.fault(*faults)
            seen: dict[str, str] = {}
            end = time.monotonic() + length
            fired: set[str] = set()
            while time.monotonic() < end:
                seen = _changes(made, seen)
                fired |= {name.split()[0] for name, state in seen.items() if state == "firing"}
                made.play(0.5)
            _end(made, faults, fired)
    except ValueError as error:
        raise click.UsageError(f"--for: {error}") from None
    except (DemoError, DocumentError, PrometheusError, ServerError, run.RunError) as error:
        raise click.ClickException(str(error)) from None
    except KeyboardInterrupt:
        click.echo()


def _chosen(settings: Settings, name: str) -> list[Scenario]:
    from upcheck import catalog
    from upcheck.demo import scenario

    services = catalog.load_all(settings.monitoring / "services")
    chosen = [one for one in services if name in ("all", one.name)]
    if not chosen:
        raise click.UsageError(f"there is no service '{name}'{nearest(name, [one.name for one in services])}")
    return [scenario.load(one, settings.monitoring / "demo") for one in chosen]


def _known(scenarios: list[Scenario], faults: tuple[str, ...]) -> None:
    known = {name for one in scenarios for name in one.faults}
    for fault in set(faults) - known:
        of = scenarios[0].service.name if len(scenarios) == 1 else "no service"
        says = "has none" if len(scenarios) == 1 else "has it"
        raise click.UsageError(f"--fault {fault}: {of} {says}{nearest(fault, known)}")


def _list(scenarios: list[Scenario]) -> None:
    width = max((len(name) for one in scenarios for name in one.faults), default=0)
    for one in scenarios:
        click.secho(one.service.name, bold=True)
        for fault in one.faults.values():
            click.echo(f"  {fault.name:<{width}}  {fault.about}")
            click.echo(f"  {'':<{width}}  {click.style(', '.join(fault.alerts), dim=True)}")


def _introduce(made: Stage) -> None:
    services = [traffic.scenario.service for traffic in made.traffics]
    click.echo(f"collector    {made.collector}/metrics")
    click.echo(f"prometheus   {made.prometheus}/alerts")
    click.echo(
        f"traffic      {', '.join(one.name for one in services)}: {sum(len(one.metrics) for one in services)} metrics"
    )
    if made.factor > 1:
        click.echo(f"time-lapse   {made.factor:g}x: five minutes pass in {300 / made.factor:.3g} s; Ctrl-C ends it")


def _end(made: Stage, faults: tuple[str, ...], fired: set[str]) -> None:
    """Say whether the alerts fired that were to, and no others."""
    known = [traffic.scenario.faults for traffic in made.traffics]
    wanted = {alert for one in known for name in faults if name in one for alert in one[name].alerts}
    if fired == wanted:
        _told("ended", f"{len(fired)} alerts fired, as was said" if wanted else "no alert fired", "green")
        return
    lacking, more = ", ".join(sorted(wanted - fired)), ", ".join(sorted(fired - wanted))
    said = [*([f"not fired yet: {lacking}"] if lacking else []), *([f"fired, too: {more}"] if more else [])]
    _told("ended", "; ".join(said), "yellow")


def _changes(made: Stage, seen: dict[str, str]) -> dict[str, str]:
    """Print each alert whose state is another than in *seen*; the states now."""
    from upcheck.prometheus import Prometheus

    now = {_named(sample): sample.labels["alertstate"] for sample in Prometheus(made.prometheus).query("ALERTS")}
    for name in sorted(now.keys() | seen.keys()):
        state = now.get(name, "inactive")
        if state != seen.get(name, "inactive"):
            _told(state, name, {"firing": "red", "pending": "yellow"}.get(state, "green"))
    return now


def _told(state: str, what: str, colour: str) -> None:
    click.echo(f"{time.strftime('%H:%M:%S')}  {click.style(f'{state:<9}', colour)} {what}".rstrip())


def _named(sample: Sample) -> str:
    """An alert by its name and what tells it from others of that name."""
    own = {key: value for key, value in sample.labels.items() if key not in _COMMON}
    labels = ", ".join(f"{key}={value}" for key, value in sorted(own.items()))
    return f"{sample.labels['alertname']}  {labels}".rstrip()
