"""What compute costs: price splits and charges in integer micro-CNY. Pure; every part is rounded up by itself."""

from dataclasses import dataclass

from yunhe.core import energy
from yunhe.core.hours import whole
from yunhe.core.rounding import ceil_div

MILLI_MS_PER_UNIT_HOUR = 1_000 * 3_600_000
_MWH_PER_KWH = 1_000_000
BYTES_PER_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Price:
    """A price split, micro-CNY."""

    compute: int
    energy: int
    transfer: int
    line: int

    @property
    def total(self) -> int:
        return self.compute + self.energy + self.transfer + self.line


def unit_price(price_microcny_per_unit_hour: int, spot: bool, discount_percent: int) -> int:
    """What a unit costs an order: the site's price, and less of it for a spot order; rounded down."""
    left_percent = max(0, 100 - discount_percent) if spot else 100
    return price_microcny_per_unit_hour * left_percent // 100


def price(
    *,
    price_microcny_per_unit_hour: int,
    milli: int,
    wall_ms: int,
    energy_mwh: int,
    power_price_microcny_per_kwh: int,
    data_bytes: int,
    transfer_microcny_per_gib: int,
) -> Price:
    """The price of `milli` thousandths of a unit for `wall_ms`, with `energy_mwh` milliwatt-hours at the meter.

    Each part is rounded up to a whole micro-CNY.  `line` is 0: no circuit is booked with a task yet.
    """
    return Price(
        compute=ceil_div(price_microcny_per_unit_hour * milli * wall_ms, MILLI_MS_PER_UNIT_HOUR),
        energy=ceil_div(energy_mwh * power_price_microcny_per_kwh, _MWH_PER_KWH),
        transfer=ceil_div(data_bytes * transfer_microcny_per_gib, BYTES_PER_GIB),
        line=0,
    )


# --- rating: from usage to a charge --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RatingInputs:
    """Everything that a charge is computed from, kept with it so that anyone can compute it again."""

    milli: int  # leased units
    wall_ms: int  # used, by the contiguous prefix of records
    cpu_ms: int  # busy unit time of the same records
    price_microcny_per_unit_hour: int
    power_price_microcny_per_kwh: int
    transfer_microcny_per_gib: int
    data_bytes: int  # moved to the site for this task
    pue_milli: int
    watts_per_unit: int
    carbon_g_per_kwh: int
    fee_bps: int  # the operator's, of compute and energy
    hold_microcny: int  # what is left of the hold for this task
    disputed: bool  # ended by the site's doing: only what the customer keeps of it is charged
    kept_wall_ms: int = 0  # disputed: up to the last checkpoint that was saved, of `wall_ms`
    kept_cpu_ms: int = 0  # and of `cpu_ms`
    # Where price and factor go with the hour: what was agreed at `placed_ms` (UTC) for its hour and those after it, the
    # last day of which repeats. Empty: the two figures above, in every hour.
    placed_ms: int = 0
    power_by_hour: tuple[int, ...] = ()  # micro-CNY per kWh
    carbon_by_hour: tuple[int, ...] = ()  # g per kWh


@dataclass(frozen=True, slots=True)
class Charge:
    """`price.total` is what the customer pays; it equals `fee + provider_amount`. Amounts in micro-CNY."""

    price: Price
    fee: int
    provider_amount: int
    energy_mwh: int
    carbon_mg: int


_BPS = 10_000


def capped(full: Price, limit: int) -> Price:
    """`full` cut to at most `limit` in total.

    Filled in this order, so that costs to third parties are covered before the site's own: transfer, line, energy,
    compute.  Compute is what gives way first.
    """
    left = max(limit, 0)
    transfer = min(full.transfer, left)
    line = min(full.line, left - transfer)
    energy = min(full.energy, left - transfer - line)
    compute = min(full.compute, left - transfer - line - energy)
    return Price(compute=compute, energy=energy, transfer=transfer, line=line)


def rate(inputs: RatingInputs) -> Charge:
    """The charge for the use in `inputs`: a function of them alone.

    Energy is the busy time at full-load power, spread evenly over the wall time; a run crosses the hours from its
    placement on, for as long as it was used, and pays the mean of their prices (rounded up).  The price is cut to what
    is left of the hold (see `capped`).  Of disputed use only what the customer keeps is charged, and no transfer: the
    data have to be brought once more to where the task goes on.  Energy and carbon are told for all of it.  The fee is
    rounded down.
    """
    energy_mwh = energy.busy_mwh(inputs.pue_milli, inputs.watts_per_unit, inputs.cpu_ms)
    wall_ms, cpu_ms, data_bytes = inputs.wall_ms, inputs.cpu_ms, inputs.data_bytes
    if inputs.disputed:
        wall_ms, cpu_ms, data_bytes = min(wall_ms, inputs.kept_wall_ms), min(cpu_ms, inputs.kept_cpu_ms), 0
    full = price(
        price_microcny_per_unit_hour=inputs.price_microcny_per_unit_hour,
        milli=inputs.milli,
        wall_ms=wall_ms,
        energy_mwh=energy.busy_mwh(inputs.pue_milli, inputs.watts_per_unit, cpu_ms),
        power_price_microcny_per_kwh=_power_price(inputs, wall_ms),
        data_bytes=data_bytes,
        transfer_microcny_per_gib=inputs.transfer_microcny_per_gib,
    )
    paid = capped(full, inputs.hold_microcny)
    fee = (paid.compute + paid.energy) * inputs.fee_bps // _BPS
    return Charge(
        price=paid,
        fee=fee,
        provider_amount=paid.total - fee,
        energy_mwh=energy_mwh,
        carbon_mg=_carbon_mg(inputs, energy_mwh),
    )


def _power_price(inputs: RatingInputs, wall_ms: int) -> int:
    if not inputs.power_by_hour or wall_ms <= 0:
        return inputs.power_price_microcny_per_kwh
    return ceil_div(whole(inputs.power_by_hour, inputs.placed_ms, wall_ms), wall_ms)


def _carbon_mg(inputs: RatingInputs, energy_mwh: int) -> int:
    if not inputs.carbon_by_hour or inputs.wall_ms <= 0:
        return energy.carbon_mg(energy_mwh, inputs.carbon_g_per_kwh)
    total = whole(inputs.carbon_by_hour, inputs.placed_ms, inputs.wall_ms)
    return energy.carbon_mg(energy_mwh, total, inputs.wall_ms)
