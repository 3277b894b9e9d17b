"""The catalogue: what is read, and what is refused at its line and column."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from upcheck import catalog
from upcheck.documents import DocumentError

SHIPPED = Path(__file__).parents[1] / "monitoring/services"
SHOP = """\
service: shop
about: It sells.
metrics:
  shop_orders_total:
    layer: business
    type: counter
    help: Orders.
    labels: {plan: [free, paid], region: {any: a region, max: 3}}
  shop_carts:
    layer: application
    type: gauge
    help: Carts.
  shop_carts_total:
    layer: application
    instead: {use: shop_carts, why: it is a gauge}
events:
  order:
    help: Somebody ordered.
    fields:
      plan: {type: text}
      region: {type: text}
    records:
      - {metric: shop_orders_total, add: 1}
"""


def load(folder: Path, text: str, name: str = "shop.yml") -> catalog.Service:
    (folder / name).write_text(text)
    return catalog.load(folder / name)


def test_a_service_is_read(tmp_path: Path) -> None:
    shop = load(tmp_path, SHOP)
    orders = shop.metrics["shop_orders_total"]
    assert (orders.layer, orders.type) == ("business", "counter")
    assert [(label.name, label.values, label.max) for label in orders.labels] == [
        ("plan", ("free", "paid"), 2),
        ("region", None, 3),
    ]
    assert shop.otel_names == ("shop",)
    (record,) = shop.events["order"].records
    assert (record.metric, record.action, record.value) == ("shop_orders_total", "add", 1.0)
    assert record.labels == {"plan": "$plan", "region": "$region"}


def test_another_name_of_a_metric_is_what_that_is(tmp_path: Path) -> None:
    alias = load(tmp_path, SHOP).metrics["shop_carts_total"]
    assert (alias.type, alias.help, alias.alias_of, alias.why) == ("gauge", "Carts.", "shop_carts", "it is a gauge")


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("service: shop", "service: Shop", "shop.yml:1:10: service: expected the service's name"),
        ("layer: business", "layer: busines", "shop.yml:5:12: layer: expected system, application or business"),
        ("    help: Orders.\n", "    halp: Orders.\n", "unknown key 'halp'; did you mean 'help'?"),
        ("    help: Orders.\n", "", "lacks 'help'"),
        ("type: counter", "type: gauge", "shop.yml:4:3: metrics.shop_orders_total: _total is the end of a counter's"),
        ("shop_carts:", "shop_carts_total_total:", "call it shop_carts_total"),
        ("{any: a region, max: 3}", "[]", "region: expected a list of values, or {any"),
        ("region: {any", "le: {any", "'le' is a label that Prometheus itself makes"),
        ("help: Carts.", "help: Carts.\n    buckets: [1]", "a gauge has none; only a histogram has"),
        ("help: Carts.", "help: Carts.\n    source: host.cpus", "unknown source 'host.cpus'; did you mean 'host.cpu'?"),
        ("use: shop_carts,", "use: shop_cart,", "'shop_cart' is no metric of this file; did you mean 'shop_carts'?"),
        ("metric: shop_orders_total", "metric: shop_order_total", "did you mean 'shop_orders_total'?"),
        ("add: 1", "set: 1", "a counter takes add, not set"),
        ("add: 1", "add: 1, set: 1", "a counter takes add, not add and set"),
        ("add: 1", "add: plan", "'plan' is no field with a number"),
        ("add: 1", "add: 1, labels: {plans: free}", "shop_orders_total has no label 'plans'; did you mean 'plan'?"),
        ("add: 1", "add: 1, labels: {plan: gold}", "'gold' is no value of it"),
        ("add: 1", "add: 1, labels: {plan: $user}", "'$user' is no field"),
        ("add: 1", "add: 1, when: {plann: free}", "'plann' is no field; did you mean 'plan'?"),
        ("      region: {type: text}\n", "", "says nothing of shop_orders_total's label 'region'"),
        ("      plan: {type: text}\n", "      class: {type: text}\n", "'class' can't be a field's name"),
        ("      plan: {type: text}", "      plan: {type: text, optional: true}", "follows an optional one"),
    ],
)
def test_what_is_wrong_is_said_at_its_place(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    assert old in SHOP
    with pytest.raises(DocumentError) as raised:
        load(tmp_path, SHOP.replace(old, new))
    assert sentence in str(raised.value)


def test_bounds_of_a_histogram_rise(tmp_path: Path) -> None:
    text = SHOP.replace("type: gauge\n    help: Carts.", "type: histogram\n    help: Carts.\n    buckets: [1, 1, 2]")
    with pytest.raises(DocumentError, match="expected finite bounds in rising order"):
        load(tmp_path, text)


def test_two_files_can_not_have_one_service(tmp_path: Path) -> None:
    load(tmp_path, SHOP)
    load(tmp_path, SHOP, "too.yml")
    with pytest.raises(DocumentError, match=r"service 'shop' is in shop\.yml, too"):
        catalog.load_all(tmp_path)


def test_one_metric_can_not_have_two_meanings(tmp_path: Path) -> None:
    load(tmp_path, SHOP)
    load(tmp_path, SHOP.replace("service: shop", "service: store").replace("plan: [free", "plans: [free")
         .replace("plan: {type", "plans: {type"), "store.yml")  # fmt: skip
    with pytest.raises(DocumentError, match=r"metric 'shop_orders_total' is also in shop\.yml"):
        catalog.load_all(tmp_path)


def test_no_folder_is_no_service(tmp_path: Path) -> None:
    assert catalog.load_all(tmp_path / "none") == []


def test_the_four_that_ship_are_read() -> None:
    names = [service.name for service in catalog.load_all(SHIPPED)]
    assert names == ["coderunner", "codesync", "codex-clone", "vibebox"]


def test_the_schema_is_one() -> None:
    text = resources.files("upcheck").joinpath("schemas/service.json").read_text(encoding="utf-8")
    validator = Draft202012Validator
    validator.check_schema(json.loads(text))
    errors = validator(json.loads(text)).iter_errors({"service": "a", "about": "b", "metrics": {}})
    assert [error.validator for error in errors] == ["minProperties"]
