"""Rounds that a hub keeps come back whole, and say of each order why it went where it did."""

import time
import zlib
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest

from benchmarks.round_scale import NOW_MS, shapes, supply
from tests.hub.conftest import FakeClock
from tests.hub.running import RunningHub
from tests.hub.world import World
from yunhe.core.errors import InvalidInput
from yunhe.core.placement.feasible import CODES
from yunhe.core.placement.review import CODES as MORE_CODES
from yunhe.core.policy import Policy
from yunhe.core.round import AccountShare, Queue, Snapshot, plan_round
from yunhe.hub.matching import keeping
from yunhe.hub.matching.keeping import Decided, Keeper
from yunhe.hub.matching.looking import Rounds
from yunhe.hub.platform.context import Platform
from yunhe.wire.rounds import RecordedRound, from_parts, read_supply, rest_part, supply_part, to_line

PATIENCE_S = 20


def queue_of(count: int, kinds: int) -> Queue:
    return Queue(
        ids=tuple(f"order-{i}" for i in range(count)),
        shape=(np.arange(count) % kinds).astype(np.int32),
        account=np.zeros(count, dtype=np.int32),
        priority=np.zeros(count, dtype=np.int16),
        submitted_ms=np.full(count, NOW_MS, dtype=np.int64),
        tasks=np.ones(count, dtype=np.int32),
        version=np.ones(count, dtype=np.int64),
    )


@pytest.fixture(scope="module")
def recorded() -> RecordedRound:
    asked = shapes()
    lab = AccountShare("lab", 1, 0, None)
    snapshot = Snapshot(supply(np.random.default_rng(1), 1.0), asked, (lab,), queue_of(60, len(asked)))
    return RecordedRound(snapshot, Policy(), NOW_MS, 7, plan_round(snapshot, Policy(), NOW_MS, 7))


def test_a_round_in_two_parts_is_the_same_round(recorded: RecordedRound) -> None:
    supplied, rest = supply_part(recorded.snapshot.supply), rest_part(recorded)
    assert to_line(from_parts(read_supply(supplied), rest)) == to_line(recorded)
    for broken in (b"nonsense", b"{}", b"[]", b'{"format":1}', rest.replace(b'"format":1', b'"format":2')):
        with pytest.raises(InvalidInput):
            from_parts(read_supply(supplied), broken)
    with pytest.raises(InvalidInput):
        read_supply(b'{"pools":[{}]}')


def keep(platform: Platform, keeper: Keeper, *rounds: RecordedRound) -> None:
    for item in rounds:
        keeper.note(Decided(item, "submitted", 1, 1.5))
    while keeper._pending:
        some = [keeper._pending.popleft()]
        with platform.db.write_engine.begin() as conn:
            keeper._add(keeping.Tx(conn, 1), [keeper._written(some)])


def test_only_the_newest_are_kept(platform: Platform, recorded: RecordedRound) -> None:
    settings = platform.settings.model_copy(update={"round_keep": 20})
    object.__setattr__(platform, "settings", settings)
    keeper = Keeper(platform)
    keep(platform, keeper, *[recorded] * 50)
    rounds = Rounds()
    with platform.db.reading() as conn:
        found = rounds.page(conn, None, 1000).rounds
        assert 20 <= len(found) <= 22
        assert [item.id for item in found] == sorted((item.id for item in found), reverse=True)
        second = rounds.page(conn, str(found[4].id), 3)
        assert [item.id for item in second.rounds] == [item.id for item in found[5:8]]
        assert conn.exec_driver_sql("SELECT count(*) FROM round_supply").scalar_one() == 1


def test_their_bytes_are_bounded_and_the_newest_is_always_there(platform: Platform, recorded: RecordedRound) -> None:
    settings = platform.settings.model_copy(update={"round_keep_bytes": 1})
    object.__setattr__(platform, "settings", settings)
    keep(platform, Keeper(platform), *[recorded] * 5)
    with platform.db.reading() as conn:
        (kept,) = Rounds().page(conn, None, 1000).rounds
        detail = Rounds().detail(conn, kept.id, None, 2)
        assert (detail.pools, len(detail.orders), detail.next_cursor) == (200, 2, "2")
        line = Rounds().detail(conn, kept.id, "58", 100).orders
        assert [item.order_id for item in line] == ["order-58", "order-59"]


