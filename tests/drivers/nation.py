"""A hub under a hub, all as processes: a national one, a node of it, and a hall of that node, which is this machine."""

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
from tests.site.data_servers import LOCAL
from yunhe.apps.hub import OPERATOR_KEY_FILE
from yunhe.apps.site import JoinRequest, join
from yunhe.hub.platform.settings import HubSettings
from yunhe.site.settings import DriverSettings, LendSettings, LowerHubSettings
from yunhe.site.settings.data import DataSettings

SHARE = DriverSettings(cores_milli=2000, memory_bytes=1 << 30, usage_write_ms=50, term_grace_ms=300, sample_ms=20)
DATA = DataSettings(allow_networks=LOCAL, retry_first_ms=20, retry_cap_ms=100, tries=3, report_ms=50)


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
        hall = {**quick, "data": DATA, "foreign_interval_ms": 100, "lend": LendSettings(give_back_ms=2_000)}
        agents.append(joined(lower, folder / "hall", {}, driver=SHARE, extra=hall))
        key = lower.account("node")
        terms = node_settings(lower, key, folder, margin_bps=2_000, deliver_secrets=True)
        engine = {"engine": "hub", "engine_settings": terms}
        agents.append(joined(upper, folder / "node", {"accept_asking": True}, extra=quick, **engine))
        customer = upper.client(upper.account("lab"))
        yield Nation(upper, lower, agents[1], agents[0], customer, lower.client(key))
    finally:
        for agent in reversed(agents):
            agent.kill()
        for hub in hubs:
            hub.kill()
