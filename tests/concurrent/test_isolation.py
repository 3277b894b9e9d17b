"""A run's copy of its item: what it changes is its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from upcheck.concurrent.isolation import World, isolated


def test_runs_of_one_item_share_nothing_that_a_run_changes(pytester: pytest.Pytester) -> None:
    item = pytester.getitem("import pytest\n\n@pytest.mark.serial\ndef test_it(request, tmp_path): pass\n", "test_it")
    world = World()
    one, other = isolated(item, world), isolated(item, world)
    one.add_report_section("call", "stdout", "said")
    one.user_properties.append(("a", 1))
    one.add_marker("xfail")
    one.stash[pytest.StashKey[int]()] = 1
    for run in (other, item):
        assert run._report_sections == []
        assert run.user_properties == []
        assert run.get_closest_marker("xfail") is None
        assert "xfail" not in run.keywords
        assert len(run.stash) == len(item.stash)
    assert one.get_closest_marker("serial") is not None
    assert one.nodeid == item.nodeid
    assert one.listchain()[:-1] == item.listchain()[:-1]


def test_nothing_is_left_behind_by_a_run(pytester: pytest.Pytester) -> None:
    item = pytester.getitem(
        "import pytest\n\n@pytest.fixture(scope='session')\ndef wide(): return 1\n\n@pytest.fixture\n"
        "def narrow(wide): return wide\n\ndef test_it(narrow): pass\n",
        "test_it",
    )
    world = item.session._setupstate = World()
    sizes = []
    for _ in range(3):
        run = isolated(item, world)
        run.session._setupstate.setup(run)
        run.session._setupstate.teardown_exact(None)
        (wide,) = run._fixtureinfo.name2fixturedefs["wide"]  # type: ignore[attr-defined]
        sizes.append((len(wide._finalizers), [len(finalizers) for finalizers, _ in world.stack.values()]))
    assert sizes[0] == sizes[1] == sizes[2]
    world.teardown_exact(None)
    assert wide.cached_result is None


def test_a_class_has_an_instance_for_each_run(pytester: pytest.Pytester, tmp_path: Path) -> None:
    item = pytester.getitem("class TestIt:\n    def test_it(self): self.mine = 1\n", "test_it")
    assert tmp_path.is_dir()
    world = World()
    one, other = isolated(item, world), isolated(item, world)
    assert isinstance(one, pytest.Function)
    assert isinstance(other, pytest.Function)
    assert one.instance is not other.instance