def test_of_rounds_that_come_too_fast_the_oldest_are_left_out(platform: Platform, recorded: RecordedRound) -> None:
    keeper = Keeper(platform)
    for _ in range(keeping.PENDING_ROUNDS + 5):
        keeper.note(Decided(recorded, "time", 0, 1.0))
    assert len(keeper._pending) <= keeping.PENDING_ROUNDS
    assert keeper._pending_rows == sum(item.rows for item in keeper._pending) <= keeping.PENDING_ROWS


# --- why, of one order --------------------------------------------------------------------------------------------


def test_every_pool_is_chosen_or_has_its_reason(platform: Platform, recorded: RecordedRound) -> None:
    keep(platform, Keeper(platform), recorded)
    rounds = Rounds()
    with platform.db.reading() as conn:
        number = rounds.page(conn, None, 1).rounds[0].id
        for order_id in recorded.snapshot.queue.ids:
            found = rounds.order(conn, number, order_id)
            chosen = {c.pool_id: c.tasks for c in found.candidates if c.tasks}
            went = {a.pool_id: a.tasks for a in recorded.plan.assignments if a.order_id == order_id}
            assert chosen == went
            assert found.fitting + len(found.refused) >= 200 or len(found.refused) == 100
            for candidate in found.candidates:
                assert bool(candidate.reasons) != bool(candidate.tasks)
                assert {r.code for r in candidate.reasons} <= CODES | MORE_CODES
            assert all(site.reasons for site in found.refused)


def test_what_came_before_took_the_better_place(platform: Platform, clock: FakeClock) -> None:
    """Two orders for one site's four cores: the second waits, and says who keeps it: nobody by name."""
    world = World(platform, clock)
    world.organisation("lab")
    world.site("north", cores=4)
    first, second = (world.submit("lab", requirement={"cores": 3}) for _ in range(2))
    view = world.view()
    plan = plan_round(view.snapshot, platform.settings.policy, clock.now_ms(), 1)
    keep(platform, Keeper(platform), RecordedRound(view.snapshot, platform.settings.policy, clock.now_ms(), 1, plan))
    rounds = Rounds()
    with platform.db.reading() as conn:
        number = rounds.page(conn, None, 1).rounds[0].id
        placed, waits = rounds.order(conn, number, first), rounds.order(conn, number, second)
    assert (placed.assigned, waits.assigned, waits.fitting) == (1, 0, 1)
    assert [r.code for r in waits.candidates[0].reasons] == ["taken"]
    assert (waits.candidates[0].free_milli, waits.candidates[0].left_milli) == (4000, 1000)
    assert first not in waits.model_dump_json()


def test_a_quota_that_is_used_up_is_the_reason(platform: Platform, clock: FakeClock) -> None:
    world = World(platform, clock)
    world.organisation("lab", quota_milli=1000)
    world.site("north", cores=4)
    order_id = world.submit("lab", array=2, requirement={"cores": 1})
    view = world.view()
    plan = plan_round(view.snapshot, platform.settings.policy, clock.now_ms(), 1)
    keep(platform, Keeper(platform), RecordedRound(view.snapshot, platform.settings.policy, clock.now_ms(), 1, plan))
    rounds = Rounds()
    with platform.db.reading() as conn:
        found = rounds.order(conn, rounds.page(conn, None, 1).rounds[0].id, order_id)
    assert (found.tasks, found.assigned) == (2, 1)
    assert [r.code for r in found.candidates[0].reasons] == ["quota"]


def test_nothing_that_an_order_runs_is_in_a_round(platform: Platform, clock: FakeClock) -> None:
    world = World(platform, clock)
    world.organisation("lab")
    world.site("north", cores=4)
    run = {"command": ["print", "HUSH-1"], "env": {"TOKEN": "HUSH-2"}, "files": {"a.txt": "HUSH-3"}}
    order_id = world.submit("lab", run=run, name="HUSH-4")
    view = world.view()
    plan = plan_round(view.snapshot, platform.settings.policy, clock.now_ms(), 1)
    keep(platform, Keeper(platform), RecordedRound(view.snapshot, platform.settings.policy, clock.now_ms(), 1, plan))
    ((body,),) = world.rows("SELECT body FROM round")
    text = zlib.decompress(body)
    assert order_id.encode() in text and b"HUSH" not in text


