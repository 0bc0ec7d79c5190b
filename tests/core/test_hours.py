"""Prices and carbon by the hour: sums over hours, means over runs, and what a run is charged that crosses hours."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given
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
from yunhe.core import lease
from yunhe.core.hours import DAY, FLAT, HOUR_MS, Forecast, Hours, whole
from yunhe.core.lease import Asked
from yunhe.core.placement.board import Board, free_of
from yunhe.core.placement.cost import carbon_of, hold_of, run_price_of
from yunhe.core.placement.dearest import dearest_hold
from yunhe.core.placement.feasible import feasible
from yunhe.core.placement.online import Online
from yunhe.core.round import plan_round, quote
from yunhe.core.supply import Supply, at_hour
from yunhe.core.tariff import RatingInputs, rate
from yunhe.core.usage import Totals

HOUR_NOW = NOW // HOUR_MS
prices = st.integers(0, 2_000_000)
factors = st.integers(0, 1_200)
days = st.tuples(*[prices] * DAY)
carbon_days = st.tuples(*[factors] * DAY)
foretold = st.builds(
    lambda first, values: Forecast(HOUR_NOW + first, tuple(values)),
    st.integers(-30, 30),
    st.lists(prices, max_size=50),
)


@st.composite
def series(draw: st.DrawFn) -> Hours:
    return Hours(
        utc_offset=draw(st.integers(-12, 14)),
        power=draw(days),
        carbon=draw(carbon_days | st.just(())),
        power_forecast=draw(foretold | st.just(Forecast())),
    )


@given(st.lists(prices, min_size=1, max_size=80), st.integers(0, 10**6), st.integers(0, 200 * HOUR_MS))
def test_a_sum_over_hours_goes_on_with_the_last_day(values: list[int], after_ms: int, length_ms: int) -> None:
    begin, end = NOW + after_ms, NOW + after_ms + length_ms
    expected = 0
    for n in range(length_ms // HOUR_MS + 2):
        hour = begin // HOUR_MS + n
        inside = min(end, (hour + 1) * HOUR_MS) - max(begin, hour * HOUR_MS)
        at = n if n < len(values) else len(values) - min(DAY, len(values)) + (n - len(values)) % min(DAY, len(values))
        expected += max(0, inside) * values[at]
    assert whole(tuple(values), begin, length_ms) == expected


@given(series(), st.integers(0, 20 * HOUR_MS), st.integers(1, 120 * HOUR_MS))
def test_means_of_placement_are_those_of_the_bill(hours: Hours, after_ms: int, run_ms: int) -> None:
    site, start_ms = a_site(hours=hours), NOW + after_ms
    board = Board(a_supply(site, a_pool()), POLICY)
    (mean,) = board.hourly.means("power", board.all, start_ms, np.array([run_ms]), known=True)
    assert mean == pytest.approx(whole(hours.power_from(start_ms // HOUR_MS), start_ms, run_ms) / run_ms)
    assert board.hourly.least_power[0] - 1e-6 <= mean <= board.hourly.most_power[0] + 1e-6


@given(series(), st.integers(0, 2 * HOUR_MS), st.integers(60_000, 30 * HOUR_MS))
def test_means_of_memoryless_runs(hours: Hours, after_ms: int, mean_ms: int) -> None:
    """The integral of price x density, by hours, far enough that nothing is left."""
    site, start_ms = a_site(hours=hours), NOW + after_ms
    board = Board(a_supply(site, a_pool()), POLICY)
    (mean,) = board.hourly.means("power", board.all, start_ms, np.array([mean_ms]), known=False)
    first, expected = start_ms // HOUR_MS, 0.0
    for hour in range(first, first + 1_500):
        begin, end = max(hour * HOUR_MS, start_ms) - start_ms, (hour + 1) * HOUR_MS - start_ms
        expected += hours.power_at(hour, 0) * (np.exp(-begin / mean_ms) - np.exp(-end / mean_ms))
    assert mean == pytest.approx(expected, rel=1e-6, abs=1e-3)


def test_a_forecast_goes_before_the_day() -> None:
    hours = Hours(utc_offset=0, power=(7,) * DAY, power_forecast=Forecast(HOUR_NOW + 1, (1, 2)))
    assert [hours.power_at(HOUR_NOW + i, 0) for i in range(4)] == [7, 1, 2, 7]
    assert hours.power_from(HOUR_NOW)[:4] == (7, 1, 2, 7)
    assert len(hours.power_from(HOUR_NOW)) == 3 + DAY
    assert hours.carbon_at(HOUR_NOW, 500) == 500 and hours.carbon_from(HOUR_NOW) == ()


def test_hours_of_the_day_are_those_of_the_site() -> None:
    of_day = tuple(range(DAY))
    midnight = 20_000 * DAY  # UTC
    assert Hours(8, of_day).power_at(midnight, 0) == 8
    assert Hours(-5, of_day).power_at(midnight, 0) == 19
    site = a_site(hours=Hours(8, of_day))
    assert at_hour(site, midnight + 1).power_price_microcny_per_kwh == 9
    assert at_hour(at_hour(site, midnight + 1), midnight) == at_hour(site, midnight)
    assert at_hour(a_site(), midnight) is not None and a_site().hours is FLAT


# --- money --------------------------------------------------------------------------------------------------------


def asked(milli: int = 2_000) -> Asked:
    return Asked(milli, 0, 0, 10 * HOUR, 10**12, 1, 1)


def test_a_run_pays_for_the_hours_that_it_crosses() -> None:
    """Half an hour at 100, an hour at 300, half an hour at 500: 300 on average."""
    of_day = [1_000_000] * DAY
    first = (HOUR_NOW + 8) % DAY
    for i, price in enumerate((100_000, 300_000, 500_000)):
        of_day[(first + i) % DAY] = price
    site = a_site(hours=Hours(8, tuple(of_day), tuple([400] * 12 + [800] * 12)))
    placed_ms = HOUR_NOW * HOUR_MS + HOUR_MS // 2
    terms = lease.agreed(asked(), a_pool(), at_hour(site, HOUR_NOW), POLICY, placed_ms)
    assert terms.power_price_microcny_per_kwh == 100_000  # of the hour of its placement
    used = Totals(2 * HOUR, 4 * HOUR, 0)
    inputs = lease.rating_inputs(terms, used, 10**12, disputed=False)
    charge = rate(inputs)
    flat = replace(inputs, power_by_hour=(), power_price_microcny_per_kwh=300_000)
    assert charge.price == rate(flat).price
    assert charge.price.energy == 4 * 10 * 1.25 / 1000 * 300_000  # 4 core-hours, 10 W, PUE 1.25
    kept = json.loads(json.dumps(asdict(inputs)))
    assert rate(RatingInputs(**kept)) == charge


@given(series(), st.integers(0, 30 * HOUR_MS), st.integers(1, 10 * HOUR_MS))
def test_no_run_costs_more_than_its_hold(hours: Hours, after_ms: int, wall_ms: int) -> None:
    shape = a_shape(run_limit_ms=10 * HOUR, cores_milli=2_000)
    placed_ms = NOW + after_ms
    site = at_hour(a_site(hours=hours), placed_ms // HOUR_MS)
    hold = hold_of(shape, a_pool(), site, 2_000, POLICY)
    terms = lease.agreed(replace(asked(), hold_microcny=hold.total), a_pool(), site, POLICY, placed_ms)
    free = rate(
        replace(
            lease.rating_inputs(terms, Totals(wall_ms, 2 * wall_ms, 0), 10**15, disputed=False), hold_microcny=10**15
        )
    )
    assert free.price.total <= hold.total
    said = run_price_of(shape, a_pool(), site, 2_000, wall_ms, POLICY, placed_ms)
    assert said.total == free.price.total
    assert carbon_of(a_pool(), site, 2_000, wall_ms, placed_ms) == free.carbon_mg


# --- decisions ----------------------------------------------------------------------------------------------------


@st.composite
def networks(draw: st.DrawFn) -> Supply:
    sites, pools = [], []
    for i in range(draw(st.integers(1, 4))):
        hours = draw(series() | st.just(FLAT))
        sites.append(at_hour(a_site(f"s{i}", hours=hours), HOUR_NOW))
        price = draw(st.sampled_from([0, 1_000, 10_000]))
        watts = draw(st.sampled_from([10, 300]))
        pools.append(a_pool(f"s{i}:cpu", price_microcny_per_unit_hour=price, watts_per_unit=watts))
    return a_supply(*sites, *pools)


preferences = st.sampled_from([Preference.COST, Preference.CARBON])


@given(networks(), preferences, st.booleans(), st.integers(0, HOUR_MS - NOW % HOUR_MS - 1))
def test_one_order_goes_where_a_round_sends_it(supply: Supply, prefer: Preference, work: bool, later_ms: int) -> None:
    """Also work, whose pools are looked at by the least that they cost in any hour. The lane is of another minute."""
    if work:
        size = {"work": Work(10**14, Precision.FP64), "deadline_ms": NOW + 30 * HOUR}
    else:
        size = {"cores_milli": 1_000}
    shape = a_shape(run_limit_ms=20 * HOUR, preference=prefer, **size)
    engine = Online(supply, POLICY)
    engine.decide(shape, NOW)
    (taken,) = engine.decide(shape, NOW + later_ms)
    (given,) = plan_round(a_snapshot(supply, (shape,), {}), POLICY, NOW + later_ms, 0).assignments
    assert supply.pools[taken.pool].id == given.pool_id


@given(networks())
def test_the_dearest_hold_is_that_of_the_offers(supply: Supply) -> None:
    shape = a_shape(run_limit_ms=5 * HOUR, cores_milli=1_000)
    offers = quote(shape, supply, POLICY, NOW).offers
    assert dearest_hold(shape, Board(supply, POLICY), NOW) == max(offer.hold.total for offer in offers)
    budget = min(offer.hold.total for offer in offers)
    tight = a_shape(run_limit_ms=5 * HOUR, cores_milli=1_000, budget_microcny=budget)
    assert quote(tight, supply, POLICY, NOW).offers


def test_a_limit_of_carbon_can_pass_with_the_hour() -> None:
    hours = Hours(8, (), tuple(300 if hour % 2 else 700 for hour in range(DAY)))
    supply = a_supply(at_hour(a_site(hours=hours), HOUR_NOW), a_pool())
    shape = a_shape(cores_milli=1_000, max_carbon_g_per_kwh=400)
    starts = (NOW, NOW + HOUR)  # of a booking the second, of which the hour now says nothing
    fits = [feasible(shape, Board(supply, POLICY), *free_of(supply), start_ms) for start_ms in starts]
    assert [bool(fit.now[0]) for fit in fits] == [hours.carbon_at(at // HOUR, 0) <= 400 for at in starts]
    assert not any(fit.lasting[0] for fit in fits)
    supply = a_supply(a_site(hours=Hours(8, (), (500,) * DAY)), a_pool())
    assert feasible(shape, Board(supply, POLICY), *free_of(supply), NOW).lasting[0]
