"""The replay of rounds over three kinds of cards: jobs by their seed, shares within the cards, all jobs end."""

import numpy as np
import pytest

from benchmarks.placement.gavel import CARDS, KINDS, Gavel, Las, Look, Policy, Yunhe, arrivals, simulate

SPEED = np.array([[4.0, 2.0, 1.0], [4.0, 3.0, 0.5]])


def test_jobs_of_one_seed_are_always_the_same() -> None:
    one, again, other = arrivals(0, 5.6, SPEED, 50), arrivals(0, 5.6, SPEED, 50), arrivals(1, 5.6, SPEED, 50)
    assert (one.steps == again.steps).all() and (one.at_s == again.at_s).all()
    assert (one.steps != other.steps).any()
    hours = one.steps / SPEED[one.model, 0] / 60
    assert ((10**1.5 <= hours) & (hours <= 10**4)).all()


@pytest.mark.parametrize("make", [Las, Gavel])
@pytest.mark.parametrize("jobs", [1, 50, 400])
def test_shares_keep_to_the_cards(make: type[Las], jobs: int) -> None:
    shares = make(0, SPEED).shares(np.arange(jobs) % 2)
    assert (shares.sum(axis=0) <= CARDS + 1e-6).all()
    assert (shares.sum(axis=1) <= 1 + 1e-6).all()


def test_shares_by_speed_give_nobody_less_than_equal_shares() -> None:
    model = np.arange(200) % 2
    least = [(SPEED[model] * policy(0, SPEED).shares(model)).sum(axis=1).min() for policy in (Las, Gavel)]
    assert least[1] > least[0]


@pytest.mark.parametrize("make", [Las, Gavel, Yunhe])
def test_no_card_is_given_twice_and_every_job_ends(make: type[Las] | type[Gavel] | type[Yunhe]) -> None:
    class Watched:
        def __init__(self, inner: Policy) -> None:
            self.inner = inner

        def choose(self, look: Look) -> np.ndarray:
            kinds = self.inner.choose(look)
            assert (np.bincount(kinds[kinds >= 0], minlength=len(KINDS)) <= CARDS).all()
            return kinds

        def ran(self, jobs: np.ndarray, kinds: np.ndarray, spent_s: np.ndarray) -> None:
            self.inner.ran(jobs, kinds, spent_s)

    jobs = arrivals(3, 30.0, SPEED, 500)
    hours = simulate(jobs, SPEED, Watched(make(3, SPEED)), slice(0, 60))
    alone = (jobs.steps / SPEED[jobs.model].max(axis=1))[:60].mean() / 3600
    assert alone <= hours < 10 * alone
