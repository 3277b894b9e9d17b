"""Which of many failures is the cause, and what waits until that is known."""

from __future__ import annotations

import pytest

from upcheck.declaration import Declaration
from upcheck.dependencies import Causes, Dependencies, DependencyError, Needs
from upcheck.result import Outcome, Result

HELD, FAILED, ERROR, BLOCKED = Outcome.HELD, Outcome.FAILED, Outcome.ERROR, Outcome.BLOCKED


def declared(**depends_on: str | list[str]) -> dict[str, Declaration]:
    """Checks of one file, and what each depends on."""
    return {f"checks/a.py::{name}": Declaration.of({"depends_on": names}) for name, names in depends_on.items()}


def needs(*checks: str, uplinks: tuple[str, ...] = ()) -> Needs:
    return Needs(tuple(f"checks/a.py::{check}" for check in checks), uplinks)


NONE = Declaration()
DATABASE = "checks/a.py::test_db"


def test_a_name_is_looked_for_in_its_own_file_first() -> None:
    checks = {**declared(test_x="test_db"), DATABASE: NONE, "checks/b.py::test_db": NONE}
    assert Dependencies(checks).of("checks/a.py::test_x") == needs("test_db")


def test_a_name_in_another_file_and_in_yaml() -> None:
    checks = {**declared(test_x=["test_db", "shop front page"]), "checks/b.py::test_db": NONE}
    checks["checks/c.yml::shop front page"] = NONE
    found = Dependencies(checks).of("checks/a.py::test_x")
    assert found == Needs(("checks/b.py::test_db", "checks/c.yml::shop front page"))


def test_a_function_is_all_of_its_parameters_and_all_methods_of_its_name() -> None:
    checks = {
        **declared(test_x=["test_db", "test_m"]), f"{DATABASE}[a]": NONE, f"{DATABASE}[b::c]": NONE,
        "checks/a.py::TestIt::test_m": NONE,
    }  # fmt: skip
    found = Dependencies(checks).of("checks/a.py::test_x")
    assert found == Needs((f"{DATABASE}[a]", f"{DATABASE}[b::c]", "checks/a.py::TestIt::test_m"))


def test_a_name_that_several_files_have_must_say_which() -> None:
    checks = {**declared(test_x="test_db"), "checks/b.py::test_db": NONE, "checks/c.py::test_db": NONE}
    with pytest.raises(DependencyError) as caught:
        Dependencies(checks)
    assert str(caught.value) == (
        "checks/a.py::test_x: depends_on: 'test_db' is the name of several: "
        "say which of checks/b.py::test_db, checks/c.py::test_db"
    )
    checks |= declared(test_x="checks/c.py::test_db")
    assert Dependencies(checks).of("checks/a.py::test_x") == Needs(("checks/c.py::test_db",))


def test_an_unknown_name_is_told_with_the_nearest() -> None:
    found = Dependencies({**declared(test_x="test_database"), "checks/b.py::test_databse": NONE})
    assert found.unknown == [
        "checks/a.py::test_x: depends_on: there is no check 'test_database'; did you mean 'test_databse'?"
    ]
    assert not found.of("checks/a.py::test_x")


def test_a_circle_is_refused() -> None:
    with pytest.raises(DependencyError) as caught:
        Dependencies(declared(test_x="test_y", test_y="test_z", test_z="test_x"))
    assert "leave one of them out" in str(caught.value)
    assert all(f"checks/a.py::test_{letter}" in str(caught.value) for letter in "xyz")


def test_an_uplink_is_needed_by_all_others() -> None:
    found = Dependencies({"checks/a.py::test_up": Declaration(uplink=True), DATABASE: NONE})
    assert found.of(DATABASE) == Needs((), ("checks/a.py::test_up",))
    assert not found.of("checks/a.py::test_up")


def run(check: str, outcome: Outcome, at: float = 100.0, **facts: object) -> Result:
    return Result(check, outcome, at, 0.1, reason="" if outcome is HELD else "why", facts=facts)


def told(results: list[Result]) -> list[tuple[str, Outcome, object]]:
    return [(one.check, one.outcome, one.facts.get("blocked_by")) for one in results]


NEEDS = {"api": Needs(("db",)), "page": Needs(("api",)), "shop": Needs(("db", "cache")), "far": Needs((), ("up",))}


