"""A hub under a hub, all as processes: an order goes down and its usage comes up, whatever dies on the way."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.drivers.hub_harness import QUICK, QUICK_SITE
from tests.faults.parts import end_with_parent
from tests.hub.running import free_port
from tests.replicas.network import Replica, until
from yunhe.apps.hub import OPERATOR_KEY_FILE
from yunhe.apps.site import JoinRequest, join
from yunhe.core.errors import Refused
from yunhe.hub.platform.settings import HubSettings
from yunhe.site.settings import DriverSettings, LowerHubSettings

SHORT = {"disconnect_limit_ms": 6_000, "disconnect_grace_ms": 6_000}  # of one test: a busy machine stands still longer
ALIVE = ("leased", "running", "unknown")
SHARE = DriverSettings(cores_milli=2000, memory_bytes=1 << 30, usage_write_ms=50, term_grace_ms=300, sample_ms=20)


class Agent:
    """The agent of a site, as a process."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        words = [sys.executable, "-m", "yunhe.apps.site", "--data-dir", str(self.home)]
        with (self.home / "agent.log").open("ab") as log:
            self._process = subprocess.Popen(words, stdout=log, stderr=log, preexec_fn=end_with_parent)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)


class Hub(Replica):
    """One hub, its operator, and what is asked of it in these tests."""

    def open(self) -> "Hub":
        self.start()
        self.wait()
        key = (self.settings.data_dir / OPERATOR_KEY_FILE).read_text().strip()
        self.operator = self.client(key)
        return self

    def again(self, settings: HubSettings) -> None:
        """Killed, and started with other settings."""
        self.kill()
        self.settings = settings
        self.start()
        self.wait()

    def client(self, key: str) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {key}"}, timeout=20)

    def account(self, name: str, role: str = "customer") -> str:
        """The key of an organisation with money."""
        self.operator.post("/v1/organisations", json={"id": name, "name": name}).raise_for_status()
        money = {"organisation": name, "amount": "100CNY", "reference": f"first {name}"}
        self.operator.post("/v1/deposits", json=money).raise_for_status()
        wanted = {"organisation": name, "member": "m", "role": role}
        return str(self.operator.post("/v1/keys", json=wanted).raise_for_status().json()["key"])

    def token(self, provider: str) -> str:
        self.operator.post("/v1/organisations", json={"id": provider, "name": provider})
        return str(self.operator.post("/v1/enrolment-tokens", json={"provider": provider}).json()["token"])

    def balances(self) -> dict[str, int]:
        """Every account of the ledger; the sum is checked to be zero."""
        trial = self.operator.get("/v1/trial-balance").json()
        assert trial["balanced"] and trial["sum_by_unit"] and not any(trial["sum_by_unit"].values())
        return {row["account"]: row["amount"] for row in trial["rows"]}


@dataclass
class Nation:
    """`upper` has one site, `node`, which is `lower`; that one has one site, `hall`, which is this machine."""

    upper: Hub
    lower: Hub
    node: Agent
    hall: Agent
    customer: httpx.Client
    below: httpx.Client  # the node's account at the lower hub

    def submit(self, script: str, **changes: Any) -> str:
        spec = {
            "run": {"command": ["sh", "-c", script], "outputs": ["result.txt"]},
            "requirement": {"cores": 0.2, "memory": "64MiB"},
            "duration": "60s",
            **changes,
        }
        return str(self.customer.post("/v1/orders", json=spec).raise_for_status().json()["id"])

    def task(self, order_id: str) -> dict[str, Any]:
        [task] = self.customer.get(f"/v1/orders/{order_id}").json()["task_list"]
        return dict(task)

    def orders_below(self, order_id: str) -> list[dict[str, Any]]:
        """Of the customer's order: those that the node has made of it, oldest first."""
        found = self.below.get("/v1/orders", params={"limit": 200}).json()["orders"]
        return [order for order in reversed(found) if order["name"].startswith(order_id)]

    def running_below(self, order_id: str) -> None:
        def started() -> bool:
            return any(order["tasks"] == {"running": 1} for order in self.orders_below(order_id))

        until("it runs below", started, 20)

    def settled(self, order_id: str, client: httpx.Client | None = None) -> dict[str, Any]:
        path = f"/v1/orders/{order_id}/wait"
        ended: dict[str, Any] = {}
        end = time.monotonic() + 40
        while not ended.get("settled"):
            assert time.monotonic() < end, (ended, (self.node.home / "agent.log").read_text()[-2000:])
            ended = (client or self.customer).get(path, params={"timeout_ms": 10_000}).json()
        return ended

    def used(self, order_id: str, client: httpx.Client | None = None) -> tuple[list[Any], list[dict[str, Any]]]:
        """(the last totals of every attempt, its charges)."""
        found = (client or self.customer).get(f"/v1/orders/{order_id}/usage").json()
        names = ("wall_ms", "cpu_ms", "peak_memory_bytes", "sampled")
        last = {(u["lease_id"], u["epoch"]): [u[name] for name in names] for u in found["usage"]}
        return list(last.values()), found["charges"]

    def check_books(self, order_id: str) -> None:
        """Both ledgers are in balance, and what was used above is what was used below."""
        below = [self.settled(order["id"], self.below) for order in self.orders_below(order_id)]
        used_below = [totals for order in below for totals in self.used(order["id"], self.below)[0]]
        assert self.used(order_id)[0] == used_below
        for hub in (self.upper, self.lower):
            hub.balances()


