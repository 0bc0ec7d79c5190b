"""Shapes of one class get the answers that each would get alone."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.placement_network import HOUR, NOW, POLICY, Precision, Work, a_pool, a_shape, a_site, a_supply
from tests.core.test_placement_oracle import pools, shapes, sites
from yunhe.core.demand import Shape
from yunhe.core.placement.board import Board, free_of
from yunhe.core.placement.classes import classes
from yunhe.core.placement.feasible import feasible
from yunhe.core.placement.sizing import HUGE
from yunhe.core.supply import Supply

CORE_HOUR = 107_500  # micro-CNY at the plain pool, energy included


def alike(shape: Shape, budget: int | None, deadline: int | None, tasks: int) -> Shape:
    """The same task in an order of other terms."""
    terms = replace(shape.terms, budget_microcny=budget, deadline_ms=deadline, array=tasks)
    return Shape(shape.requirement, terms)


others = st.tuples(
    st.sampled_from([None, 0, 1_791, 1_792, 1_793, CORE_HOUR - 1, CORE_HOUR, 3 * CORE_HOUR, 10**12]),
    st.sampled_from([None, NOW - 5, NOW + 60_000, NOW + HOUR - 1, NOW + HOUR, NOW + 9 * HOUR]),
    st.sampled_from([1, 3]),
)


@settings(max_examples=200, deadline=None)
@given(shapes, sites, st.lists(pools, max_size=3, unique_by=lambda p: p.id), st.lists(others, min_size=1, max_size=8))
def test_together_as_alone(
    first: Shape, site: object, some: list[object], terms: list[tuple[int | None, int | None, int]]
) -> None:
    supply: Supply = a_supply(site, a_pool(), *some)  # type: ignore[arg-type]
    asked = (first, *(alike(first, *each) for each in terms), a_shape())
    board = Board(supply, POLICY)
    together = classes(asked, board, NOW)
    for shape, group in zip(asked, together.of_shape.tolist(), strict=True):
        alone = feasible(shape, board, *free_of(supply), NOW)
        row, allowed = together.rows[together.kind[group]], together.allowed.get(group)
        here = row.pools if allowed is None else row.pools[allowed]
        assert set(here.tolist()) == set(np.flatnonzero(~alone.lasting).tolist())
        assert bool(together.hopeful[group]) == (not alone.lasting.all())
        opened = row.open if allowed is None else row.open & allowed
        assert set(row.pools[opened].tolist()) == set(np.flatnonzero(alone.certified).tolist())
        assert np.array_equal(row.milli, alone.look.sizes.milli[row.pools])
        assert np.array_equal(row.memory, alone.look.sizes.memory[row.pools])
        assert together.least[group] == row.milli[opened].min(initial=HUGE)


def test_deadlines_and_budgets_of_their_own_do_not_make_classes() -> None:
    supply = a_supply(a_site(), a_pool(), a_pool("s1:dear", price_microcny_per_unit_hour=10**6))
    far = [alike(a_shape(), budget, NOW + HOUR + i, 1) for i, budget in enumerate(range(200_000, 300_000, 1_000))]
    assert len(classes(tuple(far), Board(supply, POLICY), NOW)) == 1
    near = [alike(a_shape(), None, NOW + i, 1) for i in range(100)]
    assert len(classes((*far, *near), Board(supply, POLICY), NOW)) == 2
    # What a task of `work` takes depends on the deadline, unless the run limit ends before it.
    far, near = (
        [replace(shape, requirement=replace(shape.requirement, work=Work(10**12, Precision.FP64))) for shape in some]
        for some in (far, near)
    )
    assert len(classes(tuple(far), Board(supply, POLICY), NOW)) == 1
    assert len(classes(tuple(near), Board(supply, POLICY), NOW)) == 100
