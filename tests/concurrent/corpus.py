"""A suite that is hard on fixtures. It is run plainly and concurrently, and must tell the same; some of it fails."""

import asyncio
import logging
import os
import sys
import threading
import time
import unittest
import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

# How long an example takes is the machine's affair, and which are tried should be the same in each run.
steady = settings(deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))

TORN_DOWN: list[str] = []
MADE: dict[str, int] = {}


def made(name: str) -> int:
    MADE[name] = MADE.get(name, 0) + 1
    return MADE[name]


@pytest.fixture(scope="session")
def server():
    time.sleep(0.05)  # long enough for others to want it meanwhile
    yield made("server")
    TORN_DOWN.append("server")


@pytest.fixture(scope="session", params=["eu", "us"])
def region(request, server):
    yield request.param
    TORN_DOWN.append(request.param)


@pytest.fixture(scope="module")
def database(region):
    time.sleep(0.02)
    return {"region": region, "number": made(f"database {region}")}


@pytest.fixture(scope="class")
def account(request, database):
    return request.cls, database["region"], made(f"account {request.cls} {database['region']}")


@pytest.fixture
def basket(database):
    items: list[int] = []
    yield items
    items.append(-1)


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path):
    (tmp_path / "mine").write_text("x")
    return tmp_path


@pytest.mark.parametrize("number", range(20))
def test_baskets_are_not_shared(basket, number, in_a_folder_of_its_own):
    assert basket == []
    basket.append(number)
    time.sleep(0.002)
    assert basket == [number]
    assert [path.name for path in in_a_folder_of_its_own.iterdir()] == ["mine"]


@pytest.mark.parametrize("number", range(10))
def test_wider_fixtures_are_made_once_for_each_parameter(database, server, region, number):
    assert server == 1
    assert database["region"] == region
    assert database["number"] == 1


class TestAccount:
    seen = 0

    def setup_method(self):
        self.mine = 0

    def test_class_fixture(self, account, region):
        assert account == (TestAccount, region, 1)

    @pytest.mark.parametrize("number", range(5))
    def test_instances_are_not_shared(self, number):
        self.mine += 1
        time.sleep(0.002)
        assert self.mine == 1


class TestOtherAccount:
    def test_class_fixture(self, account, region):
        assert account == (TestOtherAccount, region, 1)


@pytest.fixture(params=[1, 2, 3])
def number(request):
    return request.param


@pytest.fixture
def doubled(number):
    return number * 2


def test_function_parameters(doubled, number):
    assert doubled == 2 * number


@pytest.fixture
def overridden():
    return "outer"


class TestOverride:
    @pytest.fixture
    def overridden(self, overridden):
        return f"inner of {overridden}"

    def test_it(self, overridden):
        assert overridden == "inner of outer"


@pytest.mark.parametrize("region", ["asia"], indirect=True, scope="module")
def test_indirect(region, database):
    assert database["region"] == "asia"


@pytest.mark.parametrize("name", ["basket", "tmp_path", "nothing_of_that_name"])
def test_late_request(request, name):
    assert request.getfixturevalue(name) is not None


@pytest.mark.usefixtures("basket")
def test_used_without_a_value(request):
    assert "basket" in request.fixturenames


def test_request(request):
    assert request.node.name == "test_request"
    assert isinstance(request.session, pytest.Session)
    assert request.module.__name__.endswith("corpus") or "corpus" in request.module.__file__
    request.addfinalizer(lambda: None)


@pytest.fixture
def broken():
    raise RuntimeError("no basket")


@pytest.fixture(scope="module")
def broken_for_all():
    made("broken_for_all")
    raise RuntimeError("for all")


@pytest.fixture
def broken_afterwards():
    yield 1
    raise RuntimeError("not put back")


def test_setup_fails(broken):
    pass


@pytest.mark.parametrize("number", range(4))
def test_module_setup_fails(broken_for_all, number):
    pass


def test_it_failed_once():
    assert MADE.get("broken_for_all", 0) <= 1


def test_teardown_fails(broken_afterwards):
    assert broken_afterwards == 1


def test_call_and_teardown_fail(broken_afterwards):
    assert broken_afterwards == 2


@pytest.mark.xfail
def test_expected_to_fail():
    assert [1, 2] == [1, 3]


@pytest.mark.xfail(strict=True)
def test_strictly_expected_to_fail():
    pass


@pytest.mark.xfail(raises=KeyError)
def test_expected_to_fail_otherwise():
    raise ValueError("not that")


@pytest.mark.skip(reason="not now")
def test_skipped():
    raise AssertionError


@pytest.mark.skipif(sys.platform != "nowhere", reason="elsewhere")
def test_skipped_if():
    raise AssertionError


def test_skips_itself():
    pytest.skip("by itself")


def test_fails_by_itself():
    pytest.fail("by itself")


def test_xfails_by_itself():
    pytest.xfail("by itself")


def test_prints(capsys):
    print("to stdout")
    assert capsys.readouterr().out == "to stdout\n"


def test_logs(caplog):
    logging.getLogger("corpus").warning("told")
    assert caplog.messages == ["told"]


def test_prints_and_fails():
    print("seen in the report")
    logging.getLogger("corpus").error("logged in the report")
    assert {"a": 1} == {"a": 2}


@pytest.mark.parametrize("value", ["a", "b", "c"])
def test_environment(monkeypatch, value):
    monkeypatch.setenv("CORPUS", value)
    time.sleep(0.01)
    assert os.environ["CORPUS"] == value


def test_warns():
    with pytest.warns(UserWarning, match="careful"):
        warnings.warn("careful", UserWarning, stacklevel=1)


@pytest.mark.filterwarnings("error")
def test_warning_as_error():
    warnings.warn("an error here", UserWarning, stacklevel=1)


def test_raises():
    with pytest.raises(ZeroDivisionError):
        _ = 1 / 0


def test_exits():
    raise SystemExit(0)


def test_recurses():
    def deeper(level):
        return deeper(level + 1)

    with pytest.raises(RecursionError):
        deeper(0)


def test_threads_of_its_own():
    told: list[int] = []
    threads = [threading.Thread(target=told.append, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(told) == list(range(5))


def test_a_loop_of_its_own():
    assert asyncio.run(asyncio.sleep(0, 7)) == 7


@steady
@given(st.lists(st.integers()))
def test_property(numbers):
    assert sorted(numbers, reverse=True) == sorted(numbers)[::-1]


@steady
@given(st.integers())
def test_false_property(number):
    assert number < 100


class TestUnittest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.shared = made("setUpClass")

    def setUp(self):
        self.own = []

    def test_own(self):
        self.own.append(1)
        self.assertEqual(self.own, [1])
        self.assertEqual(self.shared, 1)

    def test_fails(self):
        self.assertEqual(1, 2)

    @unittest.skip("not now")
    def test_skipped(self):
        raise AssertionError

    @unittest.expectedFailure
    def test_expected(self):
        self.assertTrue(False)

    def test_sub(self):
        for number in range(3):
            with self.subTest(number=number):
                self.assertLess(number, 3)


def test_cleanup_by_property(record_property, tmp_path_factory):
    record_property("answer", 42)
    assert isinstance(tmp_path_factory.mktemp("there"), Path)
