"""Items that can run beside each other: each run is a copy of its item, with a view of its own on what is set up.

pytest keeps one stack of what is set up and one cached value in each fixture's definition, because it runs one item
at a time. Here every run has a stack of its own, which begins with the nodes that all share, and copies of the
definitions of function scope; of each wider fixture there is one copy for each node and parameters it is made for.
Written against pytest 8.4 to 9.2; `tests/concurrent/test_conformance.py` says whether it still holds.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from _pytest import fixtures
from _pytest.fixtures import FixtureDef, FuncFixtureInfo, SubRequest, get_scope_node, get_scope_package
from _pytest.nodes import Node
from _pytest.python import get_direct_param_fixture_func
from _pytest.runner import SetupState
from _pytest.scope import Scope

from upcheck.concurrent.protocol import only_harmless, plain

Definitions = Mapping[str, Sequence[FixtureDef[Any]]]
_SLOTS: dict[type, tuple[str, ...]] = {}
AGAIN = 10.0  # seconds between two attempts to set up a fixture that fails, while checks are watched
_OUTCOMES = (pytest.skip.Exception, pytest.fail.Exception, Exception)


class World(SetupState):
    """What the runs of a session share: the collectors that are set up, and the wider fixtures.

    *items* are those still to run: a collector is torn down in the teardown of the last of its items, as in pytest.
    Without them nothing is torn down before `teardown_exact(None)`.
    """

    def __init__(self, items: Sequence[pytest.Item] | None = None) -> None:
        super().__init__()
        self._lock = threading.RLock()
        self._fixtures: dict[Hashable, _SharedFixture] = {}
        self._hooks: dict[Path, Any] = {}
        self._closures: dict[tuple[int, int], set[str]] = {}
        self._plain: dict[pytest.Item, bool] = {}
        self._remaining = None if items is None else Counter(node for item in items for node in item.listchain()[:-1])

    def enter(self, collectors: Sequence[Node]) -> None:
        """Set up what of *collectors* is not; raises what the setup of one of them raised, each time."""
        with self._lock:
            for node in collectors:
                if node not in self.stack:
                    self.stack[node] = ([node.teardown], None)
                    try:
                        node.setup()
                    except _OUTCOMES as error:
                        self.stack[node] = (self.stack[node][0], (error, error.__traceback__))
                        raise
                elif failed := self.stack[node][1]:
                    raise failed[0].with_traceback(failed[1])

    def leave(self, collectors: Sequence[Node]) -> int:
        """Forget those of *collectors* that no item needs any more; how many (the first) are still needed."""
        if self._remaining is None:
            return len(collectors)
        with self._lock:
            self._remaining.subtract(collectors)
            kept = sum(1 for node in collectors if self._remaining[node] > 0)
            for node in collectors[kept:]:
                self.stack.pop(node, None)
            return kept

    def hooks(self, item: pytest.Item) -> Any:
        """The hooks that *item* calls: those of the plugins and of the conftest.py files above it."""
        if item.path not in self._hooks:
            self._hooks[item.path] = item.ihook
        return self._hooks[item.path]

    def plain(self, item: pytest.Item, kinds: tuple[type[pytest.Item], ...]) -> bool:
        """Whether *item* can be run without the hooks around its phases; found out once."""
        if (known := self._plain.get(item)) is None:
            known = self._plain[item] = only_harmless(self.hooks(item)) and plain(item, kinds)
        return known

    def closure(self, definition: FixtureDef[Any], definitions: Definitions) -> set[str]:
        """The names of *definition* and of all fixtures that it is made from; found out once."""
        key = id(definition), id(definitions)  # of things that last as long as their items
        if (known := self._closures.get(key)) is None:
            known = self._closures[key] = _closure(definition, definitions, set())
        return known

    def shared(self, key: Hashable, definition: FixtureDef[Any]) -> FixtureDef[Any]:
        """The one copy of *definition* for *key*."""
        with self._lock:
            if key not in self._fixtures:
                self._fixtures[key] = _SharedFixture.of(definition, again=self._remaining is None)
            return self._fixtures[key]


class _SharedFixture(FixtureDef[Any]):
    """A fixture of wider than function scope, which one run at a time sets up while others wait for it.

    Where *again*, one that could not be set up is tried anew after a while: what runs for ever must see it come back.
    """

    _lock: threading.RLock
    _again: bool
    _failed: float | None  # monotonic seconds

    @classmethod
    def of(cls, definition: FixtureDef[Any], *, again: bool) -> _SharedFixture:
        made: Any = _fresh(definition)
        made.__class__ = cls
        made._lock = threading.RLock()
        made._again, made._failed = again, None
        return made  # type: ignore[no-any-return]

    def execute(self, request: SubRequest) -> Any:
        with self._lock:
            if self._again and self._failed is not None and time.monotonic() - self._failed > AGAIN:
                self._failed = None
                self.finish(request)
            try:
                return super().execute(request)
            except _OUTCOMES:
                if self._failed is None:
                    self._failed = time.monotonic()
                raise

    def addfinalizer(self, finalizer: Callable[[], object]) -> None:
        # A definition of function scope is finished with its run; kept here, one would stay behind for each run.
        owner = getattr(getattr(finalizer, "func", None), "__self__", None)
        if owner is self or not isinstance(owner, FixtureDef) or isinstance(owner, _SharedFixture):
            super().addfinalizer(finalizer)


class _Parameter(FixtureDef[Any]):
    """A parameter, which pytest makes a fixture of, at a third of the cost of a run's setup."""

    def execute(self, request: SubRequest) -> Any:
        self.cached_result = (request.param, request.param, None)
        return request.param


