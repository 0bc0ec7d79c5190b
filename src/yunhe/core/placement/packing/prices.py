"""What a part of a card is worth when cards are cut up as well as they can be for a given demand.

The cutting-stock problem: the fewest cards that hold given numbers of parts of given sizes.  The dual values of its
linear relaxation are prices: no pattern of parts that fits one card is worth more than the card, and every pattern
that an optimal packing uses is worth exactly the card.  Found by column generation (Gilmore and Gomory, 1961).
"""

from collections.abc import Mapping

import numpy as np

from yunhe.core.errors import InvalidInput
from yunhe.core.placement.columns import Floats, Ints
from yunhe.core.placement.packing.values import WHOLE

MAX_SIZES = 64  # different sizes that are priced, the most demanded ones; other sizes get no price
MAX_STEPS = 500  # of the simplex method; then the last prices are scaled so that no pattern is worth more than a card
_EPSILON = 1e-9


def part_prices(demand: Mapping[int, float]) -> dict[int, float]:
    """Size in milli (1..999) to its price in milli-cards (0..1000), for `demand`: how many of each size are wanted.

    A price of 0 says that cards have more such gaps than are wanted.  Raises InvalidInput for a count that is negative
    or not finite.
    """
    if not all(0 <= count < float("inf") for count in demand.values()):
        raise InvalidInput("a count is negative or not finite", field="demand")
    wanted = sorted(((count, size) for size, count in demand.items() if count > 0 and 0 < size < WHOLE), reverse=True)
    if not wanted:
        return {}
    sizes = np.array(sorted((size for _, size in wanted[:MAX_SIZES]), reverse=True), dtype=np.int64)
    counts = np.array([demand[size] for size in sizes.tolist()])
    # Tiny different amounts keep the simplex method from going in circles.
    counts = counts / counts.sum() * (1 + 1e-7 * np.arange(len(sizes)))
    basis = np.diag((WHOLE // sizes).astype(float))
    cost, amount = np.ones(len(sizes)), counts / np.diag(basis)
    for _ in range(MAX_STEPS):
        price: Floats = np.linalg.solve(basis.T, cost).astype(np.float64)
        column, price_of_column = _entering(sizes, price)
        if column is None:
            break
        step = np.linalg.solve(basis, column)
        ratio = np.where(step > _EPSILON, amount / np.where(step > _EPSILON, step, 1.0), np.inf)
        leaving = int(ratio.argmin())
        if not np.isfinite(ratio[leaving]):
            break
        amount = np.maximum(amount - ratio[leaving] * step, 0.0)
        amount[leaving] = ratio[leaving]
        basis[:, leaving], cost[leaving] = column, price_of_column
    price = np.clip(price, 0.0, 1.0)
    price *= WHOLE / max(1.0, best_pattern(sizes, price)[1])
    return dict(zip(sizes.tolist(), price.tolist(), strict=True))


def _entering(sizes: Ints, price: Floats) -> tuple[Floats | None, float]:
    """A column that makes the packing cheaper, with its cost in cards: a surplus of one size, or a pattern."""
    lowest = int(price.argmin())
    if price[lowest] < -_EPSILON:
        surplus = np.zeros(len(sizes))
        surplus[lowest] = -1.0
        return surplus, 0.0
    pattern, value = best_pattern(sizes, price)
    return (pattern, 1.0) if value > 1 + _EPSILON else (None, 0.0)


def best_pattern(sizes: Ints, price: Floats) -> tuple[Floats, float]:
    """How many of each size fit one card together for the highest total price, and that price."""
    unit = int(np.gcd.reduce(np.append(sizes, WHOLE)))
    width, room = (sizes // unit).tolist(), WHOLE // unit
    worth, last = [0.0] * (room + 1), [-1] * (room + 1)
    priced = [(each, value, number) for number, (each, value) in enumerate(zip(width, price.tolist(), strict=True))]
    for free in range(1, room + 1):
        most, chosen = worth[free - 1], -1
        for each, value, number in priced:
            if each <= free and worth[free - each] + value > most:
                most, chosen = worth[free - each] + value, number
        worth[free], last[free] = most, chosen
    pattern, free = np.zeros(len(sizes)), room
    while free > 0:
        if last[free] < 0:
            free -= 1
        else:
            pattern[last[free]] += 1
            free -= width[last[free]]
    return pattern, worth[room]
