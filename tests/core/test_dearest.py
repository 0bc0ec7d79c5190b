"""The hold without the offers is the dearest of the offers."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.round_scale import NOW_MS, shapes, supply
from yunhe.core.demand import Shape
from yunhe.core.placement.board import Board
from yunhe.core.placement.dearest import Dearest, dearest_hold
from yunhe.core.policy import Policy
from yunhe.core.round import quote


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_it_is_the_most_over_all_offers(seed: int) -> None:
    network, policy = supply(np.random.default_rng(seed), 0.5), Policy()
    board = Board(network, policy)
    remembers = Dearest(board)
    none = 0
    for shape in shapes():
        # The shortest run costs less than rounding is sure of; the budget of some shapes leaves out the dear places.
        for limit_ms in (1, 1_000, 777_777, 3_600_000, 86_400_001):
            asked = Shape(shape.requirement, replace(shape.terms, run_limit_ms=limit_ms))
            offers = quote(asked, network, policy, NOW_MS).offers
            most = max((offer.hold.total for offer in offers), default=None)
            assert dearest_hold(asked, board, NOW_MS) == most
            assert remembers.hold(asked, NOW_MS) == most
            none += most is None
    assert 0 < none < 50
