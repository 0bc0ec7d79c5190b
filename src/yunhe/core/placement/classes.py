"""Shapes that placement cannot tell apart are one class, and are looked at once.

Orders that were asked for in the same words still differ in their deadlines and budgets, so a long queue can hold
as many shapes as orders.  What a task takes of a pool does not depend on these (but for `work`), so shapes are first
grouped by kind; a kind is then parted by what deadline and budget can still change: whether there is time, and
which pools are too dear.
"""

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np

from yunhe.core.demand import Shape
from yunhe.core.placement.columns import Columns, Ints
from yunhe.core.placement.cost import Costs, costs
from yunhe.core.placement.sizing import Sizes, sizes
from yunhe.core.policy import Policy

Key = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Classes:
    """`shapes[c]` stands for class c; sizes and costs have one row per class."""

    shapes: tuple[Shape, ...]
    of_shape: Ints  # the class of each shape that was given
    sizes: Sizes
    costs: Costs


def classes(shapes: tuple[Shape, ...], columns: Columns, policy: Policy, now_ms: int) -> Classes:
    """Group `shapes`; every constraint gives all shapes of a class the same answer at every pool."""
    kind_keys = _kind_keys(shapes)
    kinds, kind_of = _numbered(kind_keys)
    stand_ins = tuple(shapes[i] for i in kinds)
    kind_sizes = sizes(stand_ins, columns, policy, now_ms)
    kind_costs = costs(stand_ins, columns, kind_sizes, policy)
    if not any(shape.terms.deadline_ms is not None or shape.terms.budget_microcny is not None for shape in shapes):
        return Classes(stand_ins, np.array(kind_of, dtype=np.int64), kind_sizes, kind_costs)
    dearness = _Dearness(kind_costs)
    keys: list[Key] = []
    for shape, kind in zip(shapes, kind_of, strict=True):
        terms = shape.terms
        late = terms.deadline_ms is not None and terms.deadline_ms - now_ms < terms.run_limit_ms
        keys.append((kind, late, dearness.level(kind, terms.budget_microcny, terms.array)))
    firsts, class_of = _numbered(keys)
    rows = [kind_of[i] for i in firsts]
    return Classes(
        tuple(shapes[i] for i in firsts),
        np.array(class_of, dtype=np.int64),
        kind_sizes.rows(rows),
        kind_costs.rows(rows),
    )


def _kind_keys(shapes: tuple[Shape, ...]) -> list[Key]:
    """What sizes and ranking depend on."""
    # Hashing a requirement takes longer than all the rest, and shapes of one order form share the object.
    known: dict[int, int] = {}
    numbers: dict[object, int] = {}
    keys: list[Key] = []
    for shape in shapes:
        need, terms = shape.requirement, shape.terms
        number = known.get(id(need))
        if number is None:
            number = known[id(need)] = numbers.setdefault(need, len(numbers))
        deadline = terms.deadline_ms if need.work is not None else None
        keys.append((number, terms.run_limit_ms, terms.preference, deadline))
    return keys


def _numbered(keys: list[Key]) -> tuple[list[int], list[int]]:
    """(position of the first of each distinct key, number of each key)."""
    numbers: dict[Key, int] = {}
    firsts: list[int] = []
    found = []
    for i, key in enumerate(keys):
        number = numbers.setdefault(key, len(firsts))
        if number == len(firsts):
            firsts.append(i)
        found.append(number)
    return firsts, found


class _Dearness:
    """Parts budgets by the pools whose hold they cover."""

    def __init__(self, costs: Costs) -> None:
        self._least = costs.hold_least
        self._most = costs.hold_most
        self._sorted: dict[int, tuple[list[float], list[float]]] = {}

    def level(self, kind: int, budget_microcny: int | None, tasks: int) -> Key | None:
        """Equal for budgets that cover the same pools; where floats cannot tell, the budget itself."""
        if budget_microcny is None:
            return None
        if kind not in self._sorted:
            self._sorted[kind] = np.sort(self._least[kind]).tolist(), np.sort(self._most[kind]).tolist()
        least, most = self._sorted[kind]
        each = budget_microcny / tasks
        covered = bisect_right(most, each)
        if covered == bisect_right(least, each):
            return (covered,)
        return budget_microcny, tasks
