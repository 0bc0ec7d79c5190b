"""One order with secrets over a real hub process, a real agent and a real job: where its values can be found."""

import base64
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.hub.running import free_port
from tests.site.conftest import QUICK, SiteProcess, supervisors, wait_for
from yunhe.apps.site import JoinRequest, join
from yunhe.sdk.client import Client
from yunhe.site.settings import DriverSettings
from yunhe.wire.api import OrderSpec, OrganisationRequest

VALUE = "correct-horse-battery-staple-4711"
# Part of the value as base64 spells it at each of the three offsets.
FORMS = (VALUE.encode(), *(base64.b64encode(b"." * n + VALUE.encode())[4:-4] for n in range(3)))


class Network:
    """A hub and a site as processes, with everything they write below one folder."""

    def __init__(self, folder: Path, isolation: str) -> None:
        self.folder = folder
        self.isolation = isolation
        self.clients: list[Client] = []
        self.site = SiteProcess(folder / "site")
        self.url = f"http://127.0.0.1:{free_port()}"
        settings = {
            "database_url": f"sqlite:///{folder}/hub.db",
            "data_dir": str(folder / "hub"),
            "port": int(self.url.rpartition(":")[2]),
            "poll_hold_ms": 2_000,
        }
        with open(folder / "hub.log", "ab") as out:
            self.hub = subprocess.Popen(
                [sys.executable, "-m", "tests.replicas.hub_process", json.dumps(settings)], stdout=out, stderr=out
            )

    def start(self) -> None:
        folder = self.folder
        wait_for(self._ready, 60)
        self.operator = self._client((folder / "hub" / "operator.key").read_text().strip())
        self.operator.create_organisation(OrganisationRequest(id="lab", name="lab"))
        self.operator.deposit("lab", "100CNY", "first")
        self.operator.create_organisation(OrganisationRequest(id="centre", name="centre"))
        self.customer = self._client(self.operator.create_key("lab", "me", "customer").key)
        driver = DriverSettings(cores_milli=1000, memory_bytes=512 << 20, isolation=self.isolation)
        request = JoinRequest(
            hub_url=self.url,
            token=self.operator.enrolment_token("centre").token,
            name="north",
            data_dir=folder / "site",
            cluster="zhangjiakou",
            driver=driver,
            extra={**QUICK},
        )
        self.operator.approve(join(request).site_id)
        self.site.start("--verbose")
        wait_for(lambda: any(view.state == "active" for view in self.operator.sites()), 90)

    def _client(self, key: str) -> Client:
        self.clients.append(Client(self.url, key))
        return self.clients[-1]

    def _ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5).is_success
        except httpx.TransportError:
            return False

    def found(self) -> list[str]:
        """Files with the value in any spelling."""
        return [
            str(path.relative_to(self.folder))
            for path in self.folder.rglob("*")
            if path.is_file() and any(form in path.read_bytes() for form in FORMS)
        ]

    def in_memory(self) -> list[Path]:
        """Folders of the site's jobs, as the driver names them."""
        tag = hashlib.sha256(str(self.site.data_dir).encode()).hexdigest()[:16]
        return list(Path("/dev/shm").glob(f"yunhe-{tag}-*"))

    def leases(self, order_id: str) -> list[Path]:
        return list((self.folder / "site" / "leases").glob(f"{order_id}.*"))

    def close(self) -> None:
        for client in self.clients:
            client.close()
        if self.site.process and self.site.process.poll() is None:
            self.site.kill()
        for pid in supervisors(self.site.data_dir):
            os.kill(pid, signal.SIGTERM)
        self.hub.terminate()
        self.hub.wait(20)


@pytest.fixture(scope="module", params=["auto", "processes"])
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """One for all tests, because a site measures itself for some seconds before it takes work."""
    made = Network(tmp_path_factory.mktemp(request.param), request.param)
    try:
        made.start()
        yield made
    finally:
        made.close()


def order(script: str, **changes: Any) -> OrderSpec:
    run = {"command": ["sh", "-c", script], "secrets": {"TOKEN": VALUE}, "outputs": ["said"]}
    requirement = {"cores": 0.2, "memory": "64MiB"}
    return OrderSpec.model_validate({"run": run, "requirement": requirement, "duration": "2m", **changes})


