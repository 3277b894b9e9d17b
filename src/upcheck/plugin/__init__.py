"""The pytest plugin: hooks and fixtures, no logic."""

from __future__ import annotations

import inspect
import os
import sys
import threading
import warnings
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from upcheck.concurrent import Host, once
from upcheck.concurrent.protocol import NotAsked
from upcheck.declaration import SEVERITIES, DeclarationError
from upcheck.dependencies import DependencyError
from upcheck.plugin import coroutines, hookspecs, interrupt, items, probing, session
from upcheck.plugin.confidential import hide
from upcheck.plugin.mark import declaration_of
from upcheck.plugin.nagios import Nagios
from upcheck.plugin.record import (
    EXCHANGE,
    FIXTURE,
    PLAYED,
    Recorder,
    declarations,
    make_report,
    reports_of_lost,
    standing,
    with_facts,
)
from upcheck.redaction import redacted
from upcheck.report.sinks import HistorySink, LinesSink, Sink, TextfileSink, left_by
from upcheck.result import Kind
from upcheck.rules.repository import kind_of
from upcheck.settings import Settings, SettingsError, declared

if TYPE_CHECKING:
    from upcheck.probes.http import AsyncClient, Client
    from upcheck.routes import Routes
    from upcheck.rules.play import Rules
    from upcheck.sla import Objectives

_DECLARED = pytest.StashKey[bool]()
_YAML = {".yml", ".yaml"}
_PARSING, _REPORTING = threading.RLock(), threading.RLock()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of our own."""
    group = parser.getgroup("upcheck", "monitoring checks (upcheck)")
    group.addoption("--target", metavar="URL", help="ask URL instead of [tool.upcheck] target")
    group.addoption("--sla-source", metavar="URL", help="a Prometheus that the fixture sla asks, not the history")
    group.addoption(
        "--metrics-textfile", metavar="PATH", type=Path, help="write results for node_exporter's textfile collector"
    )
    group.addoption(
        "--results", metavar="PATH", type=Path, action="append", default=[], help="append each result to PATH as JSON"
    )
    group.addoption("--concurrency", metavar="N", type=int, default=0, help="run N checks at once, in this one process")
    group.addoption("--live", action="store_true", help="live checks only, those of checks/ unless paths are given")
    group.addoption(
        "--resume", metavar="PATH", type=Path, help="run only what --results=PATH expected and has no result of"
    )
    group.addoption(
        "--nagios", action="store_true", help="answer as a monitoring plugin: one line, exit code 0, 1, 2 or 3"
    )


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Make `pytest_upcheck_result` known."""
    pluginmanager.add_hookspecs(hookspecs)


@pytest.hookimpl(trylast=True)  # after the terminal reporter is there to be silenced
def pytest_configure(config: pytest.Config) -> None:
    """Read the settings once and open the sinks, in the one process that reports."""
    config.addinivalue_line(
        "markers",
        "check(every, timeout, severity, retries): a check: how often, how long, how bad, and how often to try again",
    )
    for severity in SEVERITIES:
        config.addinivalue_line("markers", f"{severity}: what every check of this severity is marked with, for -m")
    config.addinivalue_line("markers", "serial: runs while nothing else does, under --concurrency and upcheck watch")
    config.pluginmanager.register(probing, "upcheck-probing")
    interrupt.watch()
    _refuse_lost_root(config)
    try:
        settings = Settings.load(config.rootpath)
        config.stash[_DECLARED] = declared(config.rootpath)
    except SettingsError as error:
        raise pytest.UsageError(str(error)) from None
    config.stash[session.SETTINGS] = settings
    _refuse_options(config)
    if config.option.live and config.args_source is not pytest.Config.ArgsSource.ARGS:
        config.args = [str(settings.checks)]
    if config.stash[_DECLARED]:
        config.option.continue_on_collection_errors = True  # one broken file must not silence the others
    if hasattr(config, "workerinput") or config.stash.get(session.WATCHED, False):
        return
    sinks: list[Sink] = []
    if config.stash[_DECLARED] or "UPCHECK_HISTORY" in os.environ:
        sinks.append(HistorySink(settings.history, settings.retention))
    if config.option.metrics_textfile:
        sinks.append(TextfileSink(config.option.metrics_textfile))
    sinks += map(LinesSink, config.option.results)
    recorder = Recorder(config, settings, sinks)
    config.pluginmanager.register(recorder, "upcheck-recorder")
    if config.option.nagios:
        config.pluginmanager.register(Nagios(config, recorder.results, recorder.warnings))


