"""From fractions to whole tasks."""

from typing import NamedTuple

import numpy as np

from yunhe.core.placement.columns import Floats, Ints
from yunhe.core.placement.family import Family
from yunhe.core.placement.relax import Relaxed

_TOLERANCE = 1e-6
_DEPTH = 2  # a task that fits nowhere asks others to make room, and those ask others
_TRIED = (0, 8, 64)  # pools that are asked, by depth
_SWEEPS = 2
_CHOICE = 50  # pools that leave a task a choice


class Change(NamedTuple):
    family: int
    element: int
    tasks: int


class Rounding:
    """Whole tasks of the relaxation stay where they are.  Then, the largest tasks first, for which it matters most:
    fractions become tasks where there is room, and what is left over takes the best pool by cost and price that still
    holds it; where none does, smaller ones make room.  In the end, what can move to a cheaper pool moves.

    Budgets: of the tasks of a family at most so many may be beyond budget j as do not have it or a smaller one.
    """

    def __init__(self, families: list[Family], relaxed: Relaxed, free: Ints, free_memory: Ints) -> None:
        """`free`, `free_memory`: taken over, and changed."""
        self._families = families
        self._solved = relaxed.solved
        self._flow = relaxed.flow
        self._free = free
        self._memory = free_memory
        self._count: list[dict[int, int]] = [{} for _ in families]
        self._left = [int(family.needs[-1]) for family in families]
        # How many more tasks may be at elements beyond budget j, for each but the largest.
        self._beyond: list[list[int]] = [(family.needs[-1] - family.needs[:-1]).tolist() for family in families]
        self._journal: list[Change] = []  # every change since the last clearing, to take it back
        self._tenants: dict[int, set[tuple[int, int]]] | None = None  # (family, element) by pool, once it is asked for

    def run(self, *, few_first: bool = False) -> list[dict[int, int]] | None:
        """Tasks at elements of each family; None where a task finds no place. `few_first`: tasks that only few pools
        take go before larger ones, which finds places for all more often, and dearer ones."""
        families = self._families
        few = [few_first and len(family.pools) <= _CHOICE for family in families]
        by_size = sorted(range(len(families)), key=lambda f: (not few[f], -int(families[f].milli[0]), f))
        for number in by_size:
            self._whole(number)
        if not all(map(self._rest, by_size)):
            return None
        for _ in range(_SWEEPS):
            if not sum(map(self._move, range(len(self._families)))):
                break
        return self._count

    # --- one family -----------------------------------------------------------------------------------------------

    def _whole(self, number: int) -> None:
        """Whole tasks stay where they are. Within the solver's tolerance the room may not be there."""
        family, (at, flow) = self._families[number], self._flow[number]
        tasks = np.minimum(np.floor(flow + _TOLERANCE).astype(np.int64), self._room_at(family, at))
        some = np.flatnonzero(tasks)
        for element, count in zip(at[some].tolist(), tasks[some].tolist(), strict=True):
            self._put(number, element, min(count, self._may(number, int(family.level[element]))))

    def _rest(self, number: int) -> bool:
        """Fractions, the largest first; then whoever is left takes what is best. False where one finds no place."""
        family, (at, flow) = self._families[number], self._flow[number]
        if not self._left[number]:
            return True
        part = flow - np.floor(flow + _TOLERANCE)
        for i in np.argsort(-part, kind="stable")[: int(np.count_nonzero(part > _TOLERANCE))].tolist():
            element = int(at[i])
            if self._may(number, int(family.level[element])) and self._room(family, element):
                self._put(number, element, 1)
        if self._left[number]:
            self._place(number, self._solved.reduced(family))
        while self._left[number]:
            self._journal.clear()
            if not self._squeeze_in(number, _DEPTH, frozenset()):
                return False
        return True

    def _place(self, number: int, value: Floats, end: int | None = None) -> None:
        """Those who are left go to the elements of the least value that hold them."""
        family = self._families[number]
        fits = self._fits(family, end)
        for at in fits[np.argsort(value[fits], kind="stable")].tolist() if len(fits) else ():
            if not self._left[number]:
                return
            self._put(number, at, min(self._may(number, int(family.level[at])), self._room(family, at)))

    def _fits(self, family: Family, end: int | None = None) -> Ints:
        pools = family.pools[:end]
        return np.flatnonzero((family.milli[:end] <= self._free[pools]) & (family.memory[:end] <= self._memory[pools]))

    def _room_at(self, family: Family, at: Ints) -> Ints:
        room = self._free[family.pools[at]] // family.milli[at]
        memory = family.memory[at]
        found: Ints = np.minimum(room, np.where(memory, self._memory[family.pools[at]] // np.maximum(memory, 1), room))
        return found

    def _room(self, family: Family, at: int) -> int:
        pool = family.pools[at]
        room = int(self._free[pool] // family.milli[at])
        return min(room, int(self._memory[pool] // family.memory[at])) if family.memory[at] else room

    def _may(self, number: int, level: int) -> int:
        """How many more tasks may go to elements that only budget `level` and larger ones reach."""
        return min([self._left[number], *self._beyond[number][:level]])

    def _highest(self, number: int) -> int:
        """The largest budget beyond all smaller ones of which a task may be."""
        beyond = self._beyond[number]
        return next((j for j, more in enumerate(beyond) if more <= 0), len(beyond))

    def _move(self, number: int) -> bool:
        """Tasks go to cheaper elements while there is room."""
        family, count = self._families[number], self._count[number]
        cost, moved = family.cost, False
        fits = self._fits(family, max(count, default=0))
        for at in sorted(count, reverse=True) if len(fits) else ():
            if cost[fits[0]] >= cost[at]:
                break
            self._put(number, at, -count[at])
            self._place(number, cost, at + 1)
            moved = moved or at not in count
            fits = self._fits(family, at)
            if not len(fits):
                break
        return moved

    # --- when it is crowded ---------------------------------------------------------------------------------------

    def _squeeze_in(self, number: int, depth: int, avoid: frozenset[int]) -> bool:
        """One task to a pool outside `avoid` that has room for it, or makes room."""
        family, value = self._families[number], self._solved.reduced(self._families[number])
        value[family.level > self._highest(number)] = np.inf
        fits = [at for at in self._fits(family).tolist() if value[at] < np.inf and int(family.pools[at]) not in avoid]
        if fits:
            self._put(number, min(fits, key=lambda at: (float(value[at]), at)), 1)
            return True
        if depth == 0:
            return False
        for at in np.argsort(value, kind="stable")[: _TRIED[depth]].tolist():
            pool = int(family.pools[at])
            if value[at] < np.inf and pool not in avoid and self._make_room(number, at, depth, avoid | {pool}):
                self._put(number, at, 1)
                return True
        return False

    def _make_room(self, number: int, at: int, depth: int, avoid: frozenset[int]) -> bool:
        """Tenants of the pool go elsewhere, the smallest first; all stay if that is not enough."""
        family, before = self._families[number], len(self._journal)
        tenants = self._tenants_of(int(family.pools[at]))
        for other, element in sorted(tenants, key=lambda t: (int(self._families[t[0]].milli[t[1]]), t)):
            while other != number and self._count[other].get(element) and not self._room(family, at):
                self._put(other, element, -1)
                if not self._squeeze_in(other, depth - 1, avoid):
                    self._put(other, element, 1)
                    break
            if self._room(family, at):
                return True
        for change in reversed(self._journal[before:]):
            self._put(change.family, change.element, -change.tasks)
        return False

    def _tenants_of(self, pool: int) -> set[tuple[int, int]]:
        if self._tenants is None:
            self._tenants = {}
            for number, count in enumerate(self._count):
                pools = self._families[number].pools
                for element in count:
                    self._tenants.setdefault(int(pools[element]), set()).add((number, element))
        return self._tenants.get(pool, set())

    def _put(self, number: int, at: int, tasks: int) -> None:
        if not tasks:
            return
        family, count = self._families[number], self._count[number]
        pool = int(family.pools[at])
        self._free[pool] -= family.milli[at] * tasks
        self._memory[pool] -= family.memory[at] * tasks
        self._left[number] -= tasks
        beyond = self._beyond[number]
        for j in range(int(family.level[at])):
            beyond[j] -= tasks
        count[at] = count.get(at, 0) + tasks
        self._journal.append(Change(number, at, tasks))
        if not count[at]:
            del count[at]
        if self._tenants is not None:
            tenants = self._tenants.setdefault(pool, set())
            if at in count:
                tenants.add((number, at))
            else:
                tenants.discard((number, at))
