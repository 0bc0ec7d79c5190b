"""What one task costs and emits at a pool: exact integers for offers, float columns for ranking."""

from typing import NamedTuple

from yunhe.core.demand import Shape
from yunhe.core.energy import carbon_mg, full_load_mwh
from yunhe.core.placement.board import Board
from yunhe.core.placement.columns import Floats, Ints
from yunhe.core.placement.sizing import Sizes
from yunhe.core.policy import Policy
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


def costs(shape: Shape, board: Board, pools: Ints, sizes: Sizes) -> Costs:
    """Costs of `shape` at `pools`; the formulas are those of `yunhe.core.tariff` and `yunhe.core.energy`."""
    columns = board.columns
    power_price, kw_per_unit = columns.power_price[pools], columns.kw_per_unit[pools]
    per_unit_hour = board.price(spot=shape.terms.spot)[pools] + kw_per_unit * power_price
    transfer = data_bytes(shape) * board.policy.transfer_microcny_per_gib / BYTES_PER_GIB
    unit_hours_per_ms = sizes.milli / MILLI_MS_PER_UNIT_HOUR
    run_hours = unit_hours_per_ms * sizes.run_ms
    hold = unit_hours_per_ms * float(shape.terms.run_limit_ms) * per_unit_hour + transfer
    # Three parts are rounded up, and the energy to whole mWh before it is priced.
    rounding = 4 + power_price / 1e6
    return Costs(
        expected=run_hours * per_unit_hour + transfer,
        hold_least=hold * (1 - _TOLERANCE),
        hold_most=hold * (1 + _TOLERANCE) + rounding,
        carbon_mg=run_hours * (kw_per_unit * columns.carbon[pools] * 1000),
    )


def data_bytes(shape: Shape) -> int:
    """Input data that have to come to a site, in bytes; without a place where they lie there are none to move."""
    return shape.requirement.data_bytes if shape.requirement.data_at is not None else 0


def price_of(shape: Shape, pool: Pool, site: Site, milli: int, ms: int, policy: Policy) -> Price:
    """The exact price of one task that holds `milli` of `pool` at full load for `ms`."""
    return price(
        price_microcny_per_unit_hour=unit_price(
            pool.price_microcny_per_unit_hour, shape.terms.spot, policy.spot_discount_percent
        ),
        milli=milli,
        wall_ms=ms,
        energy_mwh=full_load_mwh(site.pue_milli, pool.watts_per_unit, milli, ms),
        power_price_microcny_per_kwh=site.power_price_microcny_per_kwh,
        data_bytes=data_bytes(shape),
        transfer_microcny_per_gib=policy.transfer_microcny_per_gib,
    )


def hold_of(shape: Shape, pool: Pool, site: Site, milli: int, policy: Policy, tasks: int | None = None) -> Price:
    """The most that the order can cost at `pool`: every task (None: all) at full load up to its run limit."""
    one = price_of(shape, pool, site, milli, shape.terms.run_limit_ms, policy)
    return times(one, shape.terms.array if tasks is None else tasks)


def carbon_of(pool: Pool, site: Site, milli: int, ms: int) -> int:
    """Carbon of one task at full load for `ms`, in milligrams."""
    return carbon_mg(full_load_mwh(site.pue_milli, pool.watts_per_unit, milli, ms), site.carbon_g_per_kwh)


def times(one: Price, tasks: int) -> Price:
    """The price of `tasks` equal tasks, each rounded by itself as it will be billed."""
    return Price(one.compute * tasks, one.energy * tasks, one.transfer * tasks, one.line * tasks)
