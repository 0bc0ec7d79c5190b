"""Orders that may wait for a better hour: never beyond what they allow, never without a gain, the same answer twice."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.placement_network import (
    HOUR,
    NOW,
    POLICY,
    Precision,
    Preference,
    Work,
    a_pool,
    a_shape,
    a_site,
    a_snapshot,
    a_supply,
)
from tests.core.test_hours import networks, preferences
from yunhe.core.demand import AS_LONG_AS_IT_MAY, Shape
from yunhe.core.hours import DAY, HOUR_MS, Hours
from yunhe.core.placement.board import Board
from yunhe.core.placement.when import SIGHT, latest_start_ms, wait_of
from yunhe.core.round import Delay, Plan, plan_round
from yunhe.core.supply import Supply, at_hour

FULL = NOW // HOUR_MS * HOUR_MS  # the beginning of an hour
FIRST = FULL // HOUR_MS


def seen(supply: Supply, now_ms: int) -> Supply:
    return replace(supply, sites=tuple(at_hour(site, now_ms // HOUR_MS) for site in supply.sites))


def decided(supply: Supply, shape: Shape, now_ms: int, submitted_ms: int) -> Plan:
    snapshot = a_snapshot(seen(supply, now_ms), (shape,), {"age_ms": NOW - submitted_ms})
    return plan_round(snapshot, POLICY, now_ms, 0)


def started(supply: Supply, shape: Shape, submitted_ms: int) -> tuple[int, list[Delay]]:
    """When it is placed if a round is made whenever one is due, and what was said until then."""
    now_ms, said = submitted_ms, []
    while True:
        plan = decided(supply, shape, now_ms, submitted_ms)
        if not plan.delays:
            assert plan.assignments
            return now_ms, said
        (delay,) = plan.delays
        assert not plan.assignments and plan.waiting == 1
        assert now_ms < delay.until_ms <= delay.start_ms <= delay.latest_ms
        assert delay.saves >= 0
        said.append(delay)
        now_ms = delay.until_ms


def by_hour(*values: int) -> Hours:
    """Power by the hours from `FULL` on; what follows is like the last of them."""
    of_day = [values[-1]] * DAY
    for i, value in enumerate(values):
        of_day[(FIRST + 8 + i) % DAY] = value
    return Hours(8, tuple(of_day), tuple(v // 1_000 for v in of_day))


def a_network(*values: int, **pool: Any) -> Supply:
    return a_supply(a_site(hours=by_hour(*values)), a_pool(**{"price_microcny_per_unit_hour": 0, **pool}))


def patient(hours: float, **parts: Any) -> Shape:
    return a_shape(**{"cores_milli": 1_000, "patience_ms": int(hours * HOUR), **parts})


# --- what holds for all of them -------------------------------------------------------------------------------------

sizes = st.sampled_from(
    [
        {"cores_milli": 1_000},
        {"work": Work(10**14, Precision.FP64)},  # 2 h 47 min of a core
        {"work": Work(2 * 10**15, Precision.FP64)},  # 55 h of a core, 7 h of a pool
    ]
)


@settings(deadline=None, max_examples=30)
@given(
    networks(),
    preferences,
    sizes,
    st.integers(1, 15 * HOUR) | st.just(AS_LONG_AS_IT_MAY),
    st.integers(10 * HOUR, 25 * HOUR),
    st.integers(0, HOUR_MS),
)
def test_it_starts_in_time(
    supply: Supply, prefer: Preference, size: dict[str, Any], patience_ms: int, deadline: int, after_ms: int
) -> None:
    came_ms = NOW + after_ms
    terms = {"preference": prefer, "patience_ms": patience_ms, "deadline_ms": came_ms + deadline}
    shape = a_shape(run_limit_ms=9 * HOUR, **size, **terms)
    at_ms, said = started(supply, shape, came_ms)
    latest_ms = latest_start_ms(shape, came_ms)
    assert at_ms <= latest_ms
    assert all(at_ms <= delay.latest_ms <= latest_ms for delay in said)
    if "work" not in size:
        assert latest_ms <= came_ms + deadline - 9 * HOUR
    assert said == started(supply, shape, came_ms)[1]


@given(networks(), preferences, sizes, st.integers(0, 3))
def test_without_patience_all_is_as_before(supply: Supply, prefer: Preference, size: dict[str, Any], n: int) -> None:
    shapes = tuple(
        a_shape(run_limit_ms=9 * HOUR, preference=prefer, deadline_ms=NOW + 30 * HOUR, patience_ms=p * HOUR, **size)
        for p in (0, 20)
    )
    alone = a_snapshot(seen(supply, NOW), shapes, *({"shape": 0} for _ in range(n)))
    plan = plan_round(alone, POLICY, NOW, 0)
    assert not plan.delays
    # Those that wait are as if they had not come.
    both = a_snapshot(seen(supply, NOW), shapes, *({"shape": 0} for _ in range(n)), {"shape": 1})
    mixed = plan_round(both, POLICY, NOW, 0)
    if mixed.delays:
        assert mixed.assignments == plan.assignments
        assert mixed.waiting == plan.waiting + 1


@settings(deadline=None, max_examples=20)
@given(networks(), preferences, st.integers(1, 30), st.integers(1, 20 * HOUR), st.integers(0, HOUR_MS - 1))
def test_the_hour_is_the_best_of_all(
    supply: Supply, prefer: Preference, patience: int, limit_ms: int, after_ms: int
) -> None:
    """Against all starts at all pools, by the bill's own words: power per hour, the chance that it still runs."""
    now_ms = FULL + after_ms
    network = seen(supply, now_ms)
    shape = patient(patience, run_limit_ms=limit_ms, preference=prefer)
    wait = wait_of(shape, Board(network, POLICY), now_ms, now_ms)
    starts = [
        now_ms,
        *((FIRST + k) * HOUR_MS for k in range(1, SIGHT + 1) if (FIRST + k) * HOUR_MS <= now_ms + patience * HOUR),
    ]
    sums = np.array([[_sum(network, i, prefer, limit_ms, at) for i in range(len(network.pools))] for at in starts])
    least, now = sums.min(), sums[0].min()
    if wait is None:
        assert least >= now * 0.99 * (1 - 1e-6)
    else:
        assert least <= now * 0.99 * (1 + 1e-6)
        assert sums[starts.index(wait.start_ms), wait.pool] == pytest.approx(least, rel=1e-6)
        assert wait.saves == pytest.approx(now - least, rel=1e-4, abs=2)


