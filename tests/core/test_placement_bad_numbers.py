"""Numbers that mean nothing are refused by name, wherever placement takes them in."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.placement_network import NOW, POLICY, a_pool, a_shape, a_site, a_supply
from yunhe.core.errors import InvalidInput
from yunhe.core.market.clearing import clear
from yunhe.core.market.network import MIN_SUSCEPTANCE, Line, Network, Node, Offer
from yunhe.core.placement import timing
from yunhe.core.placement.online import Online, Taken
from yunhe.core.placement.packing.fleet import MAX_CARDS, Fleet
from yunhe.core.placement.packing.packer import Packer
from yunhe.core.placement.packing.prices import part_prices
from yunhe.core.placement.packing.values import WHOLE, Need
from yunhe.core.placement.packing.values import Node as Host
from yunhe.core.placement.slices import kind_prices, next_slice
from yunhe.core.placement.topology import Topology
from yunhe.core.supply import Link

SERIES = timing.Series([3.0, 1.0, 2.0] * 24)
MOST_MS = timing.MAX_SLOTS * SERIES.slot_ms
RULES: dict[str, Callable[[timing.Series, timing.Waiting], object]] = {
    "lowest_slot": timing.lowest_slot,
    "lowest_window": timing.lowest_window,
    "saving_per_time": timing.saving_per_time,
    "ecovisor": timing.ecovisor,
    "memoryless": lambda series, job: timing.memoryless(series, job, timing.Sight(timing.MS_PER_HOUR)),
}
absurd = st.one_of(st.integers(max_value=-1), st.integers(min_value=MOST_MS + 1))


@pytest.mark.parametrize("rule", RULES)
@given(patience=absurd)
def test_a_patience_out_of_bounds(rule: str, patience: int) -> None:
    with pytest.raises(InvalidInput) as refused:
        RULES[rule](SERIES, timing.Waiting(0, patience, timing.MS_PER_HOUR))
    assert refused.value.field == "patience_ms"


@pytest.mark.parametrize("rule", ["lowest_window", "saving_per_time", "memoryless"])
@given(mean=absurd | st.just(0))
def test_a_mean_length_out_of_bounds(rule: str, mean: int) -> None:
    with pytest.raises(InvalidInput) as refused:
        RULES[rule](SERIES, timing.Waiting(0, timing.MS_PER_HOUR, mean))
    assert refused.value.field == "mean_ms"


@given(st.sampled_from(sorted(RULES)), st.integers(0, 3 * timing.MS_PER_HOUR), st.integers(1, 3 * timing.MS_PER_HOUR))
def test_what_is_in_bounds_is_taken(rule: str, patience: int, mean: int) -> None:
    assert RULES[rule](SERIES, timing.Waiting(0, patience, mean)) is not None


@given(st.integers(min_value=MOST_MS + 1))
def test_no_step_of_a_rule_waits_for_ever(patience: int) -> None:
    plan = timing.memoryless(SERIES, timing.Waiting(0, 10, 10), timing.Sight(10))
    with pytest.raises(InvalidInput) as refused:
        plan.step(0, patience)
    assert refused.value.field == "patience_ms"


HOURS, PRICES, CARDS = np.ones((2, 2)), np.zeros(2), np.array([1, 1])


@pytest.mark.parametrize(
    ("field", "hours", "prices", "cards"),
    [
        ("cards", HOURS, PRICES, np.array([-1, 2])),
        ("cards", np.empty((2, 0)), np.empty(0), np.empty(0, dtype=np.int64)),
        ("prices", HOURS, np.array([0.0, np.nan]), CARDS),
        ("prices", HOURS, np.zeros(3), CARDS),
        ("hours_left", np.array([[1.0, -1.0]]), PRICES, CARDS),
        ("hours_left", np.array([[1.0, np.nan]]), PRICES, CARDS),
        ("hours_left", np.ones(2), PRICES, CARDS),
    ],
)
def test_slices(field: str, hours: np.ndarray, prices: np.ndarray, cards: np.ndarray) -> None:
    with pytest.raises(InvalidInput) as refused:
        next_slice(hours, prices, cards)
    assert refused.value.field == field


def test_prices_of_no_kinds_and_of_other_sizes() -> None:
    for field, arriving, speed, cards in (
        ("cards", np.ones(1), np.ones((1, 0)), np.empty(0, dtype=np.int64)),
        ("speed", np.ones(1), np.ones((1, 3)), CARDS),
        ("arriving", np.ones(3), np.ones((1, 2)), CARDS),
    ):
        with pytest.raises(InvalidInput) as refused:
            kind_prices(arriving, speed, cards)
        assert refused.value.field == field


@given(st.floats(-MIN_SUSCEPTANCE, MIN_SUSCEPTANCE, exclude_min=True, exclude_max=True))
def test_a_line_that_hardly_conducts(susceptance: float) -> None:
    nodes = (Node("a"), Node("b", 1.0))
    line = Line("ab", "a", "b", 10.0, -10.0, susceptance=susceptance)
    with pytest.raises(InvalidInput) as refused:
        clear(Network(nodes, (Offer("o", "a", 1.0, 10.0),), (line,)))
    assert refused.value.field == "lines.ab.susceptance"


def test_a_link_from_a_place_to_itself() -> None:
    with pytest.raises(InvalidInput) as refused:
        Topology((Link("a", "b", 1, 1), Link("b", "b", 1, 1)))
    assert refused.value.field == "links[1].b"


@given(st.integers(max_value=-1) | st.integers(min_value=2**53 + 1), st.sampled_from(["cpu_milli", "memory_bytes"]))
def test_what_no_task_asks_of_a_node(amount: int, name: str) -> None:
    packer = Packer([Host("n", 1000, 1000)])
    with pytest.raises(InvalidInput) as refused:
        packer.place(replace(Need(1), **{name: amount}))  # type: ignore[arg-type]
    assert refused.value.field == f"need.{name}"


@given(st.integers(-3, MAX_CARDS + 3), st.integers(-3, WHOLE + 3))
def test_what_no_task_asks_of_cards(cards: int, milli: int) -> None:
    right = (
        (cards, milli) == (0, 0) or (cards == 1 and 0 < milli <= WHOLE) or (1 <= cards <= MAX_CARDS and milli == WHOLE)
    )
    packer, need = Packer([Host("n", 1000, 1000, 8, "m")]), Need(1, 0, cards, milli)
    if right:
        assert (packer.place(need) is not None) == (cards <= 8)
    else:
        with pytest.raises(InvalidInput) as refused:
            packer.place(need)
        assert refused.value.field in ("need.cards", "need.card_milli")
        assert packer.fleet.changes == 0


@given(st.integers(max_value=-1) | st.integers(min_value=1))
def test_a_node_that_is_not_there(at: int) -> None:
    fleet = Fleet([Host("n", 1000, 1000)])
    for call in (lambda: fleet.take(at, Need(1)), lambda: fleet.give_back(at, Need(1), ())):
        with pytest.raises(InvalidInput) as refused:
            call()
        assert refused.value.field == "node"


@pytest.mark.parametrize("count", [-1.0, float("nan"), float("inf")])
def test_a_demand_that_is_no_number(count: float) -> None:
    with pytest.raises(InvalidInput) as refused:
        part_prices({500: 1.0, 300: count})
    assert refused.value.field == "demand"


@given(
    st.sampled_from([("pool", -1, 0, 0), ("pool", 1, 0, 0), ("milli", 0, 2**62, 0), ("milli", 0, 0, -(2**62))]),
)
def test_a_change_of_what_nobody_has(wrong: tuple[str, int, int, int]) -> None:
    field, pool, milli, memory = wrong
    online = Online(a_supply(a_site(), a_pool()), POLICY)
    before = online.decide(a_shape(), NOW)
    with pytest.raises(InvalidInput) as refused:
        online.give_back((Taken(pool, 1, milli, memory),))
    assert refused.value.field == field
    assert online.decide(a_shape(), NOW) == before
