"""Which work is ended when its units are needed: enough, never more than needed, and the least work lost."""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

from hypothesis import event, given, settings
from hypothesis import strategies as st

from yunhe.core.reclaim import choose, cost, waste


class Work(NamedTuple):
    key: int
    milli: int
    memory_bytes: int
    at_risk_ms: int


def works(most: int) -> st.SearchStrategy[list[Work]]:
    milli, memory = st.sampled_from([0, 500, 1_000, 1_500, 3_000, 8_000]), st.sampled_from([0, 1, 2, 5])
    at_risk = st.sampled_from([0, 1, 7, 50, 90]) | st.integers(0, 10**6)
    several = st.lists(st.tuples(milli, memory, at_risk), max_size=most)
    return several.map(lambda parts: [Work(i, *part) for i, part in enumerate(parts)])


def enough(taken: Sequence[Work], units: int, memory: int) -> bool:
    return sum(w.milli for w in taken) >= units and sum(w.memory_bytes for w in taken) >= memory


@settings(max_examples=500, deadline=None)
@given(works(9), st.sampled_from([-3, 0, 400, 1_000, 2_500, 6_000]), st.sampled_from([-1, 0, 1, 4]))
def test_of_a_few_nothing_cheaper_is_enough(running: list[Work], units: int, memory: int) -> None:
    taken = choose(running, units, memory)
    ways = [some for n in range(len(running) + 1) for some in combinations(running, n) if enough(some, units, memory)]
    event(f"taken: {len(taken)} of {len(running)}")
    if not ways:
        return
    assert enough(taken, units, memory)
    assert cost(taken) == min(map(cost, ways))
    assert not any(enough([w for w in taken if w is not one], units, memory) for one in taken)


@settings(max_examples=50, deadline=None)
@given(works(200), st.integers(1, 100_000))
def test_of_many_at_most_twice_the_least_is_lost(running: list[Work], units: int) -> None:
    taken = choose(running, units, 0)
    if sum(w.milli for w in running) < units:
        assert set(taken) == {w for w in running if w.milli}
        return
    assert enough(taken, units, 0)
    assert not any(enough([w for w in taken if w is not one], units, 0) for one in taken)
    # No choice costs less than the last one that could be taken in part, of those that are no larger than it all.
    least, missing = 0, units
    for one in sorted(running, key=lambda w: w.at_risk_ms):
        part = min(missing, one.milli)
        least, missing = least + part * one.at_risk_ms, missing - part
    largest = max(waste(one) for one in running)
    assert least <= cost(taken)[0] <= least + largest


def test_many_leases_of_one_size_are_chosen_at_once() -> None:
    running = [Work(i, 1_000, 0, i * 7 % 5_000) for i in range(5_000)]
    taken = choose(running, 2_000_000, 0)
    assert cost(taken)[0] == sum(sorted(map(waste, running))[:2_000])
