"""A whole run: balanced books, bounded memory, the same to the last byte, also when it was stopped and gone on with."""

import json
import pickle
from pathlib import Path

import pytest

from tests.simulator.scenes import finished, scenario
from yunhe.core.errors import InvalidInput
from yunhe.core.lifecycle import PLACED
from yunhe.simulator.run import Run
from yunhe.simulator.scenario import Scenario

HERE = Path()
OUTAGES = ("pools:\n      - {name: v", "outages: {every: 5h, last: 20m}\n    pools:\n      - {name: v")
FAILURES = ("pools:\n      - {name: n", "card_failures_every: 300h\n    pools:\n      - {name: n")
ONLINE = ("name: three", "name: three\nengine: online")
PAUSE = ("carbon: 500g/kWh", "maintenance: [{at: 1h, last: 2h}]")
TROUBLE = [OUTAGES, FAILURES, ("ask: compute", "ask: compute\n    fails: 10%\n    retries: 2")]
WORLDS = {
    "quiet": [],
    "trouble": TROUBLE,
    "islands": [*TROUBLE, ("name: three", "name: three\nnetwork: off")],
    "slow starts": [*TROUBLE, ("name: three", "name: three\nsites: {start_delay: 40s, stragglers: 20%}")],
    "at once": [*TROUBLE, ONLINE, PAUSE],
    "at once, hourly": [*TROUBLE, ONLINE, ("carbon: 500g/kWh", "power_by_hour: [" + "0.5, 1.5, " * 11 + "1, 1]")],
    "at once, islands": [*TROUBLE, ("name: three", "name: three\nengine: online\nnetwork: off")],
    "hourly": [("carbon: 500g/kWh", "carbon_by_hour: [" + "0.5, 1.5, " * 11 + "1, 1]")],
    "poor": [("home: north", "home: north, deposit: 300CNY")],
    "cards": [("ask: compute", "ask: cards\n    near: {share: 50%, rtt: 40ms}\n    data: {share: 50%, size: 1TB}")],
    "work": [("ask: compute", "ask: work\n    stay_in_region: 20%")],
}


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest) -> Scenario:
    return scenario(*WORLDS[request.param])


def test_the_books_balance_and_every_order_is_somewhere(world: Scenario) -> None:
    run = Run.fresh(world, HERE)
    found = json.loads(finished(run))
    orders, money = found["orders"], found["money"]
    assert money["sum_microcny"] == 0
    ended = sum(orders.get(name, 0) for name in ("succeeded", "failed", "refused_no_place", "refused_no_funds"))
    assert orders["submitted"] == ended + orders["waiting_at_end"] + orders["placed_at_end"]
    assert orders["succeeded"] > 20
    # Who paid, who was paid, and what is held add up; nobody was charged beyond a hold.
    assert sum(money["earned_microcny"].values()) + money["fees_microcny"] == found["charged_microcny"]
    assert sum(money["spent_microcny"].values()) == found["charged_microcny"]
    held = sum(order.hold_microcny - order.paid_microcny for order in run.world.orders.values())
    assert money["held_microcny"] == held
    assert 0 < found["utilisation"] < 1
    # What the placers count as used is what the tally has as busy.
    busy = sum(order.milli for order in run.world.orders.values() if order.task.state in PLACED)
    assert sum(run.world.tally._level) == busy


def test_one_seed_one_result_to_the_last_byte(world: Scenario) -> None:
    assert finished(Run.fresh(world, HERE)) == finished(Run.fresh(world, HERE), chunk=17)


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(world: Scenario) -> None:
    whole = finished(Run.fresh(world, HERE))
    run, stops = Run.fresh(world, HERE), 0
    while run.go_on(60):
        run, stops = Run.resumed(world, HERE, run.saved()), stops + 1
    assert stops > 2
    assert finished(run) == whole


def test_another_seed_is_another_run() -> None:
    assert finished(Run.fresh(scenario(), HERE)) != finished(Run.fresh(scenario(("seed: 7", "seed: 8")), HERE))


