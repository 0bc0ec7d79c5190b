"""The index answers as a look at every node would, whatever comes and goes; prices keep what they promise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yunhe.core.placement.packing.fleet import Fleet
from yunhe.core.placement.packing.index import PackingIndex
from yunhe.core.placement.packing.packer import FIRST_LOOK, Packer
from yunhe.core.placement.packing.prices import best_pattern, part_prices
from yunhe.core.placement.packing.rule import LeastLoss
from yunhe.core.placement.packing.values import Need, Node
from yunhe.core.placement.packing.worth import cores_around, usable

MODELS = ("A", "B")

nodes = st.lists(
    st.builds(
        Node,
        name=st.just("n"),
        cpu_milli=st.integers(0, 40).map(lambda cores: cores * 1_000),
        memory_bytes=st.integers(0, 64),
        cards=st.integers(1, 4),
        model=st.sampled_from(MODELS),
    ),
    min_size=1,
    max_size=6,
)
shares = st.builds(
    Need,
    cpu_milli=st.integers(0, 12_000),
    memory_bytes=st.integers(0, 8),
    cards=st.just(1),
    card_milli=st.integers(1, 999),
    models=st.sampled_from([frozenset(), frozenset({"A"}), frozenset({"B", "C"})]),
)
others = st.builds(
    lambda cpu, memory, cards: Need(cpu, memory, cards, 1_000 if cards else 0),
    st.integers(0, 20_000),
    st.integers(0, 8),
    st.integers(0, 4),
)
needs = st.lists(shares | others, min_size=1, max_size=8, unique=True)


def plain_fragments(fleet: Fleet, demand: list[tuple[Need, float]], at: int) -> float:
    """The definition, card by card and task by task."""
    found = 0.0
    for need, weight in demand:
        cards = fleet.cards[: fleet.installed[at], at].tolist()
        fits = need.cards > 0 and sum(free >= need.card_milli for free in cards) >= need.cards
        fits = fits and fleet.cpu[at] >= need.cpu_milli and (not need.models or fleet.nodes[at].model in need.models)
        found += weight * sum(free for free in cards if not fits or free < need.card_milli)
    return found


@settings(max_examples=60, deadline=None)
@given(nodes, needs, st.lists(st.tuples(st.integers(0, 7), st.booleans()), max_size=40))
def test_never_over_capacity_and_the_index_equals_a_look_at_all(
    cluster: list[Node], kinds: list[Need], steps: list[tuple[int, bool]]
) -> None:
    fleet = Fleet(cluster)
    rule = LeastLoss(fleet, {kind: 1.0 + number for number, kind in enumerate(kinds)})
    index = PackingIndex(fleet, rule)
    running: list[tuple[int, Need, tuple[int, ...]]] = []
    for number, leaves in steps:
        if leaves and running:
            fleet.give_back(*running.pop(number % len(running)))
        need = kinds[number % len(kinds)]
        fresh = PackingIndex(fleet, rule).costs(need)
        assert np.array_equal(index.costs(need), fresh)
        assert np.array_equal(np.isfinite(fresh), fleet.fits(need))
        placed = index.place(need)
        assert (placed is None) == (not np.isfinite(fresh).any())
        if placed is not None:
            assert placed[0] == int(fresh.argmin())
            running.append((placed[0], need, placed[1]))
        _check_sums(fleet, running)


def _check_sums(fleet: Fleet, running: list[tuple[int, Need, tuple[int, ...]]]) -> None:
    for at, node in enumerate(fleet.nodes):
        here = [(need, cards) for where, need, cards in running if where == at]
        assert fleet.cpu[at] == node.cpu_milli - sum(need.cpu_milli for need, _ in here) >= 0
        assert fleet.memory[at] == node.memory_bytes - sum(need.memory_bytes for need, _ in here) >= 0
        for card in range(node.cards):
            taken = sum(need.card_milli for need, cards in here if card in cards)
            assert fleet.cards[card, at] == 1_000 - taken >= 0
        free = fleet.cards[:, at].tolist()
        assert (fleet.free[at], fleet.whole[at], fleet.largest[at]) == (sum(free), free.count(1_000), max(free))


@settings(max_examples=60, deadline=None)
@given(nodes, needs, st.lists(st.integers(0, 7), max_size=15))
def test_what_is_usable_is_what_is_no_fragment(cluster: list[Node], kinds: list[Need], steps: list[int]) -> None:
    fleet = Fleet(cluster)
    demand = [(kind, 1 / len(kinds)) for kind in kinds]
    table = usable(fleet, demand)
    packed = PackingIndex(fleet, LeastLoss(fleet, dict(demand)))
    for number in steps:
        need = kinds[number % len(kinds)]
        at = packed.choose(need)
        if at >= 0:
            # What it would be worth with the task, against the same after taking it.
            told = table.around(fleet, need, np.array([at]), cores_around(fleet, need, np.array([at])))
            fleet.take(at, need, table.card(fleet, need, at) if need.shares else -1)
            assert table.of(fleet, np.array([at]))[0] == pytest.approx(told[1, 0])
    worth = table.of(fleet, np.arange(len(cluster)))
    for at in range(len(cluster)):
        assert fleet.free[at] - worth[at] == pytest.approx(plain_fragments(fleet, demand, at), abs=1e-6)


@settings(max_examples=80, deadline=None)
@given(st.dictionaries(st.integers(1, 999), st.floats(0.01, 100), min_size=1, max_size=12))
def test_no_pattern_is_worth_more_than_a_card_and_prices_add_up_to_the_packing(demand: dict[int, float]) -> None:
    prices = part_prices(demand)
    assert set(prices) == set(demand)
    assert all(0 <= price <= 1_000 for price in prices.values())
    sizes = np.array(sorted(prices), dtype=np.int64)
    _, most = best_pattern(sizes, np.array([prices[size] for size in sizes.tolist()]))
    assert most <= 1_000 * (1 + 1e-6)
    # The dual value: no fewer cards than the parts fill, no more than one kind to a card would take.
    cards = sum(demand[size] * prices[size] / 1_000 for size in demand)
    assert cards >= sum(demand[size] * size / 1_000 for size in demand) * (1 - 1e-4)
    assert cards <= sum(demand[size] / (1_000 // size) for size in demand) * (1 + 1e-4)


def test_prices_of_a_packing_that_is_known() -> None:
    # 600 and 400 share a card; the gap of 200 beside two 400s is worth nothing while 200s are rare.
    prices = part_prices({600: 10, 400: 30, 200: 1})
    assert prices == pytest.approx({600: 500, 400: 500, 200: 0}, abs=1e-6)
    assert part_prices({}) == {}
    assert part_prices({1_000: 5, 0: 3}) == {}


def test_gaps_that_nothing_fills_are_left_to_tasks_that_cannot_do_better() -> None:
    # 810 wastes 190 of any card; a pair of 500 fills one. A third 500 joins a lone 500, not the card with 810.
    fleet = Fleet([Node("a", 64_000, 0, 1, "A"), Node("b", 64_000, 0, 1, "A"), Node("c", 64_000, 0, 1, "A")])
    large, half, small = Need(1_000, 0, 1, 810), Need(1_000, 0, 1, 500), Need(1_000, 0, 1, 150)
    index = PackingIndex(fleet, LeastLoss(fleet, {large: 5, half: 10, small: 1}))
    assert [index.place(need) for need in (half, large, small, half)] == [(0, (0,)), (1, (0,)), (1, (0,)), (0, (0,))]


def test_cores_that_carry_no_cards_go_first() -> None:
    rich, poor = Node("rich", 64_000, 0, 1, "A"), Node("poor", 8_000, 0, 1, "A")
    fleet = Fleet([poor, rich])
    task, service = Need(8_000, 0, 1, 1_000), Need(4_000)
    index = PackingIndex(fleet, LeastLoss(fleet, {task: 10, service: 3}))
    assert index.choose(service) == 1


def test_a_packer_learns_from_what_comes_and_frees_what_ends() -> None:
    packer = Packer([Node(f"n{i}", 16_000, 0, 2, "A") for i in range(40)])
    half = Need(1_000, 0, 1, 500)
    placed = [packer.place(half) for _ in range(FIRST_LOOK)]
    assert all(placed)
    assert np.count_nonzero(packer.fleet.free < 2_000) == FIRST_LOOK // 4  # two to a card, two cards to a node
    for where in placed:
        assert where is not None
        packer.end(where[0], half, where[1])
    assert (packer.fleet.free == 2_000).all()
