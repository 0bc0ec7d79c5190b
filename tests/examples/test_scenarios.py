"""The scenarios in examples/: each is read, built, and runs for its first hours with balanced books."""

from pathlib import Path

import pytest

from yunhe.simulator.run import Run
from yunhe.simulator.scenario import load

FOLDER = Path(__file__).parent.parent.parent / "examples" / "scenarios"
SCENARIOS = sorted(FOLDER.glob("*.yaml"))
HOUR_MS = 3_600_000


def test_there_are_some() -> None:
    assert FOLDER / "small.yaml" in SCENARIOS


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_a_scenario_runs(path: Path) -> None:
    stated = load(path.read_text(encoding="utf-8"))
    # A nation's first minutes are as many orders as a small network's first hours.
    length_ms = 3 * HOUR_MS if len(stated.centres) < 100 else HOUR_MS // 20
    run = Run.fresh(stated.model_copy(update={"length": length_ms}), FOLDER)
    while run.go_on(10_000):
        pass
    found = run.result()
    assert found["orders"]["submitted"] > 0 and found["orders"]["placed"] > 0
    assert found["money"]["sum_microcny"] == 0
