"""The best node for a task without looking at all of them: costs are kept per need, and only nodes that changed
since the need was last asked for are scored again."""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from yunhe.core.placement.columns import Floats
from yunhe.core.placement.packing.fleet import Fleet
from yunhe.core.placement.packing.values import Need

MAX_NEEDS = 4096  # different needs whose costs are kept; beyond that all are forgotten and found again


class Rule(Protocol):
    """A packing policy. The cheapest node gets the task; of equal ones the first."""

    def costs(self, fleet: Fleet, need: Need, at: npt.NDArray[np.intp]) -> Floats:
        """Of giving the task to each position of `at`, which all fit it. Depends on those nodes alone."""

    def card(self, fleet: Fleet, need: Need, at: int) -> int:
        """Which card of node `at` a task that shares one gets."""


class _Row:
    """Costs of one need at every node; infinite where it does not fit. Fresh up to `mark` of the fleet's changes."""

    __slots__ = ("costs", "mark")

    def __init__(self, nodes: int) -> None:
        self.costs: Floats = np.full(nodes, np.inf)
        self.mark = -1


class PackingIndex:
    """Answers where a task goes by `rule`, over the present state of `fleet`. Changes nothing but what it remembers."""

    def __init__(self, fleet: Fleet, rule: Rule) -> None:
        self.fleet = fleet
        self.rule = rule
        self._rows: dict[Need, _Row] = {}

    def choose(self, need: Need) -> int:
        """The position of the cheapest node that fits, -1 when none does."""
        costs = self.costs(need)
        best = int(costs.argmin())
        return best if costs[best] != np.inf else -1

    def place(self, need: Need) -> tuple[int, tuple[int, ...]] | None:
        """Choose, and take it there. The position and its cards, None when no node fits."""
        at = self.choose(need)
        if at < 0:
            return None
        card = self.rule.card(self.fleet, need, at) if need.shares else -1
        return at, self.fleet.take(at, need, card)

    def costs(self, need: Need) -> Floats:
        """Per node; infinite where it does not fit. A view that the next call may change."""
        row = self._rows.get(need)
        if row is None:
            if len(self._rows) >= MAX_NEEDS:
                self._rows.clear()
            row = self._rows[need] = _Row(len(self.fleet.nodes))
        if row.mark == self.fleet.changes:
            return row.costs
        stale = np.flatnonzero(self.fleet.moved > row.mark)
        row.costs[stale] = np.inf
        fitting = stale[self.fleet.fits(need, stale)]
        if fitting.size:
            row.costs[fitting] = self.rule.costs(self.fleet, need, fitting)
        row.mark = self.fleet.changes
        return row.costs
