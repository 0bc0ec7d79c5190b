"""The hold of an order: the most that it can cost at any place that takes it. The same as over all offers of a quote,
without making them."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from yunhe.core.demand import Requirement, Shape
from yunhe.core.placement.board import Board
from yunhe.core.placement.cost import dearest_power, hold_of
from yunhe.core.placement.feasible import feasible
from yunhe.core.supply import Supply

_MOST_KINDS = 20_000
_CLOSE = 1e-3  # of the dearest hour
_ROUNDING_MICROCNY = 10.0  # of a hold: three parts are rounded up, and the energy before it is priced


@dataclass(frozen=True, slots=True)
class _Kind:
    """The dearest pools that take a task of one requirement, whatever its run limit; one of those that cost alike."""

    pools: tuple[int, ...]
    milli: tuple[int, ...]


class Dearest:
    """Holds over one board. Remembers what it has seen of each requirement."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._kinds: dict[tuple[Requirement, bool], _Kind] = {}
        self._any_length = takes_any_length(board.supply)

    def hold(self, shape: Shape, now_ms: int) -> int | None:
        """Micro-CNY for all tasks at full load up to the run limit; None where no place takes it now or after
        waiting."""
        if not self._any_length or is_timed(shape) or shape.terms.budget_microcny is not None:
            return dearest_hold(shape, self._board, now_ms)
        kind = self._kind(shape, now_ms)
        if not kind.pools:
            return None
        most = _most(shape, self._board, kind.pools, kind.milli)
        if most * _CLOSE < _ROUNDING_MICROCNY:  # so little that rounding decides which is the dearest
            return dearest_hold(shape, self._board, now_ms)
        return most

    def _kind(self, shape: Shape, now_ms: int) -> _Kind:
        key = shape.requirement, shape.terms.spot
        found = self._kinds.get(key)
        if found is None:
            if len(self._kinds) >= _MOST_KINDS:
                self._kinds.clear()
            found = self._kinds[key] = _kind_of(shape, self._board, now_ms)
        return found


def takes_any_length(supply: Supply) -> bool:
    """Whether no pool refuses a task for its run limit."""
    return all(pool.longest_ms is None for pool in supply.pools)


def is_timed(shape: Shape) -> bool:
    """Whether time has a part in where a task of `shape` fits or how large it is: by a deadline, an amount of work, or
    data that have to come first."""
    need = shape.requirement
    return need.work is not None or shape.terms.deadline_ms is not None or need.data_bytes > 0


def dearest_hold(shape: Shape, board: Board, now_ms: int) -> int | None:
    """As `Dearest.hold`, for one look."""
    fit = feasible(shape, board, board.columns.capacity, board.columns.memory, now_ms)
    pools = np.flatnonzero(fit.certified)
    if not len(pools):
        return None
    # Floats say which can be the dearest, integers what it costs.
    found, sizes = fit.look.costs, fit.look.sizes
    close = pools[found.hold_most[pools] >= found.hold_least[pools].max()]
    return _most(shape, board, close.tolist(), sizes.milli[close].tolist())


def _kind_of(shape: Shape, board: Board, now_ms: int) -> _Kind:
    fit = feasible(shape, board, board.columns.capacity, board.columns.memory, now_ms)
    pools, columns = np.flatnonzero(fit.certified), board.columns
    if not len(pools):
        return _Kind((), ())
    milli = fit.look.sizes.milli[pools]
    energy = columns.kw_per_unit[pools] * board.hourly.most_power[pools]
    per_hour = milli * (board.price(spot=shape.terms.spot)[pools] + energy)
    close = per_hour >= per_hour.max() * (1 - _CLOSE)
    alike: dict[tuple[int, ...], tuple[int, int]] = {}
    for p, m in zip(pools[close].tolist(), milli[close].tolist(), strict=True):
        pool, site = board.supply.pools[p], columns.sites[p]
        price = pool.price_microcny_per_unit_hour, pool.watts_per_unit
        alike.setdefault((*price, site.pue_milli, dearest_power(site), m), (p, m))
    return _Kind(tuple(p for p, _ in alike.values()), tuple(m for _, m in alike.values()))


def _most(shape: Shape, board: Board, pools: Iterable[int], milli: Iterable[int]) -> int:
    supply, sites = board.supply, board.columns.sites
    return max(
        hold_of(shape, supply.pools[p], sites[p], m, board.policy).total for p, m in zip(pools, milli, strict=True)
    )
