"""Time to detect: what each kind of signal comes to, against timelines played by hand; the command; what ships."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.conftest import ROOT, Repo
from upcheck import scaffold
from upcheck.cli import main
from upcheck.documents import DocumentError
from upcheck.report.detection import as_csv, changes, read, rows
from upcheck.rules.detection import SHAPES, Cell, load, measure
from upcheck.rules.evaluate import EvaluationError
from upcheck.rules.play import Moment, Rules

RULES = """\
groups:
  - name: api
    rules:
      - record: api:errors:ratio
        expr: sum(rate(requests_total{status="500"}[5m])) / sum(rate(requests_total[5m]))
      - alert: ErrorRate
        expr: api:errors:ratio > 0.05
        for: 5m
        labels: {severity: critical}
        annotations: {summary: "{{ $value }}"}
      - {alert: ManyErrors, expr: 'api:errors:ratio > 0.10', for: 5m}
      - {alert: Slow, expr: 'histogram_quantile(0.95, sum by (le) (rate(took_seconds_bucket[5m]))) > 1', for: 5m}
      - {alert: Busy, expr: 'rate(cpu_seconds_total[5m]) > 0.8', for: 5m}
      - {alert: Full, expr: 'used_bytes / size_bytes > 0.9', for: 10m, keep_firing_for: 3m}
      - {alert: Down, expr: 'up == 0', for: 1m}
      - {alert: Gone, expr: 'absent(up)', for: 1m}
      - {alert: Stuck, expr: 'time() - last_run_timestamp_seconds > 60'}
      - {alert: Odd, expr: 'odd_state'}
"""
SIGNALS = """\
rules: [rules.yml]
signals:
  - alerts: [ErrorRate, ManyErrors]
    ratio: {bad: "requests_total{status='500'}", good: "requests_total{status='200'}", rate: 10}
  - alerts: [Slow]
    latency: {histogram: took_seconds, buckets: [0.1, 1, 10], fast: 0.05, slow: 5}
  - alerts: [Busy]
    counter: {series: cpu_seconds_total, healthy: 0.1, failed: 1}
  - alerts: [Full]
    gauge: {series: used_bytes, healthy: 20, failed: 100}
    beside: {size_bytes: 100}
  - alerts: [Down, Gone]
    state: {series: "up{job='api'}", healthy: 1, failed: 0}
  - alerts: [Stuck]
    timestamp: last_run_timestamp_seconds
  - alerts: [Odd]
    state: {series: odd_state, healthy: absent, failed: 1}