def causes(*, anew: bool = False) -> Causes:
    return Causes(lambda result: NEEDS.get(result.check, Needs()), anew=anew)


def test_the_root_is_named_however_long_the_chain_and_whatever_the_order() -> None:
    for order in (("page", "api", "db"), ("db", "api", "page"), ("api", "page", "db")):
        found = causes()
        results = [one for check in order for one in found.take(run(check, FAILED))]
        assert sorted(told(results)) == [("api", BLOCKED, "db"), ("db", FAILED, None), ("page", BLOCKED, "db")]


def test_what_holds_is_told_at_once() -> None:
    assert told(causes().take(run("api", HELD))) == [("api", HELD, None)]


def test_what_fails_for_itself_is_told_when_its_dependency_is_known_to_hold() -> None:
    found = causes()
    assert found.take(run("api", FAILED)) == []
    assert found.awaited == {"db"}
    assert told(found.take(run("db", HELD))) == [("db", HELD, None), ("api", FAILED, None)]
    assert found.awaited == set()


def test_one_bad_dependency_is_enough_and_is_not_waited_with() -> None:
    found = causes()
    assert found.take(run("shop", FAILED)) == []
    assert told(found.take(run("cache", FAILED))) == [("cache", FAILED, None), ("shop", BLOCKED, "cache")]


def test_a_dependency_that_never_runs_blocks_nobody() -> None:
    found = causes()
    assert found.take(run("api", FAILED)) == []
    assert told(found.flush()) == [("api", FAILED, None)]
    assert found.awaited == set()


def test_a_result_from_before_the_run_began_tells_nothing_where_things_run_for_ever() -> None:
    found = causes(anew=True)
    found.take(run("db", HELD, 90.0))
    assert found.take(run("api", FAILED, 100.0)) == []
    assert told(found.take(run("db", HELD, 95.0))) == [("db", HELD, None)], "that one had begun before, too"
    assert told(found.take(run("db", FAILED, 101.0))) == [("db", FAILED, None), ("api", BLOCKED, "db")]
    assert told(found.take(run("api", FAILED, 105.0))) == [("api", BLOCKED, "db")], "known to be down"
    assert found.take(run("api", FAILED, 107.0)) == [], "it may be back"
    assert told(found.take(run("db", HELD, 107.0))) == [("db", HELD, None), ("api", FAILED, None)]


def test_without_an_uplink_nothing_is_known_of_what_is_far() -> None:
    found = causes()
    assert found.take(run("far", FAILED, asked="GET https://shop.example/")) == []
    (up, far) = found.take(run("up", FAILED))
    assert (up.outcome, far.outcome, far.facts["code"]) == (FAILED, ERROR, "own_uplink")
    assert far.reason == "not told: our own uplink is down"


def test_what_could_not_be_told_anyway_keeps_its_own_reason() -> None:
    found = causes()
    found.take(run("up", FAILED))
    (far,) = found.take(run("far", ERROR))
    assert (far.outcome, far.reason) == (ERROR, "why")


@pytest.mark.parametrize(
    "asked",
    ["GET http://127.0.0.1:9/", "GET http://localhost/x", "GET http://[::1]:80/", "TCP 127.0.0.1:5432", "icmp ::1",
     "ssh [::1]:22", "grpc localhost:1 shop.Orders", "process nginx"],
)  # fmt: skip
def test_what_is_on_this_machine_needs_no_uplink(asked: str) -> None:
    found = causes()
    found.take(run("up", FAILED))
    assert told(found.take(run("far", FAILED, asked=asked))) == [("far", FAILED, None)]


def test_one_of_two_uplinks_is_enough() -> None:
    two = Causes(lambda result: Needs((), ("up", "too")) if result.check == "far" else Needs(), anew=False)
    two.take(run("up", FAILED))
    two.take(run("too", HELD))
    assert told(two.take(run("far", FAILED))) == [("far", FAILED, None)]


def test_a_fixture_that_is_shared_is_the_cause() -> None:
    (one,) = causes().take(run("api", ERROR, fixture="database (checks)"))
    assert (one.outcome, one.facts["blocked_by"]) == (BLOCKED, "fixture database (checks)")
    assert one.reason == "blocked by fixture database (checks): why"
