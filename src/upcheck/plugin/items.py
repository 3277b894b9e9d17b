"""What is collected from YAML: checks, rule tests, and the configuration files themselves."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from upcheck import rules, yaml_checks
from upcheck.command import CommandError
from upcheck.declaration import Declaration
from upcheck.documents import DocumentError
from upcheck.plugin import session
from upcheck.probes import ProbeError
from upcheck.report.block import block
from upcheck.result import Kind, Outcome, Unknown
from upcheck.rules import configs

if TYPE_CHECKING:
    from upcheck.promtool import Verdict
    from upcheck.routes import Routes
    from upcheck.routes.cases import RouteTest


class Unmet(Exception):
    """An expectation that did not hold: a headline, and facts such as asked, got and want."""

    def __init__(self, reason: str, **facts: Any) -> None:
        super().__init__(reason)
        self.facts = {"reason": reason, **facts}


class File(pytest.File):
    """A YAML file whose mistakes are reported as one sentence at file:line:column."""

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *args: Any) -> Any:
        """The sentence, without a traceback through the loader."""
        return str(excinfo.value) if isinstance(excinfo.value, DocumentError) else super().repr_failure(excinfo, *args)


class Item(pytest.Item):
    """An item that stands at a line of a YAML file."""

    kind: Kind
    declaration = Declaration()

    def __init__(self, *, line: int, **rest: Any) -> None:
        super().__init__(**rest)
        self.line = line

    def reportinfo(self) -> tuple[Path, int, str]:
        """Where pytest says the item is (its lines count from 0)."""
        return self.path, self.line - 1, self.name

    def extra_facts(self) -> dict[str, Any]:
        """What a result of this item says beside what every result says."""
        return {}

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *args: Any) -> Any:
        """The facts for what did not hold, the sentence for what could not be told."""
        if isinstance(excinfo.value, Unmet):
            return f"{excinfo.value}\n{block(excinfo.value.facts)}".rstrip()
        if isinstance(excinfo.value, Unknown):
            return str(excinfo.value)
        return super().repr_failure(excinfo, *args)


class YamlCheckFile(File):
    """A file of checks."""

    def collect(self) -> Iterator[pytest.Item]:
        """An item for each check, in the file's order."""
        for check in yaml_checks.load(self.path):
            yield YamlCheckItem.from_parent(self, name=check.name, line=check.line, check=check)


class YamlCheckItem(Item):
    """One check: a request or a probe, and what must hold of its answer."""

    kind = Kind.CHECK

    def __init__(self, *, check: yaml_checks.YamlCheck, **rest: Any) -> None:
        super().__init__(**rest)
        self.check = check
        self.declaration = check.declaration
        self.judgement: yaml_checks.Judgement | None = None

    def extra_facts(self) -> dict[str, Any]:
        """What the last exchange told, for metrics, whether or not the check held."""
        return self.judgement.facts if self.judgement is not None else {}

    def setup(self) -> None:
        """Know what to ask; a variable that is missing is an error, not a failure of the target."""
        self.judgement = None
        try:
            self.asked = session.shown(self.config, self.check.asked(session.target(self.config)))
        except ProbeError as error:
            raise Unknown(str(error)) from None

    def runtest(self) -> None:
        """Ask once; raises Unmet with everything that does not hold, Unknown where nothing could be told."""
        self.judgement = told = yaml_checks.ask(self.check, self.asked)
        if told.outcome is Outcome.FAILED:
            raise Unmet(told.reason, **told.facts)
        if told.outcome is Outcome.ERROR:
            raise Unknown(told.reason)


class RuleTestFile(File):
    """A file in promtool's own test format."""

    def collect(self) -> Iterator[pytest.Item]:
        """An item for each entry, and one for each false green of the file as a whole."""
        loaded = rules.load(self.path)
        for one in loaded.problems:
            name = one.text.partition(":")[0]
            yield FalseGreenItem.from_parent(self, name=name, line=one.line, problem=one)
        for entry in loaded.entries:
            yield RuleTestItem.from_parent(self, name=entry.name, line=entry.line, entry=entry, file=loaded)


class FalseGreenItem(Item):
    """What promtool would call a success and is none."""

    kind = Kind.RULE

    def __init__(self, *, problem: rules.FalseGreen, **rest: Any) -> None:
        super().__init__(**rest)
        self.problem = problem

    def runtest(self) -> None:
        """Always raises Unmet."""
        raise Unmet(f"passes for no reason ({self.problem.id})", got=self.problem.text)