def _fresh(definition: FixtureDef[Any]) -> FixtureDef[Any]:
    made: Any = _copy(definition)
    if definition.func is get_direct_param_fixture_func:
        made.__class__ = _Parameter
    made.cached_result = None
    made._finalizers = []
    return made  # type: ignore[no-any-return]


class _RunState(SetupState):
    """One run's stack: the collectors, which it shares, and its item."""

    def __init__(self, world: World, entered: Callable[[str], None]) -> None:
        super().__init__()
        self._world = world
        self._entered = entered

    def setup(self, item: pytest.Item) -> None:
        self._entered("setup")
        *collectors, _ = item.listchain()
        try:
            self._world.enter(collectors)
        finally:
            self.stack = {node: self._world.stack[node] for node in collectors if node in self._world.stack}
        super().setup(item)
        self._entered("call")

    def teardown_exact(self, nextitem: pytest.Item | None) -> None:  # noqa: ARG002 - the next is any other
        self._entered("teardown")
        item = next((node for node in self.stack if isinstance(node, pytest.Item)), None)
        collectors = item.listchain()[:-1] if item else list(self.stack)
        kept = self._world.leave(collectors)
        super().teardown_exact(_Until(collectors[:kept]) if kept else None)  # type: ignore[arg-type]


class _Until:
    """Stands where pytest has the next item: what that one needs stays set up."""

    def __init__(self, nodes: list[Node]) -> None:
        self._nodes = nodes

    def listchain(self) -> list[Node]:
        return self._nodes


class RunSession:
    """The session as one run sees it: pytest's own, but for what is set up and which fixtures there are."""

    __slots__ = ("_fixturemanager", "_hooks", "_real", "_setupstate")

    def __init__(self, real: pytest.Session, state: SetupState, fixtures: _Fixtures, hooks: Any) -> None:
        for name, value in (("_real", real), ("_setupstate", state), ("_fixturemanager", fixtures), ("_hooks", hooks)):
            object.__setattr__(self, name, value)

    def gethookproxy(self, fspath: Path) -> Any:
        path, hooks = self._hooks
        return hooks if fspath is path else self._real.gethookproxy(fspath)

    @property  # type: ignore[misc]
    def __class__(self) -> type[pytest.Session]:  # type: ignore[override]  # isinstance(request.session, ...) holds
        return pytest.Session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._real, name, value)


