"""The best node for a task without looking at all of them: costs are kept per need, and only nodes that changed
since the need was last asked for are scored again."""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from yunhe.core.placement.columns import Floats
from yunhe.core.placement.packing.fleet import Fleet, check_need
from yunhe.core.placement.packing.values import Need

MAX_NEEDS = 4096  # different needs whose costs are kept; beyond that all are forgotten and found again
MAX_COSTS = 2**25  # numbers kept in all (256 MiB): over many nodes fewer needs are kept


class Rule(Protocol):
    """A packing policy. The cheapest node gets the task; of equal ones the first."""

    def costs(self, fleet: Fleet, need: Need, at: npt.NDArray[np.intp]) -> Floats:
        """Of giving the task to each position of `at`, which all fit it. Depends on those nodes alone."""

    def card(self, fleet: Fleet, need: Need, at: int) -> int:
        """Which card of node `at` a task that shares one gets."""


class _Row:
    """Costs of one need at every node; infinite where it does not fit. Fresh up to `mark` of the fleet's changes.

    `full` is the fleet's count of returns when it was found to fit nowhere: before something is given back it will not.
    """

    __slots__ = ("costs", "full", "mark")

    def __init__(self, nodes: int) -> None:
        self.costs: Floats = np.full(nodes, np.inf)
        self.mark = -1
        self.full = -1


class PackingIndex:
    """Answers where a task goes by `rule`, over the present state of `fleet`. Changes nothing but what it remembers."""

    def __init__(self, fleet: Fleet, rule: Rule) -> None:
        self.fleet = fleet
        self.rule = rule
        self._rows: dict[Need, _Row] = {}
        self._most = min(MAX_NEEDS, max(16, MAX_COSTS // len(fleet.nodes)))

    def choose(self, need: Need) -> int:
        """The position of the cheapest node that fits, -1 when none does. Raises InvalidInput, naming the field, for a
        need that no task can have."""
        row = self._row(need)
        if row.full == self.fleet.returns:
            return -1
        self._refresh(row, need)
        best = int(row.costs.argmin())
        if row.costs[best] != np.inf:
            return best
        row.full = self.fleet.returns
        return -1

    def place(self, need: Need) -> tuple[int, tuple[int, ...]] | None:
        """Choose, and take it there. The position and its cards, None when no node fits."""
        at = self.choose(need)
        if at < 0:
            return None
        card = self.rule.card(self.fleet, need, at) if need.shares else -1
        return at, self.fleet.take(at, need, card)

    def costs(self, need: Need) -> Floats:
        """Per node; infinite where it does not fit. A view that the next call may change."""
        row = self._row(need)
        self._refresh(row, need)
        return row.costs

    def _row(self, need: Need) -> _Row:
        row = self._rows.get(need)
        if row is None:
            check_need(need)
            if len(self._rows) >= self._most:
                self._rows.clear()
            row = self._rows[need] = _Row(len(self.fleet.nodes))
        return row

    def _refresh(self, row: _Row, need: Need) -> None:
        fleet = self.fleet
        if row.mark == fleet.changes:
            return
        stale = (fleet.moved > row.mark).nonzero()[0]
        row.costs[stale] = np.inf
        fitting = stale[fleet.fits(need, stale)]
        if fitting.size:
            row.costs[fitting] = self.rule.costs(fleet, need, fitting)
        row.mark = fleet.changes
