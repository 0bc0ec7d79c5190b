"""Bookings: what is promised is there when its time has come, and what lies before it is used."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.placement_network import (
    GIB,
    HOUR,
    NOW,
    a_pool,
    a_shape,
    a_site,
    a_snapshot,
    a_supply,
    an_account,
)
from yunhe.core.demand import Shape
from yunhe.core.placement.calendar import Calendar, Span, Step
from yunhe.core.policy import Policy
from yunhe.core.round import Plan, Reason, explain, plan_round, quote
from yunhe.core.supply import Booking, Free, LeaseEnd, Supply
from yunhe.simulator.replay import replay
from yunhe.wire.rounds import RecordedRound, from_line, to_line

MINUTE = 60_000
POLICY = Policy()
LATER = NOW + 2 * HOUR

# --- the calendar -------------------------------------------------------------------------------------------------

spans = st.tuples(st.integers(0, 12), st.integers(1, 6)).map(lambda pair: Span(pair[0], sum(pair)))
amounts = st.tuples(st.integers(0, 5), st.integers(0, 5))


@given(
    st.lists(st.tuples(spans, amounts), max_size=6), st.lists(st.tuples(st.integers(0, 12), amounts), max_size=4), spans
)
def test_the_least_of_a_span_is_that_of_its_moments(
    taken: list[tuple[Span, tuple[int, int]]], ends: list[tuple[int, tuple[int, int]]], asked: Span
) -> None:
    calendar = Calendar(7, 9)
    for span, amount in taken:
        calendar.take(span, *amount)
    for at, amount in ends:
        calendar.gives_back(at, *amount)

    def free(t: int, part: int) -> int:
        held = sum(amount[part] for span, amount in taken if span.from_ms <= t < span.until_ms)
        return (7, 9)[part] - held + sum(amount[part] for at, amount in ends if at <= t)

    least = calendar.least(asked)
    assert least == tuple(min(free(t, part) for t in range(*asked)) for part in (0, 1))
    assert calendar.fits(asked, *least) and not calendar.fits(asked, least[0] + 1, least[1])
    steps = calendar.steps(asked.from_ms)
    assert [step[1:] for step in steps] == [
        calendar.least(Span(asked.from_ms, 99 if step.until_ms is None else step.until_ms)) for step in steps
    ]
    assert [step.until_ms for step in steps[:-1]] == sorted({s.until_ms for s in steps[:-1] if s.until_ms is not None})


def test_a_pool_with_bookings_ahead_has_less_for_longer() -> None:
    calendar = Calendar(8, 80)
    calendar.take(Span(20, 30), 3, 30)
    calendar.take(Span(50, 60), 6, 10)
    assert calendar.steps(0) == [Step(20, 8, 80), Step(50, 5, 50), Step(None, 2, 50)]
    assert calendar.steps(25) == [Step(50, 5, 50), Step(None, 2, 50)]


# --- the round ----------------------------------------------------------------------------------------------------


def network(*bookings: Booking, free: int = 8_000, leases: tuple[LeaseEnd, ...] = ()) -> Supply:
    """One pool of 8 cores."""
    supply = a_supply(a_site(), a_pool(), free={"s1:cpu": Free(free, 32 * GIB)})
    return replace(supply, bookings=bookings, leases=leases)


def booking(milli: int, from_ms: int = LATER, until_ms: int = LATER + HOUR, account: str = "other") -> Booking:
    return Booking("s1:cpu", account, from_ms, until_ms, milli, GIB)


def later(cores: int, run_limit_ms: int = HOUR, **parts: object) -> Shape:
    return a_shape(run_limit_ms, cores_milli=cores * 1_000, memory_bytes=GIB, start_ms=LATER, **parts)


def now(cores: int, run_limit_ms: int = HOUR) -> Shape:
    return a_shape(run_limit_ms, cores_milli=cores * 1_000, memory_bytes=GIB)


def decide(supply: Supply, *shapes: Shape, **queue: dict[str, int]) -> Plan:
    """One order of each shape, in turn."""
    return plan_round(
        a_snapshot(supply, shapes, *({"shape": i, "age_ms": 9 - i} for i in range(len(shapes)))), POLICY, NOW, 1
    )


def test_a_round_books_what_starts_later_and_places_nothing_of_it() -> None:
    plan = decide(network(), later(4))
    assert plan.assignments == () and plan.waiting == plan.unplaceable == 0
    assert [(b.order_id, b.pool_id, b.tasks, b.milli, b.memory_bytes) for b in plan.bookings] == [
        ("o000", "s1:cpu", 1, 4_000, GIB)
    ]


def test_when_its_time_has_come_it_is_an_order_as_any_other() -> None:
    shape = replace(later(4), terms=replace(later(4).terms, start_ms=NOW))
    plan = decide(network(), shape)
    assert plan.bookings == () and [a.milli for a in plan.assignments] == [4_000]


@pytest.mark.parametrize(
    ("bookings", "cores", "fits"),
    [
        ((booking(4_000),), 4, True),
        ((booking(4_001),), 4, False),
        ((booking(8_000, LATER - HOUR, LATER),), 8, True),  # one ends as the other begins
        ((booking(8_000, LATER - HOUR, LATER + 1),), 8, False),
        ((booking(8_000, LATER + HOUR, LATER + 2 * HOUR),), 8, True),
        ((booking(8_000, LATER + HOUR - 1, LATER + 2 * HOUR),), 8, False),
        ((booking(5_000, LATER, LATER + 100), booking(5_000, LATER + 100, LATER + HOUR)), 3, True),  # never both
    ],
)
def test_a_span_is_half_open(bookings: tuple[Booking, ...], cores: int, fits: bool) -> None:
    plan = decide(network(*bookings), later(cores))
    assert len(plan.bookings) == fits and plan.waiting == (not fits)


def test_a_lease_counts_until_it_certainly_ends() -> None:
    def lease(until_ms: int) -> tuple[LeaseEnd, ...]:
        return (LeaseEnd("s1:cpu", until_ms, 8_000, GIB),)

    assert decide(network(free=0, leases=lease(LATER)), later(8)).bookings
    assert not decide(network(free=0, leases=lease(LATER + 1)), later(8)).bookings
    assert not decide(network(free=0), later(1)).bookings, "a lease that is not listed is taken to stay"


def test_bookings_of_one_round_see_each_other() -> None:
    plan = decide(network(), later(5), later(5), later(3))
    assert [b.order_id for b in plan.bookings] == ["o000", "o002"] and plan.waiting == 1
    shapes = (later(5), now(8, HOUR * 3), now(8, HOUR))
    plan = decide(network(), *shapes)
    assert [b.order_id for b in plan.bookings] == ["o000"]
    assert [a.order_id for a in plan.assignments] == ["o002"], "what ends before goes around it"


def test_the_higher_priority_and_then_the_older_books_first() -> None:
    orders = ({"age_ms": 5}, {"age_ms": 9}, {"priority": 1})
    plan = plan_round(a_snapshot(network(), (later(4),), *orders), POLICY, NOW, 1)
    assert [b.order_id for b in plan.bookings] == ["o002", "o001"] and plan.waiting == 1


def test_what_cannot_be_booked_holds_nobody_up() -> None:
    """A round looks at two: one of each account, whatever their priority and age; in time at all of one's own."""
    hopeless, small = later(9, pools=frozenset({"nowhere"})), later(1)
    wall = ({"shape": 0, "age_ms": 50, "priority": 9} for _ in range(6))
    snapshot = a_snapshot(
        network(),
        (hopeless, small),
        *wall,
        {"shape": 1, "age_ms": 2},
        {"shape": 1, "account": 1, "age_ms": 1},
        accounts=(an_account("a0"), an_account("a1")),
    )
    *_, own, other = snapshot.queue.ids
    booked = [
        {each.order_id for each in plan_round(snapshot, replace(POLICY, max_bookings=2), NOW + after, 1).bookings}
        for after in range(7)
    ]
    assert all(other in found for found in booked)
    assert any(own in found for found in booked)


