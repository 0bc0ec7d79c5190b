"""Work of many regions, each served where its bounds let it go (a round trip, a law), at the least cost together.

The transport side of `yunhe.core.market.network`: a way leads from a place that can serve to the region that asks, and
no further, so nothing is passed on beyond its reach.
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from yunhe.core import errors
from yunhe.core.market.clearing import clear
from yunhe.core.market.network import Line, Network, Node, Offer


class Place(NamedTuple):
    """Somewhere that serves up to `units`, each at `price` (money, or carbon)."""

    price: float
    units: float


class Dispatch(NamedTuple):
    """`served`: units by (region that asks, place that serves); `worth`: what one unit more at a place would save;
    `prices`: what one unit more of demand would cost, by region."""

    cost: float
    served: dict[tuple[str, str], float]
    worth: dict[str, float]
    prices: dict[str, float]


def dispatch(
    demand: Mapping[str, float], places: Mapping[str, Place], reach: Mapping[str, Collection[str]]
) -> Dispatch:
    """The cheapest way to serve the whole demand, region by region, from places within reach.

    Raises InvalidInput for a place that does not exist and numbers out of bounds, Infeasible naming the region that
    cannot be served and the places that are full.
    """
    for region, units in demand.items():
        if not units >= 0:
            raise errors.InvalidInput(f"{units} is negative, or no number", field=f"demand.{region}")
        unknown = set(reach.get(region, ())) - places.keys()
        if unknown:
            raise errors.InvalidInput(f"there is no place {min(unknown)!r}", field=f"reach.{region}")
    ways = [(region, place) for region in demand for place in sorted(reach.get(region, ()))]
    plenty = 1 + 2 * sum(demand.values())  # a way never fills, so it has no price of its own
    network = Network(
        nodes=[Node(_asks(region), units) for region, units in demand.items()]
        + [Node(_serves(name)) for name in places],
        offers=[Offer(name, _serves(name), place.price, place.units) for name, place in places.items()],
        lines=[Line(f"{place} for {region}", _serves(place), _asks(region), plenty) for region, place in ways],
    )
    found = clear(network)
    at_places = found.prices[len(demand) :]
    return Dispatch(
        cost=found.cost,
        served={way: float(units) for way, units in zip(ways, found.flows, strict=True) if units > 0},
        worth={
            name: max(0.0, float(price) - place.price)
            for (name, place), price in zip(places.items(), at_places, strict=True)
        },
        prices=dict(zip(demand, found.prices[: len(demand)].tolist(), strict=True)),
    )


def _asks(region: str) -> str:
    return f"demand of {region}"


def _serves(place: str) -> str:
    return f"place {place}"