def _paths(config: pytest.Config) -> list[tuple[str, Path]]:
    """The files that are asked to be written, each with its option."""
    textfile = config.option.metrics_textfile
    written = [("--metrics-textfile", textfile)] if textfile else []
    return written + [("--results", path) for path in config.option.results]


def _refuse_options(config: pytest.Config) -> None:
    """A target that is no URL, a path whose folder is not there, options that exclude each other."""
    option = config.option
    if option.concurrency < 0:
        raise pytest.UsageError(f"--concurrency={option.concurrency}: expected how many checks to run at once, from 1")
    for name in ("usepdb", "trace", "setupshow", "numprocesses"):
        if option.concurrency and getattr(option, name, None):
            typed = {"usepdb": "--pdb", "setupshow": "--setup-show", "numprocesses": "-n"}.get(name, f"--{name}")
            raise pytest.UsageError(f"{typed} and --concurrency exclude each other: leave one out")
    urls = [("target", session.target(config))]
    urls += [("--sla-source", url)] if (url := option.sla_source or session.settings(config).sla_source) else []
    for name, url in urls:
        if not url.startswith(("http://", "https://")):
            raise pytest.UsageError(f"{name} {url}: expected a URL; did you mean http://{url}?")
    for name, path in _paths(config):
        if not path.absolute().parent.is_dir():
            raise pytest.UsageError(f"{name}={path}: there is no folder {path.absolute().parent}")


def _refuse_lost_root(config: pytest.Config) -> None:
    """pytest reads the options of plugins late: until then `--results FILE` looks like a folder of tests named FILE.

    Where FILE exists outside the repo, its folder becomes the root, without the repo's settings.
    """
    for name, path in _paths(config):
        if config.inipath is None and str(path) in config.invocation_params.args and path.exists():
            raise pytest.UsageError(f"type {name}={path}, with the equals sign: pytest took it for a folder of tests")


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Collector, name: str, obj: object) -> None:
    """A check that pytest would pass over for its name is a mistake, not silence."""
    marks = getattr(obj, "pytestmark", ()) if callable(obj) and not isinstance(obj, type) else ()
    if any(mark.name == "check" for mark in marks) and not name.startswith("test"):
        raise collector.CollectError(f"{name} has @check, but pytest collects only functions named test_*: rename it")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """YAML below checks/, rules_tests/ and monitoring/ of a monitoring repo; Python there that pytest passes over."""
    if not parent.config.stash[_DECLARED]:
        return None
    settings = session.settings(parent.config)
    if file_path.suffix == ".py" and file_path.is_relative_to(settings.checks):
        return items.passed_over(file_path, parent)
    if file_path.suffix not in _YAML:
        return None
    if file_path.is_relative_to(settings.checks):
        return items.YamlCheckFile.from_parent(parent, path=file_path)
    if file_path.is_relative_to(settings.rules_tests):
        kind = _kind(file_path)
        if kind in ("signals", "incidents"):  # of `upcheck rules detect` and `backtest`
            return None
        return (items.RouteTestFile if kind == "routes" else items.RuleTestFile).from_parent(parent, path=file_path)
    if file_path.is_relative_to(settings.monitoring):
        return items.ConfigFile.from_parent(parent, path=file_path)
    return None


