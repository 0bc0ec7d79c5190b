"""A single decision is the round of one order; its reasons are those of `explain`, counted; and both stay so while
what is free changes."""

from collections import Counter
from dataclasses import replace

import numpy as np
from hypothesis import event, given, settings
from hypothesis import strategies as st

from tests.core.placement_network import NOW, a_pool, a_shape, a_site, a_supply
from tests.core.test_placement_oracle import shapes
from tests.core.test_round_properties import plain, supplies
from yunhe.core.demand import Precision, Preference, Shape, Work
from yunhe.core.placement.ahead import ahead_of
from yunhe.core.placement.board import Board, free_of
from yunhe.core.placement.online import Count, Online, Taken
from yunhe.core.policy import Policy
from yunhe.core.round import AccountShare, Queue, Snapshot, explain, plan_round
from yunhe.core.supply import Free, PoolKind, Rate, Supply

# One order never has to wait for another, so nothing is kept for it.
POLICY = Policy(max_reservations=0)


def by_round(supply: Supply, shape: Shape, now_ms: int, tasks: int, within: int | None, seed: int) -> set[Taken]:
    queue = Queue(
        ("only",),
        np.zeros(1, np.int32),
        np.zeros(1, np.int32),
        np.zeros(1, np.int16),
        np.array([now_ms], dtype=np.int64),
        np.array([tasks], dtype=np.int32),
        np.zeros(1, np.int64),
    )
    plan = plan_round(Snapshot(supply, (shape,), (AccountShare("org", 1, 0, within),), queue), POLICY, now_ms, seed)
    at = {pool.id: i for i, pool in enumerate(supply.pools)}
    return {Taken(at[a.pool_id], a.tasks, a.milli, a.memory_bytes) for a in plan.assignments}


def counted(supply: Supply, shape: Shape, now_ms: int) -> Counter[tuple[str, bool]]:
    found: Counter[tuple[str, bool]] = Counter()
    for entry in explain(shape, supply, POLICY, now_ms):
        if entry.pool_id is not None:
            found.update((reason.code, reason.lasting) for reason in entry.reasons)
    return found


def as_counter(counts: tuple[Count, ...]) -> Counter[tuple[str, bool]]:
    found: Counter[tuple[str, bool]] = Counter()
    for count in counts:
        found[(count.code, count.lasting)] += count.pools
    return found


def now_free(supply: Supply, online: Online) -> Supply:
    free = zip(online.free.tolist(), online.free_memory.tolist(), strict=True)
    return replace(supply, free=tuple(Free(milli, memory) for milli, memory in free))