def _sum(supply: Supply, pool: int, prefer: Preference, mean_ms: int, start_ms: int) -> float:
    at, site, total = supply.pools[pool], supply.sites[pool], 0.0
    for hour in range(start_ms // HOUR_MS, start_ms // HOUR_MS + 400):
        begin, end = max(0, hour * HOUR_MS - start_ms), (hour + 1) * HOUR_MS - start_ms
        weight = (np.exp(-begin / mean_ms) - np.exp(-end / mean_ms)) * mean_ms / HOUR_MS
        kwh = at.watts_per_unit / 1000 * site.pue_milli / 1000
        if prefer is Preference.CARBON:
            total += weight * kwh * site.hours.carbon_at(hour, site.carbon_g_per_kwh) * 1000
        else:
            power = site.hours.power_at(hour, site.power_price_microcny_per_kwh)
            total += weight * (at.price_microcny_per_unit_hour + kwh * power)
    return total


# --- cases ----------------------------------------------------------------------------------------------------------


def test_it_waits_for_the_cheap_hour_and_no_longer() -> None:
    supply = a_network(900_000, 900_000, 100_000, 900_000)
    at_ms, said = started(supply, patient(6), FULL)
    assert at_ms == FULL + 2 * HOUR
    assert [delay.start_ms for delay in said] == [FULL + 2 * HOUR] * 2
    assert {delay.site_id for delay in said} == {"s1"}
    assert started(supply, patient(6, preference=Preference.CARBON), FULL)[0] == FULL + 2 * HOUR


def test_it_starts_at_once_where_the_best_hour_is_now() -> None:
    assert started(a_network(100_000, 900_000), patient(20), FULL) == (FULL, [])


def test_patience_ends_before_the_cheap_hour() -> None:
    supply = a_network(900_000, 900_000, 100_000)
    assert started(supply, patient(1.99, run_limit_ms=60_000), FULL) == (FULL, [])
    # What may still run then starts as near to it as it can.
    assert started(supply, patient(1.99), FULL)[0] == FULL + HOUR
    assert started(supply, patient(2), FULL)[0] == FULL + 2 * HOUR


def test_its_deadline_leaves_less_time_than_its_patience() -> None:
    supply = a_network(900_000, 900_000, 100_000)
    shape = patient(20, deadline_ms=FULL + 3 * HOUR - 1, run_limit_ms=HOUR)
    assert started(supply, shape, FULL)[0] == FULL + HOUR
    assert started(supply, patient(20, deadline_ms=FULL + 3 * HOUR, run_limit_ms=HOUR), FULL)[0] == FULL + 2 * HOUR


def test_little_is_not_worth_waiting_for() -> None:
    """Most of what it costs is the units; power is a hundredth."""
    supply = a_network(900_000, 100_000, price_microcny_per_unit_hour=2_000_000)
    assert started(supply, patient(20), FULL) == (FULL, [])
    assert started(supply, patient(20, preference=Preference.CARBON), FULL)[0] == FULL + HOUR


def test_a_long_run_does_not_wait_for_a_short_valley() -> None:
    supply = a_network(500_000, 500_000, 490_000, 500_000)
    assert started(supply, patient(20, run_limit_ms=HOUR // 2), FULL)[0] == FULL + 2 * HOUR
    assert started(supply, patient(20, run_limit_ms=50 * HOUR), FULL) == (FULL, [])


def test_work_is_done_in_the_cheap_hours_with_more_units() -> None:
    """16 core-hours by 20 h: at once a core for 16 h; in the last 4 h, which are cheap, four cores."""
    supply = a_network(*[900_000] * 16, *[100_000] * 4, 900_000)
    work = Work(16 * 3_600 * 10**10, Precision.FP64)
    terms = {"work": work, "deadline_ms": FULL + 20 * HOUR, "run_limit_ms": 20 * HOUR}
    at_ms, said = started(supply, a_shape(patience_ms=AS_LONG_AS_IT_MAY, **terms), FULL)
    assert at_ms == FULL + 16 * HOUR and len(said) == 16
    (given,) = decided(supply, a_shape(patience_ms=AS_LONG_AS_IT_MAY, **terms), at_ms, FULL).assignments
    assert given.milli == 4_000
    (early,) = decided(supply, a_shape(**terms), FULL, FULL).assignments
    assert early.milli == 800


def test_work_starts_while_its_units_still_do() -> None:
    """100 core-hours on 8 cores take 12.5 h: of 20 h the first 7 may pass, however cheap the last ones are."""
    supply = a_network(*[900_000] * 16, *[100_000] * 4, 900_000)
    work = Work(100 * 3_600 * 10**10, Precision.FP64)
    shape = a_shape(work=work, deadline_ms=FULL + 20 * HOUR, run_limit_ms=20 * HOUR, patience_ms=AS_LONG_AS_IT_MAY)
    assert started(supply, shape, FULL)[0] == FULL + 7 * HOUR


def test_the_budget_says_whose_cheap_hours_count() -> None:
    cheap, dear = by_hour(900_000, 100_000, 900_000), by_hour(500_000)
    supply = a_supply(
        a_site("s1", hours=cheap),
        a_pool("s1:cpu", price_microcny_per_unit_hour=10_000, watts_per_unit=100),
        a_site("s2", hours=dear),
        a_pool("s2:cpu", price_microcny_per_unit_hour=0, watts_per_unit=100),
    )
    assert started(supply, patient(3), FULL)[0] == FULL + HOUR
    assert started(supply, patient(3, budget_microcny=70_000), FULL) == (FULL, [])  # s1 can cost 122,500


def test_speed_does_not_wait_and_a_flat_network_neither() -> None:
    supply = a_network(900_000, 100_000)
    assert started(supply, patient(20, preference=Preference.SPEED), FULL) == (FULL, [])
    assert started(a_supply(a_site(), a_pool()), patient(20), FULL) == (FULL, [])


def test_a_round_looks_at_so_many_kinds_and_the_others_start_as_if_they_had_no_patience() -> None:
    supply = seen(a_network(900_000, 100_000), FULL)
    shapes = tuple(patient(6, cores_milli=100 * n) for n in (1, 2, 3))
    snapshot = a_snapshot(supply, shapes, *({"shape": n} for n in range(3)))
    plan = plan_round(snapshot, replace(POLICY, max_waits=2), FULL, 0)
    assert [delay.until_ms - FULL for delay in plan.delays] == [HOUR, HOUR]
    assert [given.order_id for given in plan.assignments] == [snapshot.queue.ids[2]]