def _kind(path: Path) -> str:
    try:
        return kind_of(path.read_bytes())
    except OSError:
        return ""  # what collects it says so


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A file that raises SystemExit as it is imported is broken; it does not end the session."""
    try:
        report = yield
    except SystemExit as error:
        told = f"E   SystemExit: {error.code} raised while {collector.nodeid} was imported"
        report = pytest.CollectReport(collector.nodeid, "failed", told, [])
    hide(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None, None, None]:
    """Know what checks need; leave out what is no live check, or was told of by a run before, where that is asked."""
    if not config.stash.get(session.WATCHED, False):
        try:
            unknown = session.know(config, declarations(items))
        except DependencyError as error:
            raise pytest.UsageError(str(error)) from None
        if unknown and _whole(config):
            raise pytest.UsageError(unknown[0])
    yield
    if config.option.live:
        items[:] = [item for item in items if (known := standing(item)) is not None and known.kind is Kind.CHECK]
    if config.option.resume:
        wanted = left_by(config.option.resume)
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in wanted])
        items[:] = [item for item in items if item.nodeid in wanted]


def _whole(config: pytest.Config) -> bool:
    """Whether all checks of the repo are collected, so that a name which is not among them is a mistake."""
    checks = session.settings(config).checks
    given = [config.invocation_params.dir / str(one) for one in config.args]
    return any(path == checks or path in checks.parents for path in given)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Refuse a mark that can't be meant, before anything runs; let `-m` select by severity."""
    try:
        known = standing(item)
    except DeclarationError as error:
        raise pytest.UsageError(str(error)) from None
    if known is not None and known.kind is Kind.CHECK:
        item.add_marker(known.declaration.severity)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Run all at once where `--concurrency` says so; else leave it to pytest."""
    option = session.config.option
    if not option.concurrency or option.collectonly or hasattr(session.config, "workerinput"):
        return None
    if session.testsfailed and not option.continue_on_collection_errors:
        return None  # pytest says that it can't go on
    host = Host((items.Item,), make_report)
    run = once.Session(
        session, option.concurrency, host, timeout=_timeout, lost=reports_of_lost, began=_began(session.config)
    )
    run.run()
    return True


def _began(config: pytest.Config) -> Callable[[pytest.Item], None]:
    lines = [one for one in config.pluginmanager.get_plugins() if isinstance(one, LinesSink)]

    def began(item: pytest.Item) -> None:
        for sink in lines:
            sink.began(item.nodeid)

    return began


def _timeout(item: pytest.Item) -> float | None:
    known = standing(item)
    return known.declaration.timeout if known is not None and known.kind is Kind.CHECK else None


def pytest_collection_finish(session: pytest.Session) -> None:
    """Have promtool begin with the rule tests while the live checks run."""
    for item in session.items:
        standing(item)
    items.begin_rule_tests(session)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, None, None]:
    """A check that raises KeyboardInterrupt fails; only the user's own Ctrl-C ends the session."""
    try:
        yield
    except KeyboardInterrupt:
        if interrupt.asked():
            raise
        raise NotAsked("KeyboardInterrupt was raised by the check itself") from None


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a check that is a coroutine on the loop that all share, unless another plugin knows how."""
    return (standing(pyfuncitem) is not None and coroutines.call(pyfuncitem)) or None


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """Run a fixture that is a coroutine on the same loop; say which it was, where one that many share is broken."""
    function = fixturedef.func
    made = None if "anyio_backend" in request.fixturenames else coroutines.on_loop(function, request.config)
    if made is not None:
        fixturedef.func = made  # type: ignore[misc]
    try:
        return (yield)
    except Exception as error:
        if fixturedef.scope != "function" and not hasattr(error, FIXTURE):
            place = f" ({fixturedef.baseid})" if fixturedef.baseid else ""
            setattr(error, FIXTURE, f"{fixturedef.argname}{place}")
        raise
    finally:
        fixturedef.func = function  # type: ignore[misc]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let our facts ride on the report. A failure parses source: ast.parse is not safe beside itself in 3.11."""
    if call.excinfo is not None:
        with _PARSING:
            return with_facts(item, call, (yield))
    return with_facts(item, call, (yield))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> Generator[None, None, None]:
    """One report at a time: subtests report from the thread that runs them. What was added late is looked at, too."""
    hide(report)
    with _REPORTING:
        yield


