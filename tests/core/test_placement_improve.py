"""Places that are improved together: never worse, nobody left out, and a bound that another solver agrees with."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from tests.core.placement_network import GIB, NOW, Preference, a_pool, a_shape, a_site, a_snapshot, a_supply
from tests.core.test_round_properties import snapshots
from yunhe.core.placement.board import Board
from yunhe.core.placement.classes import classes, row_of
from yunhe.core.placement.family import Family
from yunhe.core.placement.improve import costs_of
from yunhe.core.placement.relax import Program, relax
from yunhe.core.policy import Policy
from yunhe.core.round import Plan, Snapshot, plan_round

GREEDY = Policy(max_reservations=0, improve_from_pairs=10**9)
TOGETHER = replace(GREEDY, improve_from_pairs=0)


def cost(snapshot: Snapshot, plan: Plan) -> float:
    """By what the orders prefer, micro-CNY."""
    grouped = classes(snapshot.shapes, Board(snapshot.supply, GREEDY), NOW)
    row = {id: i for i, id in enumerate(snapshot.queue.ids)}
    at = {pool.id: i for i, pool in enumerate(snapshot.supply.pools)}
    total = 0.0
    for a in plan.assignments:
        kind = grouped.rows[grouped.kind[grouped.of_shape[snapshot.queue.shape[row[a.order_id]]]]]
        position = int(np.flatnonzero(kind.pools == at[a.pool_id])[0])
        total += a.tasks * float(costs_of(kind)[position])
    return total


def tasks_of(plan: Plan) -> Counter[str]:
    found: Counter[str] = Counter()
    for a in plan.assignments:
        found[a.order_id] += a.tasks
    return found


@settings(max_examples=250, deadline=None)
@given(snapshots(), st.integers(0, 3))
def test_nobody_loses_a_place_and_the_bound_holds(snapshot: Snapshot, seed: int) -> None:
    # Of one priority: what a higher one takes differently leaves others for the lower ones.
    one = replace(snapshot, queue=replace(snapshot.queue, priority=np.zeros_like(snapshot.queue.priority)))
    before, after = plan_round(one, GREEDY, NOW, seed), plan_round(one, TOGETHER, NOW, seed)
    had, has = tasks_of(before), tasks_of(after)
    assert all(has[id] >= count for id, count in had.items())
    assert before.bound is None
    assert after.bound is not None
    tolerance = 1e-6 * max(1.0, after.bound.cost)
    assert after.bound.least <= after.bound.cost + tolerance
    if has == had:
        event("the same tasks")
        assert cost(one, after) == pytest.approx(after.bound.cost)
        assert after.bound.cost <= cost(one, before) + tolerance
        assert after.bound.least <= cost(one, before) + tolerance


def test_who_has_a_choice_leaves_the_cheap_pool_to_who_has_none() -> None:
    cheap = a_pool("s1:cheap", capacity_milli=8_000, memory_bytes=1_000 * GIB)
    dear = a_pool("s2:dear", price_microcny_per_unit_hour=110_000)
    far = a_pool("s3:far", price_microcny_per_unit_hour=10**6)
    supply = a_supply(a_site("s1"), a_site("s2", region="hebei"), a_site("s3"), cheap, dear, far)
    anywhere = a_shape(cores_milli=8_000, memory_bytes=GIB)
    here = a_shape(cores_milli=8_000, memory_bytes=GIB, residency=frozenset({"beijing"}))
    snapshot = a_snapshot(supply, (anywhere, here), {"age_ms": 5}, {"shape": 1})
    where = {a.order_id: a.pool_id for a in plan_round(snapshot, GREEDY, NOW, 0).assignments}
    assert where == {"o000": "s1:cheap", "o001": "s3:far"}
    plan = plan_round(snapshot, TOGETHER, NOW, 0)
    assert {a.order_id: a.pool_id for a in plan.assignments} == {"o000": "s2:dear", "o001": "s1:cheap"}
    assert plan.bound is not None
    assert plan.bound.gap_percent == pytest.approx(0, abs=1e-6)


def test_a_budget_is_kept_when_places_change_hands() -> None:
    """Only the cheap pool is within the small budget; the order without one goes elsewhere."""
    cheap = a_pool("s1:cheap")
    dear = a_pool("s2:dear", price_microcny_per_unit_hour=10**6)
    supply = a_supply(a_site("s1"), a_site("s2"), cheap, dear)
    rich, poor = (
        a_shape(cores_milli=8_000, memory_bytes=GIB),
        a_shape(cores_milli=8_000, memory_bytes=GIB, budget_microcny=1_000_000),
    )
    plan = plan_round(a_snapshot(supply, (rich, poor), {"shape": 1, "age_ms": 9}, {}), TOGETHER, NOW, 0)
    assert {a.order_id: a.pool_id for a in plan.assignments} == {"o000": "s1:cheap", "o001": "s2:dear"}


def test_costs_follow_the_preference() -> None:
    slow = a_pool("s1:slow", price_microcny_per_unit_hour=100_000)
    clean = a_pool("s2:clean", price_microcny_per_unit_hour=200_000)
    supply = a_supply(a_site("s1", carbon_g_per_kwh=800), a_site("s2", carbon_g_per_kwh=200), slow, clean)
    board = Board(supply, GREEDY)
    by_price = costs_of(row_of(a_shape(), board, NOW))
    by_carbon = costs_of(row_of(a_shape(preference=Preference.CARBON), board, NOW))
    assert by_price.tolist() == pytest.approx([107_500, 207_500])
    assert by_carbon.tolist() == pytest.approx([207_500 * 1.001, 4 * 207_500 + 107.5])  # four times the carbon


families = st.lists(
    st.tuples(
        st.lists(st.integers(1, 9), min_size=1, max_size=3),  # tasks by budget
        st.lists(st.tuples(st.integers(1, 50), st.integers(1, 4), st.integers(0, 3)), min_size=5, max_size=5),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=150, deadline=None)
@given(families, st.lists(st.tuples(st.integers(5, 60), st.integers(5, 60)), min_size=4, max_size=4))
def test_the_program_is_the_one_that_is_written_down(
    given_families: list[tuple[list[int], list[tuple[int, int, int]]]], rooms: list[tuple[int, int]]
) -> None:
    """Against scipy, on all columns at once. The last pool is dear and large, so that there is always a way."""
    free = np.array([n * 1000 for n, _ in rooms] + [10**6], dtype=np.int64)
    memory = np.array([n * GIB for _, n in rooms] + [1_000 * GIB], dtype=np.int64)
    built = [_family(tasks, places, free, memory) for tasks, places in given_families]
    columns = [(f, e) for f, family in enumerate(built) for e in range(5)]
    rows, limits = [], []
    for f, family in enumerate(built):
        for j, need in enumerate(family.needs.tolist()):
            rows.append([-float(g == f and built[g].level[e] <= j) for g, e in columns])
            limits.append(-need)
    for amount, room, unit in (("milli", free, 1000), ("memory", memory, GIB)):
        for p in range(5):
            rows.append([float(getattr(built[g], amount)[e]) * (built[g].pools[e] == p) / unit for g, e in columns])
            limits.append(float(room[p]) / unit)
    bounds = [(0, int(built[g].most[e])) for g, e in columns]
    costs = [built[g].cost[e] / 1e6 for g, e in columns]
    fractions = linprog(costs, rows, limits, bounds=bounds)
    whole = linprog(costs, rows, limits, bounds=bounds, integrality=1)
    assert fractions.status == whole.status == 0, whole.message
    program = Program(built, free, memory)
    program.add([np.arange(5) for _ in built])
    assert program.solve().optimum == pytest.approx(fractions.fun * 1e6, rel=1e-5)
    relaxed = relax(built, free, memory)
    event("the cuts raise the bound", str(relaxed.bound > fractions.fun * 1e6 * (1 + 1e-6)))
    assert relaxed.solved.optimum <= whole.fun * 1e6 * (1 + 1e-6) + 1e-3
    assert relaxed.bound <= whole.fun * 1e6 * (1 + 1e-6) + 1e-3
    assert relaxed.bound >= fractions.fun * 1e6 * (1 - 2e-3) - 1e-3


def _family(tasks: list[int], places: list[tuple[int, int, int]], free: np.ndarray, memory: np.ndarray) -> Family:  # type: ignore[type-arg]
    needs = np.cumsum(tasks)
    cost = np.array([float(c) * 1e6 for c, _, _ in places])
    cost[4] = 1e9
    order = np.argsort(cost, kind="stable")
    milli = np.array([m * 1000 for _, m, _ in places], dtype=np.int64)[order]
    takes = np.array([g * GIB for _, _, g in places], dtype=np.int64)[order]
    pools = np.arange(5)[order]
    level = np.where(pools == 4, 0, np.arange(5) % len(tasks))
    most = np.minimum(np.minimum(free[pools] // milli, memory[pools] // np.maximum(takes, 1)), needs[-1])
    return Family(needs, level, pools, cost[order], milli, takes, most, np.flatnonzero(pools == 4))