def test_a_state_of_another_scenario_is_refused() -> None:
    state = Run.fresh(scenario(), HERE).saved()
    for other in (scenario(("seed: 7", "seed: 8")), scenario(("cards: 64", "cards: 63"))):
        with pytest.raises(InvalidInput, match="state"):
            Run.resumed(other, HERE, state)
    with pytest.raises(InvalidInput, match="no state of this version"):
        Run.resumed(scenario(), HERE, pickle.dumps("nonsense"))


def test_trouble_costs_the_customer_nothing_and_is_placed_again() -> None:
    run = Run.fresh(scenario(*TROUBLE), HERE)
    found = json.loads(finished(run))
    orders = found["orders"]
    assert orders["outages"] >= 1
    assert orders["ended_supervisor_lost"] >= 1 and orders["attempts_again"] >= orders["ended_supervisor_lost"]
    assert found["lost_card_hours"] > 0


def test_what_runs_out_of_money_is_refused() -> None:
    found = json.loads(finished(Run.fresh(scenario(*WORLDS["poor"]), HERE)))
    assert found["orders"]["refused_no_funds"] > 0
    assert found["money"]["spent_microcny"].get("lab", 0) <= 300_000_000


def test_islands_stay_at_home() -> None:
    found = json.loads(finished(Run.fresh(scenario(*WORLDS["islands"]), HERE)))
    used = {site["id"]: site["utilisation"] for site in found["sites"]}
    assert used["west"] == 0 and used["north"] > 0 and used["east"] > 0
    assert set(found["money"]["earned_microcny"]) == {"north", "east"}


def test_memory_does_not_grow_with_the_trace() -> None:
    """Ten times the days, and what is kept in memory is the same but for the hours that are counted."""

    def kept(length: str) -> int:
        run = Run.fresh(scenario(("length: 6h", f"length: {length}"), ("jobs_per_day: 800", "jobs_per_day: 60")), HERE)
        while run.go_on(10_000):
            pass
        run.world.tally.steps.clear()
        return len(run.saved())

    assert kept("10d") < 1.5 * kept("1d")


def test_a_trace_that_goes_wrong_midway_stops_the_run_with_its_line(tmp_path: Path) -> None:
    lines = ["job_id,arrival_s,service_sec,gpu_count"] + [f"{i},{i * 10},60,1" for i in range(50)] + ["x,5,60,1"]
    (tmp_path / "trace.csv").write_text("\n".join(lines))
    change = ("fitted: {like: venus, jobs_per_day: 800}", "trace: {format: venus, path: trace.csv}")
    with pytest.raises(InvalidInput, match=r"workloads\[0\]: job 51 arrives at 5000 ms, before the one ahead"):
        finished(Run.fresh(scenario(change), tmp_path))


def test_a_trace_of_tokens_becomes_work(tmp_path: Path) -> None:
    times = [f"18:{minute:02d}:{second:02d}.000" for minute in range(30) for second in range(0, 60, 5)]
    rows = [f"2023-11-16 {time},1000,100" for time in times]
    (tmp_path / "tokens.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "\n".join(rows))
    change = (
        "fitted: {like: venus, jobs_per_day: 800}\n    ask: compute",
        "trace: {format: azure, path: tokens.csv}\n    tokens: {per_token: 140GFLOP@fp16, window: 1m}",
    )
    found = json.loads(finished(Run.fresh(scenario(change), tmp_path)))
    assert found["orders"]["succeeded"] == 30
    assert int(found["useful_flop"]["fp16"]) == 30 * 12 * 1100 * 140 * 10**9


@pytest.mark.parametrize("broken", [b"", b"\0" * 100, b"no pickle", b"N.", b"cyunhe.gone\nNobody\n."])
def test_a_broken_state_is_refused(broken: bytes) -> None:
    with pytest.raises(InvalidInput, match="state"):
        Run.resumed(scenario(), HERE, broken)