def settled(customer: Client, order_id: str) -> str:
    return str(customer.wait(order_id, timeout=40).state)


def answers(network: Network, order_id: str) -> str:
    """Everything that the API says of the order."""
    key = network.customer.profile.api_key
    with httpx.Client(base_url=network.url, headers={"Authorization": f"Bearer {key}"}, timeout=20) as http:
        paths = ("", "/why", "/usage", "/outputs", "/logs")
        return "".join(http.get(f"/v1/orders/{order_id}{path}").text for path in paths) + http.get("/v1/orders").text


def until_running(network: Network, order_id: str) -> None:
    wait_for(lambda: network.customer.order(order_id).state == "running" and b"up" in log(network, order_id), 30)


def log(network: Network, order_id: str) -> bytes:
    return b"".join(network.customer.log_chunks(order_id, follow=False))


def test_the_value_is_in_no_file_no_log_and_no_answer(network: Network) -> None:
    """Sealed while the order waits and runs, nowhere after it; the job alone had it."""
    sha = 'sha256sum < "$YUNHE_SECRETS/TOKEN" | cut -c-64 > said; echo up; while [ ! -e go ]; do sleep 0.05; done'
    placed = network.customer.submit(order(sha), idempotency_key="once")
    until_running(network, placed.id)
    assert network.found() == []
    assert VALUE not in answers(network, placed.id)
    [lease] = network.leases(placed.id)
    (lease / "job" / "go").touch()
    assert settled(network.customer, placed.id) == "succeeded"
    target = network.customer.download(placed.id, "said", network.folder / "said")
    done = subprocess.run(["sha256sum"], input=VALUE.encode(), capture_output=True, check=True)
    assert target.read_text().strip() == done.stdout.decode().split()[0]
    wait_for(lambda: not network.leases(placed.id))
    assert network.found() == []
    assert VALUE not in answers(network, placed.id)
    assert network.in_memory() == []
    assert network.customer.submit(order(sha), idempotency_key="once").id == placed.id
    (network.folder / "said").unlink()


def test_the_hub_shows_the_tier_that_the_site_found(network: Network) -> None:
    [view] = network.operator.sites()
    assert view.tier == (2 if "cgroup v" in view.isolation else 1 if os.geteuid() == 0 else 0), view.isolation
    too_much = order("true", requirement={"cores": 0.2, "tier": 3}, budget="1CNY")
    assert not network.customer.quote(too_much).offers


@pytest.mark.parametrize("killed", ["agent", "agent and supervisor"])
def test_they_are_gone_whoever_was_killed(network: Network, killed: str) -> None:
    placed = network.customer.submit(order('cat "$YUNHE_SECRETS/TOKEN" > /dev/null && echo up; sleep 1', retries=0))
    until_running(network, placed.id)
    [lease] = network.leases(placed.id)
    supervisor = int((lease / "claim").read_text().split()[0])
    network.site.kill()
    if killed == "agent and supervisor":
        os.kill(supervisor, signal.SIGKILL)
    else:
        # The supervisor goes on alone, and cleans up alone.
        wait_for(lambda: not os.path.exists(f"/proc/{supervisor}"), 20)
        assert network.in_memory() == []
    network.site.start()
    # A lost attempt is a fault of the site: it runs again, with its secrets.
    assert settled(network.customer, placed.id) == "succeeded"
    assert network.in_memory() == []
    assert network.found() == []


def test_an_agent_killed_before_the_start_asks_for_them_again(network: Network) -> None:
    """At its crash points around the engine: the order still runs once, with its secrets."""
    for point in ("driver.prepared", "driver.launched"):
        network.site.kill()
        os.environ["YUNHE_CRASH_POINTS"] = f"{point}=1"
        try:
            network.site.start()
        finally:
            del os.environ["YUNHE_CRASH_POINTS"]
        placed = network.customer.submit(order('wc -c < "$YUNHE_SECRETS/TOKEN"; echo up'))
        process = network.site.process
        assert process is not None
        process.wait(30)
        assert network.found() == []
        network.site.start()
        assert settled(network.customer, placed.id) == "succeeded"
        assert log(network, placed.id).split() == [str(len(VALUE)).encode(), b"up"]
