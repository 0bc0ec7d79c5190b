"""A real hub on a real port of the loopback, for tests that walk the whole way."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import uvicorn

from tests.fakes.agent import FakeAgent
from yunhe.apps.hub import OPERATOR_KEY_FILE, build
from yunhe.hub.platform.settings import HubSettings


@dataclass
class RunningHub:
    url: str
    operator: httpx.Client
    clients: list[httpx.Client] = field(default_factory=list)

    def client(self, key: str | None = None, timeout_s: float = 65) -> httpx.Client:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        client = httpx.Client(base_url=self.url, headers=headers, timeout=timeout_s)
        self.clients.append(client)
        return client

    def customer(self, organisation: str = "lab", deposit: str = "100CNY") -> httpx.Client:
        """A client of a new organisation with money."""
        self.operator.post("/v1/organisations", json={"id": organisation, "name": organisation}).raise_for_status()
        self.operator.post(
            "/v1/deposits", json={"organisation": organisation, "amount": deposit, "reference": f"first {organisation}"}
        ).raise_for_status()
        made = self.operator.post(
            "/v1/keys", json={"organisation": organisation, "member": "tester", "role": "customer"}
        )
        made.raise_for_status()
        return self.client(made.json()["key"])

    def site(self, name: str = "north", provider: str = "centre", **agent: object) -> FakeAgent:
        """An approved, certified site of a fake agent."""
        self.operator.post("/v1/organisations", json={"id": provider, "name": provider})
        token = self.operator.post("/v1/enrolment-tokens", json={"provider": provider}).json()["token"]
        fake = FakeAgent(self.client(), **agent)  # type: ignore[arg-type]
        fake.enrol(token, name)
        self.operator.post(f"/v1/sites/{fake.site_id}/approve", json={}).raise_for_status()
        fake.become_active()
        return fake


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_hub(database_url: str, data_dir: Path, **settings: object) -> Iterator[RunningHub]:
    """Claims of sites are believed unless a test of that asks: a challenge takes seconds of computing."""
    port = free_port()
    chosen = {"certify_prove_ms": 0, **settings}
    hub = build(HubSettings(database_url=database_url, data_dir=data_dir, port=port, **chosen))  # type: ignore[arg-type]
    config = uvicorn.Config(hub.app, host="127.0.0.1", port=port, log_level="warning", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until = time.monotonic() + 20
    while not server.started:
        if time.monotonic() > until:
            raise TimeoutError("the hub did not start")
        time.sleep(0.01)
    url = f"http://127.0.0.1:{port}"
    key = (data_dir / OPERATOR_KEY_FILE).read_text().strip()
    running = RunningHub(url, httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=65))
    try:
        yield running
    finally:
        for client in (running.operator, *running.clients):
            client.close()
        server.should_exit = True
        thread.join(timeout=15)
