"""What one task costs and emits at a pool: exact integers for offers, float columns for ranking."""

from typing import NamedTuple

from yunhe.core.demand import Shape
from yunhe.core.energy import carbon_mg, full_load_mwh
from yunhe.core.hours import HOUR_MS, whole
from yunhe.core.placement.board import Board
from yunhe.core.placement.columns import Floats, Ints
from yunhe.core.placement.sizing import Sizes
from yunhe.core.policy import Policy
from yunhe.core.rounding import ceil_div
from yunhe.core.supply import Pool, Site
from yunhe.core.tariff import BYTES_PER_GIB, MILLI_MS_PER_UNIT_HOUR, Price, price, unit_price

# Relative error that floats are allowed: far more than a dozen operations make, far less than a budget means.
_TOLERANCE = 1e-9


class Costs(NamedTuple):
    """One shape at some pools, for one task, as floats: micro-CNY of the predicted run and of the hold, milligrams.

    The exact hold, rounded up part by part, lies between `hold_least` and `hold_most`.
    """

    expected: Floats
    hold_least: Floats
    hold_most: Floats
    carbon_mg: Floats


def costs(shape: Shape, board: Board, pools: Ints, sizes: Sizes, now_ms: int) -> Costs:
    """Costs of `shape` at `pools`; the formulas are those of `yunhe.core.tariff` and `yunhe.core.energy`.

    What is expected is of the hours that the run is expected to cross, from the beginning of this hour on: within an
    hour all decisions see the same.  The hold is of the dearest hour.
    """
    columns, start_ms, known = board.columns, now_ms // HOUR_MS * HOUR_MS, shape.requirement.work is not None
    kw_per_unit, unit_price = columns.kw_per_unit[pools], board.price(spot=shape.terms.spot)[pools]
    power = board.hourly.means("power", pools, start_ms, sizes.run_ms, known=known)
    carbon = board.hourly.means("carbon", pools, start_ms, sizes.run_ms, known=known)
    most_power = board.hourly.most_power[pools]
    transfer = data_bytes(shape) * board.policy.transfer_microcny_per_gib / BYTES_PER_GIB
    unit_hours_per_ms = sizes.milli / MILLI_MS_PER_UNIT_HOUR
    run_hours = unit_hours_per_ms * sizes.run_ms
    dearest_hour = unit_price + kw_per_unit * most_power
    hold = unit_hours_per_ms * float(shape.terms.run_limit_ms) * dearest_hour + transfer
    # Three parts are rounded up, and the energy to whole mWh before it is priced.
    rounding = 4 + most_power / 1e6
    return Costs(
        expected=run_hours * (unit_price + kw_per_unit * power) + transfer,
        hold_least=hold * (1 - _TOLERANCE),
        hold_most=hold * (1 + _TOLERANCE) + rounding,
        carbon_mg=run_hours * (kw_per_unit * carbon * 1000),
    )


def data_bytes(shape: Shape) -> int:
    """Input data that have to come to a site, in bytes; without a place where they lie there are none to move."""
    return shape.requirement.data_bytes if shape.requirement.data_at is not None else 0


def price_of(
    shape: Shape, pool: Pool, site: Site, milli: int, ms: int, policy: Policy, power_price_microcny_per_kwh: int
) -> Price:
    """The exact price of one task that holds `milli` of `pool` at full load for `ms`, at this price of power."""
    return price(
        price_microcny_per_unit_hour=unit_price(
            pool.price_microcny_per_unit_hour, shape.terms.spot, policy.spot_discount_percent
        ),
        milli=milli,
        wall_ms=ms,
        energy_mwh=full_load_mwh(site.pue_milli, pool.watts_per_unit, milli, ms),
        power_price_microcny_per_kwh=power_price_microcny_per_kwh,
        data_bytes=data_bytes(shape),
        transfer_microcny_per_gib=policy.transfer_microcny_per_gib,
    )


def run_price_of(shape: Shape, pool: Pool, site: Site, milli: int, ms: int, policy: Policy, start_ms: int) -> Price:
    """Likewise, over the hours that it crosses from `start_ms` on."""
    power, series = site.power_price_microcny_per_kwh, site.hours.power_from(start_ms // HOUR_MS)
    if series and ms > 0:
        power = ceil_div(whole(series, start_ms, ms), ms)
    return price_of(shape, pool, site, milli, ms, policy, power)


def hold_of(shape: Shape, pool: Pool, site: Site, milli: int, policy: Policy, tasks: int | None = None) -> Price:
    """The most that the order can cost at `pool`: every task (None: all) at full load up to its run limit, in the hour
    in which power is dearest."""
    one = price_of(shape, pool, site, milli, shape.terms.run_limit_ms, policy, dearest_power(site))
    return times(one, shape.terms.array if tasks is None else tasks)


def dearest_power(site: Site) -> int:
    """The most that a kWh costs there in any hour, micro-CNY."""
    return max((*(site.hours.power or (site.power_price_microcny_per_kwh,)), *site.hours.power_forecast.values))


def carbon_of(pool: Pool, site: Site, milli: int, ms: int, start_ms: int) -> int:
    """Carbon of one task at full load for `ms` from `start_ms` on, in milligrams."""
    energy = full_load_mwh(site.pue_milli, pool.watts_per_unit, milli, ms)
    series = site.hours.carbon_from(start_ms // HOUR_MS)
    if series and ms > 0:
        return carbon_mg(energy, whole(series, start_ms, ms), ms)
    return carbon_mg(energy, site.carbon_g_per_kwh)


def times(one: Price, tasks: int) -> Price:
    """The price of `tasks` equal tasks, each rounded by itself as it will be billed."""
    return Price(one.compute * tasks, one.energy * tasks, one.transfer * tasks, one.line * tasks)
