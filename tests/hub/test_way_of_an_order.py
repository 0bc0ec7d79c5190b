"""One order through every stage of a real hub, with an agent that speaks the real link."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.agent import order_json, ran
from tests.hub.running import RunningHub, running_hub
from yunhe.core.lifecycle import EndReason

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def hub(database_url: str, tmp_path: Path) -> Iterator[RunningHub]:
    with running_hub(database_url, tmp_path / "hub", poll_hold_ms=2_000) as running:
        yield running


def test_an_order_runs_is_measured_and_settled(hub: RunningHub) -> None:
    site = hub.site()
    customer = hub.customer()
    submitted = customer.post("/v1/orders", content=order_json(), headers=JSON)
    assert submitted.status_code == 201, submitted.text
    order = submitted.json()
    assert order["state"] == "open" and order["hold_microcny"] > 0
    held = customer.get("/v1/balance").json()
    assert held["held_microcny"] == order["hold_microcny"]

    [start] = site.wait_starts()
    assert start.lease_id == f"{order['id']}.0" and start.command == ("true",)
    assert (start.slots, start.slot_milli) == (1, 500)
    site.poll(ran(start, wall_ms=3_000))

    ended = customer.get(f"/v1/orders/{order['id']}/wait", params={"timeout_ms": 10_000}).json()
    assert (ended["state"], ended["settled"]) == ("succeeded", True)
    usage = customer.get(f"/v1/orders/{order['id']}/usage").json()
    [charge] = usage["charges"]
    assert 0 < charge["price"]["total_microcny"] == ended["charged_microcny"] <= order["hold_microcny"]
    assert charge["compute_delivered"]["fp64"] == 20_000_000_000 * 3 // 2  # half a core for 3 s
    balance = customer.get("/v1/balance").json()
    assert balance["held_microcny"] == 0
    assert balance["available_microcny"] == 100_000_000 - ended["charged_microcny"]
    trial = hub.operator.get("/v1/trial-balance").json()
    assert trial["balanced"] and set(trial["sum_by_unit"].values()) == {0}
    stats = hub.operator.get("/v1/stats").json()
    assert (stats["usage_records"], stats["usage_gaps"], stats["orders"]) == (1, 0, {"succeeded": 1})


def test_an_unmeetable_order_stays_open_says_why_and_is_withdrawn(hub: RunningHub) -> None:
    hub.site()
    customer = hub.customer()
    body = order_json(requirement={"compute": "20PFLOPS@bf16", "latency": "1ms:urumqi"})
    order = customer.post("/v1/orders", content=body, headers=JSON).json()
    why = customer.get(f"/v1/orders/{order['id']}/why").json()
    assert {"compute", "latency"} <= {reason["code"] for reason in why["sites"][0]["reasons"]}
    cancelled = customer.post(f"/v1/orders/{order['id']}/cancel").json()
    assert cancelled["state"] == "withdrawn"
    ended = customer.get(f"/v1/orders/{order['id']}/wait", params={"timeout_ms": 5_000}).json()
    assert ended["settled"]
    assert customer.get("/v1/balance").json()["available_microcny"] == 100_000_000


def test_a_cancelled_order_is_charged_for_what_ran(hub: RunningHub) -> None:
    site = hub.site()
    customer = hub.customer()
    order = customer.post("/v1/orders", content=order_json(), headers=JSON).json()
    [start] = site.wait_starts()
    customer.post(f"/v1/orders/{order['id']}/cancel").raise_for_status()
    [cancel] = site.poll(wait_ms=2_000).instructions
    assert (cancel.kind, cancel.lease_id, cancel.epoch) == ("cancel", start.lease_id, start.epoch)
    site.poll(ran(start, wall_ms=3_000, exit_code=None, reason=EndReason.CANCELLED))
    ended = customer.get(f"/v1/orders/{order['id']}/wait", params={"timeout_ms": 5_000}).json()
    assert ended["state"] == "cancelled" and ended["charged_microcny"] > 0


def test_the_same_key_is_the_same_order(hub: RunningHub) -> None:
    hub.site()
    customer = hub.customer()
    headers = {**JSON, "Idempotency-Key": "once"}
    first = customer.post("/v1/orders", content=order_json(), headers=headers)
    again = customer.post("/v1/orders", content=order_json(), headers=headers)
    other = customer.post("/v1/orders", content=order_json(duration="2m"), headers=headers)
    assert (first.status_code, again.status_code, other.status_code) == (201, 200, 409)
    assert first.json()["id"] == again.json()["id"]
    assert other.json()["code"] == "idempotency_conflict"
    assert len(customer.get("/v1/orders").json()["orders"]) == 1


def test_an_array_runs_every_task_once(hub: RunningHub) -> None:
    site = hub.site()
    customer = hub.customer()
    body = order_json(array=20, requirement={"cores": 0.5, "memory": "64MiB"}, budget="10CNY")
    order = customer.post("/v1/orders", content=body, headers=JSON).json()
    seen: list[str] = []
    while len(seen) < 20:
        starts = site.wait_starts()
        assert len(starts) <= 8  # four cores hold eight tasks of half a core
        seen += [start.env["YUNHE_TASK_INDEX"] for start in starts]
        site.poll([report for start in starts for report in ran(start)])
    assert sorted(map(int, seen)) == list(range(20))
    ended = customer.get(f"/v1/orders/{order['id']}/wait", params={"timeout_ms": 5_000}).json()
    assert (ended["state"], ended["tasks"]) == ("succeeded", {"succeeded": 20})
    assert hub.operator.get("/v1/trial-balance").json()["balanced"]
