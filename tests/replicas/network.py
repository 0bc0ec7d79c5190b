"""Hub processes that share a database, a site that keeps polling whatever happens to them, and customers who insist."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.fakes.agent import FakeAgent, order_json, ran
from tests.hub.running import free_port
from yunhe.apps.hub import OPERATOR_KEY_FILE
from yunhe.hub.platform.settings import HubSettings
from yunhe.wire.link import Report, StartLease, SyncAnswer

JSON = {"Content-Type": "application/json"}


def until(what: str, true: Callable[[], bool], timeout_s: float) -> float:
    """Wait for it; how long it took in seconds."""
    began = time.monotonic()
    while not true():
        if time.monotonic() - began > timeout_s:
            raise AssertionError(f"not within {timeout_s} s: {what}")
        time.sleep(0.05)
    return time.monotonic() - began


@dataclass
class Replica:
    """One process."""

    settings: HubSettings
    clock_ahead_s: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings.port}"

    def start(self) -> None:
        words = [sys.executable, "-m", "tests.replicas.hub_process", self.settings.model_dump_json()]
        with (self.settings.data_dir / f"hub-{self.settings.port}.log").open("ab") as log:
            self.process = subprocess.Popen([*words, str(self.clock_ahead_s)], stdout=log, stderr=log)

    def wait(self) -> None:
        until(f"{self.url} is ready", self.ready, 60)

    def ready(self) -> bool:
        assert self.process is not None and self.process.poll() is None, "the hub's process ended"
        try:
            return httpx.get(f"{self.url}/readyz", timeout=2).is_success
        except httpx.HTTPError:
            return False

    def send(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)


@dataclass
class Network:
    replicas: list[Replica]
    key: str = ""
    sites: list["SteadySite"] = field(default_factory=list)
    clients: list[httpx.Client] = field(default_factory=list)

    def client(self, replica: Replica, key: str | None = None) -> httpx.Client:
        headers = {"Authorization": f"Bearer {key or self.key}"}
        client = httpx.Client(base_url=replica.url, headers=headers, timeout=30)
        self.clients.append(client)
        return client

    def operator(self, replica: Replica) -> httpx.Client:
        return self.client(replica)

    def leading(self, replica: Replica) -> bool:
        try:
            return bool(self.operator(replica).get("/v1/stats", timeout=3).json()["leader"])
        except (httpx.HTTPError, KeyError):
            return False

    def leader(self) -> Replica:
        found: list[Replica] = []
        until("somebody leads", lambda: bool(found.extend(r for r in self.replicas if self.leading(r)) or found), 20)
        return found[0]

    def other(self, replica: Replica) -> Replica:
        return next(r for r in self.replicas if r is not replica)

    def customer(self, name: str) -> str:
        """The key of a new organisation with money."""
        operator = self.operator(self.replicas[0])
        operator.post("/v1/organisations", json={"id": name, "name": name}).raise_for_status()
        deposit = {"organisation": name, "amount": "1000CNY", "reference": name}
        operator.post("/v1/deposits", json=deposit).raise_for_status()
        wanted = {"organisation": name, "member": "m", "role": "customer"}
        return str(operator.post("/v1/keys", json=wanted).raise_for_status().json()["key"])

    def site(self, name: str, *urls: str) -> "SteadySite":
        operator = self.operator(self.replicas[0])
        operator.post("/v1/organisations", json={"id": "centre", "name": "centre"})
        token = operator.post("/v1/enrolment-tokens", json={"provider": "centre"}).json()["token"]
        agent = FakeAgent(httpx.Client(base_url=urls[0], timeout=10))
        agent.enrol(token, name)
        operator.post(f"/v1/sites/{agent.site_id}/approve", json={}).raise_for_status()
        agent.become_active()
        site = SteadySite(agent, urls)
        self.sites.append(site)
        site.start()
        return site

    def check(self, client: httpx.Client, orders: list[str]) -> None:
        """Every order ended once, by one lease, and the books balance."""
        for order in orders:
            ended = client.get(f"/v1/orders/{order}/wait", params={"timeout_ms": 20_000}).json()
            assert (ended["state"], ended["settled"]) == ("succeeded", True), ended
            usage = client.get(f"/v1/orders/{order}/usage").json()
            assert (len(usage["usage"]), len(usage["charges"])) == (ended["array"], ended["array"]), order
        trial = self.operator(Replica(HubSettings(database_url="", data_dir=Path(), port=client.base_url.port or 0)))
        assert trial.get("/v1/trial-balance").json()["balanced"]
        for site in self.sites:
            assert site.failure is None, site.failure
            assert set(site.starts.values()) <= {1}
            assert {epoch for _, epoch in site.starts} <= {1}

    def close(self) -> None:
        for site in self.sites:
            site.stopping = True
            site.join(15)
        for client in self.clients:
            client.close()
        for replica in self.replicas:
            if replica.process is not None and replica.process.poll() is None:
                replica.send(signal.SIGCONT)
            replica.kill()


class SteadySite(threading.Thread):
    """Polls one hub or the other, says everything again until it was heard, and runs what it is told."""

    def __init__(self, agent: FakeAgent, urls: tuple[str, ...]) -> None:
        super().__init__(daemon=True)
        self.agent, self.urls = agent, urls
        self.starts: dict[tuple[str, int], int] = {}
        self.stopping = False
        self.pausing = False  # keeps what it is told instead of running it
        self.waiting: list[StartLease] = []
        self.cancels: list[str] = []
        self.failure: str | None = None
        self._turn = 0

    def run(self) -> None:
        try:
            while not self.stopping:
                self._round()
        except (httpx.HTTPError, ValueError, AssertionError) as error:
            self.failure = repr(error)

    def _round(self) -> None:
        reports: list[Report] = []
        if not self.pausing:
            reports = [report for start in self.waiting for report in ran(start)]
            self.waiting = []
        message = self.agent.sync_message(reports, wait_ms=0 if reports else 300)
        answer = self._say(message.model_dump_json().encode())
        if answer is None:
            return
        self.agent.used_epoch = self.agent.epoch
        for item in answer.instructions:
            self.agent.applied_seq = item.seq
            if isinstance(item, StartLease):
                key = (item.lease_id, item.epoch)
                self.starts[key] = self.starts.get(key, 0) + 1
                self.waiting.append(item)
            elif item.kind == "cancel":
                self.cancels.append(item.lease_id)

    def _say(self, body: bytes) -> SyncAnswer | None:
        while not self.stopping:
            try:
                answer = self.agent.send("POST", "/v1/agent/sync", body)
                if answer.status_code < 500:
                    assert answer.is_success, answer.text
                    return SyncAnswer.model_validate_json(answer.content)
            except httpx.TransportError:
                pass  # a hub that is gone; the other one is asked
            self._turn += 1
            self.agent.client.close()
            self.agent.client = httpx.Client(base_url=self.urls[self._turn % len(self.urls)], timeout=2)
            time.sleep(0.1)
        return None


@contextmanager
def network(database_url: str, folder: Path, *clocks_ahead_s: int) -> Iterator[Network]:
    """Two replicas, ready; `clocks_ahead_s`: how wrong their machines' clocks are."""
    made = Network([])
    for number in range(2):
        chosen = HubSettings(
            database_url=database_url, data_dir=folder, port=free_port(), poll_hold_ms=1_000, leader_ttl_ms=3_000
        )
        made.replicas.append(Replica(chosen, clocks_ahead_s[number] if clocks_ahead_s else 0))
    try:
        for replica in made.replicas:  # both at once: they take turns at the migrations
            replica.start()
        for replica in made.replicas:
            replica.wait()
        made.key = (folder / OPERATOR_KEY_FILE).read_text().strip()
        yield made
    finally:
        made.close()


def insist(client: httpx.Client, key: str, attempts: int = 200, **changes: object) -> str:
    """Submit with an Idempotency-Key, again and again until there is an answer. The order's id."""
    headers = {**JSON, "Idempotency-Key": key}
    for _ in range(attempts):
        try:
            answer = client.post("/v1/orders", content=order_json(**changes), headers=headers)
        except httpx.TransportError:
            time.sleep(0.1)
            continue
        if answer.is_success:
            return str(answer.json()["id"])
        assert answer.status_code in (503, 507), answer.text
        time.sleep(0.1)
    raise AssertionError(f"no answer for {key}")
