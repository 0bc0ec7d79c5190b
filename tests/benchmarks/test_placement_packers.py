"""The replay of the FGD table: its protocol, and each published policy where one can tell by hand what it does."""

import numpy as np
import pytest

from benchmarks.placement import packers
from benchmarks.placement.generated import generated
from benchmarks.placement.go_random import GoRandom
from benchmarks.placement.replay import LEARNING, LOAD, OURS, PUBLISHED, Workload, drawn, policy, replayed
from yunhe.core.errors import InvalidInput
from yunhe.core.placement.packing.fleet import Fleet
from yunhe.core.placement.packing.index import PackingIndex
from yunhe.core.placement.packing.values import Need, Node

HALF, MOST, WHOLE_ONE = Need(1_000, 0, 1, 500), Need(1_000, 0, 1, 800), Need(4_000, 0, 1, 1_000)
NODES = tuple(Node(f"n{i:02d}", 16_000, 2**30, 2, "A") for i in range(30))


def workload(*tasks: Need) -> Workload:
    return Workload("made up", NODES, tasks)


@pytest.mark.parametrize("times", [1, 200])
def test_arrivals_ask_for_130_percent_whether_the_list_is_short_or_long(times: int) -> None:
    given = workload(*((HALF, WHOLE_ONE, Need(2_000)) * times))
    nodes, tasks = drawn(given, 7)
    asked, capacity = sum(task.total_milli for task in tasks), given.capacity_milli
    assert LOAD * capacity - 2_000 < asked <= LOAD * capacity
    assert sorted(nodes, key=lambda node: node.name) == list(NODES)
    assert drawn(given, 7) == (nodes, tasks)
    assert drawn(given, 8)[1] != tasks


def test_draws_are_those_of_go() -> None:
    # What the first program of every Go tutorial prints with rand.Intn(100) and no seed, which is seed 1.
    draw = GoRandom(1)
    assert [draw.below(100) for _ in range(5)] == [81, 87, 47, 59, 81]
    assert sorted(draw.permutation(50)) == list(range(50))


def test_a_list_without_cards_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no task asks for a card"):
        drawn(workload(Need(1_000)), 1)


@pytest.mark.parametrize("name", [*PUBLISHED, OURS, LEARNING])
def test_every_policy_places_what_fits(name: str) -> None:
    found = replayed(workload(*((WHOLE_ONE,) * 60)), name, 1)
    assert found.allocated == pytest.approx(100)
    # Whole cards alone, cores for all of them: nothing that is idle is a fragment.
    assert found.fragmented == pytest.approx(0)


def test_best_fit_takes_the_node_with_least_left_and_its_tightest_card() -> None:
    fleet = Fleet(NODES[:3])
    fleet.take(1, HALF, 0)
    fleet.take(1, MOST, 1)
    fleet.take(2, HALF, 1)
    index = PackingIndex(fleet, packers.BestFit())
    assert index.place(Need(1_000, 0, 1, 150)) == (1, (1,))
    assert index.place(Need(1_000, 0, 1, 900)) == (2, (0,))


def test_dot_product_takes_the_node_with_least_free() -> None:
    fleet = Fleet([Node("a", 64_000, 0, 8, "A"), Node("b", 16_000, 0, 2, "A")])
    assert PackingIndex(fleet, packers.DotProduct()).choose(Need(16_000, 0, 2, 1_000)) == 1


def test_packing_prefers_cards_in_use_then_nodes_in_use() -> None:
    fleet = Fleet(NODES[:3])
    index = PackingIndex(fleet, packers.Packing())
    fleet.take(2, HALF, 0)
    assert index.place(HALF) == (2, (0,))
    assert index.place(HALF) == (2, (1,))
    assert index.choose(WHOLE_ONE) == 0


def test_clustering_keeps_tasks_of_one_size_together() -> None:
    fleet = Fleet(NODES[:3])
    place = packers.Clustering(fleet).place
    assert [place(need) for need in (HALF, WHOLE_ONE, HALF, WHOLE_ONE)] == [(0, (0,)), (1, (0,)), (0, (0,)), (1, (1,))]


def test_random_places_anywhere_that_fits_and_only_there() -> None:
    fleet = Fleet(NODES[:10])
    place = packers.Random(3, fleet).place
    nodes = {placed[0] for placed in (place(WHOLE_ONE) for _ in range(20)) if placed is not None}
    assert len(nodes) == 10
    assert place(WHOLE_ONE) is None
    assert fleet.free.sum() == 0


def test_fgd_takes_the_node_where_fragments_grow_least() -> None:
    given = workload(*((HALF,) * 5), *((WHOLE_ONE,) * 5))
    fleet = Fleet(NODES[:3])
    fleet.take(2, HALF, 0)
    assert policy("FGD", fleet, given, 0)(HALF) == (2, (0,))


def test_fgd_takes_a_card_that_fits_where_every_score_is_0() -> None:
    fleet = Fleet([Node("n", 128_000, 2**40, 8, "A")])
    fleet.take(0, MOST, 0)
    place = policy("FGD", fleet, workload(Need(1_000, 0, 7, 1_000)), 0)
    assert place(HALF) == (0, (1,))


def test_generated_lists_differ_and_come_again() -> None:
    first, again, other = generated(5), generated(5), generated(6)
    assert first == again
    assert first.nodes != other.nodes
    widest = max(node.cpu_milli for node in first.nodes)
    assert all(100 <= task.cpu_milli <= widest for task in first.tasks)
    assert np.isclose(sum(node.cards for node in first.nodes), 1_600, atol=40)