"""
LEAD, LASTS = 10 * 4, 40 * 4  # minutes of samples: each 15 s


@pytest.fixture
def written(tmp_path: Path) -> Path:
    (tmp_path / "rules.yml").write_text(RULES)
    (tmp_path / "detection.yml").write_text(SIGNALS)
    return tmp_path / "detection.yml"


def shown(cell: Cell) -> str:
    (row,) = rows([cell])
    return "blank" if cell.why else "/".join(row[-3:-1])


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory, promtool_path: Path) -> dict[tuple[str, str], str]:
    folder = tmp_path_factory.mktemp("detection")
    (folder / "rules.yml").write_text(RULES)
    (folder / "detection.yml").write_text(SIGNALS)
    measured = measure(promtool_path, load(folder / "detection.yml"))
    return {(cell.alert, cell.shape): shown(cell) for cell in measured}


@pytest.mark.parametrize(
    ("alert", "expected"),
    [
        # hard down, 1%, 10%, 50% errors, ramp, flapping, absent
        ("Down", ["1m/0s", "blank", "blank", "blank", "blank", "1m/0s", "-/-"]),
        ("Gone", ["-/-", "blank", "blank", "blank", "blank", "-/-", "1m/0s"]),
        ("Stuck", ["1m/0s", "blank", "blank", "blank", "blank", "1m/0s", "-/-"]),
        ("Odd", ["0s/0s", "blank", "blank", "blank", "blank", "0s/0s", "blank"]),
        # 0.2 to 1 in 20m is 0.9 after 17m30s, and the fault's first sample is a step of the ramp already
        ("Full", ["10m/3m", "blank", "blank", "blank", "27m30s/3m", "-/-", "-/-"]),
    ],
)
def test_what_has_no_range_takes_its_time_and_no_more(
    cells: dict[tuple[str, str], str], alert: str, expected: list[str]
) -> None:
    assert [cells[alert, shape] for shape in SHAPES] == expected


def counted(growth: Callable[[int], float], samples: int = LEAD + LASTS + 80) -> list[float]:
    """A counter that grows by *growth* from each sample to the next."""
    values = [0.0]
    for number in range(samples - 1):
        values.append(values[-1] + growth(number))
    return values


def in_fault(number: int) -> bool:
    return LEAD <= number < LEAD + LASTS


ERRORS, FINE = 'requests_total{status="500"}', 'requests_total{status="200"}'
BUCKETS = {f'took_seconds_bucket{{le="{le}"}}': slow for le, slow in (("0.1", 0.5), ("1", 0.5), ("10", 1), ("+Inf", 1))}


@pytest.mark.parametrize(
    ("alert", "shape", "growths"),
    [
        ("ErrorRate", "hard down", {ERRORS: (0, 150), FINE: (150, 0)}),
        ("ErrorRate", "10% errors", {ERRORS: (0, 15), FINE: (150, 135)}),
        ("Busy", "hard down", {"cpu_seconds_total": (1.5, 15)}),
        ("Slow", "50% errors", {name: (1, slow) for name, slow in BUCKETS.items()}),
    ],
)
def test_a_cell_is_what_the_same_series_played_by_hand_say(
    cells: dict[tuple[str, str], str],
    written: Path,
    promtool_path: Path,
    alert: str,
    shape: str,
    growths: dict[str, tuple[float, float]],
) -> None:
    series = {
        name: counted(lambda number, each=each: each[in_fault(number)])  # type: ignore[misc]
        for name, each in growths.items()
    }
    timeline = Rules(promtool_path, [written.with_name("rules.yml")]).play(series, interval="15s")
    first, resolved = timeline.first_firing(alert), timeline.resolved(alert)
    assert first is not None
    assert resolved is not None
    expected = f"{Moment(first - 15 * LEAD)}/{Moment(resolved - 15 * (LEAD + LASTS))}"
    assert cells[alert, shape] == expected


def test_a_share_that_is_the_threshold_is_not_more(cells: dict[tuple[str, str], str]) -> None:
    assert cells["ManyErrors", "10% errors"] == "-/-"
    assert cells["ManyErrors", "50% errors"] != "-/-"


def detect(folder: Path, promtool: Path, *arguments: str) -> Result:
    environ = {"UPCHECK_PROMTOOL": str(promtool)}
    return CliRunner(env=environ).invoke(main, ["rules", "detect", str(folder / "detection.yml"), *arguments])


def test_a_change_of_a_rule_shows_what_it_costs(written: Path, promtool_path: Path) -> None:
    folder = written.parent
    written.write_text(SIGNALS[: SIGNALS.index("  - alerts: [Slow]")] + "page: page.md\n")
    some = RULES[: RULES.index("      - {alert: Slow")]
    (folder / "rules.yml").write_text(some)
    marks = "<!-- upcheck rules detect: begin -->\n<!-- upcheck rules detect: end -->\n"
    (folder / "page.md").write_text(f"# Times\n\n{marks}\nafter\n")
    missing = detect(folder, promtool_path, "--check")
    assert (missing.exit_code, "detection.csv: there is none: upcheck rules detect --write" in missing.output) == (
        1,
        True,
    )
    assert detect(folder, promtool_path, "--write").exit_code == 0
    assert "| ErrorRate | 40m | 5m30s / 4m45s | - | 7m45s / 2m30s |" in (folder / "page.md").read_text()
    held = detect(folder, promtool_path, "--check")
    assert (held.exit_code, held.output) == (0, "14 cells, all as they are written\n")
    (folder / "rules.yml").write_text(some.replace("for: 5m\n        labels", "for: 6m\n        labels"))
    later = detect(folder, promtool_path, "--check")
    assert later.exit_code == 1
    moved = {line.partition(":")[0]: line for line in later.output.splitlines()}
    assert moved["ErrorRate, 10% errors"] == "ErrorRate, 10% errors: fires after 8m45s, was after 7m45s"
    assert [name for name in moved if name.startswith("ManyErrors")] == []
    assert "page.md: its table is not what the rules give: upcheck rules detect --write" in later.output
    (folder / "rules.yml").write_text(some.replace("> 0.05", "> 0.2"))
    never = detect(folder, promtool_path, "--check").output
    assert "ErrorRate, 10% errors: never fires, was after 7m45s\n" in never
    (folder / "page.md").write_text("# Times\n")
    placeless = detect(folder, promtool_path, "--write")
    assert (placeless.exit_code, "there is no place for the table" in placeless.output) == (2, True)


def test_what_comes_and_goes_is_told() -> None:
    old, new = Cell("a.yml", "A", "hard down", 60, 15, 60, 0), Cell("a.yml", "B", "hard down", 60, 15, 60, 0)
    never = Cell("a.yml", "A", "hard down", 60, 15)
    assert list(changes(rows([old]), [new])) == ["B of a.yml is new", "A of a.yml is gone"]
    assert list(changes(rows([never]), [old])) == ["A, hard down: fires after 1m, was never"]
    assert read(as_csv([old, never])) == rows([old, never])


def test_an_alert_that_reads_nothing_needs_no_signal(written: Path) -> None:
    alerts = load(written).alerts
    rules = written.with_name("rules.yml")
    rules.write_text(RULES + "      - {alert: Watchdog, expr: vector(1)}\n")
    assert [one.rule.name for one in load(written).alerts] == [one.rule.name for one in alerts]
    rules.write_text(RULES + "      - {alert: Watchdog, expr: absent(nothing)}\n")
    with pytest.raises(DocumentError, match=r"no signal for rules\.yml:Watchdog"):
        load(written)


ONE = "rules: [rules.yml]\nsignals:\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SIGNALS.replace("[Stuck]", "[Stuk]"), "no rule has the alert Stuk; did you mean 'Stuck'?"),
        (SIGNALS.replace("[Down, Gone]", "[Down]"), "no signal for rules.yml:Gone: add one under signals"),
        (SIGNALS.replace("[Down, Gone]", "[Down, Gone, Busy]"), "Busy has a signal already: give it one"),
        (SIGNALS.replace("    beside: {size_bytes: 100}\n", ""), "Full reads size_bytes, which its signal does not"),
        (SIGNALS.replace("timestamp:", "gage:"), "unknown key 'gage'; did you mean 'gauge'?"),
        (SIGNALS.replace("    timestamp: last_run_timestamp_seconds\n", ""), "a signal is one of ratio, latency"),
        (SIGNALS.replace("series: cpu_seconds_total", "series: rate(cpu)"), "rate(cpu) is no series: "),
        (SIGNALS.replace("healthy: 20", "healthy: good"), "healthy: expected a number: its value while all is well"),
        (SIGNALS.replace("[rules.yml]", "[rulez.yml]"), "rules: rulez.yml matches no file"),
        (SIGNALS.replace("[rules.yml]", "[rules.yml, again.yml]"), "Slow is in again.yml and rules.yml: write"),
    ],
)  # fmt: skip
def test_what_can_not_be_meant_is_a_sentence(written: Path, promtool_path: Path, text: str, said: str) -> None:
    written.write_text(text)
    written.with_name("again.yml").write_text("groups: [{name: again, rules: [{alert: Slow, expr: up}]}]")
    told = detect(written.parent, promtool_path)
    assert (told.exit_code, "detection.yml:" in told.output) == (2, True), told.output
    assert said in told.output


def test_an_alert_that_always_fires_is_an_error(written: Path, promtool_path: Path) -> None:
    written.write_text(SIGNALS.replace("healthy: 20", "healthy: 95"))
    with pytest.raises(
        EvaluationError, match=r"^Full of rules\.yml is active while all is well: its signal's healthy values"
    ):
        measure(promtool_path, load(written))


def test_without_promtool_it_can_not_tell(written: Path) -> None:
    told = detect(written.parent, written.parent / "nowhere")
    assert (told.exit_code, "UPCHECK_PROMTOOL" in told.output) == (3, True), told.output
    assert detect(written.parent, written, "--write", "--check").exit_code == 2


def test_the_file_is_no_rule_test(repo: Repo) -> None:
    repo.write("rules_tests/detection.yml", SIGNALS)
    repo.write("rules_tests/incidents.yml", "incidents: []\n")  # of `upcheck rules backtest`
    repo.pytest().assert_outcomes()


def test_a_new_repo_has_the_times_but_not_the_page(tmp_path: Path) -> None:
    scaffold.write(tmp_path)
    assert load(tmp_path / "rules_tests/detection.yml").page is None
    assert (tmp_path / "rules_tests/detection.csv").is_file()


def test_what_ships_is_as_it_is_written(promtool_path: Path) -> None:
    told = detect(ROOT / "rules_tests", promtool_path, "--check")
    assert told.exit_code == 0, told.output
