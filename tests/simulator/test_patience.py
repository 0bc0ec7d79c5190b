"""When orders may wait for a better hour: less carbon for the same work, and no wait beyond patience."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.simulator.scenes import finished, scenario
from yunhe.simulator.result import to_bytes
from yunhe.simulator.run import Run
from yunhe.simulator.scenario import Scenario

HERE = Path()
HOUR_MS = 3_600_000
# Dirty nights, clean days, everywhere.
GRID = "carbon_by_hour: [" + "1.8, " * 6 + "0.4, " * 12 + "1.8, " * 5 + "1.8]"
ROUND_MS = 1_000
CLEAN = "preference: carbon\n    limits: [30m]"


def world(engine: str, patience: str = "0s") -> Scenario:
    changes = [
        ("name: three", f"name: three\nengine: {engine}"),
        ("length: 6h", "length: 24h"),
        ("cluster: zhangjiakou", f"cluster: zhangjiakou\n    {GRID}"),
        ("place: shanghai", f"place: shanghai\n    {GRID}"),
        ("carbon: 500g/kWh", f"carbon: 500g/kWh\n    {GRID}"),
        ("jobs_per_day: 800", "jobs_per_day: 200"),
        *((f"cards: {cards},", f"cards: {64 * cards},") for cards in (16, 32, 64)),
        ("ask: compute", f"ask: compute\n    {CLEAN}\n    patience: {patience}"),
    ]
    return scenario(*changes)


@pytest.fixture(scope="module", params=["rounds", "online"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def result(found: Scenario) -> dict[str, Any]:
    run = Run.fresh(found, HERE)
    answer: dict[str, Any] = json.loads(finished(run))
    return answer


def test_carbon_falls_with_patience_and_waits_stay_within_it(engine: str) -> None:
    at_once, patient = result(world(engine)), result(world(engine, "4h"))
    assert patient["orders"]["submitted"] == at_once["orders"]["submitted"]
    per_work = [found["carbon_kg"] / float(found["useful_flop"]["fp16"]) for found in (at_once, patient)]
    assert per_work[1] < 0.97 * per_work[0]
    waits = patient["wait_ms"]
    assert waits["all"]["mean"] > at_once["wait_ms"]["all"]["mean"] + 60_000
    # There is room for all of them whenever they come, so they wait by choice alone.
    most = max(of_class["most"] for name, of_class in waits.items() if name != "all")
    assert HOUR_MS < most <= 4 * HOUR_MS + ROUND_MS
    assert max(of_class["most"] for name, of_class in at_once["wait_ms"].items() if name != "all") <= ROUND_MS
    assert patient["money"]["sum_microcny"] == 0


def test_a_run_that_was_stopped_goes_on_to_the_same_result(engine: str) -> None:
    """Also in the middle of a wait."""
    found = world(engine, "4h")
    whole = finished(Run.fresh(found, HERE))
    run, parts = Run.fresh(found, HERE), 0
    while run.go_on(150):
        parts += 1
        if parts % 2:
            run = Run.resumed(found, HERE, run.saved())
    assert to_bytes(run.result()) == whole and parts > 2
