"""Events: what they record, what is refused, and that nothing is lost to a cap."""

from __future__ import annotations

import contextlib
import math
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from upcheck.exposition import page
from upcheck.recording import Recorder, RecordingError

Samples = Callable[[Recorder], dict[str, float]]
REQUEST = {"service": "shop", "event": "request", "method": "GET", "route": "/x", "status": 200, "seconds": 0.5}


def test_one_call_does_all_that_an_event_records(shop: Recorder, samples: Samples) -> None:
    request = shop.event("shop", "request")
    request("GET", "/carts/{id}", 200, 0.5)
    request("GET", "/carts/{id}", 503, 2)
    told = samples(shop)
    assert told['shop_requests_total{method="GET",route="/carts/{id}",status="2xx"}'] == 1
    assert told['shop_requests_total{method="GET",route="/carts/{id}",status="5xx"}'] == 1
    assert told['shop_request_duration_seconds_bucket{method="GET",route="/carts/{id}",le="1.0"}'] == 1
    assert told['shop_request_duration_seconds_sum{method="GET",route="/carts/{id}"}'] == 2.5
    assert told["shop_errors_total"] == 1


def test_a_condition_knows_codes_and_classes(shop: Recorder, samples: Samples) -> None:
    for status in (200, 404, 429, 500):
        shop.event("shop", "request")("GET", "/", status, 0)
    assert samples(shop)["shop_errors_total"] == 2


def test_a_gauge_that_was_never_set_is_not_there(shop: Recorder, samples: Samples) -> None:
    told = samples(shop)
    assert "shop_visitors" not in told
    assert told["shop_errors_total"] == 0


def test_what_an_optional_field_feeds_is_left_out_without_it(shop: Recorder, samples: Samples) -> None:
    shop.event("shop", "carts")(3)
    assert 'shop_carts{state="paid"}' not in samples(shop)
    shop.event("shop", "carts")(3, 4)
    shop.event("shop", "carts")(5, None)
    assert samples(shop)['shop_carts{state="open"}'] == 5
    assert samples(shop)['shop_carts{state="paid"}'] == 4


def test_another_name_has_the_same_series(shop: Recorder, samples: Samples) -> None:
    shop.event("shop", "carts")(3, 4)
    told = samples(shop)
    assert told['shop_carts_total{state="open"}'] == told['shop_carts{state="open"}'] == 3
    assert b"# TYPE shop_carts_total gauge\n" in page(shop.blocks())


def test_a_boolean_shows_its_words(shop: Recorder, samples: Samples) -> None:
    shop.event("shop", "sale")(True, 9.5)
    shop.event("shop", "sale")(False, 1, "a note")
    told = samples(shop)
    assert (told['shop_sold_total{paid="yes"}'], told['shop_sold_total{paid="no"}']) == (9.5, 1)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"status": "200"}, "status: expected a status from 100 to 599, not '200'"),
        ({"status": 99}, "status: expected a status from 100 to 599, not 99"),
        ({"status": 200.5}, "status: expected a status from 100 to 599, not 200.5"),
        ({"seconds": -0.1}, "seconds: expected seconds, a number that is not negative, not -0.1"),
        ({"seconds": math.nan}, "not nan"),
        ({"seconds": math.inf}, "not inf"),
        ({"seconds": 10**400}, "seconds: expected seconds"),
        ({"seconds": "1"}, "seconds: expected seconds, a number that is not negative, not '1'"),
        ({"seconds": None}, "not nothing"),
        ({"method": ["GET"]}, "method: expected text, not ['GET']"),
        ({"route": {}}, "route: expected text, not {}"),
        ({"rout": "/y"}, "request has no field 'rout'; did you mean 'route'?"),
        ({"event": "reqest"}, "event: 'reqest' is none of shop's; did you mean 'request'?"),
        ({"event": 7}, "event: 7 is none of shop's"),
        ({"service": "shpo"}, "service: 'shpo' is in no file of the catalogue; did you mean 'shop'?"),
        ({"service": ["shop"]}, "is in no file of the catalogue"),
    ],
)
@pytest.mark.parametrize("known", [False, True], ids=["first", "after a good one"])
def test_what_can_not_be_recorded_is_refused_whole(
    shop: Recorder, samples: Samples, change: dict[str, Any], sentence: str, known: bool
) -> None:
    if known:
        shop.tell(REQUEST)
    before = samples(shop)
    with pytest.raises(RecordingError) as raised:
        shop.tell(REQUEST | change)
    assert sentence in str(raised.value)
    assert len(str(raised.value)) < 400
    assert samples(shop) == before


def test_a_misspelt_field_is_told_before_the_one_that_it_lacks(shop: Recorder) -> None:
    told = {**REQUEST, "rout": REQUEST["route"]}
    del told["route"]
    with pytest.raises(RecordingError, match="has no field 'rout'; did you mean 'route'"):
        shop.tell(told)


def test_a_field_that_is_missing_is_named(shop: Recorder) -> None:
    with pytest.raises(RecordingError, match="route: expected text, not nothing"):
        shop.tell({name: value for name, value in REQUEST.items() if name != "route"})


def test_a_counter_only_grows(shop: Recorder) -> None:
    with pytest.raises(RecordingError, match="a negative number can't be added"):
        shop.event("shop", "sale")(True, -1)