steps = st.lists(
    st.tuples(
        st.integers(0, 3), st.sampled_from([1, 1, 2, 30]), st.sampled_from([None, None, 0, 2_500]), st.booleans()
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=250, deadline=None)
@given(supplies(), st.lists(plain | shapes, min_size=4, max_size=4), steps, st.integers(0, 3))
def test_it_decides_as_a_round_of_this_order_alone(
    supply: Supply, asked: list[Shape], wanted: list[tuple[int, int, int | None, bool]], seed: int
) -> None:
    online = Online(supply, POLICY, seed)
    held: list[tuple[Taken, ...]] = []
    for step, (which, tasks, within, ends) in enumerate(wanted):
        now, here = NOW + step * 60_000, now_free(supply, online)
        taken = online.decide(asked[which], now, tasks, within)
        event(f"pools: {len(taken)}")
        assert set(taken) == by_round(here, asked[which], now, tasks, within, seed)
        assert as_counter(online.why(asked[which], now)) == counted(here, asked[which], now)
        online.take(taken)
        held.append(taken)
        if ends:
            online.give_back(held.pop(0))
    for taken in held:
        online.give_back(taken)
    assert now_free(supply, online).free == supply.free


several_rates = st.lists(
    st.tuples(st.integers(1, 60), st.integers(10_000, 10**6), st.integers(1, 9), st.booleans(), st.integers(0, 40_000)),
    min_size=3,
    max_size=25,
)


@settings(max_examples=200, deadline=None)
@given(
    several_rates,
    st.sampled_from(Preference),
    st.integers(1, 8),
    st.integers(60_000, 4_000_000),
    st.integers(1, 6),
    st.sampled_from([None, 300_000, 10**9]),
    st.integers(0, 10**10),
)
def test_the_first_that_are_looked_at_are_the_best_of_all(
    places: list[tuple[int, int, int, bool, int]],
    preference: Preference,
    slots: int,
    left_ms: int,
    count: int,
    budget: int | None,
    data: int,
) -> None:
    """Work until a deadline: a row of some pools begins as the row of all of them does."""
    sites = tuple(
        a_site(f"s{i:02d}", carbon_g_per_kwh=c * 100, bandwidth_bps=10**9 * c) for i, (*_, c, _, _) in enumerate(places)
    )
    pools = [
        a_pool(
            f"s{i:02d}:p",
            kind=PoolKind.ACCELERATOR if cards else PoolKind.CPU,
            rates=(Rate(Precision.FP64, rate * 10**9, rate * 10**9),),
            price_microcny_per_unit_hour=price,
            capacity_milli=64_000,
            max_slot_milli=c % 4 * 1000 + 1000,
            stack="cpu",
        )
        for i, (rate, price, c, cards, _) in enumerate(places)
    ]
    free = tuple(Free(64_000 - taken, 2**60) for *_, taken in places)
    supply = replace(a_supply(sites[0], *pools), sites=sites, free=free)
    work = Work(10**9 * 3_600 * 20, Precision.FP64)
    shape = a_shape(
        work=work,
        slots=slots,
        deadline_ms=NOW + left_ms,
        preference=preference,
        budget_microcny=budget,
        data_at="s00",
        data_bytes=data,
        memory_bytes=1,
    )
    board = Board(supply, POLICY)
    ahead, room = ahead_of(shape, board, 1), free_of(supply)
    whole, every = ahead.row(shape, NOW, len(ahead), room)
    some, sure = ahead.row(shape, NOW, count, room)
    assert every == len(whole.pools)
    event(f"sure: {min(sure, 5)} of {min(every, 5)}")
    assert some.pools[:sure].tolist() == whole.pools[:sure].tolist()
    assert some.milli[:sure].tolist() == whole.milli[:sure].tolist()


def test_flags_follow_the_log_however_long_a_lane_slept() -> None:
    pools = [a_pool(f"s1:{i:02d}", price_microcny_per_unit_hour=1_000 + i) for i in range(40)]
    supply = a_supply(a_site(), *pools)
    rare, usual = a_shape(cores_milli=8_000, memory_bytes=1), a_shape(cores_milli=4_000, memory_bytes=1)
    for changes in (0, 1, 4, 5, 30, 41, 70_000):
        online = Online(supply, POLICY)
        assert online.decide(rare, NOW)[0].pool == 0
        for i in range(changes):
            taken = online.decide(usual, NOW)
            online.take(taken)
            if i % 3:
                online.give_back(taken)
        here = now_free(supply, online)
        assert set(online.decide(rare, NOW, 50)) == by_round(here, rare, NOW, 50, None, 0)


def test_work_until_a_deadline_grows_with_the_time() -> None:
    shape = a_shape(work=Work(10**10 * 1_800, Precision.FP64), deadline_ms=NOW + 3_600_000)
    online = Online(a_supply(a_site(), a_pool()), POLICY)
    assert [online.decide(shape, NOW + late)[0].milli for late in (0, 1_800_000, 3_240_000)] == [500, 1_000, 5_000]
    assert online.decide(shape, NOW + 3_500_000) == ()
    assert online.why(shape, NOW + 3_600_000)[-1].code == "deadline"
