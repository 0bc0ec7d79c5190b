"""What operators and providers look at, against a real hub: everything that the console shows them."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.conftest import Ran
from tests.cli.conftest import Run as Command
from tests.fakes.agent import order_json, ran
from tests.hub.running import RunningHub, free_port, running_hub
from yunhe.sdk import Client

PATIENCE_S = 20


@dataclass(frozen=True)
class Stage:
    """A hub with one site, one order that ran there, and the round that placed it."""

    hub: RunningHub
    site_id: str
    order_id: str
    round_id: int
    customer_key: str
    operator_key: str


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("operating")
    with running_hub(f"sqlite:///{folder}/hub.db", folder / "data", poll_hold_ms=2_000, certify_turn_ms=1_000) as hub:
        customer = hub.customer("lab")
        site = hub.site("north", "centre")
        headers = {"Content-Type": "application/json"}
        asked = order_json(requirement={"cores": 1, "memory": "64MiB"}, name="fault-finding")
        order_id = customer.post("/v1/orders", content=asked, headers=headers).raise_for_status().json()["id"]
        [start] = site.wait_starts()
        site.poll(ran(start, wall_ms=4_000))
        customer.get(f"/v1/orders/{order_id}/wait", params={"timeout_ms": 10_000}).raise_for_status()
        keys = [client.headers["Authorization"].partition(" ")[2] for client in (customer, hub.operator)]
        yield Stage(hub, site.site_id, order_id, kept(hub), *keys)


def kept(hub: RunningHub) -> int:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        for item in hub.operator.get("/v1/rounds").json()["rounds"]:
            if item["placed"]:
                return int(item["id"])
        time.sleep(0.1)
    raise AssertionError("no round was kept")


@pytest.fixture
def operator(stage: Stage, yunhe: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("YUNHE_URL", stage.hub.url)
    monkeypatch.setenv("YUNHE_API_KEY", stage.operator_key)

    def run(*arguments: str) -> Ran:
        done = yunhe(*arguments)
        assert done.code == 0, done.err
        return done

    return run


def test_rounds_down_to_one_order(stage: Stage, operator: Command, yunhe: Command) -> None:
    assert operator("rounds").out == operator("rounds", "list").out
    assert "orders came" in operator("rounds").out
    assert json.loads(operator("rounds", "--json").out)["rounds"][-1]["id"] == stage.round_id
    shown = operator("rounds", "show", str(stage.round_id)).out
    assert stage.order_id in shown and "1 of 1" in shown and "north:cpu" in shown
    one = operator("rounds", "show", str(stage.round_id), "--order", stage.order_id).out
    assert re.search(r"1 +north:cpu .*chosen for 1", one)
    document = json.loads(operator("rounds", "show", str(stage.round_id), "--order", "last", "--json").out)
    assert (document["order_id"], document["candidates"][0]["tasks"]) == (stage.order_id, 1)
    assert "max_assignments" in operator("rounds", "policy").out
    assert json.loads(operator("rounds", "policy", "--json").out)["seed"] == 1
    assert operator("rounds", "--help").out.count("policy") == 1
    missing = yunhe("rounds", "show", "99999999")
    assert missing.code == 4 and "yunhe rounds" in missing.err


def test_why_says_where_and_why_there(stage: Stage, operator: Command) -> None:
    told = operator("why", stage.order_id).out
    assert "1 task succeeded at north: exit code 0" in told
    assert "the only place that fitted. Offered: " in told and "start at once" in told
    (placing,) = json.loads(operator("why", stage.order_id, "--json").out)["placings"]
    assert (placing["round_id"], placing["chosen"]["rank"]) == (stage.round_id, 1)


def test_two_run_times_say_whose_they_are(stage: Stage, operator: Command) -> None:
    assert "ran (hub's clock)" in operator("show", stage.order_id).out
    used = operator("usage", stage.order_id)
    assert "to (measured)" in used.out and "as the hub heard of them" in used.err


def test_what_happened_and_by_whose_hand(stage: Stage, operator: Command) -> None:
    events = operator("events", "--limit", "2")
    assert "settled" in events.out and "more: --cursor " in events.out
    cursor = json.loads(operator("events", "--limit", "2", "--json").out)["next_cursor"]
    assert "leased" in operator("events", "--cursor", cursor).out
    assert re.search(r"site.approve +north +state pending -> approved", operator("audit", "--subject", "north").out)
    assert {e["action"] for e in json.loads(operator("audit", "--json").out)["entries"]} >= {"deposit", "key.create"}


def test_a_site_and_what_it_earned(stage: Stage, operator: Command) -> None:
    assert stage.order_id in operator("site", "charges", stage.site_id).out
    assert json.loads(operator("site", "charges", stage.site_id, "--disputed", "--json").out)["charges"] == []
    assert re.search(r"^earned 0\.\d+CNY$", operator("site", "revenue", stage.site_id).out, re.MULTILINE)
    [day] = json.loads(operator("site", "revenue", stage.site_id, "--json").out)["days"]
    assert day["charges"] == 1


def test_a_quota_is_set_and_told_when_it_is_below_its_use(stage: Stage, operator: Command, yunhe: Command) -> None:
    assert "2.5" in operator("org", "set", "lab", "--quota-cores", "2.5", "--weight", "3").out
    lab = json.loads(operator("org", "set", "lab", "--quota-cores", "none", "--json").out)
    assert (lab["quota_milli"], lab["weight"]) == (None, 3)
    assert yunhe("org", "set", "lab", "--quota-cores", "many").code == 2
    assert yunhe("org", "set", "nobody", "--weight", "2").code == 4
    with stage.hub.client(stage.customer_key) as customer:
        headers = {"Content-Type": "application/json"}
        asked = order_json(requirement={"cores": 1, "memory": "64MiB"})
        running = customer.post("/v1/orders", content=asked, headers=headers).json()["id"]
        end = time.monotonic() + PATIENCE_S
        while customer.get(f"/v1/orders/{running}").json()["state"] != "running" and time.monotonic() < end:
            time.sleep(0.05)
    told = operator("org", "set", "lab", "--quota-cores", "0.5")
    assert "lab uses 1, more than its quota of 0.5: nothing new is placed, what runs goes on" in told.err
    with Client(stage.hub.url, stage.operator_key) as hub:
        assert hub.order(running).state == "running"


def test_a_hub_says_that_it_serves_when_it_does(tmp_path: Path) -> None:
    """And a second one on its port says nothing of the kind."""
    serve = [sys.executable, "-m", "yunhe.cli.main", "hub", "serve", "--port", str(free_port()), "--data-dir"]
    first = subprocess.Popen([*serve, tmp_path / "one"], stderr=subprocess.PIPE, text=True)
    try:
        assert first.stderr is not None
        line = next(line for line in first.stderr if "hub at" in line)
        with Client(line.split()[2].rstrip(","), "", retries=0) as client:
            assert client.ready().status == "ready"
        second = subprocess.run([*serve, tmp_path / "two"], capture_output=True, text=True, timeout=60, check=False)
        assert second.returncode == 3 and "is taken" in second.stderr
        assert "hub at" not in second.stderr
    finally:
        first.terminate()
        first.wait(20)