def test_tasks_of_an_array_are_booked_where_there_is_room() -> None:
    supply = a_supply(a_site(), a_pool(), a_pool("s1:dear", price_microcny_per_unit_hour=900_000))
    plan = plan_round(a_snapshot(supply, (later(4, array=5),), {"tasks": 5}), POLICY, NOW, 1)
    assert [(b.pool_id, b.tasks, b.milli) for b in plan.bookings] == [("s1:cpu", 2, 8_000), ("s1:dear", 2, 8_000)]
    assert plan.waiting == 1


def test_an_account_books_within_its_quota_at_any_time() -> None:
    accounts = (an_account("org", quota=6_000),)

    def booked(*shapes: Shape, before: tuple[Booking, ...] = ()) -> list[str]:
        orders = [{"shape": i, "age_ms": 9 - i} for i in range(len(shapes))]
        plan = plan_round(a_snapshot(network(*before), shapes, *orders, accounts=accounts), POLICY, NOW, 1)
        return [b.order_id for b in plan.bookings]

    after = replace(later(4), terms=replace(later(4).terms, start_ms=LATER + HOUR))
    assert booked(later(4), later(4), after) == ["o000", "o002"]
    assert booked(later(4), before=(booking(3_000, account="org"),)) == []
    assert booked(later(4), before=(booking(3_000, account="other"),)) == ["o000"]


