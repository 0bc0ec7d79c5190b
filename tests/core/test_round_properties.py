"""What holds for every plan: nothing over capacity, memory or quota, gangs whole, nothing idle that somebody could
use, no gain from a lower priority, and the same answer twice."""

from collections import Counter, defaultdict
from dataclasses import replace
from heapq import heapify, heappop, heappush

import numpy as np
from hypothesis import event, given, settings
from hypothesis import strategies as st

from tests.core.placement_network import (
    GIB,
    NOW,
    PLACES,
    a_pool,
    a_shape,
    a_site,
    a_snapshot,
    a_supply,
    an_account,
)
from tests.core.test_placement_oracle import cpu_pools, pools, shapes, sites
from yunhe.core.policy import Policy
from yunhe.core.round import AccountShare, Plan, Queue, Snapshot, explain, plan_round, quote
from yunhe.core.supply import Free, Supply

policies = st.builds(
    Policy,
    backfill=st.sampled_from([True, True, False]),
    max_assignments=st.sampled_from([3, 5_000]),
    max_reservations=st.sampled_from([0, 4]),
    improve_from_pairs=st.sampled_from([0, 10**9]),
)


@st.composite
def supplies(draw: st.DrawFn) -> Supply:
    chosen = draw(st.lists(cpu_pools | pools, max_size=4, unique_by=lambda p: p.id))
    # Two sites: what is generated for s1, and a plain one that takes every second pool.  Two plain pools besides, so
    # that there is always something to contend for.
    dear = a_pool("s2:dear", capacity_milli=6_000, memory_bytes=5 * GIB, price_microcny_per_unit_hour=10**6)
    some = (a_pool("s2:plain", capacity_milli=3_000, max_slot_milli=1_000, memory_bytes=8 * GIB), dear)
    at = (*some, *(replace(p, site_id="s2") if i % 2 else p for i, p in enumerate(chosen)))
    percent = draw(st.lists(st.sampled_from([100, 40, 80, 0]), min_size=len(at), max_size=len(at)))
    free = tuple(Free(p.capacity_milli * x // 100, p.memory_bytes * x // 100) for p, x in zip(at, percent, strict=True))
    return Supply((draw(st.just(a_site()) | sites), a_site("s2")), at, free, PLACES)


# Mostly shapes that fit somewhere, bound by units here and by memory there; some of every kind.
plain = st.builds(
    lambda cores, slots, memory: a_shape(cores_milli=cores, slots=slots, memory_bytes=memory),
    st.sampled_from([100, 700, 1_000]),
    st.sampled_from([1, 1, 3]),
    st.sampled_from([0, 1, GIB // 2, GIB, 3 * GIB]),
)


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    asked = tuple(draw(st.lists(st.one_of(plain, plain, plain, shapes), min_size=1, max_size=4)))
    accounts = tuple(
        AccountShare(f"org{i}", draw(st.integers(1, 3)), draw(st.integers(0, 3)) * 1_000, quota)
        for i, quota in enumerate(draw(st.lists(st.sampled_from([None, None, 2_500, 9_000]), min_size=1, max_size=3)))
    )
    count = draw(st.integers(1, 25))

    def column(values: st.SearchStrategy[int]) -> list[int]:
        return draw(st.lists(values, min_size=count, max_size=count))

    ids = [f"o{i:02d}" for i in draw(st.permutations(range(count)))]
    queue = Queue(
        ids=tuple(ids),
        shape=np.array(column(st.integers(0, len(asked) - 1)), dtype=np.int32),
        account=np.array(column(st.integers(0, len(accounts) - 1)), dtype=np.int32),
        priority=np.array(column(st.sampled_from([0, 0, 2])), dtype=np.int16),
        submitted_ms=NOW - np.array(column(st.sampled_from([0, 1, 2, 4_000_000])), dtype=np.int64),
        tasks=np.array(column(st.sampled_from([0, 1, 1, 1, 2, 30])), dtype=np.int32),
        version=np.arange(count, dtype=np.int64),
    )
    return Snapshot(draw(supplies()), asked, accounts, queue)


def left_free(snapshot: Snapshot, plan: Plan) -> dict[str, Free]:
    """Free units and memory of each pool after the plan."""
    found = {p.id: f for p, f in zip(snapshot.supply.pools, snapshot.supply.free, strict=True)}
    for a in plan.assignments:
        found[a.pool_id] = Free(found[a.pool_id].milli - a.milli, found[a.pool_id].memory_bytes - a.memory_bytes)
    return found


def left_within(snapshot: Snapshot, plan: Plan) -> list[float]:
    """What each account may still take of its quota."""
    row = {id: i for i, id in enumerate(snapshot.queue.ids)}
    taken: Counter[int] = Counter()
    for a in plan.assignments:
        taken[int(snapshot.queue.account[row[a.order_id]])] += a.milli
    return [
        float("inf") if account.quota_milli is None else account.quota_milli - account.used_milli - taken[i]
        for i, account in enumerate(snapshot.accounts)
    ]


@settings(max_examples=250, deadline=None)
@given(snapshots(), policies, st.integers(0, 5))
def test_a_plan_keeps_every_limit(snapshot: Snapshot, policy: Policy, seed: int) -> None:
    plan = plan_round(snapshot, policy, NOW, seed)
    event(f"assigned: {min(len(plan.assignments), 3)}")
    assert plan == plan_round(snapshot, policy, NOW, seed)

    queue = snapshot.queue
    row = {id: i for i, id in enumerate(queue.ids)}
    assert all(free.milli >= 0 and free.memory_bytes >= 0 for free in left_free(snapshot, plan).values())
    before = left_within(snapshot, Plan((), 0, 0, 0))
    for left, had in zip(left_within(snapshot, plan), before, strict=True):
        assert left >= 0 or left == had
    assert sum(a.tasks for a in plan.assignments) <= policy.max_assignments

    given_tasks: Counter[str] = Counter()
    fits = [_fitting(snapshot, s, policy) for s in range(len(snapshot.shapes))]
    for a in plan.assignments:
        units = fits[queue.shape[row[a.order_id]]]
        # It fits by the reasons that a customer is shown, and no task is split.
        assert a.pool_id in units
        assert (a.milli, a.memory_bytes) == (units[a.pool_id][0] * a.tasks, units[a.pool_id][1] * a.tasks)
        assert a.tasks > 0
        assert a.version == queue.version[row[a.order_id]]
        given_tasks[a.order_id] += a.tasks
    assert len({(a.order_id, a.pool_id) for a in plan.assignments}) == len(plan.assignments)
    assert all(given_tasks[id] <= queue.tasks[i] for id, i in row.items())
    open_orders = sum(int(queue.tasks[i] > given_tasks[id]) for id, i in row.items())
    assert plan.waiting + plan.unplaceable == open_orders


def _fitting(snapshot: Snapshot, shape: int, policy: Policy) -> dict[str, tuple[int, int]]:
    """Units and memory per task at each pool where `explain` has no objection."""
    asked = snapshot.shapes[shape]
    entries = explain(asked, snapshot.supply, policy, NOW)
    free_now = {e.pool_id for e in entries if not e.reasons}
    offers = quote(asked, snapshot.supply, policy, NOW).offers
    return {o.pool_id: (o.units_milli, o.memory_bytes) for o in offers if o.pool_id in free_now}


@settings(max_examples=250, deadline=None)
@given(snapshots(), st.integers(0, 5), st.sampled_from([0, 10**9]))
def test_nothing_is_idle_that_an_order_could_use(snapshot: Snapshot, seed: int, improve_from_pairs: int) -> None:
    policy = Policy(max_reservations=0, improve_from_pairs=improve_from_pairs)
    plan = plan_round(snapshot, policy, NOW, seed)
    free, within = left_free(snapshot, plan), left_within(snapshot, plan)
    given_tasks = Counter({a.order_id: 0 for a in plan.assignments})
    for a in plan.assignments:
        given_tasks[a.order_id] += a.tasks
    for i, id in enumerate(snapshot.queue.ids):
        if given_tasks[id] < snapshot.queue.tasks[i]:
            account = int(snapshot.queue.account[i])
            for pool_id, (milli, memory) in _fitting(snapshot, int(snapshot.queue.shape[i]), policy).items():
                could = milli <= free[pool_id].milli and memory <= free[pool_id].memory_bytes
                assert not (could and milli <= within[account]), (id, pool_id)


@settings(max_examples=150, deadline=None)
@given(snapshots(), policies)
def test_lower_priorities_change_nothing_for_higher_ones(snapshot: Snapshot, policy: Policy) -> None:
    queue = snapshot.queue
    high = queue.priority > 0
    if not high.any():
        return
    alone = replace(snapshot, queue=replace(queue, tasks=np.where(high, queue.tasks, 0).astype(np.int32)))
    ids = {id for id, is_high in zip(queue.ids, high.tolist(), strict=True) if is_high}
    together = plan_round(snapshot, policy, NOW, 0)
    assert {a for a in together.assignments if a.order_id in ids} == set(plan_round(alone, policy, NOW, 0).assignments)


@settings(max_examples=150, deadline=None)
@given(snapshots(), st.randoms(use_true_random=False), st.sampled_from([0, 10**9]))
def test_the_order_of_the_rows_does_not_matter(
    snapshot: Snapshot, shuffled: st.DataObject, improve_from_pairs: int
) -> None:
    policy = Policy(improve_from_pairs=improve_from_pairs)
    queue = snapshot.queue
    rows = list(range(len(queue.ids)))
    shuffled.shuffle(rows)  # type: ignore[attr-defined]
    mixed = Queue(
        tuple(queue.ids[i] for i in rows),
        queue.shape[rows],
        queue.account[rows],
        queue.priority[rows],
        queue.submitted_ms[rows],
        queue.tasks[rows],
        queue.version[rows],
    )
    plans = [plan_round(replace(snapshot, queue=q), policy, NOW, 1) for q in (queue, mixed)]
    assert set(plans[0].assignments) == set(plans[1].assignments)
    assert (plans[0].waiting, plans[0].unplaceable) == (plans[1].waiting, plans[1].unplaceable)


turn_lists = st.lists(st.tuples(st.integers(0, 3), st.sampled_from([100, 300, 500])), min_size=1, max_size=40)


@settings(max_examples=200, deadline=None)
@given(turn_lists, st.lists(st.integers(0, 2_000), min_size=4, max_size=4), st.integers(0, 9_000))
def test_shares_are_those_of_serving_the_lowest_share_again_and_again(
    turns: list[tuple[int, int]], used: list[int], free: int
) -> None:
    """Against a heap that serves one order at a time, on one pool where sizes are equal to all pools."""
    accounts = tuple(an_account(f"org{i}", weight=i + 1, used=u) for i, u in enumerate(used))
    sizes = sorted({milli for _, milli in turns})
    orders = [{"account": a, "shape": sizes.index(milli), "age_ms": 99 - i} for i, (a, milli) in enumerate(turns)]
    pool = a_pool(capacity_milli=10_000, max_slot_milli=10_000, memory_bytes=64 * GIB)
    supply = a_supply(a_site(), pool, free={pool.id: Free(free, 64 * GIB)})
    asked = tuple(a_shape(cores_milli=milli, memory_bytes=1) for milli in sizes)
    plan = plan_round(a_snapshot(supply, asked, *orders, accounts=accounts), Policy(max_reservations=0), NOW, 0)

    waiting: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for i, (account, milli) in enumerate(turns):
        waiting[account].append((i, milli))
    heap = [(used[a] / (a + 1), orders[0][0], a) for a, orders in waiting.items()]
    heapify(heap)
    taken, expected = list(used), []
    while heap:
        _, i, a = heappop(heap)
        _, milli = waiting[a].pop(0)
        expected.append((i, milli))
        taken[a] += milli
        if waiting[a]:
            heappush(heap, (taken[a] / (a + 1), waiting[a][0][0], a))
    # While nothing has run out the sequences are the same, order by order.
    fitting, rest = set(), free
    for i, milli in expected:
        if milli > rest:
            break
        rest -= milli
        fitting.add(f"o{i:03d}")
    assert fitting <= {a.order_id for a in plan.assignments}