@pytest.hookimpl(tryfirst=True)
def pytest_warning_recorded(warning_message: warnings.WarningMessage) -> None:
    """A warning is shown at the end of the session, and by then as it stands."""
    told = redacted(str(warning_message.message))
    if told != str(warning_message.message):
        warning_message.message = Warning(told)  # its category is told apart


@pytest.fixture(scope="session")
def target(pytestconfig: pytest.Config) -> str:
    """The base URL under test, without a slash at its end."""
    return session.target(pytestconfig)


@pytest.fixture(scope="session")
def promtool(pytestconfig: pytest.Config) -> Path:
    """The path of the real promtool, for the functions of `upcheck.promtool`."""
    return session.tool(pytestconfig, "promtool")


@pytest.fixture
def rules(request: pytest.FixtureRequest) -> Callable[..., Rules]:
    """Rule files, to be played: `rules("monitoring/prometheus/rules/api.yml").play({...})`; see `upcheck.rules.play`.

    Paths are relative to the root of the repo.
    """
    from upcheck.rules.play import Rules  # that only rule tests in Python should pay

    promtool = session.tool(request.config, "promtool")
    played = request.node.stash.setdefault(PLAYED, [])

    def load(*paths: str | Path) -> Rules:
        loaded = Rules(promtool, [request.config.rootpath / path for path in paths])
        played.append(loaded)
        return loaded

    return load


@pytest.fixture
def sla(request: pytest.FixtureRequest) -> Objectives:
    """What was: `sla("test_api", window="30d").availability`, from the history or `--sla-source`; see docs/sla.md."""
    from upcheck.sla import HistorySource, Objectives, PrometheusSource  # that only these checks should pay

    item, settings = request.node, session.settings(request.config)

    def observe(asked: str, got: str) -> None:
        item.stash[EXCHANGE] = {"asked": asked, "got": got}

    url = request.config.getoption("sla_source") or settings.sla_source
    source = PrometheusSource(url) if url else HistorySource(settings.history)
    return Objectives(source, item.nodeid.partition("::")[0], observe)


@pytest.fixture
def routes(pytestconfig: pytest.Config) -> Callable[[str | Path], Routes]:
    """An Alertmanager configuration, to be asked: `routes("monitoring/alertmanager/alertmanager.yml").of({...})`.

    Its path is relative to the root of the repo; see `upcheck.routes`.
    """
    from upcheck.routes import Routes

    return lambda path: Routes.load(pytestconfig.rootpath / path)


@pytest.hookimpl(tryfirst=True)
def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """A timeline, or a tree of routes, where what was expected of it does not hold."""
    rooms = [sys.modules.get(name) for name in ("upcheck.rules.play", "upcheck.routes")]  # what is not loaded can't be
    return next((told for room in rooms if room and (told := room.explain(left, op, right))), None)


@pytest.fixture
def http(request: pytest.FixtureRequest) -> Client | AsyncClient:
    """An httpx client for the target: `http.get("/health")`; other hosts by their full URL. Await it in `async def`.

    The check's timeout bounds each request as a whole; each opens a connection of its own; proxy variables are
    not read.
    """
    item = request.node

    def observe(asked: str, got: str) -> None:
        item.stash[EXCHANGE] = {"asked": asked, "got": got}

    known = standing(item)
    declaration = known.declaration if known is not None else declaration_of(item)
    if inspect.iscoroutinefunction(item.obj):
        return session.async_client(request.config, declaration, observe)
    return session.client(request.config, declaration, observe)