# --- by the API ---------------------------------------------------------------------------------------------------


def test_the_api_shows_a_round_to_operators_alone(shared_hub: RunningHub) -> None:
    customer = shared_hub.customer("onlooker")
    shared_hub.site("rounds-north")
    spec = {"run": {"command": ["true"]}, "requirement": {"cores": 1}, "budget": "1CNY"}
    order_id = customer.post("/v1/orders", json=spec).json()["id"]
    line = until(shared_hub.operator, lambda found: order_id in found, "/v1/rounds")
    shown = shared_hub.operator.get(f"/v1/rounds/{line['summary']['id']}/orders/{order_id}").json()
    assert shown["assigned"] == 1
    assert [c["rank"] for c in shown["candidates"]] == list(range(1, len(shown["candidates"]) + 1))
    for path in ("/v1/rounds", f"/v1/rounds/{line['summary']['id']}", f"/v1/rounds/1/orders/{order_id}"):
        assert customer.get(path).status_code == 403
    missing = shared_hub.operator.get(f"/v1/rounds/{line['summary']['id']}/orders/ord_nobody")
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
    assert shared_hub.operator.get("/v1/rounds/999999999").status_code == 404
    assert shared_hub.operator.get("/v1/rounds?cursor=x").status_code == 422


def until(operator: httpx.Client, wanted: Callable[[set[str]], bool], path: str) -> dict[str, Any]:
    """The first round that is kept and has the order."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        for item in operator.get(path).json()["rounds"]:
            detail: dict[str, Any] = operator.get(f"{path}/{item['id']}").json()
            if wanted({order["order_id"] for order in detail["orders"]}):
                return detail
        time.sleep(0.1)
    raise AssertionError("no such round was kept")


# --- why an order is where it is ----------------------------------------------------------------------------------


def why_of(customer: httpx.Client, order_id: str) -> dict[str, Any]:
    """As soon as the round that placed it is kept."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        found: dict[str, Any] = customer.get(f"/v1/orders/{order_id}/why").json()
        if found["placings"] and found["placings"][0]["chosen"]:
            return found
        time.sleep(0.1)
    raise AssertionError(found)


def test_an_order_that_ran_says_why_it_ran_there(shared_hub: RunningHub) -> None:
    customer = shared_hub.customer("asker")
    dear, cheap = shared_hub.site("why-dear"), shared_hub.site("why-cheap")
    for site, price in ((dear, "9CNY"), (cheap, "0.01CNY")):
        shared_hub.operator.put(f"/v1/sites/{site.site_id}/terms", json={"price_per_core_hour": price})
    where = {"cores": 1, "sites": [dear.site_id, cheap.site_id]}
    spec = {"run": {"command": ["false"]}, "requirement": where, "budget": "5CNY"}
    order_id = customer.post("/v1/orders", json=spec).json()["id"]
    found = why_of(customer, order_id)
    (placing,) = found["placings"]
    assert (placing["site_id"], placing["fitting"]) == (cheap.site_id, 2)
    assert placing["chosen"]["price"]["total_microcny"] < placing["others"][0]["price"]["total_microcny"]
    assert [other["site_id"] for other in placing["others"]] == [dear.site_id]
    assert [reason["code"] for reason in placing["others"][0]["reasons"]] == ["price"]
    assert "the cheapest of 2 places that fitted" in placing["text"]
    assert "Next best was why-dear" in placing["text"]
    stranger = shared_hub.customer("stranger-to-why")
    assert stranger.get(f"/v1/orders/{order_id}/why").status_code == 404


def test_a_chip_that_nobody_has_is_refused_with_the_nearest(shared_hub: RunningHub) -> None:
    customer = shared_hub.customer("speller")
    spec = {"run": {"stacks": {"cuda": ["true"]}}, "requirement": {"cards": 1, "chip": "h1000"}, "budget": "5CNY"}
    for path in ("/v1/orders", "/v1/quotes"):
        refused = customer.post(path, json=spec)
        assert (refused.status_code, refused.json()["field"]) == (422, "requirement.chip")
        assert "h100" in refused.json()["hint"]
    spec["requirement"] = {"cards": 1, "chip": "h100-sxm"}
    assert customer.post("/v1/orders", json=spec).status_code == 201
