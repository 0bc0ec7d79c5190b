"""Cards of several kinds by time slices: prices that are the dual of serving what arrives, and the order by them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yunhe.core.errors import InvalidInput
from yunhe.core.placement.slices import NOWHERE, UNSERVED_HOURS, kind_prices, next_slice

SPEED = np.array([[1.0, 0.5], [1.0, 0.1]])  # both classes on a fast and a slow kind
CARDS = np.array([10, 10])


def test_cards_that_are_enough_cost_nothing() -> None:
    assert kind_prices(np.array([2.0, 3.0]), SPEED, CARDS).tolist() == [0.0, 0.0]


def test_a_scarce_kind_costs_what_its_hour_saves_elsewhere() -> None:
    """8 h of each class arrive an hour: 6 h of the first go to the slow kind, where they take twice as long.

    One more fast hour takes one hour of work off the slow kind, two hours there: it saves one hour of a job.
    """
    assert kind_prices(np.array([7.0, 7.0]), SPEED, CARDS) == pytest.approx([1.0, 0.0])


def test_work_beyond_all_cards_is_bounded_in_price() -> None:
    fast, slow = kind_prices(np.array([50.0, 50.0]), SPEED, CARDS)
    assert fast == pytest.approx(UNSERVED_HOURS - 1)
    assert 0 < slow < fast


def test_a_class_that_runs_nowhere_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no kind"):
        kind_prices(np.array([1.0]), np.array([[0.0, 0.0]]), CARDS)


def test_the_price_keeps_a_fast_card_from_work_that_hardly_gains() -> None:
    hours_left = np.array([[1.0, 1.1], [2.0, 20.0]])
    one = np.array([1, 1])
    assert next_slice(hours_left, np.zeros(2), one).tolist() == [0, 1]
    assert next_slice(hours_left, np.array([1.0, 0.0]), one).tolist() == [1, 0]


def test_one_kind_of_card_is_shortest_remaining_time_first() -> None:
    hours_left = np.array([[3.0], [1.0], [2.0], [1.0]])
    assert next_slice(hours_left, np.array([7.0]), np.array([2])).tolist() == [NOWHERE, 0, NOWHERE, 0]


@given(st.integers(0, 40), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_never_more_than_the_cards_and_none_idle_beside_a_job_that_could_run(jobs: int, kinds: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    hours_left = draw.exponential(5, (jobs, kinds))
    hours_left[draw.random((jobs, kinds)) < 0.3] = np.inf
    cards, prices = draw.integers(0, 8, kinds), draw.exponential(1, kinds)
    found = next_slice(hours_left, prices, cards)
    used = np.bincount(found[found != NOWHERE], minlength=kinds)
    assert (used <= cards).all()
    assert np.isfinite(hours_left[np.flatnonzero(found != NOWHERE), found[found != NOWHERE]]).all()
    for waits in np.flatnonzero(found == NOWHERE):
        assert not (np.isfinite(hours_left[waits]) & (used < cards)).any()


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 1e308, -1.0])
@pytest.mark.parametrize("field", ["arriving", "speed", "cards"])
def test_what_no_network_has_is_refused_by_name(field: str, wrong: float) -> None:
    given = {"arriving": np.array([1.0]), "speed": np.array([[1.0]]), "cards": np.array([1.0])}
    given["speed"] = np.array([[1.0, wrong]]) if field == "speed" else given["speed"]
    if field != "speed":
        given[field] = np.array([wrong])
    with pytest.raises(InvalidInput) as refused:
        kind_prices(given["arriving"], given["speed"], given["cards"])
    assert refused.value.field == field


def test_without_work_no_card_is_worth_anything() -> None:
    assert kind_prices(np.zeros(0), np.zeros((0, 2)), np.array([1, 2])).tolist() == [0.0, 0.0]