def test_budget_and_deadline_hold_for_the_start_too() -> None:
    assert decide(network(), later(4, budget_microcny=1)).unplaceable == 1
    assert decide(network(), later(4, deadline_ms=LATER + HOUR - 1)).unplaceable == 1
    assert decide(network(), later(4, deadline_ms=LATER + HOUR)).bookings


# --- around bookings ----------------------------------------------------------------------------------------------


def test_the_whole_pool_is_for_what_is_gone_before_the_booking() -> None:
    before = LATER - NOW - POLICY.booking_margin_ms
    supply = network(booking(4_000))
    assert decide(supply, now(8, before)).assignments
    assert not decide(supply, now(8, before + 1)).assignments
    assert decide(supply, now(4, before + 1)).assignments, "the other half is for anything"


def test_lanes_of_a_pool_do_not_give_a_unit_twice() -> None:
    short = now(4, MINUTE)
    plan = decide(network(booking(4_000)), now(4, 9 * HOUR), short, short, short)
    assert sorted(a.order_id for a in plan.assignments) == ["o000", "o001"]
    assert plan.waiting == 2


def test_why_and_quote_say_what_is_booked() -> None:
    supply = network(booking(4_000))
    [entry] = explain(now(6, 2 * HOUR), supply, POLICY, NOW)
    assert entry.reasons == (
        Reason("before_booking", "6 cores for 2h1m", "4 cores for so long, bookings take the rest", lasting=False),
    )
    assert explain(now(4, 2 * HOUR), supply, POLICY, NOW)[0].reasons == ()
    assert explain(now(8, MINUTE), supply, POLICY, NOW)[0].reasons == ()
    [entry] = explain(later(6), supply, POLICY, NOW)
    [taken] = entry.reasons
    assert (taken.code, taken.have, taken.lasting) == ("booked_out", "4 cores free then", False)
    assert taken.need.startswith("6 cores from 2026-")
    assert quote(later(6), supply, POLICY, NOW).offers == ()
    [offer] = quote(later(4), supply, POLICY, NOW).offers
    assert (offer.start_ms, offer.finish_ms) == (LATER, LATER + HOUR)


