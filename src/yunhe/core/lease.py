"""What a lease is agreed at, and how its use becomes a charge. The hub and the simulator both settle by this.

agreed(...)         at placement: every input of the later charge but the use itself
rating_inputs(...)  at the end of an attempt: what `tariff.rate` is given
captured(...)       its postings: exactly the charge leaves the hold
"""

from dataclasses import dataclass

from yunhe.core import posting
from yunhe.core.hours import HOUR_MS
from yunhe.core.policy import Policy
from yunhe.core.posting import PostingSet
from yunhe.core.supply import Pool, Site
from yunhe.core.tariff import Charge, RatingInputs, unit_price
from yunhe.core.usage import NOTHING_USED, Totals


@dataclass(frozen=True, slots=True)
class LeaseTerms:
    """What a lease was agreed at: every input of its charge but the measured usage. Units in the names."""

    milli: int
    memory_bytes: int
    chip: str
    price_microcny_per_unit_hour: int
    power_price_microcny_per_kwh: int
    pue_milli: int
    watts_per_unit: int
    carbon_g_per_kwh: int
    operator_fee_bps: int
    data_bytes: int
    transfer_microcny_per_gib: int
    run_limit_ms: int
    hold_microcny: int  # most that this attempt may be charged
    task_hold_microcny: int  # most that all attempts of the task may be charged together
    provider: str
    measured_flops: dict[str, int]  # of one whole unit, by precision
    placed_ms: int = 0  # UTC; the series below begin with its hour, and their last day repeats
    power_by_hour: tuple[int, ...] = ()  # micro-CNY per kWh; empty: as above in every hour
    carbon_by_hour: tuple[int, ...] = ()  # g per kWh


@dataclass(frozen=True, slots=True)
class Asked:
    """What of one task and its order goes into the terms. `hold_microcny` is of the whole order."""

    milli: int
    memory_bytes: int
    data_bytes: int
    run_limit_ms: int
    hold_microcny: int
    tasks: int
    attempts: int  # of all tasks, among which the order's hold is divided
    spot: bool = False


def agreed(asked: Asked, pool: Pool, site: Site, policy: Policy, now_ms: int) -> LeaseTerms:
    """The terms of a task that is placed in `pool` at `site` now."""
    hour = now_ms // HOUR_MS
    return LeaseTerms(
        milli=asked.milli,
        memory_bytes=asked.memory_bytes,
        chip=pool.chip,
        price_microcny_per_unit_hour=unit_price(
            pool.price_microcny_per_unit_hour, asked.spot, policy.spot_discount_percent
        ),
        power_price_microcny_per_kwh=site.power_price_microcny_per_kwh,
        pue_milli=site.pue_milli,
        watts_per_unit=pool.watts_per_unit,
        carbon_g_per_kwh=site.carbon_g_per_kwh,
        operator_fee_bps=policy.operator_fee_bps,
        data_bytes=asked.data_bytes,
        transfer_microcny_per_gib=policy.transfer_microcny_per_gib,
        run_limit_ms=asked.run_limit_ms,
        hold_microcny=asked.hold_microcny // asked.attempts,
        task_hold_microcny=asked.hold_microcny // asked.tasks,
        provider=site.provider,
        measured_flops={
            rate.precision.value: rate.measured_flops for rate in pool.rates if rate.measured_flops is not None
        },
        placed_ms=now_ms,
        power_by_hour=site.hours.power_from(hour),
        carbon_by_hour=site.hours.carbon_from(hour),
    )


def rating_inputs(
    terms: LeaseTerms, used: Totals, left_microcny: int, *, disputed: bool, kept: Totals = NOTHING_USED
) -> RatingInputs:
    """What an attempt is rated by.

    `left_microcny`: of the task's part of the hold; attempts before this one may have been preempted and paid.
    `disputed`: only `kept` is charged.
    """
    return RatingInputs(
        milli=terms.milli,
        wall_ms=used.wall_ms,
        cpu_ms=used.cpu_ms,
        price_microcny_per_unit_hour=terms.price_microcny_per_unit_hour,
        power_price_microcny_per_kwh=terms.power_price_microcny_per_kwh,
        transfer_microcny_per_gib=terms.transfer_microcny_per_gib,
        data_bytes=terms.data_bytes,
        pue_milli=terms.pue_milli,
        watts_per_unit=terms.watts_per_unit,
        carbon_g_per_kwh=terms.carbon_g_per_kwh,
        fee_bps=terms.operator_fee_bps,
        hold_microcny=max(0, min(left_microcny, terms.hold_microcny)),
        disputed=disputed,
        kept_wall_ms=kept.wall_ms,
        kept_cpu_ms=kept.cpu_ms,
        placed_ms=terms.placed_ms,
        power_by_hour=terms.power_by_hour,
        carbon_by_hour=terms.carbon_by_hour,
    )


def captured(ref: str, at_ms: int, customer: str, provider: str, charge: Charge) -> PostingSet:
    """Exactly the charge leaves the hold; the rest goes back when the order has ended."""
    return posting.capture(
        ref,
        at_ms,
        customer,
        provider,
        hold_microcny=charge.price.total,
        provider_microcny=charge.provider_amount,
        fee_microcny=charge.fee,
    )