def test_a_metric_can_be_told_without_an_event(shop: Recorder, samples: Samples) -> None:
    shop.tell({"service": "shop", "metric": "shop_visitors", "set": 7})
    shop.tell({"service": "shop", "metric": "shop_visitors", "add": -2})
    shop.tell({"service": "shop", "metric": "shop_carts_total", "set": 5, "labels": {"state": "open"}})
    labels = {"method": "GET", "route": "/"}
    shop.tell({"service": "shop", "metric": "shop_request_duration_seconds", "observe": 0.5, "labels": labels})
    told = samples(shop)
    assert (told["shop_visitors"], told['shop_carts{state="open"}']) == (5, 5)
    assert told['shop_request_duration_seconds_count{method="GET",route="/"}'] == 1


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ({"metric": "shop_visitor", "set": 1}, "did you mean 'shop_visitors'?"),
        ({"metric": "shop_visitors", "observe": 1}, "shop_visitors is a gauge, which takes set or add, not observe"),
        ({"metric": "shop_visitors", "set": math.nan}, "expected a finite number, not nan"),
        ({"metric": "shop_visitors", "set": "7"}, "expected a finite number, not '7'"),
        ({"metric": "shop_errors_total", "add": -1}, "expected a number that is not negative, not -1"),
        ({"metric": "shop_carts", "set": 1}, "label 'state': expected text, not nothing"),
        ({"metric": "shop_carts", "set": 1, "labels": {"state": 1}}, "label 'state': expected text, not 1"),
        ({"metric": "shop_carts", "set": 1, "labels": {"state": "open", "x": "y"}}, "shop_carts has no label 'x'"),
        ({"metric": "shop_carts", "labels": []}, "expected an event with its fields, or a metric with"),
        ({"metric": "shop_visitors", "set": 1, "add": 1}, "with add, set or observe"),
        ({}, "expected an event with its fields, or a metric with"),
    ],
)
def test_a_metric_that_can_not_be_told_is_refused(shop: Recorder, told: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RecordingError) as raised:
        shop.tell({"service": "shop", **told})
    assert sentence in str(raised.value)


def test_values_beyond_a_cap_become_other_and_no_sample_is_lost(shop: Recorder, samples: Samples) -> None:
    request = shop.event("shop", "request")
    for number in range(500):
        request("GET", f"/{number}", 200, 0.5)
    request("BREW", "/0", 200, 0.5)
    told = samples(shop)
    counts = {name: value for name, value in told.items() if name.startswith("shop_requests_total")}
    assert sum(counts.values()) == 501
    assert counts['shop_requests_total{method="GET",route="other",status="2xx"}'] == 497
    assert counts['shop_requests_total{method="other",route="/0",status="2xx"}'] == 1
    dropped = 'upcheck_label_values_dropped_total{metric="shop_requests_total",label="%s"}'
    assert (told[dropped % "route"], told[dropped % "method"]) == (497, 1)


def test_what_has_become_other_is_not_remembered_by_its_value(shop: Recorder) -> None:
    request = shop.event("shop", "request")
    request("GET", "/0", 200, 0.5)
    before = sys.getsizeof(request._known)
    for number in range(20_000):
        request("GET", f"/{number}", 200, 0.5)
    assert sys.getsizeof(request._known) <= before + 1000


def test_a_label_is_cut_and_stays_valid(shop: Recorder, samples: Samples) -> None:
    shop.event("shop", "request")("GET", 'a"\\\n\ud800' + "x" * 10_000, 200, 0.5)
    name = next(name for name in samples(shop) if name.startswith("shop_requests_total"))
    assert len(name) < 250


def test_threads_lose_nothing(shop: Recorder, samples: Samples) -> None:
    request = shop.event("shop", "request")

    def work(number: int) -> None:
        for _ in range(2000):
            request("GET", f"/{number % 5}", 200, 0.5)

    threads = [threading.Thread(target=work, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        page(shop.blocks())
    for thread in threads:
        thread.join()
    told = samples(shop)
    assert sum(value for name, value in told.items() if name.startswith("shop_requests_total")) == 16_000
    assert (
        sum(value for name, value in told.items() if name.startswith("shop_request_duration_seconds_count")) == 16_000
    )


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.text() | st.floats() | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(told=st.dictionaries(st.sampled_from([*REQUEST, "metric", "labels", "add"]), ANYTHING))
def test_whatever_is_told_is_recorded_or_refused(shop: Recorder, told: dict[str, Any]) -> None:
    with contextlib.suppress(RecordingError):
        shop.tell(REQUEST | told)
    assert list(text_string_to_metric_families(page(shop.blocks()).decode()))


def test_all_metrics_together_have_a_cap(shop: Recorder, samples: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("upcheck.recording.MAX_SERIES", 10)
    for number in range(200_000 // 100):
        shop.event("shop", "request")("GET", f"/{number % 3}", 200 + number % 300, 0.5)
        shop.tell({"service": "shop", "metric": "shop_visitors", "set": number})
    told = samples(shop)
    assert sum(value for name, value in told.items() if name.startswith("shop_requests_total")) == 2000
    assert len(told) < 60
    assert told["shop_visitors"] == 1999
