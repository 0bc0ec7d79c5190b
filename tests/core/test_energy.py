"""Energy and carbon against numbers worked out by hand, and the bounds that holds rely on."""

from hypothesis import given
from hypothesis import strategies as st

from yunhe.core import energy

HOUR = 3_600_000


def test_one_hundred_watts_for_an_hour_at_pue_1_25() -> None:
    assert energy.full_load_mwh(1250, 100, 1000, HOUR) == 125_000
    assert energy.busy_mwh(1250, 100, HOUR) == 125_000


def test_half_a_core_takes_half() -> None:
    assert energy.full_load_mwh(1000, 10, 500, HOUR) == 5_000


def test_the_smallest_use_is_rounded_up_and_none_is_none() -> None:
    assert energy.full_load_mwh(1200, 1, 1, 1) == 1
    assert energy.busy_mwh(1200, 1, 1) == 1
    assert energy.busy_mwh(1200, 300, 0) == 0
    assert energy.carbon_mg(0, 700) == 0


def test_a_kilowatt_hour_at_585_grams() -> None:
    assert energy.carbon_mg(1_000_000, 585) == 585_000
    assert energy.carbon_mg(1, 585) == 1


@given(st.integers(1000, 3000), st.integers(0, 2000), st.integers(1, 10**6), st.integers(0, 10**9), st.floats(0, 1))
def test_busy_energy_never_exceeds_full_load(pue: int, watts: int, milli: int, ms: int, share: float) -> None:
    most_cpu_ms = milli * ms // 1000
    assert energy.busy_mwh(pue, watts, int(most_cpu_ms * share)) <= energy.full_load_mwh(pue, watts, milli, ms)
