"""`upcheck rules`: whether alerting rules are any good, for any directory of Prometheus rules."""

from __future__ import annotations

import click

from upcheck.cli.rules.backtest import backtest
from upcheck.cli.rules.contract import contract
from upcheck.cli.rules.detect import detect
from upcheck.cli.rules.drill import drill
from upcheck.cli.rules.proof import coverage, mutate
from upcheck.cli.rules.tests import test


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def rules() -> None:
    """Alerting rules, proven: of this repo, or of any directory of Prometheus rules and promtool tests.

    \b
    Examples:
      upcheck rules test ../their-prometheus-repo     their tests, and those that prove nothing
      upcheck rules coverage                          what no test has seen
      upcheck rules mutate --fail-under 0.95          which mistakes no test would notice
      upcheck rules contract monitoring rules_tests   what no exporter produces
      upcheck rules detect                            how long each alert takes
      upcheck rules drill                             each alert, to the bytes that its receivers get
      upcheck rules backtest http://prometheus:9090   what they would have told of the last week
    """


for command in (test, coverage, mutate, contract, detect, drill, backtest):
    rules.add_command(command)
