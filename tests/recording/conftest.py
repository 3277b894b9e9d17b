"""A service with one of everything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from upcheck.exposition import page
from upcheck.recording import Recorder

SHOP = """\
service: shop
about: It sells.
otel_names: [shop, shop-api]
metrics:
  shop_requests_total:
    layer: application
    type: counter
    help: Requests.
    labels:
      method: [GET, POST]
      route: {any: a template, max: 3}
      status: [2xx, 4xx, 5xx]
  shop_request_duration_seconds:
    layer: application
    type: histogram
    help: Durations.
    labels: {method: [GET, POST], route: {any: a template, max: 3}}
    buckets: [0.1, 1]
    otel: {name: http.server.request.duration, labels: {method: http.request.method, route: http.route}}
  shop_errors_total:
    layer: application
    type: counter
    help: Errors.
  shop_carts:
    layer: business
    type: gauge
    help: Carts.
    labels: {state: [open, paid]}
  shop_carts_total:
    layer: business
    instead: {use: shop_carts, why: it is a gauge}
  shop_visitors:
    layer: business
    type: gauge
    help: Visitors.
  shop_sold_total:
    layer: business
    type: counter
    help: Money.
    labels: {paid: ["yes", "no"]}
events:
  request:
    help: A request was answered.
    fields:
      method: {type: text, span: [http.request.method]}
      route: {type: text, span: [http.route]}
      status: {type: http_status, span: [http.response.status_code]}
      seconds: {type: seconds, span: duration}
    span: {kind: server, has: [http.request.method]}
    records:
      - {metric: shop_requests_total, add: 1}
      - {metric: shop_request_duration_seconds, observe: seconds}
      - {metric: shop_errors_total, add: 1, when: {status: [5xx, "429"]}}
  carts:
    help: Carts were counted.
    fields: {open: {type: number}, paid: {type: number, optional: true}}
    records:
      - {metric: shop_carts, set: open, labels: {state: open}}
      - {metric: shop_carts, set: paid, labels: {state: paid}}
  sale:
    help: Something was sold.
    fields:
      paid: {type: boolean, words: ["yes", "no"], span: [shop.paid]}
      price: {type: number, span: [shop.price + shop.tax, shop.price]}
      note: {type: text, optional: true}
    span: {name: "sell *"}
    records:
      - {metric: shop_sold_total, add: price}
span_alerts:
  SaleFailed:
    span: {name: "sell *", error: true}
    severity: high
    summary: "{name} failed after {seconds} s in {shop.region}"
    labels: {category: sales}
    by: {region: shop.region}
    resolve_after: 2m
  SlowSale:
    span: {name: "sell *", longer_than: 5s}
    severity: low
    summary: slow
"""


@pytest.fixture
def shop(tmp_path: Path) -> Recorder:
    """A recorder of the shop, at one time for ever."""
    (tmp_path / "shop.yml").write_text(SHOP)
    recorder = Recorder.load(tmp_path)
    recorder.took("shop", 0)
    return recorder


@pytest.fixture
def samples() -> Callable[[Recorder], dict[str, float]]:
    """What the page of a recorder says: values by `name{label="value"}`, as prometheus_client's parser reads it."""

    def read(recorder: Recorder) -> dict[str, float]:
        found = {}
        for family in text_string_to_metric_families(page(recorder.blocks()).decode()):
            for sample in family.samples:
                labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
                found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
        return found

    return read
