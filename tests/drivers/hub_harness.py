"""A real hub below with a real site, and an empty one above: what the driver for hubs is tested against."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.drivers.harness import Harness
from tests.hub.running import RunningHub, running_hub
from yunhe.apps.children import Child
from yunhe.apps.site import JoinRequest, join
from yunhe.site.drivers.contract import Job, LeaseKey
from yunhe.site.drivers.hub.driver import HubDriver
from yunhe.site.drivers.hub.upper import Upper
from yunhe.site.settings import DriverSettings, LowerHubSettings

START_S = 60.0
# Of the site below: told at once what happens, so that tests do not wait.
QUICK_SITE: dict[str, object] = {"sweep_ms": 100, "usage_interval_ms": 100, "log_interval_ms": 50}
QUICK = {"look_interval_ms": 40, "retry_first_ms": 50, "retry_cap_ms": 300}


def start_site(hub: RunningHub, name: str, home: Path, settings: DriverSettings) -> Child:
    """A site of this machine, certified, as a process of its own."""
    hub.operator.post("/v1/organisations", json={"id": "centre", "name": "centre"})
    token = hub.operator.post("/v1/enrolment-tokens", json={"provider": "centre"}).json()["token"]
    joined = join(
        JoinRequest(hub.url, token, name, home, cluster="zhangjiakou", driver=settings, extra=dict(QUICK_SITE))
    )
    hub.operator.post(f"/v1/sites/{joined.site_id}/approve", json={}).raise_for_status()
    agent = Child(f"site {name}", "yunhe.apps.site:main", ["--data-dir", str(home)], home / "agent.log", {})
    until = time.monotonic() + START_S
    while hub.operator.get(f"/v1/sites/{joined.site_id}").json()["state"] != "active":
        agent.check()
        assert time.monotonic() < until, agent.tail()
        time.sleep(0.05)
    return agent


def key_file(hub: RunningHub, organisation: str, folder: Path, role: str = "customer") -> Path:
    """The key of an organisation with money, in a file that only this user reads."""
    client = hub.customer(organisation, "1000CNY")
    if role != "customer":
        wanted = {"organisation": organisation, "member": "tester", "role": role}
        key = hub.operator.post("/v1/keys", json=wanted).raise_for_status().json()["key"]
    else:
        key = client.headers["Authorization"].removeprefix("Bearer ")
    path = folder / f"{organisation}.key"
    path.touch(mode=0o600)
    path.write_text(key)
    return path


@dataclass
class TwoHubs:
    """`node` is the account at the lower hub under which the sites of the tests order there."""

    lower: RunningHub
    upper: RunningHub
    key_file: Path

    def settings(self, **changes: Any) -> LowerHubSettings:
        values = {"url": self.lower.url, "key_file": self.key_file, **QUICK, **changes}
        return LowerHubSettings.model_validate(values)

    def node(self) -> httpx.Client:
        return self.lower.client(self.key_file.read_text())


@pytest.fixture(scope="session")
def two_hubs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoHubs]:
    """For all tests of the session."""
    folder = tmp_path_factory.mktemp("hubs")
    with ExitStack() as stack:
        lower, upper = (
            stack.enter_context(running_hub(f"sqlite:///{folder}/{name}.db", folder / name))
            for name in ("lower", "upper")
        )
        share = DriverSettings(
            cores_milli=2000, memory_bytes=1 << 30, usage_write_ms=50, term_grace_ms=300, sample_ms=20, pids_limit=40
        )
        agent = start_site(lower, "hall", folder / "hall", share)
        yield TwoHubs(lower, upper, key_file(lower, "node", folder))
        agent.ask_to_stop()
        agent.wait(time.monotonic() + 10)


class HubHarness(Harness):
    """A site of its own over the lower hub that the tests share. Its id is the test's: leases of two never meet."""

    def __init__(self, hubs: TwoHubs, tmp_path: Path, **changes: Any) -> None:
        data_dir = tmp_path / "site"
        data_dir.mkdir(mode=0o700, exist_ok=True)
        upper = Upper(hubs.upper.url, str(tmp_path), None, 5_000)
        settings = hubs.settings(**changes)
        super().__init__(lambda: HubDriver(settings, upper, data_dir), scripted=False, data_dir=data_dir)
        self.pool = self.run(self.driver.discover())[0].name

    def job(self, lease_id: str, command: tuple[str, ...], files: dict[str, str] | None = None, **changes: Any) -> Job:
        # What a job is to leave is part of its order below; the suite names it only when it asks for it.
        usual = {"pool": self.pool, "outputs": ("result.txt", "nothing.txt")}
        return super().job(lease_id, command, files, **{**usual, **changes})

    def order_id(self, key: LeaseKey) -> str:
        """Of the order below."""
        return (self.data_dir / "passed" / str(key) / "placed").read_text()


@pytest.fixture
def on_hub(two_hubs: TwoHubs, tmp_path: Path) -> Iterator[HubHarness]:
    made = HubHarness(two_hubs, tmp_path)
    yield made
    made.close()
