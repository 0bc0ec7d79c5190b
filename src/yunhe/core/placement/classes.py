"""Shapes that placement cannot tell apart are one class, and are looked at once.

Orders that were asked for in the same words still differ in their deadlines and budgets, so a long queue can hold
as many shapes as orders.  What a task takes of a pool does not depend on these (but for `work`), so shapes are first
grouped by kind, and each kind has one row: the pools that it can ever go to, best first.  A kind is then parted by
what deadline and budget can still change: whether there is time, and which pools of the row are too dear.
"""

from dataclasses import dataclass, replace

import numpy as np

from yunhe.core.demand import Shape
from yunhe.core.hours import HOUR_MS
from yunhe.core.placement.board import Board
from yunhe.core.placement.columns import Bools, Floats, Ints
from yunhe.core.placement.feasible import CONSTRAINTS, within_budget
from yunhe.core.placement.look import Look
from yunhe.core.placement.score import ranking
from yunhe.core.placement.sizing import HUGE

Key = tuple[object, ...]

_LASTING_OF_PLACE = tuple(c for c in CONSTRAINTS if c.lasting and c.of_place)
_LASTING_OF_SIZE = tuple(c for c in CONSTRAINTS if c.lasting and not c.of_place)
_PASSING = tuple(c for c in CONSTRAINTS if not c.lasting)
_MOST_KEPT = 10_000_000  # pools of all rows that a board keeps; 25 bytes each


@dataclass(frozen=True, slots=True)
class Row:
    """The pools that a kind of task can ever go to, best first, with what one task takes there.

    All arrays have one element per such pool.
    """

    look: Look  # at `pools`
    pools: Ints
    open: Bools  # the pool takes it when enough is free; False: not before something passes
    milli: Ints
    memory: Ints

    def by_hold(self) -> "Holds":
        least = self.look.costs.hold_least
        order = np.argsort(least, kind="stable")  # where the cheapest is best it comes sorted
        position = np.empty(len(order), dtype=np.int64)
        position[order] = np.arange(len(order))
        units = np.where(self.open, self.milli, HUGE)[order]
        return Holds(position, least[order], np.sort(self.look.costs.hold_most), np.minimum.accumulate(units))


@dataclass(frozen=True, slots=True)
class Holds:
    """The pools of a row by what one task can cost there."""

    position: Ints  # of each pool of the row
    least: Floats  # sorted
    most: Floats  # sorted
    units: Ints  # the least that a task takes at one of the first pools so far that are open


def row_of(shape: Shape, board: Board, now_ms: int, seed: int = 0) -> Row:
    """The row of `shape`. A budget, and a deadline unless the shape states `work`, play no part in it."""
    return row_among(shape, board, now_ms, places_of(shape, board), seed)


def places_of(shape: Shape, board: Board) -> Ints:
    """Pools that no constraint on the place keeps from ever taking a task of `shape`."""
    everywhere = Look(board, shape, 0)
    refused = np.zeros(len(board), dtype=bool)
    for constraint in _LASTING_OF_PLACE:
        fails = constraint.fails(everywhere)
        if fails is not None:
            refused |= fails
    return np.flatnonzero(~refused)


def row_among(
    shape: Shape, board: Board, now_ms: int, pools: Ints, seed: int, free: tuple[Ints, Ints] | None = None
) -> Row:
    """The row of `shape` among `pools`, which its constraints on the place allow; those alone where `free` (units and
    memory of each pool of the board) is enough, if it is given."""
    deadline = shape.terms.deadline_ms if shape.requirement.work is not None else None
    if shape.terms.budget_microcny is not None or shape.terms.deadline_ms != deadline:
        shape = replace(shape, terms=replace(shape.terms, budget_microcny=None, deadline_ms=deadline))
    look = Look(board, shape, now_ms, pools)
    refused = np.zeros(len(pools), dtype=bool)
    if free is not None:
        refused |= (look.sizes.milli > free[0][pools]) | (look.sizes.memory > free[1][pools])
    for constraint in _LASTING_OF_SIZE:
        fails = constraint.fails(look)
        if fails is not None:
            refused |= fails
    look = look.take(np.flatnonzero(~refused)) if refused.any() else look
    look = look.take(ranking(look, seed))
    closed = np.zeros(len(look.pools), dtype=bool)
    for constraint in _PASSING:
        fails = constraint.fails(look)
        if fails is not None:
            closed |= fails
    return Row(look, look.pools, ~closed, look.sizes.milli, look.sizes.memory)


@dataclass(frozen=True, slots=True)
class Classes:
    """Arrays have one element per class, unless said otherwise."""

    rows: tuple[Row, ...]  # one per kind
    of_shape: Ints  # class of each shape that was given
    shape: Ints  # the first shape of each class
    kind: Ints
    least: Ints  # milli that one task takes at least at a pool that is open; HUGE where there is none
    hopeful: Bools  # some pool of its row is within budget and time, whether open or not
    allowed: dict[int, Bools]  # pools of the row that are within the budget; all for classes that are not named

    def __len__(self) -> int:
        return len(self.kind)


