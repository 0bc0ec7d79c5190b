"""quote, explain and plan_round by worked examples."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from tests.core.placement_network import (
    GFLOPS,
    GIB,
    HOUR,
    NOW,
    POLICY,
    TFLOPS,
    Compute,
    LatencyBound,
    LatencyKind,
    Precision,
    Preference,
    Work,
    a_pool,
    a_shape,
    a_site,
    a_snapshot,
    a_supply,
    an_account,
    cards,
)
from yunhe.core.policy import Policy
from yunhe.core.round import Plan, Price, Snapshot, plan_round, quote
from yunhe.core.supply import Free, Rate, SiteState


def placed(plan: Plan) -> dict[str, dict[str, int]]:
    """Tasks by order and pool."""
    found: dict[str, dict[str, int]] = {}
    for given in plan.assignments:
        found.setdefault(given.order_id, {})[given.pool_id] = given.tasks
    return found


def planned(snapshot: Snapshot, policy: Policy = POLICY, seed: int = 0) -> dict[str, dict[str, int]]:
    return placed(plan_round(snapshot, policy, NOW, seed))


# --- quote ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preference", "best"),
    [
        (Preference.COST, ["s2:gpu", "s1:gpu", "s3:gpu"]),
        (Preference.SPEED, ["s1:gpu", "s3:gpu", "s2:gpu"]),
        (Preference.CARBON, ["s3:gpu", "s1:gpu", "s2:gpu"]),
    ],
)
def test_offers_are_ranked_by_the_preference_and_the_round_agrees(preference: Preference, best: list[str]) -> None:
    fast = (Rate(Precision.BF16, None, 400 * TFLOPS),)
    sites = (a_site("s1"), a_site("s2"), a_site("s3", carbon_g_per_kwh=50))
    pools = (
        cards("s1:gpu", rates=fast, price_microcny_per_unit_hour=12_000_000),
        cards("s2:gpu", price_microcny_per_unit_hour=3_000_000),
        cards("s3:gpu", rates=fast, price_microcny_per_unit_hour=15_000_000),
    )
    # One card at each: 54 minutes at s2, and half of that at s1 and s3.
    shape = a_shape(HOUR, work=Work(200 * TFLOPS * 54 * 60, Precision.BF16), preference=preference)
    supply = a_supply(*sites, *pools)
    offers = quote(shape, supply, POLICY, NOW).offers
    assert [(o.units_milli, o.run_ms // 60_000) for o in sorted(offers, key=lambda o: o.pool_id)] == [
        (1_000, 27),
        (1_000, 54),
        (1_000, 27),
    ]
    assert [offer.pool_id for offer in offers] == best
    # The round goes down the same list: whatever is full leaves the next one.
    for taken in range(3):
        full = {pool_id: Free(0, 0) for pool_id in best[:taken]}
        left = a_snapshot(a_supply(*sites, *pools, free=full), (shape,), {})
        assert planned(left) == {"o000": {best[taken]: 1}}


def test_speed_prefers_the_shorter_transfer_where_the_run_cannot_be_predicted() -> None:
    slow_line = a_site("s1", bandwidth_bps=10**9)
    supply = a_supply(slow_line, a_site("s2"), a_pool(), a_pool("s2:cpu", price_microcny_per_unit_hour=200_000))
    shape = a_shape(data_at="shanghai", data_bytes=10**10, preference=Preference.SPEED)
    assert planned(a_snapshot(supply, (shape,), {})) == {"o000": {"s2:cpu": 1}}


def test_an_offer_is_exact() -> None:
    shape = a_shape(
        HOUR,
        work=Work(36_000 * GFLOPS // 2, Precision.FP64),  # half a core hour
        deadline_ms=NOW + HOUR // 4,
        array=9,
        memory_bytes=GIB,
        latency=(
            LatencyBound("shanghai", 10**6, LatencyKind.RTT),
            LatencyBound("shanghai", 10**6, LatencyKind.ONE_WAY),
        ),
    )
    (offer,) = quote(shape, a_supply(a_site(), a_pool()), POLICY, NOW).offers
    assert (offer.units_milli, offer.memory_bytes, offer.run_ms) == (2_000, GIB, HOUR // 4)
    # 2 cores for 15 minutes: 0.5 core hours at 0.1 CNY, 6.25 Wh at 0.6 CNY/kWh and 500 g/kWh; nine of them
    assert offer.price == Price(compute=9 * 50_000, energy=9 * 3_750, transfer=0, line=0)
    assert offer.hold == Price(compute=9 * 200_000, energy=9 * 15_000, transfer=0, line=0)
    assert offer.carbon_mg == 9 * 3_125
    assert offer.latency_us == (2 * 7_321, 7_321)
    # four side by side: three turns
    assert (offer.start_ms, offer.finish_ms) == (NOW, NOW + 3 * HOUR // 4)


def test_transfer_is_priced_per_gib() -> None:
    policy = Policy(transfer_microcny_per_gib=40_000)
    shape = a_shape(data_at="shanghai", data_bytes=5 * GIB // 2, array=2)
    (offer,) = quote(shape, a_supply(a_site(), a_pool()), policy, NOW).offers
    assert offer.price.transfer == offer.hold.transfer == 2 * 100_000
    (there,) = quote(shape, a_supply(a_site(cluster="shanghai"), a_pool()), policy, NOW).offers
    assert there.run_ms == HOUR


def test_a_busy_pool_is_offered_for_later_and_a_paused_site_is_refused() -> None:
    sites = (a_site("s1"), a_site("s2"), a_site("s3", state=SiteState.PAUSED))
    pools = (a_pool("s1:cpu"), a_pool("s2:cpu"), a_pool("s3:cpu"))
    supply = a_supply(*sites, *pools, free={"s1:cpu": Free(0, 0)})
    found = quote(a_shape(), supply, POLICY, NOW, queue_ahead_ms=5_000)
    assert [(o.pool_id, o.start_ms - NOW) for o in found.offers] == [("s2:cpu", 0), ("s1:cpu", 5_000)]
    assert [(e.pool_id, e.reasons[0].code, e.reasons[0].lasting) for e in found.refused] == [("s3:cpu", "site", False)]


def test_equal_offers_follow_the_pool_ids() -> None:
    pools = [a_pool(f"s1:{name}") for name in ("c", "a", "b")]
    found = quote(a_shape(), a_supply(a_site(), *pools), POLICY, NOW)
    assert [offer.pool_id for offer in found.offers] == ["s1:a", "s1:b", "s1:c"]


# --- plan_round -------------------------------------------------------------------------------------------------


def test_an_empty_queue_and_an_empty_network() -> None:
    assert plan_round(a_snapshot(a_supply(a_site(), a_pool()), ()), POLICY, NOW, 3) == Plan((), 0, 0, 3)
    plan = plan_round(a_snapshot(a_supply(), (a_shape(),), {}), POLICY, NOW, 0)
    assert (plan.assignments, plan.waiting, plan.unplaceable) == ((), 0, 1)


def test_assignments_say_what_is_consumed_and_which_version_was_read() -> None:
    shape = a_shape(cores_milli=1_500, slots=2, memory_bytes=GIB)
    plan = plan_round(a_snapshot(a_supply(a_site(), a_pool()), (shape,), {"tasks": 2}), POLICY, NOW, 0)
    assert [a._asdict() for a in plan.assignments] == [
        {"order_id": "o000", "version": 1, "pool_id": "s1:cpu", "tasks": 2, "milli": 6_000, "memory_bytes": 4 * GIB}
    ]
    assert pickle.loads(pickle.dumps(plan)) == plan


def test_waiting_and_unplaceable_are_told_apart() -> None:
    supply = a_supply(a_site(), a_pool(), a_site("s2", state=SiteState.PAUSED), cards("s2:gpu"))
    shapes = (a_shape(cores_milli=8_000), a_shape(cores_milli=9_000), a_shape(cards=1))
    plan = plan_round(a_snapshot(supply, shapes, {}, {}, {"shape": 1}, {"shape": 2}), POLICY, NOW, 0)
    assert placed(plan) == {"o000": {"s1:cpu": 1}}
    assert (plan.waiting, plan.unplaceable) == (2, 1)  # one is busy, one is paused; nine cores are nowhere


def test_priority_comes_first_then_arrival_then_id() -> None:
    shape = a_shape(cores_milli=4_000)
    supply = a_supply(a_site(), a_pool())
    orders = [{"age_ms": 5}, {"age_ms": 9}, {"age_ms": 1, "priority": 3}, {"age_ms": 9}]
    assert set(planned(a_snapshot(supply, (shape,), *orders))) == {"o002", "o001"}


def test_equal_times_follow_the_ids_whatever_the_rows() -> None:
    snapshot = a_snapshot(a_supply(a_site(), a_pool()), (a_shape(cores_milli=4_000),), {}, {}, {}, {})
    queue = replace(snapshot.queue, ids=("o3", "o1", "o2", "o0"))
    assert set(planned(replace(snapshot, queue=queue))) == {"o0", "o1"}


def test_accounts_share_by_weight() -> None:
    pool = a_pool(capacity_milli=40_000, max_slot_milli=40_000)
    orders = [{"account": a, "age_ms": 100 - i} for a in (0, 1) for i in range(40)]
    accounts = (an_account("a", weight=1), an_account("b", weight=3))
    snapshot = a_snapshot(a_supply(a_site(), pool), (a_shape(),), *orders, accounts=accounts)
    given = planned(snapshot)
    assert sum(int(order[1:]) < 40 for order in given) == 10
    assert sum(int(order[1:]) >= 40 for order in given) == 30
    # An account that already uses 20 cores waits until the other has caught up.
    used = (an_account("a", used=20_000), an_account("b"))
    given = planned(replace(snapshot, accounts=used))
    assert sum(int(order[1:]) < 40 for order in given) == 10


def test_one_big_array_does_not_pass_everybody_else() -> None:
    pool = a_pool(capacity_milli=20_000, max_slot_milli=20_000)
    orders = [{"tasks": 1_000, "age_ms": 9}] + [{"account": 1, "age_ms": 1}] * 10
    accounts = (an_account("a"), an_account("b"))
    given = planned(a_snapshot(a_supply(a_site(), pool), (a_shape(),), *orders, accounts=accounts))
    assert given.pop("o000") == {"s1:cpu": 10}
    assert len(given) == 10


def test_arrays_spread_over_pools_and_gangs_do_not() -> None:
    supply = a_supply(a_site(), a_site("s2"), a_pool(), a_pool("s2:cpu"))
    array = a_shape(cores_milli=3_000)
    assert planned(a_snapshot(supply, (array,), {"tasks": 5})) == {"o000": {"s1:cpu": 2, "s2:cpu": 2}}
    gang = a_shape(cores_milli=3_000, slots=4)
    plan = plan_round(a_snapshot(supply, (gang,), {}), POLICY, NOW, 0)
    assert (plan.assignments, plan.unplaceable) == ((), 1)


def test_quotas_hold_and_a_faster_pool_may_still_fit() -> None:
    slow = a_pool("s1:cpu", price_microcny_per_unit_hour=1, watts_per_unit=0)
    fast = a_pool("s2:cpu", rates=(Rate(Precision.FP64, None, 40 * GFLOPS),))
    supply = a_supply(a_site(), a_site("s2"), slow, fast)
    accounts = (an_account("a", used=1_000, quota=3_500),)
    cores = a_snapshot(supply, (a_shape(),), {}, {}, {}, accounts=accounts)
    plan = plan_round(cores, POLICY, NOW, 0)
    assert (len(plan.assignments), plan.waiting, plan.unplaceable) == (2, 1, 0)
    # 40 GFLOPS: 4 cores at the cheap pool exceed the 2.5 that are left, one fast core does not.
    compute = a_shape(compute=Compute(40 * GFLOPS, Precision.FP64))
    assert planned(replace(cores, shapes=(compute,))) == {"o000": {"s2:cpu": 1}, "o001": {"s2:cpu": 1}}
    assert planned(replace(cores, accounts=(an_account("a", used=9_000, quota=3_500),))) == {}


def test_the_round_ends_at_its_cap() -> None:
    pool = a_pool(capacity_milli=100_000, max_slot_milli=100_000)
    snapshot = a_snapshot(a_supply(a_site(), pool), (a_shape(),), {"tasks": 4}, {"tasks": 4}, {"tasks": 4})
    plan = plan_round(snapshot, Policy(max_assignments=7), NOW, 0)
    assert sum(a.tasks for a in plan.assignments) == 7
    assert plan.waiting == 2


def test_the_seed_turns_only_what_is_equal() -> None:
    pools = [a_pool(f"s1:p{i}") for i in range(3)]
    equal = a_snapshot(a_supply(a_site(), *pools), (a_shape(),), {})
    assert [list(planned(equal, seed=s)["o000"]) for s in range(4)] == [["s1:p0"], ["s1:p2"], ["s1:p1"], ["s1:p0"]]
    cheaper = replace(pools[1], price_microcny_per_unit_hour=99_999)
    unequal = a_snapshot(a_supply(a_site(), pools[0], cheaper, pools[2]), (a_shape(),), {})
    assert {tuple(planned(unequal, seed=s)["o000"]) for s in range(4)} == {("s1:p1",)}


# --- waiting ----------------------------------------------------------------------------------------------------

BIG, SMALL = a_shape(cores_milli=8_000), a_shape(cores_milli=1_000)
HALF_FREE = {"s1:cpu": Free(4_000, 16 * GIB)}
TWO = (an_account("a"), an_account("b"))


def test_a_big_order_that_waits_does_not_block_small_ones() -> None:
    supply = a_supply(a_site(), a_pool(), free=HALF_FREE)
    orders = ({"age_ms": 9}, {"shape": 1, "account": 1})
    snapshot = a_snapshot(supply, (BIG, SMALL), *orders, accounts=TWO)
    assert planned(snapshot) == {"o001": {"s1:cpu": 1}}
    assert planned(snapshot, Policy(backfill=False)) == {}


def test_without_backfill_only_the_pools_waited_for_are_blocked() -> None:
    supply = a_supply(a_site(), a_pool(), cards(), free=HALF_FREE)
    orders = ({"age_ms": 9}, {"shape": 1}, {"shape": 2})
    snapshot = a_snapshot(supply, (BIG, SMALL, a_shape(cards=1)), *orders)
    assert planned(snapshot, Policy(backfill=False)) == {"o002": {"s1:gpu": 1}}


def test_an_order_that_waits_too_long_keeps_what_is_free() -> None:
    supply = a_supply(a_site(), a_pool(), free=HALF_FREE)
    orders = ({"age_ms": POLICY.reserve_after_ms}, {"shape": 1, "account": 1})
    snapshot = a_snapshot(supply, (BIG, SMALL), *orders, accounts=TWO)
    assert planned(snapshot) == {}
    assert planned(snapshot, Policy(max_reservations=0)) == {"o001": {"s1:cpu": 1}}
    # Another pool takes the small one, and a higher priority passes.
    other = a_supply(a_site(), a_pool(), a_pool("s1:zz", max_slot_milli=4_000), free=HALF_FREE)
    assert planned(replace(snapshot, supply=other)) == {"o001": {"s1:zz": 1}}
    urgent = replace(snapshot.queue, priority=np.array([0, 1], dtype=np.int16))
    assert planned(replace(snapshot, queue=urgent)) == {"o001": {"s1:cpu": 1}}


def test_an_account_far_over_its_share_is_not_favoured_for_age() -> None:
    supply = a_supply(a_site(), a_pool(), free=HALF_FREE)
    orders = ({"age_ms": POLICY.reserve_after_ms}, {"shape": 1, "account": 1})
    greedy = (an_account("a", used=64_000), an_account("b", used=100))
    snapshot = a_snapshot(supply, (BIG, SMALL), *orders, accounts=greedy)
    strict = Policy(reserve_share_limit_percent=150)
    assert planned(snapshot, strict) == {"o001": {"s1:cpu": 1}}


def round_in_which_the_big_one_starts(policy: Policy) -> int | None:
    """Eight cores, each busy for 8 rounds of ten minutes with small orders that never stop coming."""
    ends = list(range(8))  # round in which each core is free again
    for turn in range(100):
        free = sum(end <= turn for end in ends)
        supply = a_supply(a_site(), a_pool(), free={"s1:cpu": Free(free * 1_000, 32 * GIB)})
        orders = [{"age_ms": turn * 600_000, "account": 0}] + [{"shape": 1, "account": 1}] * 10
        shapes = (replace(BIG, requirement=replace(BIG.requirement, memory_bytes=1)), SMALL)
        given = planned(a_snapshot(supply, shapes, *orders, accounts=TWO), policy)
        if "o000" in given:
            return turn
        started = len(given)
        for i, end in enumerate(ends):
            if end <= turn and started:
                ends[i] = turn + 8
                started -= 1
    return None


def test_small_orders_that_never_stop_cannot_starve_a_big_one() -> None:
    assert round_in_which_the_big_one_starts(Policy(max_reservations=0)) is None
    turn = round_in_which_the_big_one_starts(POLICY)
    assert turn is not None
    assert turn <= 6 + 8  # an hour of age, and the longest run after that