class RuleTestItem(Item):
    """One entry of a file of rule tests."""

    kind = Kind.RULE

    def __init__(self, *, entry: rules.Entry, file: rules.TestFile, **rest: Any) -> None:
        super().__init__(**rest)
        self.entry = entry
        self.file = file

    def extra_facts(self) -> dict[str, Any]:
        """The alerts that the entry proves, and those that there are to prove."""
        return {"fires": self.entry.fires, "silent": self.entry.silent, "alerts": self.file.alerts}

    def setup(self) -> None:
        """Have promtool judge the entry; what it can't judge is an error, not a failure."""
        session.tool(self.config, "promtool", *self.file.features)
        self.verdict = _told(lambda: session.judge(self.config).judge(self.file, self.entry))

    def runtest(self) -> None:
        """Raises Unmet where the entry fails, or passes for no reason."""
        if self.entry.problem:
            raise Unmet(f"passes for no reason ({self.entry.problem.id})", got=self.entry.problem.text)
        if not self.verdict.ok:
            raise Unmet("expected (-) and got (+) differ", diff=rules.difference(self.verdict.text))


class RouteTestFile(File):
    """A file of route tests."""

    def collect(self) -> Iterator[pytest.Item]:
        """An item for each test."""
        from upcheck.routes import cases

        loaded = cases.load(self.path)
        for test in loaded.tests:
            yield RouteTestItem.from_parent(self, name=test.name, line=test.line, test=test, routes=loaded.routes)


class RouteTestItem(Item):
    """One route test: who is told of an alert."""

    kind = Kind.RULE

    def __init__(self, *, test: RouteTest, routes: Routes, **rest: Any) -> None:
        super().__init__(**rest)
        self.test = test
        self.routes = routes

    def runtest(self) -> None:
        """Raises Unmet where an alert goes elsewhere."""
        from upcheck.routes import cases

        if missed := cases.miss(self.test, self.routes):
            raise Unmet(cases.UNMET, **missed._asdict())


class ConfigFile(pytest.File):
    """A configuration file that Prometheus or Alertmanager loads."""

    def collect(self) -> Iterator[pytest.Item]:
        """One item: the file itself; none where it is something else."""
        try:
            what, problem = configs.kind(self.path), None
        except DocumentError as error:
            what, problem = "unreadable", error
        if what is not None:
            yield ConfigItem.from_parent(self, name=what, line=problem.line if problem else 1, problem=problem)


class ConfigItem(Item):
    """A configuration file, held against the tool that checks it."""

    kind = Kind.CONFIG

    def __init__(self, *, problem: DocumentError | None, **rest: Any) -> None:
        super().__init__(**rest)
        self.problem = problem

    def extra_facts(self) -> dict[str, Any]:
        """The alerts that a rule file defines, whether or not a test loads it."""
        return {"alerts": sorted(rules.alerts_of(self.path))} if self.name == "rules" else {}

    def setup(self) -> None:
        """Have the tool read the file."""
        if self.problem is None:
            tool = session.tool(self.config, configs.TOOLS[self.name]) if self.name in configs.TOOLS else None
            self.verdict = _told(lambda: configs.check(tool, self.path))

    def runtest(self) -> None:
        """Raises Unmet where the tool refuses the file."""
        if self.problem is not None:
            raise Unmet("not readable", got=str(self.problem))
        if not self.verdict.ok:
            raise Unmet("not valid", got=self.verdict.text)


def _told(ask: Any) -> Verdict:
    try:
        verdict: Verdict = ask()
    except CommandError as error:
        raise Unknown(str(error)) from None
    return verdict


class PassedOver(pytest.File):
    """A file with checks whose name hides them from pytest."""

    def collect(self) -> Iterator[pytest.Item]:
        """Always raises CollectError."""
        raise self.CollectError(
            f"{self.path.name} has checks, but pytest collects only files named test_*.py: rename it"
        )


def passed_over(path: Path, parent: pytest.Collector) -> PassedOver | None:
    """A collector that says so where *path* has checks and a name that pytest passes over."""
    patterns = [*parent.config.getini("python_files"), "conftest.py", "__init__.py"]
    if any(path.match(pattern) for pattern in patterns) or parent.session.isinitpath(path):
        return None
    text = path.read_text(encoding="utf-8", errors="replace")
    return (
        PassedOver.from_parent(parent, path=path) if re.search(r"^ *(@check|def test_)", text, re.MULTILINE) else None
    )


def begin_rule_tests(session_: pytest.Session) -> None:
    """Start promtool on all the rule tests of a session, unless it is a worker that runs only some of them."""
    files = [item.file for item in session_.items if isinstance(item, RuleTestItem)]
    if files and not hasattr(session_.config, "workerinput"):
        with contextlib.suppress(Unknown):  # each item will say so
            session.judge(session_.config).begin(files)
