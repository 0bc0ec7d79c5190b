"""Tasks of one kind that a large round places together, and the pools that some of them may take."""

from dataclasses import dataclass

from yunhe.core.placement.columns import Floats, Ints


@dataclass(frozen=True, slots=True)
class Family:
    """Tasks of one kind. Arrays have one element per pool that some of them may take, and `cost` rises.

    `needs[j]`: how many have budget j or a smaller one.  `level`: the smallest budget that the pool is within.
    """

    needs: Ints
    level: Ints
    pools: Ints
    cost: Floats
    milli: Ints
    memory: Ints
    most: Ints  # tasks that fit into what is free, at most all
    has: Ints  # elements where tasks are now