# --- time goes on -------------------------------------------------------------------------------------------------

POOLS = (a_pool("s1:a", capacity_milli=4_000), a_pool("s1:b", price_microcny_per_unit_hour=200_000))
kinds = st.tuples(
    st.integers(1, 8),  # cores
    st.integers(1, 30),  # run limit, minutes
    st.none() | st.integers(1, 60),  # starts in so many minutes
    st.integers(0, 9),  # in tenths of its limit: when it really ends
)
minutes = st.lists(st.tuples(st.lists(kinds, max_size=4), st.booleans(), st.integers(0, 9)), min_size=1, max_size=12)


@settings(deadline=None)
@given(minutes)
def test_what_was_booked_is_there_when_its_time_has_come(
    steps: list[tuple[list[tuple[int, int, int | None, int]], bool, int]],
) -> None:
    """Leases end when they like up to their limits, bookings are cancelled; never is a unit in use twice."""
    world = _World()
    for orders, cancels, wait in steps:
        world.round(orders)
        if cancels and world.bookings:
            world.bookings.pop(len(world.bookings) // 2)
        world.advance(wait)
    world.advance(120)


class _World:
    """Two pools whose leases and bookings follow the plans; time in ms from NOW, by the minute."""

    def __init__(self) -> None:
        self.at = NOW
        self.leases: list[tuple[Booking, int]] = []  # what it may take, and when it really ends
        self.bookings: list[tuple[Booking, int]] = []

    def free(self) -> dict[str, int]:
        used = dict.fromkeys((pool.id for pool in POOLS), 0)
        for lease, _ in self.leases:
            used[lease.pool_id] += lease.milli
        return {pool.id: pool.capacity_milli - used[pool.id] for pool in POOLS}

    def round(self, orders: list[tuple[int, int, int | None, int]]) -> None:
        shapes = []
        for cores, limit, start, _ in orders:
            shape = a_shape(limit * MINUTE, cores_milli=cores * 1_000, memory_bytes=1)
            start_ms = None if start is None else self.at + start * MINUTE
            shapes.append(replace(shape, terms=replace(shape.terms, start_ms=start_ms)))
        if not shapes:
            return
        supply = replace(
            a_supply(a_site(), *POOLS, free={id: Free(milli, 32 * GIB) for id, milli in self.free().items()}),
            bookings=tuple(each for each, _ in self.bookings),
            leases=tuple(LeaseEnd(each.pool_id, each.until_ms, each.milli, 1) for each, _ in self.leases),
        )
        snapshot = a_snapshot(supply, tuple(shapes), *({"shape": i} for i in range(len(shapes))))
        plan = plan_round(snapshot, POLICY, self.at, 1)
        line = to_line(RecordedRound(snapshot, POLICY, self.at, 1, plan))
        assert [item.same for item in replay([line])] == [True] and from_line(line).plan == plan
        for given_, later_ in ((plan.assignments, False), (plan.bookings, True)):
            for a in given_:
                _, limit, start, tenths = orders[int(a.order_id[1:])]
                assert later_ == (start is not None)
                from_ms = self.at + (start or 0) * MINUTE
                until_ms = from_ms + limit * MINUTE + (0 if later_ else POLICY.booking_margin_ms)
                held = Booking(a.pool_id, "org", from_ms, until_ms, a.milli, 1)
                ends = from_ms + (until_ms - from_ms) * (tenths + 1) // 10
                (self.bookings if later_ else self.leases).append((held, ends))
        self.check()

    def advance(self, minutes: int) -> None:
        for _ in range(minutes):
            self.at += MINUTE
            self.leases = [lease for lease in self.leases if lease[1] > self.at]
            self.leases += [each for each in self.bookings if each[0].from_ms <= self.at]
            self.bookings = [each for each in self.bookings if each[0].from_ms > self.at]
            self.check()

    def check(self) -> None:
        assert min(self.free().values()) >= 0
