"""Nodes as columns: nothing is ever over capacity, and what is given back is free again."""

import pytest

from yunhe.core.errors import InvalidInput, TooLarge
from yunhe.core.placement.packing.fleet import Fleet
from yunhe.core.placement.packing.values import Need, Node

NODE = Node("a", cpu_milli=8_000, memory_bytes=1_000, cards=2, model="A")


def test_a_share_takes_of_its_card_and_gives_back() -> None:
    fleet = Fleet([NODE])
    need = Need(cpu_milli=1_000, memory_bytes=100, cards=1, card_milli=300)
    assert fleet.take(0, need, 1) == (1,)
    assert fleet.cards[:, 0].tolist() == [1_000, 700]
    assert (fleet.cpu[0], fleet.memory[0], fleet.whole[0], fleet.largest[0], fleet.free[0]) == (
        7_000,
        900,
        1,
        1_000,
        1_700,
    )
    fleet.give_back(0, need, (1,))
    assert fleet.cards[:, 0].tolist() == [1_000, 1_000]
    assert (fleet.cpu[0], fleet.memory[0], fleet.whole[0], fleet.largest[0], fleet.free[0]) == (
        8_000,
        1_000,
        2,
        1_000,
        2_000,
    )


def test_whole_cards_are_the_first_that_nobody_shares() -> None:
    fleet = Fleet([Node("a", 8_000, 1_000, 4, "A")])
    fleet.take(0, Need(0, 0, 1, 10), 1)
    assert fleet.take(0, Need(0, 0, 2, 1_000)) == (0, 2)
    assert not fleet.fits(Need(0, 0, 2, 1_000)).any()
    assert fleet.fits(Need(0, 0, 1, 1_000)).all()


@pytest.mark.parametrize(
    ("need", "card"),
    [
        (Need(8_001), -1),
        (Need(0, 1_001), -1),
        (Need(0, 0, 3, 1_000), -1),
        (Need(0, 0, 1, 500), 2),
        (Need(0, 0, 1, 500), -1),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(need: Need, card: int) -> None:
    fleet = Fleet([NODE])
    with pytest.raises(InvalidInput):
        fleet.take(0, need, card)
    assert (fleet.cpu[0], fleet.memory[0], fleet.free[0], fleet.changes) == (8_000, 1_000, 2_000, 0)


def test_nothing_is_given_back_twice() -> None:
    fleet = Fleet([NODE])
    need = Need(1_000, 0, 1, 400)
    used = fleet.take(0, need, 0)
    fleet.give_back(0, need, used)
    with pytest.raises(InvalidInput):
        fleet.give_back(0, need, used)
    with pytest.raises(InvalidInput):
        fleet.give_back(0, Need(0, 0, 1, 400), (7,))
    assert fleet.free[0] == 2_000


def test_models_that_a_need_names_are_the_only_ones() -> None:
    fleet = Fleet([NODE, Node("b", 8_000, 1_000, 2, "B"), Node("c", 8_000, 1_000)])
    assert fleet.fits(Need(0, 0, 1, 500, frozenset({"B", "X"}))).tolist() == [False, True, False]
    assert fleet.fits(Need(1_000)).tolist() == [True, True, True]
    assert fleet.fits(Need(0, 0, 1, 500)).tolist() == [True, True, False]


def test_a_fleet_of_nothing_or_of_impossible_nodes_is_refused() -> None:
    with pytest.raises(InvalidInput):
        Fleet([])
    with pytest.raises(TooLarge, match="a: a node has at most"):
        Fleet([Node("a", 1, 1, 10**9, "A")])
    with pytest.raises(InvalidInput):
        Fleet([Node("a", -1, 1)])
