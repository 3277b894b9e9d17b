"""How much the route tests notice: the share of mutants of Alertmanager's configuration that at least one fails on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from upcheck.routes import Routes, cases, configuration
from upcheck.routes.cases import RouteTests
from upcheck.routes.mutants import Mutant, mutants
from upcheck.rules.mutation import MutationError, Proof, proof
from upcheck.rules.suite import short


def prove(
    tests: Sequence[Path],
    configurations: Sequence[Path] = (),
    *,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Proof[Mutant]:
    """Judge all mutants of *configurations* and of those that the route tests *tests* name, by *tests*.

    *advance* is told of mutants judged, and of all there are. Raises DocumentError, and MutationError where a test
    fails before anything is changed.
    """
    loaded = [cases.load(path) for path in tests]
    for one in loaded:
        for test in one.tests:
            if not test.holds(one.routes):
                told = f"{one.path}:{test.line}: {test.name!r} fails as it is"
                raise MutationError(f"{told}, so it can't tell what a mutant changes: mend it first")
    wholes = {path.resolve(): configuration.load(path) for path in configurations}
    wholes |= {one.routes.configuration.path.resolve(): one.routes.configuration for one in loaded}
    found = [mutant for whole in wholes.values() for mutant in mutants(whole)]
    killed = set()
    for number, mutant in enumerate(found, 1):
        changed = Routes(mutant.configuration)
        if any(not test.holds(changed) for one in _of(mutant.file, loaded) for test in one.tests):
            killed.add(mutant)
        advance(number, len(found))
    places = {
        file: tuple(f"{short(one.path)}:{one.tests[0].line}" for one in _of(file, loaded))
        for file in {mutant.file for mutant in found}
    }
    return proof(found, killed, lambda mutant: places[mutant.file])


def _of(file: Path, loaded: Sequence[RouteTests]) -> list[RouteTests]:
    """Those of *loaded* that test the configuration *file*."""
    return [one for one in loaded if one.routes.configuration.path.resolve() == file.resolve()]