def hub_of(folder: Path) -> Hub:
    folder.mkdir()
    chosen = HubSettings(
        database_url=f"sqlite:///{folder}/hub.db",
        data_dir=folder,
        port=free_port(),
        poll_hold_ms=1_000,
        leader_ttl_ms=2_000,
        silent_after_ms=3_000,
        certify_prove_ms=0,
    )
    return Hub(chosen).open()


def active(hub: Hub, site_id: str, agent: Agent) -> Callable[[], bool]:
    def look() -> bool:
        site = hub.operator.get(f"/v1/sites/{site_id}").json()
        return bool(site["state"] == "active" and site["connected"])

    return look


def joined(hub: Hub, home: Path, terms: dict[str, Any], **request: Any) -> Agent:
    """A site of `hub` that runs and is certified."""
    made = join(JoinRequest(hub.url, hub.token("centre"), home.name, home, cluster="zhangjiakou", **request))
    hub.operator.post(f"/v1/sites/{made.site_id}/approve", json=terms).raise_for_status()
    agent = Agent(home)
    agent.start()
    until(f"{home.name} is active", active(hub, made.site_id, agent), 60)
    return agent


def node_settings(lower: Hub, key: str, folder: Path, **changes: Any) -> LowerHubSettings:
    path = folder / "lower.key"
    path.touch(mode=0o600)
    path.write_text(key)
    return LowerHubSettings.model_validate({"url": lower.url, "key_file": path, **QUICK, **changes})


@pytest.fixture(scope="module")
def nation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nation]:
    folder = tmp_path_factory.mktemp("nation")
    hubs = [hub_of(folder / name) for name in ("upper", "lower")]
    agents: list[Agent] = []
    upper, lower = hubs
    try:
        quick = {**QUICK_SITE, "backoff_cap_ms": 300}
        agents.append(joined(lower, folder / "hall", {}, driver=SHARE, extra=quick))
        key = lower.account("node")
        engine = {"engine": "hub", "engine_settings": node_settings(lower, key, folder, margin_bps=2_000)}
        agents.append(joined(upper, folder / "node", {"accept_asking": True}, extra=quick, **engine))
        customer = upper.client(upper.account("lab"))
        yield Nation(upper, lower, agents[1], agents[0], customer, lower.client(key))
    finally:
        for agent in reversed(agents):
            agent.kill()
        for hub in hubs:
            hub.kill()


