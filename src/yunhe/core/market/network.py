"""A market on a network: offers and demands at nodes, lines between them, the cheapest way to serve it all.

One linear program for two kinds of network:
- transport: a line carries what it is told to, within its limits (compute orders between regions);
- linear power flow ("DC"): what a line carries follows from the angles at its ends (a power grid),
      flow = susceptance x (angle at tail - angle at head)        [Stott, Jardim, Alsac 2009].
The two may be mixed. The price of a node is the dual of its balance: what one unit more of demand there would cost
(locational marginal price, Schweppe et al. 1988). A line between two prices earns a rent.

`clearing` solves it and `feasible` checks the answer. Quantities are in one unit of the caller's choice (MW, cards),
prices per that unit.
"""

from collections.abc import Sequence
from math import isfinite
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from yunhe.core import errors

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

MAX_NODES = 100_000
MAX_LINES = 1_000_000
MAX_OFFERS = 1_000_000
MIN_SUSCEPTANCE = 1e-6  # HiGHS takes a coefficient below 1e-9 for none, and what a line carries would be made up
MAX_NUMBER = 1e12  # of a quantity, price or susceptance; HiGHS takes 1e20 for infinite


class Node(NamedTuple):
    """A place. `demand` must be served exactly; a negative one is a feed that must be taken."""

    id: str
    demand: float = 0.0


class Offer(NamedTuple):
    """Somebody feeds in between `least` and `most` units at a node, for price x units + rising x units^2.

    A flexible demand is an offer with a negative `least`: it pays `price` for each unit that it takes.
    """

    id: str
    node: str
    price: float
    most: float
    least: float = 0.0
    rising: float = 0.0


class Line(NamedTuple):
    """A way from `tail` to `head` that carries between `least` and `most` units (negative: from head to tail).

    `price` is paid per unit from tail to head. With a `susceptance` (units per radian) the flow follows the angles.
    """

    id: str
    tail: str
    head: str
    most: float
    least: float = 0.0
    price: float = 0.0
    susceptance: float | None = None


class Network(NamedTuple):
    nodes: Sequence[Node]
    offers: Sequence[Offer]
    lines: Sequence[Line]


class Clearing(NamedTuple):
    """The cheapest way. Arrays follow the order of the network's nodes, offers and lines.

    `prices` per node; `rents` per line: (price at head - price at tail - the line's price) x flow; `limit_worth` per
    line: what one unit more of the limit that binds would save, 0 where none does. `angles` per node in radians (0
    where no line has a susceptance); `loop_prices` per line: the dual of its flow law, 0 for transport. `bound` is the
    cost that the prices prove nobody can go below.
    """

    cost: float
    bound: float
    taken: Floats
    flows: Floats
    prices: Floats
    rents: Floats
    limit_worth: Floats
    angles: Floats
    loop_prices: Floats


class Columns(NamedTuple):
    """A network as arrays: for each offer its node, for each line its ends, as indices into the nodes."""

    demand: Floats
    offer_at: Ints
    price: Floats
    rising: Floats
    offer_least: Floats
    offer_most: Floats
    tail: Ints
    head: Ints
    line_price: Floats
    line_least: Floats
    line_most: Floats
    susceptance: Floats  # 0 for transport
    grid: Ints  # the lines that have a susceptance


def columns(network: Network) -> Columns:
    """The network as arrays.

    Raises InvalidInput, naming the field, for no node, doubled or unknown ids, numbers that are not finite or beyond
    MAX_NUMBER, limits that cross, prices that fall, a line from a node to itself, a susceptance below
    MIN_SUSCEPTANCE; TooLarge above the bounds.
    """
    nodes, offers, lines = network
    if not nodes:
        raise errors.InvalidInput("there is none", field="nodes")
    for field, found, most in (
        ("nodes", nodes, MAX_NODES),
        ("offers", offers, MAX_OFFERS),
        ("lines", lines, MAX_LINES),
    ):
        if len(found) > most:
            raise errors.TooLarge(f"there are {len(found)}, and at most {most} are cleared at once", field=field)
    at = _index("nodes", nodes)
    _index("offers", offers)
    _index("lines", lines)
    made = Columns(
        demand=_numbers("nodes", nodes, "demand"),
        offer_at=_places("offers", offers, "node", at),
        price=_numbers("offers", offers, "price"),
        rising=_numbers("offers", offers, "rising"),
        offer_least=_numbers("offers", offers, "least"),
        offer_most=_numbers("offers", offers, "most"),
        tail=_places("lines", lines, "tail", at),
        head=_places("lines", lines, "head", at),
        line_price=_numbers("lines", lines, "price"),
        line_least=_numbers("lines", lines, "least"),
        line_most=_numbers("lines", lines, "most"),
        susceptance=_numbers(
            "lines", [line._replace(susceptance=line.susceptance or 0.0) for line in lines], "susceptance"
        ),
        grid=np.array([i for i, line in enumerate(lines) if line.susceptance is not None], dtype=np.intp),
    )
    _refuse("offers", offers, "least", made.offer_least > made.offer_most, "is above `most`")
    _refuse(
        "offers", offers, "rising", made.rising < 0, "is negative: a price that falls with the quantity has no optimum"
    )
    _refuse("lines", lines, "least", made.line_least > made.line_most, "is above `most`")
    _refuse("lines", lines, "head", made.head == made.tail, "is the tail of the same line")
    dead = np.zeros(len(lines), dtype=bool)
    dead[made.grid] = np.abs(made.susceptance[made.grid]) < MIN_SUSCEPTANCE
    _refuse("lines", lines, "susceptance", dead, f"is 0 or below {MIN_SUSCEPTANCE:g}: leave the line out")
    return made


class _Named(Protocol):
    @property
    def id(self) -> str: ...


def _index(field: str, found: Sequence[_Named]) -> dict[str, int]:
    index = {one.id: place for place, one in enumerate(found)}
    if len(index) < len(found):
        double = next(one.id for place, one in enumerate(found) if index[one.id] != place)
        raise errors.InvalidInput("the id stands twice", field=f"{field}.{double}")
    return index


def _numbers(field: str, found: Sequence[_Named], name: str) -> Floats:
    values = np.fromiter((getattr(one, name) for one in found), dtype=np.float64, count=len(found))
    wrong = ~(np.abs(values) <= MAX_NUMBER)  # so that a NaN is wrong too
    if wrong.any():
        place = int(wrong.argmax())
        what = f"is above {MAX_NUMBER:g}" if isfinite(values[place]) else "is not a finite number"
        raise errors.InvalidInput(f"{values[place]} {what}", field=f"{field}.{found[place].id}.{name}")
    return values


def _places(field: str, found: Sequence[_Named], name: str, at: dict[str, int]) -> Ints:
    places = [at.get(getattr(one, name), -1) for one in found]
    if -1 in places:
        one = found[places.index(-1)]
        raise errors.InvalidInput(f"there is no node {getattr(one, name)!r}", field=f"{field}.{one.id}.{name}")
    return np.array(places, dtype=np.intp)


def _refuse(field: str, found: Sequence[_Named], name: str, wrong: NDArray[np.bool_], why: str) -> None:
    if wrong.any():
        one = found[int(wrong.argmax())]
        raise errors.InvalidInput(f"{getattr(one, name)} {why}", field=f"{field}.{one.id}.{name}")
