"""Two sets of runs side by side."""

from pathlib import Path

import pytest

from tests.simulator.scenes import finished, scenario
from yunhe.core.errors import InvalidInput
from yunhe.simulator.compare import compare
from yunhe.simulator.result import Document, document
from yunhe.simulator.run import Run


@pytest.fixture(scope="module")
def found() -> Document:
    run = Run.fresh(scenario(), Path())
    finished(run)
    return document(run.world)


def paid(found: Document, seed: int, microcny: int) -> Document:
    return {**found, "seed": seed, "charged_microcny": microcny}


def test_the_same_seeds_are_paired(found: Document) -> None:
    """What the seed makes of both sides is no spread: here each pair differs by 10 CNY to 12 CNY."""
    first = [paid(found, seed, seed * 10**9) for seed in (1, 2, 3)]
    second = [
        paid(found, seed, seed * 10**9 + more) for seed, more in ((3, 12_000_000), (1, 10_000_000), (2, 11_000_000))
    ]
    line = next(line for line in compare(first, second) if line.name == "paid")
    assert (line.first, line.second, line.difference, line.seeds) == (2000.0, 2011.0, 11.0, 3)
    assert line.percent == pytest.approx(0.55)
    assert line.spread == pytest.approx(4.30 / 3**0.5)  # t of two degrees of freedom, deviation 1
    apart = next(line for line in compare(first, [paid(s, s["seed"] + 9, s["charged_microcny"]) for s in second]))
    assert apart.seeds == 3


def test_other_seeds_spread_by_both_sides(found: Document) -> None:
    first = [paid(found, seed, amount * 10**6) for seed, amount in ((1, 100), (2, 102))]
    second = [paid(found, seed, amount * 10**6) for seed, amount in ((8, 110), (9, 114))]
    line = next(line for line in compare(first, second) if line.name == "paid")
    assert (line.difference, line.spread) == (11.0, pytest.approx(12.71 * (2 / 2 + 8 / 2) ** 0.5))


def test_one_run_has_no_spread_and_none_is_refused(found: Document) -> None:
    line = compare([found], [found])[0]
    assert (line.difference, line.spread, line.seeds) == (0.0, None, 1)
    with pytest.raises(InvalidInput):
        compare([], [found])