def test_an_order_goes_down_and_its_usage_and_charge_come_up(nation: Nation) -> None:
    before = nation.upper.balances(), nation.lower.balances()
    order_id = nation.submit("echo hello; sleep 0.3; printf 42 > result.txt")
    ended = nation.settled(order_id)
    assert (ended["state"], ended["tasks"]) == ("succeeded", {"succeeded": 1}), nation.task(order_id)

    [below] = nation.orders_below(order_id)
    shown = nation.below.get(f"/v1/orders/{below['id']}").json()
    hub_id = nation.upper.operator.get("/v1/hub").json()["id"]
    assert shown["spec"]["origin"]["hubs"] == [hub_id]
    assert shown["spec"]["origin"]["lease_id"] == f"{order_id}.0"
    assert shown["name"] == f"{order_id}.0.1"
    assert shown["spec"]["requirement"]["pools"] == ["hall:cpu"]

    log = nation.customer.get(f"/v1/orders/{order_id}/logs").text
    [output] = nation.customer.get(f"/v1/orders/{order_id}/outputs").json()["outputs"]
    content = {"lease_id": output["lease_id"], "path": "result.txt"}
    assert (log, output["path"]) == ("hello\n", "result.txt")
    assert nation.customer.get(f"/v1/orders/{order_id}/outputs/content", params=content).text == "42"

    nation.check_books(order_id)
    [above], [under] = nation.used(order_id)[1], nation.used(below["id"], nation.below)[1]
    assert under["price"]["compute_microcny"] > 0
    assert above["inputs"]["price_microcny_per_unit_hour"] == under["inputs"]["price_microcny_per_unit_hour"] * 6 // 5
    assert above["inputs"]["wall_ms"] == under["inputs"]["wall_ms"] > 290
    paid, after = nation.upper.balances(), nation.lower.balances()
    assert paid["org:lab:available"] - before[0]["org:lab:available"] == -above["price"]["total_microcny"]
    assert after["org:node:available"] - before[1]["org:node:available"] == -under["price"]["total_microcny"]


def test_a_killed_agent_in_the_middle_loses_and_doubles_nothing(nation: Nation) -> None:
    order_id = nation.submit("sleep 2; echo done")
    nation.running_below(order_id)
    nation.node.kill()
    time.sleep(0.5)  # it is away for a while
    assert nation.task(order_id)["state"] in ALIVE
    nation.node.start()
    assert nation.settled(order_id)["state"] == "succeeded"
    assert len(nation.orders_below(order_id)) == 1
    assert nation.customer.get(f"/v1/orders/{order_id}/logs").text == "done\n"
    nation.check_books(order_id)


def test_an_end_while_the_agent_in_the_middle_is_away_is_told_afterwards(nation: Nation) -> None:
    order_id = nation.submit("sleep 0.5; exit 3")
    nation.running_below(order_id)
    nation.node.kill()
    [below] = nation.orders_below(order_id)
    assert nation.settled(below["id"], nation.below)["state"] == "failed"
    assert nation.task(order_id)["state"] in ALIVE
    nation.node.start()
    assert nation.settled(order_id)["state"] == "failed"
    assert (nation.task(order_id)["reason"], nation.task(order_id)["exit_code"]) == ("exited", 3)
    nation.check_books(order_id)


def test_a_lower_hub_that_dies_and_comes_back_ends_nothing(nation: Nation) -> None:
    order_id = nation.submit("sleep 3; echo done")
    nation.running_below(order_id)
    nation.lower.kill()
    end, seen = time.monotonic() + 1.5, set()
    while time.monotonic() < end:
        seen.add(nation.task(order_id)["state"])
        time.sleep(0.1)
    assert seen <= set(ALIVE)
    waiting = nation.submit("echo late")
    nation.lower.start()
    nation.lower.wait()
    assert nation.settled(order_id)["state"] == "succeeded"
    assert nation.settled(waiting)["state"] == "succeeded"
    for one in (order_id, waiting):
        assert nation.task(one)["epoch"] == 1 and len(nation.orders_below(one)) == 1
        nation.check_books(one)


def test_a_cancel_reaches_the_bottom(nation: Nation) -> None:
    order_id = nation.submit("sleep 50")
    nation.running_below(order_id)
    nation.customer.post(f"/v1/orders/{order_id}/cancel").raise_for_status()
    assert nation.settled(order_id)["state"] == "cancelled"
    [below] = nation.orders_below(order_id)
    assert below["state"] == "cancelled"
    nation.check_books(order_id)


