"""`upcheck rules drill`: alerts through the real Prometheus and Alertmanager, to the bytes that a receiver gets."""

from __future__ import annotations

import sys
import textwrap
from datetime import datetime
from typing import TYPE_CHECKING

import click

from upcheck.cli.repo import settings_here
from upcheck.settings import nearest

if TYPE_CHECKING:
    from pathlib import Path

    from upcheck.drill import Outcome, Told


@click.command()
@click.argument("alerts", nargs=-1)
@click.option("--at", metavar="TIME", help="The moment that it is to Alertmanager; default: noon of a working day.")
def drill(alerts: tuple[str, ...], at: str | None) -> None:
    """Play what fires ALERTS, or all that the rule tests fire, through the real Prometheus and Alertmanager.

    In a time-lapse, with what ships: an alert that waits five minutes fires in five seconds. Loopback stand-ins for
    webhooks, Slack, PagerDuty and mail get the messages. All must be as promtool and the routes say: when it fires,
    who is told, what the message says, when it is over.

    \b
    Examples:
      upcheck rules drill                                   every alert, in a minute or so
      upcheck rules drill HighCpuUsage                      one, as it happens
      upcheck rules drill HighCpuUsage --at "2026-11-21 23:00"  at night: nobody is told
    """
    from upcheck.command import CommandError
    from upcheck.documents import DocumentError
    from upcheck.drill import NOON, DrillError
    from upcheck.drill import drill as play
    from upcheck.routes import moment
    from upcheck.rules.evaluate import EvaluationError
    from upcheck.servers import ServerError
    from upcheck.tools import ToolError

    try:
        when: datetime = moment(at) or NOON
    except ValueError:
        raise click.UsageError(f"--at {at}: expected a time such as 2026-11-21 23:00") from None
    settings = settings_here()
    try:
        _known(alerts, settings.monitoring / "prometheus/rules")
        outcomes = play(settings, alerts, at=when, progress=_progress)
    except (CommandError, DocumentError, DrillError, EvaluationError, ServerError, ToolError) as error:
        raise click.ClickException(str(error)) from None
    _print(outcomes) if len(outcomes) > 1 or not alerts else _tell(outcomes[0])
    raise SystemExit(1 if any(one.problems for one in outcomes) else 0)


def _known(alerts: tuple[str, ...], folder: Path) -> None:
    from upcheck.rules import alerts_of

    names = {name for file in folder.glob("*.yml") for name in alerts_of(file)}
    for name in alerts:
        if names and name not in names:
            raise click.UsageError(f"{name}: no rule defines it{nearest(name, names)}")


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        click.secho(f"... {text}", err=True, dim=True)


def _print(outcomes: list[Outcome]) -> None:
    """A line for each, and what is wrong below it."""
    wide = max(len(one.alert) for one in outcomes)
    click.secho(f"{'':<6}  {'alert':<{wide}}  {'fires':>11}  {'simulated':>11}  told", dim=True)
    for one in sorted(outcomes, key=lambda each: (bool(each.problems), each.alert)):
        state = click.style("FAILED", "red") if one.problems else click.style("ok    ", "green")
        fired = _played(one.fired.began) if one.fired else "never"
        to = ", ".join(one.receivers) or "nobody"
        click.echo(f"{state}  {one.alert:<{wide}}  {fired:>11}  {_played(one.simulated.began):>11}  {to}")
        for problem in one.problems:
            click.echo(textwrap.indent(problem, " " * 10))
    bad = sum(bool(one.problems) for one in outcomes)
    messages = sum(len(one.told) for one in outcomes)
    said = f"{len(outcomes)} alerts drilled, {messages} messages, "
    click.echo(said + (f"{bad} not as simulated" if bad else "all as promtool and the routes say"))


def _tell(one: Outcome) -> None:
    """What happened, moment by moment."""
    rows = [(0.0, "fault", f"{one.entry}: {one.factor:g}x, five minutes pass in {300 / one.factor:.3g} s")]
    if one.pending is not None:
        rows.append((one.pending, "pending", ""))
    if one.began is not None:
        labels = " ".join(f"{name}={value}" for name, value in one.labels.items())
        rows.append((one.began, "firing", f"{labels}; promtool says {one.simulated.began / one.factor:.2f} s"))
    rows += [(told.at - one.epoch, _received(told), f"{told.integration}: {_line(told.text)}") for told in one.told]
    if one.ended is not None:
        rows.append((one.ended, "over", ""))
    for at, what, text in sorted(rows, key=lambda row: row[0]):
        colour = {"firing": "red", "pending": "yellow", "over": "green"}.get(what)
        click.echo(f"{at:7.2f} s  {click.style(what, colour)}{text and ' ' * (10 - len(what)) + text}")
    if not one.problems:
        click.echo("as promtool and the routes say" + ("" if one.receivers else ": nobody is told"))
    for problem in one.problems:
        click.echo(f"{click.style('FAILED', 'red')}     {problem}")


def _received(told: Told) -> str:
    return "received" if told.status == "firing" else "resolved"


def _line(text: str) -> str:
    return textwrap.shorten(text, 120, placeholder=" ...")


def _played(seconds: float) -> str:
    from upcheck.rules.promql import duration

    return duration(round(seconds))
