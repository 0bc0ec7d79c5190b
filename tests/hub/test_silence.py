"""The hub's own watch over silent sites, in real time with short limits."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.fakes.agent import FakeAgent, order_json, ran
from tests.hub.running import RunningHub, running_hub
from yunhe.wire.link import StartLease

SETTINGS = {
    "poll_hold_ms": 200,
    "silent_after_ms": 800,
    "disconnect_limit_ms": 2_000,
    "disconnect_grace_ms": 500,
    "overdue_grace_ms": 1_000,
}


@pytest.fixture
def hub(database_url: str, tmp_path: Path) -> Iterator[RunningHub]:
    with running_hub(database_url, tmp_path / "hub", **SETTINGS) as running:
        yield running


def submit(customer: httpx.Client, site: FakeAgent, **changes: object) -> str:
    body = order_json(requirement={"cores": 0.5, "sites": [site.site_id]}, **changes)
    return str(customer.post("/v1/orders", content=body, headers={"Content-Type": "application/json"}).json()["id"])


def facts(customer: httpx.Client, order: str) -> list[str]:
    return [fact["kind"] for fact in customer.get(f"/v1/orders/{order}").json()["facts"]]


def until_fact(customer: httpx.Client, order: str, kind: str, timeout_s: float) -> None:
    until = time.monotonic() + timeout_s
    while kind not in facts(customer, order):
        assert time.monotonic() < until, (kind, facts(customer, order))
        time.sleep(0.1)


def test_silence_is_noticed_forgiven_and_at_last_given_up(hub: RunningHub) -> None:
    site, customer = hub.site(), hub.customer()
    order = submit(customer, site)
    [start] = site.wait_starts()
    site.poll(ran(start)[:1])
    fell_silent = time.monotonic()
    until_fact(customer, order, "unknown", 4)
    assert customer.get(f"/v1/orders/{order}").json()["tasks"] == {"unknown": 1}
    site.poll()
    assert customer.get(f"/v1/orders/{order}").json()["tasks"] == {"running": 1}

    fell_silent = time.monotonic()
    until_fact(customer, order, "retry", 8)
    assert time.monotonic() - fell_silent >= 2.5  # never before the site has stopped the job by its own clock
    fenced = [i for i in site.poll().instructions if i.kind == "cancel"]
    assert [(i.lease_id, i.epoch) for i in fenced] == [(start.lease_id, 1)]
    again: list[StartLease] = site.wait_starts()
    assert [(i.lease_id, i.epoch) for i in again] == [(start.lease_id, 2)]
    site.poll([*ran(start)[1:], *ran(again[0])])
    ended = customer.get(f"/v1/orders/{order}/wait", params={"timeout_ms": 10_000}).json()
    assert (ended["state"], ended["settled"]) == ("succeeded", True)
    usage = customer.get(f"/v1/orders/{order}/usage").json()
    assert [(c["epoch"], c["disputed"], c["price"]["total_microcny"] > 0) for c in usage["charges"]] == [
        (1, True, False),
        (2, False, True),
    ]
    assert hub.operator.get("/v1/trial-balance").json()["balanced"]


def test_an_overdue_run_is_stopped_and_a_missed_deadline_ends_an_order(hub: RunningHub) -> None:
    site, customer = hub.site(), hub.customer()
    order = submit(customer, site, duration="1s")
    [start] = site.wait_starts()
    site.poll(ran(start)[:1])
    hub.operator.post(f"/v1/sites/{site.site_id}/pause").raise_for_status()
    late = submit(customer, site, duration="1s", deadline="3s")
    told: list[str] = []
    until = time.monotonic() + 8
    while "cancel" not in told and time.monotonic() < until:
        told += [i.kind for i in site.poll(wait_ms=200).instructions]
    assert "cancel" in told and "overdue" in facts(customer, order)
    ended = customer.get(f"/v1/orders/{late}/wait", params={"timeout_ms": 8_000}).json()
    assert (ended["state"], ended["settled"], ended["charged_microcny"]) == ("failed", True, 0)
    [task] = customer.get(f"/v1/orders/{late}").json()["task_list"]
    assert task["reason"] == "deadline_missed"
