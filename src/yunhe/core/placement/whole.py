"""From fractions to whole tasks."""

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np

from yunhe.core.placement.columns import Floats, Ints
from yunhe.core.placement.relax import Family, Relaxed

_SIZES_MILLI = (1_024_000, 256_000, 64_000)  # after tasks of such sizes the program is solved again
_TOLERANCE = 1e-6
_DEPTH = 2  # a task that fits nowhere asks others to make room, and those ask others
_TRIED = (0, 8, 64)  # pools that are asked, by depth
_SWEEPS = 2
_CHOICE = 50  # pools that leave a task a choice

Places = tuple[Ints, Ints]  # elements of a group, and the tasks there


@dataclass(frozen=True, slots=True)
class Group:
    """Tasks of one family with one budget. `members`: where they are in the plan; `position`: and in the family."""

    number: int  # of the family
    family: Family
    budget: int
    members: Ints
    tasks: int
    position: Ints


class Rounding:
    """Kind by kind, the largest tasks first, for which it matters most: whole tasks of the relaxation stay where they
    are, fractions become tasks where there is room, and what is left over takes the best pool by cost and price that
    still holds it; where none does, smaller ones make room.  Then what can move to a cheaper pool moves.
    """

    def __init__(
        self, families: list[Family], groups: list[Group], relaxed: Relaxed, free: Ints, free_memory: Ints
    ) -> None:
        """`free`, `free_memory`: taken over, and changed. `groups`: by family, the smallest budget first."""
        self._families = families
        self._groups = groups
        self._relaxed = relaxed
        self._flow = relaxed.flow
        numbers = [group.number for group in groups]
        self._ends: list[int] = np.searchsorted(numbers, np.arange(len(families) + 1)).tolist()
        self._free = free
        self._memory = free_memory
        self._counts: list[dict[int, int]] = [{} for _ in groups]
        self._journal: list[tuple[int, int, int]] = []  # (group, element, tasks) of every change, to take it back
        self._tenants: dict[int, set[tuple[int, int]]] = {}  # (group, element) by pool

    def run(self, *, few_first: bool = False) -> list[Places] | None:
        """Of each group; None where a task finds no place. `few_first`: tasks that only few pools take go before larger
        ones, which finds places for all more often, and dearer ones."""
        by_size = sorted(range(len(self._families)), key=lambda f: (self._choice(f, few_first), f))
        stops = set() if few_first else self._stops(by_size)
        for start, number in enumerate(by_size):
            if not self._round(number):
                return None
            # What the large ones take as a whole is not what they took in fractions.
            if start + 1 in stops and self._relaxed.program.settle(by_size[: start + 1], self._free, self._memory):
                self._flow = self._relaxed.program.flow()
        for _ in range(_SWEEPS):
            for g in range(len(self._groups)):
                self._move(g)
        return [_sorted(count) for count in self._counts]

    def _choice(self, number: int, few_first: bool) -> tuple[bool, int]:
        family = self._families[number]
        return few_first and len(family.pools) > _CHOICE, -int(family.milli[0])

    def _stops(self, by_size: list[int]) -> set[int]:
        """After how many families the program is solved again: where tasks become smaller than each of some sizes."""
        sizes = [-int(self._families[f].milli[0]) for f in by_size]
        return {bisect_left(sizes, -size + 1) for size in _SIZES_MILLI} - {len(by_size)}

    def _round(self, number: int) -> bool:
        """Whole tasks of a family at a pool go to its groups, who has the smallest budget first; then the fractions,
        largest first; then whoever is left takes what is best. False where a task finds no place."""
        at, flow = self._flow[number]
        whole = np.floor(flow + _TOLERANCE).astype(np.int64)
        slots = {i: n for i, n in zip(at.tolist(), whole.tolist(), strict=True) if n}
        part = flow - whole
        parts = at[np.argsort(-part, kind="stable")][: int(np.count_nonzero(part > _TOLERANCE))].tolist()
        members = range(self._ends[number], self._ends[number + 1])
        for g in members:
            self._take_slots(g, slots)
        for g in members:
            for element in parts.copy():
                if self._left(g) and self._may(g, element) and self._room(self._groups[g], element):
                    self._put(g, element, 1)
                    parts.remove(element)
        for g in members:
            missing = self._place(g, self._left(g), self._reduced(g)) if self._left(g) else 0
            while missing > 0:
                self._journal.clear()
                if not self._squeeze_in(g, _DEPTH, frozenset()):
                    return False
                missing -= 1
        return True

    def _take_slots(self, g: int, slots: dict[int, int]) -> None:
        for element in [i for i in slots if self._may(g, i)]:
            # Larger tasks may have taken the room, and within the solver's tolerance it may not be there.
            tasks = min(slots[element], self._left(g), self._room(self._groups[g], element))
            if tasks:
                self._put(g, element, tasks)
                slots[element] -= tasks
                if not slots[element]:
                    del slots[element]

    def _may(self, g: int, element: int) -> bool:
        """Whether it is within the budget."""
        group = self._groups[g]
        return bool(group.family.level[element] <= group.budget)

    def _left(self, g: int) -> int:
        return self._groups[g].tasks - sum(self._counts[g].values())

    def _reduced(self, g: int) -> Floats:
        """Cost and prices of each element; infinite beyond the budget."""
        family, relaxed = self._groups[g].family, self._relaxed
        found: Floats = family.cost + relaxed.price[family.pools] * family.milli
        found += relaxed.memory_price[family.pools] * family.memory
        found[family.level > self._groups[g].budget] = np.inf
        return found

    def _fits(self, group: Group, end: int | None = None) -> Ints:
        family = group.family
        pools = family.pools[:end]
        enough = (family.milli[:end] <= self._free[pools]) & (family.memory[:end] <= self._memory[pools])
        return np.flatnonzero(enough & (family.level[:end] <= group.budget))

    def _room(self, group: Group, at: int) -> int:
        pool = group.family.pools[at]
        room = int(self._free[pool] // group.family.milli[at])
        return min(room, int(self._memory[pool] // group.family.memory[at])) if group.family.memory[at] else room

    def _place(self, g: int, tasks: int, value: Floats) -> int:
        """`tasks` more at the elements of the least value that hold them; returns how many found none."""
        group = self._groups[g]
        while tasks > 0:
            fits = self._fits(group)
            if not len(fits):
                break
            at = int(fits[value[fits].argmin()])
            count = min(tasks, self._room(group, at))
            self._put(g, at, count)
            tasks -= count
        return tasks

    def _squeeze_in(self, g: int, depth: int, avoid: frozenset[int]) -> bool:
        """One task to a pool outside `avoid` that has room for it, or makes room."""
        group, value = self._groups[g], self._reduced(g)
        fits = [at for at in self._fits(group).tolist() if int(group.family.pools[at]) not in avoid]
        if fits:
            self._put(g, min(fits, key=lambda at: (float(value[at]), at)), 1)
            return True
        if depth == 0:
            return False
        for at in np.argsort(value, kind="stable")[: _TRIED[depth]].tolist():
            pool = int(group.family.pools[at])
            if value[at] < np.inf and pool not in avoid and self._make_room(g, at, depth, avoid | {pool}):
                self._put(g, at, 1)
                return True
        return False

    def _make_room(self, g: int, at: int, depth: int, avoid: frozenset[int]) -> bool:
        """Tenants of the pool go elsewhere, the smallest first; all stay if that is not enough."""
        group, before = self._groups[g], len(self._journal)
        tenants = self._tenants.get(int(group.family.pools[at]), ())
        for h, element in sorted(tenants, key=lambda t: (int(self._groups[t[0]].family.milli[t[1]]), t)):
            while h != g and self._counts[h].get(element) and not self._room(group, at):
                self._put(h, element, -1)
                if not self._squeeze_in(h, depth - 1, avoid):
                    self._put(h, element, 1)
                    break
            if self._room(group, at):
                return True
        for h, element, tasks in reversed(self._journal[before:]):
            self._put(h, element, -tasks)
        return False

    def _move(self, g: int) -> None:
        """Tasks go to cheaper elements while there is room."""
        group, count = self._groups[g], self._counts[g]
        for at in sorted(count, reverse=True):
            if at == 0:
                return
            fits = self._fits(group, at)
            if len(fits) and group.family.cost[fits[0]] < group.family.cost[at]:
                tasks = count[at]
                self._put(g, at, -tasks)
                self._place(g, tasks, group.family.cost)

    def _put(self, g: int, at: int, tasks: int) -> None:
        group, count = self._groups[g], self._counts[g]
        pool = int(group.family.pools[at])
        self._free[pool] -= group.family.milli[at] * tasks
        self._memory[pool] -= group.family.memory[at] * tasks
        count[at] = count.get(at, 0) + tasks
        self._journal.append((g, at, tasks))
        if count[at]:
            self._tenants.setdefault(pool, set()).add((g, at))
        else:
            del count[at]
            self._tenants[pool].discard((g, at))


def _sorted(count: dict[int, int]) -> Places:
    at = sorted(count)
    return np.array(at, dtype=np.int64), np.array([count[i] for i in at], dtype=np.int64)
