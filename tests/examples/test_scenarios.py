"""The scenarios in examples/: each is read, built, and runs for its first hours with balanced books."""

from pathlib import Path

import pytest

from yunhe.simulator.run import Run
from yunhe.simulator.scenario import load

FOLDER = Path(__file__).parent.parent.parent / "examples" / "scenarios"
SCENARIOS = sorted(FOLDER.glob("*.yaml"))
HOUR_MS = 3_600_000
FEW_EVENTS = 200


def test_there_are_some() -> None:
    assert FOLDER / "small.yaml" in SCENARIOS


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_a_scenario_runs(path: Path) -> None:
    stated = load(path.read_text(encoding="utf-8"))
    run = Run.fresh(stated.model_copy(update={"length": 3 * HOUR_MS}), FOLDER)
    while run.go_on(FEW_EVENTS) and len(stated.centres) < 100:
        pass  # of a nation the first orders are enough here
    orders = run.world.tally.counts
    assert orders["submitted"] > 0 and orders["placed"] > 0
    assert run.world.book.sum() == 0