def classes(shapes: tuple[Shape, ...], board: Board, now_ms: int, seed: int = 0) -> Classes:
    """Group `shapes`; every constraint gives all shapes of a class the same answer at every pool."""
    kind_of = _kinds(shapes, now_ms)
    firsts = _firsts(kind_of)
    places: dict[int, Ints] = {}  # of each requirement: orders of work differ in their deadlines alone
    rows = tuple(_row(shapes[i], board, now_ms, places, seed) for i in firsts)
    parts = _Parts(shapes, now_ms)
    by_kind = np.argsort(kind_of, kind="stable")
    ends = np.searchsorted(kind_of[by_kind], np.arange(len(rows) + 1))
    for kind, row in enumerate(rows):
        parts.add(kind, row, by_kind[ends[kind] : ends[kind + 1]])
    return parts.classes(rows)


def _row(shape: Shape, board: Board, now_ms: int, places: dict[int, Ints], seed: int) -> Row:
    """The row of `shape`, kept for later rounds where the board keeps rows. `places`: those of each requirement."""
    need, terms = shape.requirement, shape.terms
    kept = board.rows if need.work is None else None  # work is sized by the time that is left
    hour = None if board.hourly.flat else now_ms // HOUR_MS
    key = (need, terms.run_limit_ms, terms.preference, terms.spot, seed, hour)
    found = None if kept is None else kept.get(key)
    if found is None:
        if id(need) not in places:
            places[id(need)] = places_of(shape, board)
        found = row_among(shape, board, now_ms, places[id(need)], seed)
        if kept is not None:
            if len(kept) * len(board) >= _MOST_KEPT:
                kept.clear()
            kept[key] = found
    if kept is not None:
        found.look.forget()  # most of what it holds
    return found


def is_late(shape: Shape, now_ms: int) -> bool:
    """Whether the run limit ends after the deadline; a task of `work` is sized by its deadline instead."""
    deadline = shape.terms.deadline_ms
    return shape.requirement.work is None and deadline is not None and deadline - now_ms < shape.terms.run_limit_ms


def _kinds(shapes: tuple[Shape, ...], now_ms: int) -> Ints:
    """The kind of each shape: what its row depends on, numbered in the order in which they come first."""
    # Hashing a requirement takes longer than all the rest, and shapes of one order form share the object.
    known: dict[int, int] = {}
    needs: dict[object, int] = {}
    kinds: dict[Key, int] = {}
    found = []
    for shape in shapes:
        need, terms = shape.requirement, shape.terms
        number = known.get(id(need))
        if number is None:
            number = known[id(need)] = needs.setdefault(need, len(needs))
        deadline = terms.deadline_ms if need.work is not None else None
        if deadline is not None and deadline - now_ms >= terms.run_limit_ms:
            deadline = None  # the run limit ends before it
        key = (number, terms.run_limit_ms, terms.preference, terms.spot, deadline)
        found.append(kinds.setdefault(key, len(kinds)))
    return np.array(found, dtype=np.int64)


def _firsts(numbers: Ints) -> list[int]:
    return np.unique(numbers, return_index=True)[1].tolist()  # type: ignore[no-any-return]


class _Parts:
    """Parts kinds into classes."""

    def __init__(self, shapes: tuple[Shape, ...], now_ms: int) -> None:
        self._shapes = shapes
        self._now_ms = now_ms
        self._of_shape = np.zeros(len(shapes), dtype=np.int64)
        self._shape: list[int] = []
        self._kind: list[int] = []
        self._least: list[int] = []
        self._hopeful: list[bool] = []
        self._allowed: dict[int, Bools] = {}

    def add(self, kind: int, row: Row, members: Ints) -> None:
        holds: Holds | None = None
        numbers: dict[Key, int] = {}
        for i in members.tolist():
            terms = self._shapes[i].terms
            if is_late(self._shapes[i], self._now_ms):
                key: Key = ("late",)
            elif terms.budget_microcny is None:
                key = ("any",)
            else:
                holds = holds or row.by_hold()
                each = terms.budget_microcny / terms.array
                covered = int(holds.most.searchsorted(each, "right"))
                surely = covered == int(holds.least.searchsorted(each, "right"))
                key = (covered,) if surely else (terms.budget_microcny, terms.array)
            number = numbers.get(key)
            if number is None:
                number = numbers[key] = self._new(kind, i, row, key, holds)
            self._of_shape[i] = number

    def _new(self, kind: int, shape: int, row: Row, key: Key, holds: Holds | None) -> int:
        number = len(self._kind)
        self._kind.append(kind)
        self._shape.append(shape)
        allowed: Bools | None
        match key:
            case ("late",):
                allowed, least = np.zeros(len(row.pools), dtype=bool), HUGE
            case ("any",):
                allowed, least = None, int(np.where(row.open, row.milli, HUGE).min(initial=HUGE))
            case (int(covered),):
                assert holds is not None
                allowed = holds.position < covered
                least = int(holds.units[covered - 1]) if covered else HUGE
            case (int(budget), int(tasks)):
                allowed = within_budget(row.look, budget, tasks)
                least = int(row.milli[row.open & allowed].min(initial=HUGE))
        if allowed is not None:
            self._allowed[number] = allowed
        self._hopeful.append(bool(len(row.pools)) if allowed is None else bool(allowed.any()))
        self._least.append(least)
        return number

    def classes(self, rows: tuple[Row, ...]) -> Classes:
        return Classes(
            rows,
            self._of_shape,
            np.array(self._shape, dtype=np.int64),
            np.array(self._kind, dtype=np.int64),
            np.array(self._least, dtype=np.int64),
            np.array(self._hopeful, dtype=bool),
            self._allowed,
        )
