"""When to run what may wait: each rule on series small enough to see by eye, Yunhe's against a slow second opinion."""

from functools import cache
from math import exp

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yunhe.core import errors
from yunhe.core.placement import timing
from yunhe.core.placement.timing import MS_PER_HOUR as HOUR
from yunhe.core.placement.timing import Series, Sight, Start, Step, Waiting

values = st.lists(st.integers(0, 20).map(float), min_size=40, max_size=60)


def test_sums_are_those_of_the_slots_and_their_parts() -> None:
    series = Series([3, 5, 7])
    assert series.total(0, 3 * HOUR) == 15
    assert series.total(HOUR // 2, 2 * HOUR + HOUR // 4) == pytest.approx(1.5 + 5 + 1.75)
    assert series.reaches(3 * HOUR) and not series.reaches(3 * HOUR + 1)


@given(values, st.lists(st.integers(0, 40 * HOUR), min_size=3, max_size=3).map(sorted))
def test_sums_add_up(drawn: list[float], times: list[int]) -> None:
    series, (a, b, c) = Series(drawn), times
    assert series.total(a, b) + series.total(b, c) == pytest.approx(series.total(a, c))


def test_lowest_slot_starts_at_the_first_moment_of_the_lowest() -> None:
    series = Series([9, 4, 7, 4, 1])
    assert timing.lowest_slot(series, Waiting(HOUR // 2, 3 * HOUR, HOUR)) == Start(HOUR)
    assert timing.lowest_slot(series, Waiting(HOUR // 2, 4 * HOUR, HOUR)) == Start(4 * HOUR)
    assert timing.lowest_slot(series, Waiting(HOUR + 7, 0, HOUR)) == Start(HOUR + 7)


def test_lowest_window_looks_at_the_mean_length() -> None:
    series = Series([5, 1, 9, 3, 3, 9, 9])
    assert timing.lowest_window(series, Waiting(0, 4 * HOUR, HOUR)) == Start(HOUR)
    assert timing.lowest_window(series, Waiting(0, 4 * HOUR, 2 * HOUR)) == Start(0)  # 6 as at 3 h, and sooner
    assert timing.lowest_window(Series([5, 2, 9, 3, 2, 9, 9]), Waiting(0, 4 * HOUR, 2 * HOUR)) == Start(3 * HOUR)


def test_saving_per_time_takes_less_saving_for_less_waiting() -> None:
    series = Series([10, 6, 9, 9, 9, 5, 9])
    job = Waiting(0, 6 * HOUR, HOUR)
    assert timing.lowest_window(series, job) == Start(5 * HOUR)
    assert timing.saving_per_time(series, job) == Start(HOUR)  # 4 over 2 h is more than 5 over 6 h


def test_nothing_is_looked_at_beyond_the_series() -> None:
    job = Waiting(2 * HOUR, 9 * HOUR, 2 * HOUR)
    series = Series([9, 9, 9, 1, 2])
    assert timing.lowest_window(series, job) == Start(3 * HOUR)
    with pytest.raises(errors.InvalidInput, match="outside"):
        series.total(4 * HOUR, 6 * HOUR)


def test_ecovisor_runs_below_the_30_percent_of_its_day_until_its_patience_ends() -> None:
    series = Series([float(hour) for hour in range(24)][::-1] + [0.0] * 24)
    plan = timing.ecovisor(series, Waiting(0, 6 * HOUR, HOUR))
    assert plan.level == 7  # seven hours, 29 %, lie below it
    assert plan.step(0, 6 * HOUR) == Step(False, HOUR)
    assert plan.step(0, HOUR // 2) == Step(False, HOUR // 2)
    assert plan.step(HOUR // 2, 0) == Step(True, None)
    assert plan.step(17 * HOUR, 6 * HOUR) == Step(True, 18 * HOUR)


def test_ecovisor_counts_the_parts_of_the_hours_at_both_ends() -> None:
    cheap = [1.0] * 7 + [5.0] * 17
    at_the_hour = timing.ecovisor(Series([*cheap, 5.0]), Waiting(0, HOUR, HOUR))
    late = timing.ecovisor(Series([*cheap, 1.0]), Waiting(HOUR // 2, HOUR, HOUR))
    assert (at_the_hour.level, late.level) == (5.0, 5.0)
    assert timing.ecovisor(Series([*cheap[1:], *cheap]), Waiting(0, HOUR, HOUR)).level == 5.0


@pytest.mark.parametrize("seed", range(200))
def test_the_rule_is_the_least_expected_sum(seed: int) -> None:
    """Against the recursion as it is written at the top of the module, slot by slot, in hours."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, 21, 50).astype(float)
    arrival_ms, patience_ms = int(rng.integers(0, HOUR)), int(rng.integers(0, 8 * HOUR))
    mean_ms, price = int(rng.integers(HOUR // 10, 9 * HOUR)), float(rng.choice([0, 1, 4]))
    series, job = Series(drawn), Waiting(arrival_ms, patience_ms, mean_ms)
    step = timing.memoryless(series, job, Sight(100 * HOUR), price).step(arrival_ms, patience_ms)
    mean, first = mean_ms / HOUR, 1 - arrival_ms / HOUR
    slots = patience_ms // HOUR + -(-mean_ms // HOUR) + 2
    # Whatever lies beyond counts as the mean of the slots that the program looks at.
    beyond = float(np.mean(drawn[:slots]))

    @cache
    def least(slot: int, waits: int) -> float:
        return beyond * mean if slot == slots else min(run(slot, waits, 1.0), wait(slot, waits, 1.0))

    def run(slot: int, waits: int, hours: float) -> float:
        stays = exp(-hours / mean)
        return drawn[slot] * mean * (1 - stays) + stays * least(slot + 1, waits)

    def wait(slot: int, waits: int, hours: float) -> float:
        return price * hours + least(slot + 1, waits - 1) if waits > 0 else float("inf")

    if patience_ms < HOUR - arrival_ms:
        assert step == Step(True, None)
        return
    waits_after = (patience_ms - (HOUR - arrival_ms)) // HOUR
    runs, waits = run(0, patience_ms // HOUR, first), price * first + least(1, waits_after)
    if abs(runs - waits) > 1e-9:
        assert step == Step(runs < waits, HOUR)


def test_a_rising_series_is_run_at_once_and_a_falling_one_waited_for() -> None:
    job, sight = Waiting(0, 5 * HOUR, 2 * HOUR), Sight(24 * HOUR)
    rising, falling = Series(np.arange(40.0)), Series(np.arange(40.0)[::-1])
    assert timing.memoryless(rising, job, sight).step(0, 5 * HOUR).run
    assert not timing.memoryless(falling, job, sight).step(0, 5 * HOUR).run
    assert timing.memoryless(falling, job, sight, price=50.0).step(0, 5 * HOUR).run  # waiting costs more than it saves


@given(values, st.integers(0, 10), st.integers(0, 24), st.integers(1, 12), st.booleans())
def test_what_is_out_of_sight_changes_nothing(
    drawn: list[float], arrival: int, sight: int, mean: int, renewed: bool
) -> None:
    job = Waiting(arrival * HOUR, 6 * HOUR, mean * HOUR)
    now = arrival + 3
    seen = {now} | set(range(now if renewed else arrival, (now if renewed else arrival) + sight))
    other = [value if slot in seen else 99.0 for slot, value in enumerate(drawn)]
    plans = (timing.memoryless(Series(v), job, Sight(sight * HOUR, renewed)) for v in (drawn, other))
    one, two = (plan.step(now * HOUR, 3 * HOUR) for plan in plans)
    assert one == two


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Series([]), "series"),
        (lambda: Series([1.0, float("nan")]), "series.1"),
        (lambda: Series([1.0], slot_ms=0), "slot_ms"),
        (lambda: Series([1.0]).slot(-1), "series"),
        (lambda: timing.memoryless(Series([1.0]), Waiting(0, 0, 0), Sight(0)), "mean_ms"),
        (lambda: timing.memoryless(Series([1.0]), Waiting(0, 0, 1), Sight(-1)), "sight.ms"),
        (lambda: timing.memoryless(Series([1.0]), Waiting(0, 0, 1), Sight(0), price=-1.0), "price"),
    ],
)
def test_bad_input_is_refused_naming_the_field(make: object, field: str) -> None:
    with pytest.raises(errors.InvalidInput) as caught:
        make()  # type: ignore[operator]
    assert caught.value.field == field