class _Fixtures:
    """The session's fixture manager as one run sees it: what is looked up late is made its own, too."""

    def __init__(self, real: Any, world: World) -> None:
        self._real = real
        self._world = world

    def getfixturedefs(self, name: str, node: pytest.Item) -> Sequence[FixtureDef[Any]] | None:
        found: Sequence[FixtureDef[Any]] | None = self._real.getfixturedefs(name, node)
        return found and _own({name: found}, node, self._world)[name]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def isolated(item: pytest.Item, world: World, entered: Callable[[str], None] = lambda phase: None) -> pytest.Item:
    """A copy of *item* that can run beside others of *world*; *entered* hears of each phase it comes to."""
    run: Any = _copy(item)
    run.user_properties = list(item.user_properties)
    run.own_markers = list(item.own_markers)
    run._report_sections = []
    run.stash = pytest.Stash()
    run.stash._storage.update(item.stash._storage)
    run.keywords = _copy(item.keywords)
    run.keywords.node, run.keywords._markers = run, dict(run.keywords._markers)
    real: Any = item.session
    hooks = item.path, world.hooks(item)
    run.session = RunSession(real, _RunState(world, entered), _Fixtures(real._fixturemanager, world), hooks)
    if isinstance(item.parent, pytest.Class):
        for cached in ("_instance", "_obj"):  # each run has an instance of its own
            run.__dict__.pop(cached, None)
    if isinstance(item, pytest.Function):
        info: FuncFixtureInfo = item._fixtureinfo
        own = _own(info.name2fixturedefs, item, world)
        run._fixtureinfo = _copy(info, name2fixturedefs=own)
        run._initrequest()
    return run  # type: ignore[no-any-return]


def _copy(thing: Any, **changes: object) -> Any:
    """What copy.copy makes of *thing*, with *changes*, at a fraction of the cost; frozen things, too."""
    made = object.__new__(type(thing))
    for name in _slots(type(thing)):
        if hasattr(thing, name):
            object.__setattr__(made, name, getattr(thing, name))
    if hasattr(thing, "__dict__"):
        made.__dict__.update(thing.__dict__)
    for name, value in changes.items():
        object.__setattr__(made, name, value)
    return made


def _slots(kind: type) -> tuple[str, ...]:
    if kind not in _SLOTS:
        found = (name for part in kind.__mro__ for name in getattr(part, "__slots__", ()))
        _SLOTS[kind] = tuple(name for name in found if name not in ("__dict__", "__weakref__"))
    return _SLOTS[kind]


def _own(definitions: Definitions, item: pytest.Item, world: World) -> Definitions:
    """*definitions* as a run of *item* uses them: its own of function scope, the world's of wider scope."""
    callspec = getattr(item, "callspec", None)
    return {
        name: [_local(definition, item, callspec, definitions, world) for definition in found]
        for name, found in definitions.items()
    }


def _local(
    definition: FixtureDef[Any], item: pytest.Item, callspec: Any, definitions: Definitions, world: World
) -> FixtureDef[Any]:
    scope = definition._scope
    parameters: tuple[Hashable, ...] = ()
    if callspec is not None:
        scope = callspec._arg2scope.get(definition.argname, scope)
    if scope is Scope.Function:
        return _fresh(definition)
    if callspec is not None:
        names = sorted(world.closure(definition, definitions) & callspec.params.keys())
        if any(callspec._arg2scope[name] is Scope.Function for name in names):
            return _fresh(definition)  # it lasts no longer than the parameter it is made from
        parameters = tuple((name, _identity(callspec.params[name])) for name in names)
    node = get_scope_package(item, definition) if scope is Scope.Package else get_scope_node(item, scope)
    return _fresh(definition) if node is None else world.shared((id(definition), node, parameters), definition)


def _closure(definition: FixtureDef[Any], definitions: Definitions, seen: set[str]) -> set[str]:
    seen.add(definition.argname)
    for name in definition.argnames:
        if name not in seen:
            seen.add(name)
            for other in definitions.get(name, ()):
                _closure(other, definitions, seen)
    return seen


@contextlib.contextmanager
def cheap_requests() -> Iterator[None]:
    """While it lasts, asking for `request` costs a copy: pytest inspects a signature each time, 50 us of a run."""
    real: Any = getattr(fixtures, "RequestFixtureDef", None)  # pytest 8 has a cheap one
    if real is None:
        yield
        return
    models: list[Any] = []

    def make(request: Any) -> Any:
        if not models:
            models.append(real(request))
        return _copy(models[0], cached_result=(request, [0], None), _finalizers=[])

    fixtures.RequestFixtureDef = make  # type: ignore[misc,assignment]
    try:
        yield
    finally:
        fixtures.RequestFixtureDef = real  # type: ignore[misc]


def _identity(value: object) -> Hashable:
    try:
        hash(value)
    except TypeError:
        return id(value)
    return (type(value), value)  # 1, 1.0 and True are not the same parameter
