"""Changes on disk, taken over while checks run.

A changed file of checks is collected anew, alone; one that can't be keeps its last good version, and says so. A change
of what lies under them all (a conftest.py, a module that they import, pyproject.toml) asks for a new process, once a
trial run has shown that everything can still be collected.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import pytest
from _pytest.runner import collect_one_node

from upcheck.plugin import session as repo
from upcheck.watch.board import Board

LOOK = 1.0  # seconds between two looks at the files
_CHECKS = {".py", ".yml", ".yaml"}
_OURS = re.compile(r"^upcheck\.[\w.]+: ")  # an error of ours: the sentence says it
_TRIAL = ("-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider")

Signature = tuple[int, int]  # mtime in ns, size


@dataclass(slots=True)
class Change:
    """What came of a change: the *items* to run from now on, or a new process for *everything*; what to tell.

    *python*: a file of Python was among what has changed; *refused* are those that can't be read.
    """

    items: list[pytest.Item] | None = None
    python: bool = False
    everything: bool = False
    told: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


class Files:
    """The files that the checks come from. *unreadable* are those that could not be collected, and why."""

    def __init__(self, session: pytest.Session, board: Board, unreadable: Mapping[str, str]) -> None:
        self._session = session
        self._settings = repo.settings(session.config)
        self._stale = board.stale
        self._stale.update(unreadable)
        chosen = (self._settings.root / arg.partition("::")[0] for arg in session.config.args)
        self._chosen = [path.resolve() for path in chosen]
        self._items: dict[Path, list[pytest.Item]] = {}
        self._signatures: dict[Path, Signature] = {}
        self._imported = 0
        self._own: list[Path] = []
        self._looked = 0.0
        self._asked = False
        self._trial: subprocess.Popen[str] | None = None
        self._below = ""  # what has changed under all the checks
        self.reloads = 0

    def close(self) -> None:
        """End a trial run, if there is one."""
        if self._trial is not None:
            self._trial.kill()
            self._trial.communicate()

    def begin(self) -> list[pytest.Item]:
        """The items that the session has collected, and from now on a look at their files."""
        for item in self._session.items:
            self._items.setdefault(item.path, []).append(item)
        self._signatures = dict(self._scan())
        return self._all()

    def ask(self) -> None:
        """Have everything read anew, changed or not."""
        self._asked = True

    def look(self, now: float) -> Change | None:
        """What has changed since the last look, if anything has; *now* in monotonic seconds."""
        if self._trial is not None:
            return self._tried(self._trial)
        if now - self._looked < LOOK and not self._asked:
            return None
        self._looked = now
        signatures = dict(self._scan())
        changed = [path for path, signature in signatures.items() if self._is_news(path, signature)]
        gone = [path for path in self._signatures if path not in signatures]
        self._signatures = signatures
        below = [path for path in (*changed, *gone) if not self._can_be_taken_alone(path)]
        if self._asked or below:
            self._asked = False
            self._begin_trial(below)
            return None
        if not changed and not gone:
            return None
        return self._taken_over(changed, gone)

    def _is_news(self, path: Path, signature: Signature) -> bool:
        """Whether *path* is another than before. A module that is imported late is there for the first time only."""
        before = self._signatures.get(path)
        if before is None:
            return path.is_relative_to(self._settings.checks) or path.name in ("conftest.py", "pyproject.toml")
        return before != signature

    def _taken_over(self, changed: list[Path], gone: list[Path]) -> Change:
        change = Change(python=any(path.suffix == ".py" for path in (*changed, *gone)))
        for path in changed:
            name, why = self._name(path), self._collect(path)
            if why:
                kept = "its last good version runs on" if self._items.get(path) else "none of its checks runs"
                self._stale[name] = why
                change.refused.append(f"{name} can't be read, {kept}: {why}")
            else:
                self._stale.pop(name, None)
                count = len(self._items[path])
                change.told.append(f"{name}: {count} check{'s' if count != 1 else ''}, read anew")
        for path in gone:
            self._items.pop(path, None)
            self._stale.pop(self._name(path), None)
            change.told.append(f"{self._name(path)}: gone, and its checks with it")
        self.reloads += 1
        change.items = self._all()
        return change

    def _all(self) -> list[pytest.Item]:
        return [item for items in self._items.values() for item in items]

    def _name(self, path: Path) -> str:
        return os.path.relpath(path, self._settings.root)

    def _holds_checks(self, path: Path) -> bool:
        if not path.is_relative_to(self._settings.checks) or path.name == "conftest.py":
            return False
        if not any(path.is_relative_to(one) for one in self._chosen):
            return False
        patterns = self._session.config.getini("python_files")
        return path.suffix != ".py" or any(path.match(pattern) for pattern in patterns)

    def _can_be_taken_alone(self, path: Path) -> bool:
        return self._holds_checks(path) and self._folder(path) is not None

    def _scan(self) -> Iterator[tuple[Path, Signature]]:
        """The files that matter, with what tells whether they have changed."""
        root = self._settings.root
        checks = (path for path in self._settings.checks.rglob("*") if path.suffix in _CHECKS)
        for path in {*checks, *self._modules(root), root / "pyproject.toml", root / "conftest.py"}:
            try:
                found = path.stat()
            except OSError:
                continue  # gone since it was listed
            yield path, (found.st_mtime_ns, found.st_size)

    def _modules(self, root: Path) -> list[Path]:
        """The files below *root* that have been imported; looked for anew only when more has been."""
        if len(sys.modules) != self._imported:
            self._imported = len(sys.modules)
            files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
            own = (Path(file) for file in files if file and file.startswith(f"{root}{os.sep}"))
            self._own = [path for path in own if "site-packages" not in path.parts]
        return self._own

    def _folder(self, path: Path) -> pytest.Collector | None:
        """The collector of the folder that *path* is in."""
        for items in self._items.values():
            for node in items[0].listchain() if items else ():
                if isinstance(node, pytest.Directory) and node.path == path.parent:
                    return node
        return None

    def _collect(self, path: Path) -> str:
        """Take over what *path* says now; why not, where it can't be read."""
        config = self._session.config
        parent = self._folder(path) or self._session
        found = self._session.gethookproxy(path).pytest_collect_file(file_path=path, parent=parent)
        before = _forget_module(self._items.get(path, []))
        items: list[pytest.Item] = []
        for collector in (one for some in found for one in (some if isinstance(some, list) else [some])):
            report = collect_one_node(collector)
            if not report.passed:
                sys.modules.update(before)
                return last_words(report.longreprtext, path)
            for node in report.result:
                items.extend(self._session.genitems(node))
        config.hook.pytest_collection_modifyitems(session=self._session, config=config, items=items)
        self._items[path] = items
        return ""

    def _begin_trial(self, below: list[Path]) -> None:
        self._below = ", ".join(map(self._name, below))
        argv = [sys.executable, *_TRIAL, str(self._settings.checks)]
        self._trial = subprocess.Popen(
            argv, cwd=self._settings.root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )

    def _tried(self, trial: subprocess.Popen[str]) -> Change | None:
        if trial.poll() is None:
            return None
        self._trial = None
        said, _ = trial.communicate()
        if trial.returncode == 0:
            changed = f"{self._below} has changed: " if self._below else ""
            return Change(everything=True, told=[f"{changed}everything is read anew, in a new process"])
        why = last_words(said)
        self._stale[self._below or "the checks as a whole"] = why
        changed = f"{self._below} has changed, and " if self._below else ""
        return Change(refused=[f"{changed}not everything can be read, all runs on as it was: {why}"])


def _forget_module(items: list[pytest.Item]) -> dict[str, ModuleType]:
    """Have the module that *items* come from imported anew; what sys.modules had."""
    module = next((node for item in items[:1] for node in item.listchain() if isinstance(node, pytest.Module)), None)
    name = module.obj.__name__ if module is not None else ""
    return {name: sys.modules.pop(name)} if name in sys.modules else {}


def last_words(text: str, path: Path | None = None) -> str:
    """Why something could not be collected, in a line, with the line of *path* where it is known."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line.removeprefix("E").strip() for line in lines if line.startswith(("E  ", "ERROR "))]
    why = (errors or lines or ["no reason given"])[-1]
    if path is None:
        return why
    why = _OURS.sub("", why.replace(f"{path}:", "line "))
    places = re.findall(rf"{re.escape(path.name)}(?:\"?, line |:)(\d+)", text)
    return why if why.startswith("line ") or not places else f"line {places[-1]}: {why}"
