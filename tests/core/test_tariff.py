"""Prices and charges: worked numbers, the cap at the hold, disputed use, and recomputation from the inputs alone."""

import dataclasses
import json

from hypothesis import given
from hypothesis import strategies as st

from yunhe.core import energy, tariff
from yunhe.core.tariff import Price, RatingInputs, unit_price

HOUR = 3_600_000

INPUTS = RatingInputs(
    milli=2_000,
    wall_ms=HOUR,
    cpu_ms=HOUR,
    price_microcny_per_unit_hour=100_000,
    power_price_microcny_per_kwh=600_000,
    transfer_microcny_per_gib=50_000,
    data_bytes=3 << 30,
    pue_milli=1_250,
    watts_per_unit=8,
    carbon_g_per_kwh=585,
    fee_bps=500,
    hold_microcny=10_000_000,
    disputed=False,
)

inputs = st.builds(
    RatingInputs,
    milli=st.integers(1, 10**6),
    wall_ms=st.integers(0, 30 * 24 * HOUR),
    cpu_ms=st.integers(0, 10**12),
    price_microcny_per_unit_hour=st.integers(0, 10**9),
    power_price_microcny_per_kwh=st.integers(0, 10**7),
    transfer_microcny_per_gib=st.integers(0, 10**7),
    data_bytes=st.integers(0, 2**50),
    pue_milli=st.integers(1_000, 3_000),
    watts_per_unit=st.integers(0, 2_000),
    carbon_g_per_kwh=st.integers(0, 1_500),
    fee_bps=st.integers(0, 10_000),
    hold_microcny=st.integers(0, 10**13),
    disputed=st.booleans(),
    kept_wall_ms=st.integers(0, 30 * 24 * HOUR),
    kept_cpu_ms=st.integers(0, 10**12),
)


def test_a_charge_worked_out_by_hand() -> None:
    charge = tariff.rate(INPUTS)
    assert charge.energy_mwh == 10_000  # 8 W x 1 h x 1.25 = 10 Wh
    assert charge.carbon_mg == 5_850
    assert charge.price == Price(compute=200_000, energy=6_000, transfer=150_000, line=0)
    assert charge.fee == 10_300  # 5 % of compute and energy, not of transfer
    assert charge.provider_amount == 356_000 - 10_300


def test_every_part_is_rounded_up() -> None:
    price = tariff.price(
        price_microcny_per_unit_hour=1,
        milli=1,
        wall_ms=1,
        energy_mwh=1,
        power_price_microcny_per_kwh=1,
        data_bytes=1,
        transfer_microcny_per_gib=1,
    )
    assert price == Price(compute=1, energy=1, transfer=1, line=0)
    assert price.total == 3


def test_compute_gives_way_first_when_the_hold_is_short() -> None:
    full = Price(compute=100, energy=20, transfer=5, line=3)
    assert tariff.capped(full, 128) == full
    assert tariff.capped(full, 40) == Price(compute=12, energy=20, transfer=5, line=3)
    assert tariff.capped(full, 10) == Price(compute=0, energy=2, transfer=5, line=3)
    assert tariff.capped(full, 6) == Price(compute=0, energy=0, transfer=5, line=1)
    assert tariff.capped(full, 0) == Price(0, 0, 0, 0)
    assert tariff.capped(full, -1) == Price(0, 0, 0, 0)


def test_disputed_use_is_free_and_its_energy_is_told() -> None:
    charge = tariff.rate(dataclasses.replace(INPUTS, disputed=True))
    assert (charge.price.total, charge.fee, charge.provider_amount) == (0, 0, 0)
    assert charge.energy_mwh == 10_000


def test_of_a_preempted_attempt_what_was_kept_is_charged_and_no_transfer() -> None:
    kept = dataclasses.replace(INPUTS, disputed=True, kept_wall_ms=HOUR // 4, kept_cpu_ms=HOUR // 8)
    charge = tariff.rate(kept)
    assert charge.price == Price(compute=50_000, energy=750, transfer=0, line=0)
    assert (charge.energy_mwh, charge.carbon_mg) == (10_000, 5_850)  # of all that ran


@given(inputs, st.integers(0, 30 * 24 * HOUR), st.integers(0, 10**12))
def test_keeping_more_never_costs_less_and_keeping_all_costs_what_an_undisputed_attempt_costs(
    run: RatingInputs, more_wall_ms: int, more_cpu_ms: int
) -> None:
    run = dataclasses.replace(run, disputed=True, data_bytes=0)
    paid = tariff.rate(run).price.total
    more = dataclasses.replace(
        run, kept_wall_ms=run.kept_wall_ms + more_wall_ms, kept_cpu_ms=run.kept_cpu_ms + more_cpu_ms
    )
    whole = dataclasses.replace(run, kept_wall_ms=run.wall_ms, kept_cpu_ms=run.cpu_ms)
    nothing = dataclasses.replace(run, kept_wall_ms=0, kept_cpu_ms=0)
    assert 0 == tariff.rate(nothing).price.total <= paid <= tariff.rate(more).price.total
    assert tariff.rate(whole) == tariff.rate(dataclasses.replace(run, disputed=False))
    assert tariff.rate(more).price.total <= tariff.rate(whole).price.total


@given(inputs)
def test_a_charge_is_whole_and_within_its_hold(given_inputs: RatingInputs) -> None:
    charge = tariff.rate(given_inputs)
    price = charge.price
    assert price.total <= given_inputs.hold_microcny
    assert charge.fee + charge.provider_amount == price.total
    assert min(price.compute, price.energy, price.transfer, price.line, charge.fee, charge.provider_amount) >= 0


@given(inputs)
def test_a_charge_is_recomputed_from_its_inputs_as_json(given_inputs: RatingInputs) -> None:
    kept = json.dumps(dataclasses.asdict(given_inputs))
    assert tariff.rate(RatingInputs(**json.loads(kept))) == tariff.rate(given_inputs)


@given(inputs, st.floats(0, 1))
def test_full_load_for_the_run_limit_is_a_hold_that_never_cuts(run: RatingInputs, busy: float) -> None:
    """A hold of the full-load price covers whatever the task uses within its units and its run limit."""
    cpu_ms = int(run.milli * run.wall_ms // 1000 * busy)
    hold = tariff.price(
        price_microcny_per_unit_hour=run.price_microcny_per_unit_hour,
        milli=run.milli,
        wall_ms=run.wall_ms,
        energy_mwh=energy.full_load_mwh(run.pue_milli, run.watts_per_unit, run.milli, run.wall_ms),
        power_price_microcny_per_kwh=run.power_price_microcny_per_kwh,
        data_bytes=run.data_bytes,
        transfer_microcny_per_gib=run.transfer_microcny_per_gib,
    ).total
    enough = dataclasses.replace(run, cpu_ms=cpu_ms, hold_microcny=hold, disputed=False)
    assert tariff.rate(enough) == dataclasses.replace(tariff.rate(dataclasses.replace(enough, hold_microcny=10**30)))


def test_a_unit_of_a_spot_order_costs_less_and_never_less_than_nothing() -> None:
    assert [unit_price(1_001, spot, 30) for spot in (False, True)] == [1_001, 700]
    assert (unit_price(1_001, True, 100), unit_price(1_001, True, 130)) == (0, 0)
