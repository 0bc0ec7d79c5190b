"""What a round has given, put together and put in order."""

import numpy as np

from yunhe.core.placement import order
from yunhe.core.placement.columns import Ints
from yunhe.core.placement.values import Given


def joined(parts: list[Given], pools: int) -> Given:
    """Parts of an array order that met again at one pool become one."""
    row, pool, *amounts = (np.concatenate(column) for column in zip(*parts, strict=True))
    distinct, index = np.unique(row * pools + pool, return_inverse=True)
    row, pool = np.divmod(distinct, max(pools, 1))
    return Given(row, pool, *(_sums(index, amount, len(distinct)) for amount in amounts))


def by_arrival(given: Given, rows: order.Rows) -> Given:
    """The cheapest places are for those that came first, in whatever order the rows of the queue are."""
    rank = np.zeros(int(rows.max(initial=0)) + 1, dtype=np.int64)
    rank[rows] = np.arange(len(rows))
    turn = np.lexsort((given.pool, rank[given.row]))
    return Given(*(column[turn] for column in given))


def _sums(index: Ints, amount: Ints, count: int) -> Ints:
    found = np.zeros(count, dtype=np.int64)
    np.add.at(found, index, amount)
    return found
