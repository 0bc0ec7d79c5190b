"""What a site says of its pools: who has the units, which of them work, which are on, and how long it lends them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.agent import FakeAgent, order_json
from tests.hub.running import RunningHub, running_hub
from yunhe.wire.link import PoolDigest, SyncAnswer

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def hub(database_url: str, tmp_path: Path) -> Iterator[RunningHub]:
    with running_hub(database_url, tmp_path / "hub", poll_hold_ms=2_000) as running:
        yield running


def say(site: FakeAgent, **digest: Any) -> SyncAnswer:
    message = site.sync_message().model_copy(update={"pools": (PoolDigest(name="cpu", **digest),)})
    answer = site.send("POST", "/v1/agent/sync", message.model_dump_json().encode())
    answer.raise_for_status()
    site.used_epoch = site.epoch
    parsed = SyncAnswer.model_validate_json(answer.content)
    site.applied_seq = max([site.applied_seq, *(item.seq for item in parsed.instructions)])
    return parsed


def use_of(hub: RunningHub, site: FakeAgent) -> dict[str, int | None]:
    [pool] = hub.operator.get(f"/v1/sites/{site.site_id}").json()["pools"]
    [listed] = [p for p in hub.operator.get("/v1/pools").json()["pools"] if p["id"] == pool["id"]]
    assert listed == pool
    names = ("capacity", "free", "leased", "foreign", "busy", "powered")
    return {name: pool[f"{name}_milli"] for name in names} | {"longest": pool["longest_ms"]}


def test_allocated_busy_and_powered_are_told_apart_and_nothing_is_guessed(hub: RunningHub) -> None:
    site = hub.site()
    silent = {
        "capacity": 4_000,
        "free": 4_000,
        "leased": 0,
        "foreign": 0,
        "busy": None,
        "powered": None,
        "longest": None,
    }
    assert use_of(hub, site) == silent
    say(site, foreign_milli=1_000, busy_milli=2_700, powered_milli=4_000)
    seen = {**silent, "free": 3_000, "foreign": 1_000, "busy": 2_700, "powered": 4_000}
    assert use_of(hub, site) == seen
    hub.customer().post("/v1/orders", content=order_json(), headers=JSON).raise_for_status()
    [start] = site.wait_starts()
    assert use_of(hub, site) == {**seen, "free": 2_500, "leased": start.slots * start.slot_milli}
    # A poll without pools says nothing new; one whose engine cannot say any more takes the figures back.
    site.poll()
    assert use_of(hub, site)["busy"] == 2_700
    say(site, foreign_milli=1_000)
    assert use_of(hub, site) == {**silent, "free": 2_500, "leased": 500, "foreign": 1_000}
    # Zero is a figure.
    say(site, foreign_milli=1_000, busy_milli=0, powered_milli=0)
    assert (use_of(hub, site)["busy"], use_of(hub, site)["powered"]) == (0, 0)


def test_more_than_there_is_leaves_nothing_free(hub: RunningHub) -> None:
    site = hub.site()
    say(site, foreign_milli=9_000)
    assert (use_of(hub, site)["free"], use_of(hub, site)["foreign"]) == (0, 4_000)


def test_a_longer_run_than_is_lent_waits_and_says_so(hub: RunningHub) -> None:
    site = hub.site()
    say(site, longest_ms=59_000)
    assert use_of(hub, site)["longest"] == 59_000
    customer = hub.customer()
    order = customer.post("/v1/orders", content=order_json(), headers=JSON).json()["id"]
    why = customer.get(f"/v1/orders/{order}/why").json()
    reason = why["sites"][0]["reasons"][0]
    assert (reason["code"], reason["need"], reason["have"]) == ("duration", "a run of 1m", "lent for 59s at most now")
    assert customer.get(f"/v1/orders/{order}").json()["state"] == "open"
    say(site)
    assert site.wait_starts()[0].lease_id == f"{order}.0"
