"""Grafana's JSON of a dashboard, by Grafana's own SDK, of the extra `grafana`.

The SDK's oldest schema is used, that of Grafana 10.1: later ones migrate it as they load it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from string import ascii_uppercase

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as words
from grafana_foundation_sdk.models import dashboard as model

from upcheck.dashboards import UNITS, Condition, Dashboard, Panel, Row, Unit

SOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
REFRESH = "30s"
SPAN = "now-6h"
Builder = timeseries.Panel | stat.Panel | bargauge.Panel
_GOOD, _NEUTRAL = "green", "blue"  # what no alert watches is neither good nor bad


def text(made: Dashboard) -> str:
    """The JSON of *made*, the same for the same dashboard."""
    builder = (
        dashboard.Dashboard(made.title)
        .uid(made.name)
        .description(made.about)
        .tags([made.folder])
        .readonly()
        .timezone("browser")
        .time(SPAN, "now")
        .refresh(REFRESH)
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .link(
            dashboard.DashboardLink(made.folder)
            .type(model.DashboardLinkType.DASHBOARDS)
            .tags([made.folder])
            .keep_time(True)
        )
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )
    for label, metric in made.variables:
        builder.with_variable(
            dashboard.QueryVariable(label)
            .label(label)
            .query(f"label_values({metric}, {label})")
            .datasource(SOURCE)
            .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .multi(True)
            .include_all(True)
            .all_value(".*")
            .current(model.VariableOption(text="All", value="$__all"))
        )
    number = 0
    for row in made.rows:
        number += 1
        builder.with_row(_row(row, number))
        for panel in row.panels:
            number += 1
            builder.with_panel(_panel(panel, number))
    return json.dumps(builder.build(), cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _row(row: Row, number: int) -> dashboard.Row:
    return dashboard.Row(row.title).id(number).grid_pos(model.GridPos(x=0, y=row.y, w=24, h=1))


def _panel(panel: Panel, number: int) -> Builder:
    unit = UNITS[panel.unit]
    made = _MAKERS[panel.kind](panel)
    made.id(number).title(panel.title).description(panel.about).datasource(SOURCE).unit(unit.grafana)
    made.grid_pos(model.GridPos(x=panel.x, y=panel.y, w=panel.width, h=panel.height))
    made.thresholds(_thresholds(panel.conditions))
    if mappings := _mappings(unit, panel.conditions):
        made.mappings([mappings])
    if unit.decimals is not None:
        made.decimals(unit.decimals)
    if runbooks := [one for one in panel.conditions if one.runbook]:
        made.links([_runbook(one) for one in runbooks])
    for letter, (legend, expr) in zip(ascii_uppercase, panel.queries, strict=False):
        query = prometheus.Dataquery().ref_id(letter).expr(expr).legend_format(legend).datasource(SOURCE)
        made.with_target(query.range() if panel.kind == "lines" else query.instant())
    return made


def _lines(panel: Panel) -> timeseries.Panel:
    made = (
        timeseries.Panel()
        .line_width(1)
        .fill_opacity(10)
        .show_points(words.VisibilityMode.NEVER)
        .color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.PALETTE_CLASSIC))
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(words.LegendDisplayMode.LIST)
            .placement(words.LegendPlacement.BOTTOM)
        )
        .tooltip(common.VizTooltipOptions().mode(words.TooltipDisplayMode.MULTI))
        .axis_soft_min(0)
    )
    if panel.conditions:
        made.thresholds_style(common.GraphThresholdsStyleConfig().mode(words.GraphTresholdsStyleMode.DASHED))
    most = UNITS[panel.unit].most
    return made if most is None else made.min(0).max(most)


def _stat(panel: Panel) -> stat.Panel:
    return (
        stat.Panel()
        .graph_mode(words.BigValueGraphMode.NONE)
        .color_mode(words.BigValueColorMode.VALUE)
        .text_mode(
            words.BigValueTextMode.VALUE_AND_NAME if "{{" in panel.queries[0][0] else words.BigValueTextMode.AUTO
        )
        .color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
        .reduce_options(_last())
    )


def _bars(panel: Panel) -> bargauge.Panel:
    made = (
        bargauge.Panel()
        .display_mode(words.BarGaugeDisplayMode.BASIC)
        .orientation(words.VizOrientation.HORIZONTAL)
        .value_mode(words.BarGaugeValueMode.COLOR)
        .show_unfilled(True)
        .color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
        .reduce_options(_last())
        .min(0)
    )
    most = UNITS[panel.unit].most
    return made if most is None else made.max(most)


_MAKERS: dict[str, Callable[[Panel], Builder]] = {"lines": _lines, "stat": _stat, "bars": _bars}


def _last() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"]).values(False)


def _thresholds(conditions: Sequence[Condition]) -> dashboard.ThresholdsConfig:
    """Steps, of which the last that a value reaches gives it its colour."""
    steps: dict[float | None, str] = {None: _GOOD if conditions else _NEUTRAL}
    limits = sorted((one.threshold for one in conditions), key=lambda one: one.value)
    for below, limit in zip([None, *(one.value for one in limits)], limits, strict=False):
        if limit.op in (">", ">="):
            steps[limit.value] = limit.colour
        elif limit.op in ("<", "<="):
            steps[below] = limit.colour
            steps[limit.value] = _GOOD
    made = [model.Threshold(value=value, color=colour) for value, colour in steps.items()]
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(made)


def _mappings(unit: Unit, conditions: Sequence[Condition]) -> model.ValueMap | None:
    """What single values are called, and what colour they have where a step has another at the threshold itself."""
    results = {value: model.ValueMappingResult(text=word, color=colour) for value, word, colour in unit.words}
    good = _GOOD
    for limit in sorted((one.threshold for one in conditions), key=lambda one: one.value):
        if limit.op in ("==", "<="):
            result = results.setdefault(limit.value, model.ValueMappingResult())
            result.color = limit.colour
        elif limit.op == ">":  # a step is reached at its value, the alert's condition is not
            results.setdefault(limit.value, model.ValueMappingResult()).color = good
            good = limit.colour
    ordered = {f"{value:g}": results[value] for value in sorted(results)}
    for index, result in enumerate(ordered.values()):
        result.index = index
    return model.ValueMap(ordered) if ordered else None


def _runbook(condition: Condition) -> dashboard.DashboardLink:
    return (
        dashboard.DashboardLink(f"Runbook: {condition.alert}")
        .type(model.DashboardLinkType.LINK)
        .url(condition.runbook)
        .target_blank(True)
    )
