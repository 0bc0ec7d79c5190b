"""Room that spot leases make: only spot leases end, never more than needed, never while a place is free, and as little
work is lost as can be; what comes free is the order's."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations

import numpy as np
from hypothesis import event, given, settings
from hypothesis import strategies as st

from tests.core.placement_network import GIB, HOUR, NOW, a_pool, a_shape, a_site, a_snapshot, a_supply, an_account
from yunhe.core.demand import Shape
from yunhe.core.policy import Policy
from yunhe.core.reclaim import cost
from yunhe.core.round import Held, Plan, Preemption, Room, Snapshot, explain, plan_round, quote
from yunhe.core.supply import Free

POLICY = Policy(max_reservations=0)
QUOTAS = st.sampled_from([None, None, None, 4_000])


def as_spot(shape: Shape) -> Shape:
    terms = replace(shape.terms, spot=True)
    return Shape(shape.requirement, terms)


@st.composite
def crowded(draw: st.DrawFn) -> Snapshot:
    """Little is free, and spot leases hold much of the rest; some of the orders that wait are spot themselves."""
    pools = [
        a_pool(f"s1:{name}", capacity_milli=draw(st.sampled_from([3_000, 6_000, 9_000])), max_slot_milli=3_000)
        for name in "abc"[: draw(st.integers(1, 3))]
    ]
    shapes = tuple(
        a_shape(cores_milli=milli, slots=slots, memory_bytes=memory, pools=frozenset({one} if one else ()))
        for milli, slots, memory, one in draw(
            st.lists(
                st.tuples(
                    st.sampled_from([500, 1_000, 3_000]),
                    st.sampled_from([1, 1, 2]),
                    st.sampled_from([1, GIB, 12 * GIB]),
                    st.sampled_from([None, None, "s1:a"]),
                ),
                min_size=1,
                max_size=3,
            )
        )
    )
    free, held = {}, []
    for pool in pools:
        rest, memory = pool.capacity_milli, pool.memory_bytes
        for n in range(draw(st.integers(0, 5))):
            milli = min(rest, draw(st.sampled_from([500, 1_000, 1_500, 3_000])))
            bytes_ = min(memory, draw(st.sampled_from([0, GIB, 9 * GIB])))
            rest, memory = rest - milli, memory - bytes_
            risk = draw(st.sampled_from([0, 1, 5, 60]) | st.integers(0, HOUR))
            held.append(
                Held(
                    f"spot{n}@{pool.id}.0",
                    1,
                    pool.id,
                    milli,
                    bytes_,
                    risk,
                    draw(st.sampled_from([False, False, True])),
                    draw(st.sampled_from(["one", "two", "three"])),
                )
            )
        free[pool.id] = Free(min(rest, draw(st.sampled_from([0, 0, 500, 1_000]))), memory)
    orders = [
        {"shape": draw(st.integers(0, 2 * len(shapes) - 1)), "tasks": draw(st.sampled_from([1, 1, 1, 4])), "age_ms": n}
        | {"account": draw(st.integers(0, 1)), "priority": draw(st.sampled_from([0, 0, 2]))}
        for n in range(draw(st.integers(1, 6)))
    ]
    accounts = an_account("one", quota=draw(QUOTAS)), an_account("two", used=1_000)
    seen = a_snapshot(
        a_supply(a_site(), *pools, free=free), (*shapes, *map(as_spot, shapes)), *orders, accounts=accounts
    )
    return replace(seen, held=tuple(held))


def shape_of(seen: Snapshot, order_id: str) -> Shape:
    found: Shape = seen.shapes[seen.queue.shape[seen.queue.ids.index(order_id)]]
    return found


def takes(seen: Snapshot, shape: Shape) -> dict[str, tuple[int, int]]:
    """Units and memory of a task at each pool that would take one if enough was free."""
    reasons = {e.pool_id: {r.code for r in e.reasons} for e in explain(shape, seen.supply, POLICY, NOW)}
    return {
        offer.pool_id: (offer.units_milli, offer.memory_bytes)
        for offer in quote(shape, seen.supply, POLICY, NOW).offers
        if reasons[offer.pool_id] <= {"busy"}
    }


class Left:
    """What is free, coming and still held by spot leases, as the rooms of a plan are made one after the other."""

    def __init__(self, seen: Snapshot, plan: Plan) -> None:
        self.free = {p.id: (f.milli, f.memory_bytes) for p, f in zip(seen.supply.pools, seen.supply.free, strict=True)}
        self.spot: dict[str, list[Held]] = {pool.id: [] for pool in seen.supply.pools}
        for one in seen.held:
            if one.leaving:
                self.add(one.pool_id, one.milli, one.memory_bytes)  # as good as free, but for those who fit now
            else:
                self.spot[one.pool_id].append(one)
        for a in plan.assignments:
            if not shape_of(seen, a.order_id).terms.spot:
                self.add(a.pool_id, -a.milli, -a.memory_bytes)

    def add(self, pool: str, milli: int, memory: int) -> None:
        self.free[pool] = (self.free[pool][0] + milli, self.free[pool][1] + memory)

    def lacks(self, pool: str, need: tuple[int, int], tasks: int = 1) -> tuple[int, int]:
        return need[0] * tasks - self.free[pool][0], need[1] * tasks - self.free[pool][1]

    def end(self, room: Preemption, need: tuple[int, int]) -> None:
        gone = set(room.leases)
        for one in [one for one in self.spot[room.pool_id] if one.key in gone]:
            self.spot[room.pool_id].remove(one)
            self.add(room.pool_id, one.milli, one.memory_bytes)
        self.add(room.pool_id, -need[0] * room.tasks, -need[1] * room.tasks)


def of_others(seen: Snapshot, row: int, leases: list[Held]) -> list[Held]:
    """Those that may end for the order of the row."""
    account = seen.accounts[int(seen.queue.account[row])].id
    return [one for one in leases if one.account != account]


def covering(running: list[Held], units: int, memory: int) -> Iterator[tuple[Held, ...]]:
    for n in range(len(running) + 1):
        for some in combinations(running, n):
            if sum(o.milli for o in some) >= units and sum(o.memory_bytes for o in some) >= memory:
                yield some


@settings(max_examples=200, deadline=None)
@given(crowded(), st.integers(0, 3))
def test_only_spot_leases_end_and_no_more_than_the_least_work_is_lost(seen: Snapshot, seed: int) -> None:
    plan = plan_round(seen, POLICY, NOW, seed)
    assert plan == plan_round(seen, POLICY, NOW, seed)
    event(f"rooms: {min(2, len(plan.preempted))}, leases: {min(3, sum(len(r.leases) for r in plan.preempted))}")
    held = {one.key: one for one in seen.held if not one.leaving}
    told = [key for room in plan.preempted for key in room.leases]
    assert len(told) == len(set(told)) and set(told) <= held.keys()
    placed: Counter[str] = Counter()
    for a in plan.assignments:
        placed[a.order_id] += a.tasks
    left = Left(seen, plan)
    for room in plan.preempted:
        row, shape = seen.queue.ids.index(room.order_id), shape_of(seen, room.order_id)
        assert not shape.terms.spot
        assert room.version == seen.queue.version[row]
        assert 0 < room.tasks <= seen.queue.tasks[row] - placed[room.order_id]
        need = takes(seen, shape)
        ended = tuple(held[key] for key in room.leases)
        assert {one.pool_id for one in ended} <= {room.pool_id}
        units, memory = left.lacks(room.pool_id, need[room.pool_id], room.tasks)
        assert ended == tuple(of_others(seen, row, list(ended)))
        ways = list(covering(of_others(seen, row, left.spot[room.pool_id]), units, memory))
        assert cost(ended) == min(map(cost, ways))
        for one in ended:
            others = [o for o in ended if o is not one]
            assert not any(len(way) == len(others) for way in covering(others, units, memory))
        if room.tasks == 1:
            account = seen.accounts[int(seen.queue.account[row])]
            if account.quota_milli is None:
                everywhere = [
                    cost(way)[0]
                    for pool, each in need.items()
                    for way in covering(of_others(seen, row, left.spot[pool]), *left.lacks(pool, each))
                ]
                assert cost(ended)[0] == min(everywhere)
        left.end(room, need[room.pool_id])
        assert min(left.free[room.pool_id]) >= 0


@settings(max_examples=150, deadline=None)
@given(crowded(), st.integers(0, 3))
def test_nothing_ends_while_a_place_is_free_and_no_spot_order_takes_what_is_kept(seen: Snapshot, seed: int) -> None:
    seen = replace(seen, held=tuple(one._replace(leaving=False) for one in seen.held))
    plan = plan_round(seen, POLICY, NOW, seed)
    left = Left(seen, plan)
    for room in plan.preempted:
        need = takes(seen, shape_of(seen, room.order_id))
        account = seen.accounts[int(seen.queue.account[seen.queue.ids.index(room.order_id)])]
        for pool, each in need.items():
            fits = all(lack <= 0 for lack in left.lacks(pool, each))
            assert not fits or account.quota_milli is not None, (room, pool)
        at = room.pool_id
        kept = [min(max(0, have), each * room.tasks) for have, each in zip(left.free[at], need[at], strict=True)]
        left.add(at, -kept[0], -kept[1])
    taken: Counter[str] = Counter()
    for a in plan.assignments:
        if shape_of(seen, a.order_id).terms.spot:
            taken[a.pool_id] += a.milli
    assert all(taken[pool] <= max(0, milli) for pool, (milli, _) in left.free.items())


@settings(max_examples=120, deadline=None)
@given(crowded(), st.data())
def test_the_units_go_to_the_order_as_they_come_and_nothing_ends_for_it_twice(
    seen: Snapshot, data: st.DataObject
) -> None:
    """Rounds until nothing comes any more: leases end in any order, and spot orders are always there to take units."""
    plan = plan_round(seen, POLICY, NOW, 0)
    single = [room for room in plan.preempted if room.tasks == 1 and room.leases]
    event(f"single: {bool(single)}")
    if not single:
        return
    wanted = single[0]
    told: Counter[tuple[str, int]] = Counter()
    row = seen.queue.ids.index(wanted.order_id)
    alone = np.zeros(len(seen.queue.ids), dtype=np.int32)
    spot = np.array([s.terms.spot for s in seen.shapes])[seen.queue.shape]
    alone[spot] = 30
    alone[row] = 1
    free = {p.id: f for p, f in zip(seen.supply.pools, seen.supply.free, strict=True)}
    held = list(seen.held)
    rooms: tuple[Room, ...] = ()
    for step in range(40):
        supply = replace(seen.supply, free=tuple(free[p.id] for p in seen.supply.pools))
        now = replace(seen, supply=supply, held=tuple(held), rooms=rooms, queue=replace(seen.queue, tasks=alone.copy()))
        plan = plan_round(now, POLICY, NOW, step)
        for a in plan.assignments:
            free[a.pool_id] = Free(free[a.pool_id].milli - a.milli, free[a.pool_id].memory_bytes - a.memory_bytes)
            assert free[a.pool_id].milli >= 0 and free[a.pool_id].memory_bytes >= 0
            alone[seen.queue.ids.index(a.order_id)] -= a.tasks
        if not alone[row]:
            event(f"placed in round {min(step, 5)}, told {sum(told.values())}")
            return
        for room in plan.preempted:
            assert not rooms, "it has room already"
            rooms = (Room(room.order_id, room.pool_id, room.tasks),)
            told.update(room.leases)
            held = [o._replace(leaving=True) if o.key in set(room.leases) else o for o in held]
        coming = [o for o in held if o.leaving]
        if coming:
            gone = data.draw(st.sampled_from(coming))
            held.remove(gone)
            was = free[gone.pool_id]
            free[gone.pool_id] = Free(was.milli + gone.milli, was.memory_bytes + gone.memory_bytes)
    raise AssertionError("it never got its units")


def held(
    n: int, milli: int, at_risk_ms: int, pool: str = "s1:cpu", leaving: bool = False, account: str = "other"
) -> Held:
    return Held(f"spot{n}.0", 1, pool, milli, 0, at_risk_ms, leaving, account)


FULL = {"s1:cpu": Free(0, 32 * GIB), "s1:far": Free(0, 32 * GIB)}


def test_the_pool_where_the_least_is_lost_is_taken_and_a_checkpoint_counts() -> None:
    supply = a_supply(a_site(), a_pool(), a_pool("s1:far"), free=FULL)
    old, saved = held(1, 4_000, HOUR), held(2, 4_000, 1_000, "s1:far")
    seen = replace(a_snapshot(supply, (a_shape(cores_milli=4_000),), {}), held=(old, saved))
    assert plan_round(seen, POLICY, NOW, 0).preempted == (Preemption("o000", 1, "s1:far", 1, (saved.key,)),)


def test_no_lease_ends_for_an_order_of_its_own_account() -> None:
    supply = a_supply(a_site(), a_pool(), a_pool("s1:far"), free=FULL)
    own, foreign = held(1, 4_000, 5, account="one"), held(2, 4_000, HOUR, "s1:far")
    accounts = an_account("one"), an_account("two")
    shape = a_shape(cores_milli=4_000)
    alone = a_snapshot(supply, (shape,), {}, accounts=accounts)
    assert plan_round(replace(alone, held=(own,)), POLICY, NOW, 0).preempted == ()
    [room] = plan_round(replace(alone, held=(own, foreign)), POLICY, NOW, 0).preempted
    assert room.leases == (foreign.key,), "though more is lost"
    both = a_snapshot(supply, (shape,), {"age_ms": 9}, {"account": 1}, accounts=accounts)
    [room] = plan_round(replace(both, held=(own,)), POLICY, NOW, 0).preempted
    assert (room.order_id, room.leases) == ("o001", (own.key,)), "it ends for others"


def test_a_spot_order_makes_nobody_end_and_comes_last_whatever_its_priority() -> None:
    supply = a_supply(a_site(), a_pool(), free={"s1:cpu": Free(2_000, 32 * GIB)})
    shapes = as_spot(a_shape(cores_milli=2_000)), a_shape(cores_milli=2_000)
    seen = a_snapshot(supply, shapes, {"shape": 0, "priority": 9, "age_ms": 9}, {"shape": 1})
    plan = plan_round(replace(seen, held=(held(1, 6_000, 5),)), POLICY, NOW, 0)
    assert [a.order_id for a in plan.assignments] == ["o001"] and plan.preempted == ()


def test_an_array_gets_room_for_as_many_tasks_as_one_pool_can_hold_and_the_policy_bounds_it() -> None:
    supply = a_supply(a_site(), a_pool(), free=FULL)
    leases = tuple(held(n, 1_000, n) for n in range(8))
    seen = replace(a_snapshot(supply, (a_shape(cores_milli=1_000),), {"tasks": 30}), held=leases)
    [room] = plan_round(seen, POLICY, NOW, 0).preempted
    assert (room.tasks, len(room.leases)) == (8, 8)
    [room] = plan_round(seen, replace(POLICY, max_preempted=3), NOW, 0).preempted
    assert room.tasks == len(room.leases) <= 3
    gang = a_snapshot(supply, (a_shape(cores_milli=1_000, slots=8),), {})
    [room] = plan_round(replace(gang, held=leases), replace(POLICY, max_preempted=3), NOW, 0).preempted
    assert (room.tasks, len(room.leases)) == (1, 8), "one task is not held up by the bound for ever"
    assert plan_round(seen, replace(POLICY, max_rooms=0), NOW, 0).preempted == ()


def test_an_order_that_waits_for_its_quota_makes_nobody_end() -> None:
    supply = a_supply(a_site(), a_pool(), free=FULL)
    accounts = (an_account(used=1_000, quota=2_000),)
    seen = a_snapshot(supply, (a_shape(cores_milli=2_000),), {}, accounts=accounts)
    assert plan_round(replace(seen, held=(held(1, 8_000, 0),)), POLICY, NOW, 0).preempted == ()


def test_a_room_whose_units_went_to_others_counts_no_more() -> None:
    supply = a_supply(a_site(), a_pool(), a_pool("s1:far"), free=FULL)
    room = Room("o000", "s1:cpu", 1)
    seen = replace(a_snapshot(supply, (a_shape(cores_milli=4_000),), {}), rooms=(room,))
    plan = plan_round(replace(seen, held=(held(1, 4_000, 5, "s1:far"),)), POLICY, NOW, 0)
    assert [p.pool_id for p in plan.preempted] == ["s1:far"]
    waits = plan_round(
        replace(seen, held=(held(2, 4_000, 5, leaving=True), held(1, 4_000, 5, "s1:far"))), POLICY, NOW, 0
    )
    assert waits.preempted == ()


def test_what_others_would_take_is_kept_until_all_of_it_has_come() -> None:
    """Half has come: a smaller order that is not spot, too, waits while the order's units come."""
    supply = a_supply(a_site(), a_pool(), free={"s1:cpu": Free(2_000, 32 * GIB)})
    shapes = a_shape(cores_milli=4_000), a_shape(cores_milli=1_000), as_spot(a_shape(cores_milli=1_000))
    seen = a_snapshot(supply, shapes, {"age_ms": 5}, {"shape": 1, "age_ms": 9}, {"shape": 2})
    seen = replace(seen, rooms=(Room("o000", "s1:cpu", 1),), held=(held(1, 2_000, 5, leaving=True),))
    plan = plan_round(seen, POLICY, NOW, 0)
    assert plan.assignments == () and plan.preempted == ()
    come = replace(seen, held=(), supply=a_supply(a_site(), a_pool(), free={"s1:cpu": Free(4_000, 32 * GIB)}))
    assert [a.order_id for a in plan_round(come, POLICY, NOW, 0).assignments] == ["o000"]


def test_a_gang_is_given_room_in_one_pool_or_nothing_ends_for_it() -> None:
    """Eight cores are free or could be freed, four at each of two sites: no order is split across sites."""
    far = replace(a_pool("s2:cpu"), capacity_milli=4_000)
    near = replace(a_pool(), capacity_milli=4_000)
    supply = a_supply(a_site(), a_site("s2"), near, far, free={"s1:cpu": Free(4_000, GIB), "s2:cpu": Free(0, 32 * GIB)})
    seen = a_snapshot(supply, (a_shape(cores_milli=1_000, slots=6),), {})
    plan = plan_round(replace(seen, held=(held(1, 4_000, 0, "s2:cpu"),)), POLICY, NOW, 0)
    assert plan.assignments == () and plan.preempted == ()