def test_a_run_that_its_site_below_lost_costs_nothing_and_is_placed_again(nation: Nation) -> None:
    order_id = nation.submit("sleep 1.5; echo done")
    nation.running_below(order_id)
    [below] = nation.orders_below(order_id)
    claim = nation.hall.home / "leases" / f"{below['id']}.0.1" / "claim"
    os.kill(int(claim.read_text().split()[0]), signal.SIGKILL)
    assert nation.settled(order_id)["state"] == "succeeded"
    first, second = nation.orders_below(order_id)
    assert nation.settled(first["id"], nation.below)["state"] == "cancelled"
    assert nation.settled(second["id"], nation.below)["state"] == "succeeded"
    charges = nation.used(order_id)[1]
    assert [(charge["epoch"], charge["disputed"]) for charge in charges] == [(1, True), (2, False)]
    assert charges[0]["price"]["total_microcny"] == 0
    assert nation.settled(first["id"], nation.below)["charged_microcny"] == 0
    nation.check_books(order_id)


def test_an_agent_that_stays_away_leaves_nothing_running_below(nation: Nation) -> None:
    usual = nation.upper.settings
    nation.upper.again(usual.model_copy(update=SHORT))
    until("the node speaks again", active(nation.upper, "node", nation.node), 20)
    order_id = nation.submit("sleep 50")
    nation.running_below(order_id)
    nation.node.kill()

    def given_up() -> bool:
        return bool(nation.task(order_id)["reason"] == "lost")

    until("the upper hub gives it up", given_up, 40)
    [below] = nation.orders_below(order_id)
    facts = nation.customer.get(f"/v1/orders/{order_id}").json()["facts"]
    [lost_ms] = [fact["utc_ms"] for fact in facts if fact["kind"] == "retry"]
    ended = nation.settled(below["id"], nation.below)
    assert ended["state"] == "cancelled" and ended["ended_utc_ms"] < lost_ms
    nation.customer.post(f"/v1/orders/{order_id}/cancel").raise_for_status()
    nation.node.start()
    assert nation.settled(order_id)["charged_microcny"] == 0
    for hub in (nation.upper, nation.lower):
        hub.balances()
    nation.upper.again(usual)
    until("the node speaks again", active(nation.upper, "node", nation.node), 20)


# --- circles ------------------------------------------------------------------------------------------------------


def test_an_order_that_comes_back_is_refused(nation: Nation) -> None:
    origin = {"hubs": [nation.lower.operator.get("/v1/hub").json()["id"]], "lease_id": "ord_1.0"}
    spec = {"run": {"command": ["true"]}, "origin": origin}
    answer = nation.below.post("/v1/orders", json=spec)
    assert (answer.status_code, answer.json()["field"]) == (409, "origin.hubs")
    assert "at this hub before" in answer.json()["detail"]
    far = {"hubs": [f"hub_{n:016x}" for n in range(4)], "lease_id": "ord_1.0"}
    answer = nation.below.post("/v1/orders", json={**spec, "origin": far})
    assert answer.status_code == 409 and "at most 4" in answer.json()["detail"]


def test_a_hub_cannot_join_itself_or_be_offered_its_own(nation: Nation, tmp_path: Path) -> None:
    def attempt(hub: Hub, below: Hub) -> str:
        made = below.account(f"node-{hub.settings.port}-{tmp_path.name[-20:]}".lower().replace("_", "-"))
        settings = node_settings(below, made, tmp_path)
        request = JoinRequest(
            hub.url,
            hub.token("centre"),
            "circle",
            tmp_path / "circle",
            cluster="zhangjiakou",
            engine="hub",
            engine_settings=settings,
        )
        with pytest.raises(Refused) as caught:
            join(request)
        assert not any(site["name"] == "circle" for site in hub.operator.get("/v1/sites").json()["sites"])
        return str(caught.value)

    assert "the same one" in attempt(nation.lower, nation.lower)
    # All that the upper hub has lies below the lower one.
    assert "comes from the hub above" in attempt(nation.lower, nation.upper)


def test_what_lies_behind_a_pool_is_told(nation: Nation) -> None:
    [pool] = nation.customer.get("/v1/pools").json()["pools"]
    [below] = nation.below.get("/v1/pools").json()["pools"]
    assert pool["id"] == "node:hall--cpu"
    assert pool["hubs"] == [nation.lower.operator.get("/v1/hub").json()["id"]]
    # Both hubs have a site measured again now and then; the date above is one that the lower hub has had.
    assert 0 < pool["tested_utc_ms"] <= below["tested_utc_ms"]
    assert pool["capacity_milli"] == below["capacity_milli"]
    shown = [{rate["precision"] for rate in one["rates"] if rate["measured_flops"]} for one in (pool, below)]
    assert shown[0] == shown[1] != set()
