"""The whole way of a spot order: a hub in a process of its own, a real site, a real job that counts and saves its
count; an order that is not spot comes, also with the hub killed between the plan and its commit."""

import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fakes.agent import order_json
from tests.hub.running import free_port
from tests.hub.test_preempted_way import COUNT, GOAL, JSON
from tests.replicas.network import Network, Replica
from tests.site.conftest import QUICK, SiteProcess, supervisors, wait_for
from yunhe.apps import crash_points
from yunhe.apps.hub import OPERATOR_KEY_FILE
from yunhe.apps.site import JoinRequest, join
from yunhe.core.tariff import RatingInputs, rate
from yunhe.hub.platform.settings import HubSettings
from yunhe.site.settings import DriverSettings, LendSettings

# Its first attempt ends only when it is told to; the next one counts a little further.
PATIENT = COUNT.replace(f"while n < {GOAL}:", "goal = n + 25 if n else 10**9\nwhile n < goal:")


def start(hub: Replica, crash: str = "") -> None:
    os.environ[crash_points.VARIABLE] = crash
    try:
        hub.start()
    finally:
        del os.environ[crash_points.VARIABLE]
    hub.wait()


def a_site(network: Network, folder: Path) -> SiteProcess:
    """Half a core of this host."""
    operator = network.operator(network.replicas[0])
    operator.post("/v1/organisations", json={"id": "centre", "name": "centre"}).raise_for_status()
    token = operator.post("/v1/enrolment-tokens", json={"provider": "centre"}).json()["token"]
    request = JoinRequest(
        hub_url=network.replicas[0].url,
        token=token,
        name="hall",
        data_dir=folder / "hall",
        cluster="zhangjiakou",
        driver=DriverSettings(cores_milli=500, memory_bytes=512 << 20, usage_write_ms=100),
        extra={**QUICK, "lend": LendSettings(give_back_ms=3_000)},
    )
    site_id = join(request).site_id
    operator.post(f"/v1/sites/{site_id}/approve", json={}).raise_for_status()
    site = SiteProcess(request.data_dir).start()
    wait_for(lambda: operator.get(f"/v1/sites/{site_id}").json()["state"] == "active", 90)
    return site


def shown(customer: httpx.Client, order: str) -> dict[str, Any]:
    return dict(customer.get(f"/v1/orders/{order}").json())


def kinds(customer: httpx.Client, order: str) -> list[str]:
    return [fact["kind"] for fact in shown(customer, order)["facts"]]


@pytest.mark.parametrize("killed", [False, True], ids=["hub lives", "hub killed between plan and commit"])
def test_a_spot_job_makes_room_and_goes_on_from_its_checkpoint(database_url: str, tmp_path: Path, killed: bool) -> None:
    settings = HubSettings(
        database_url=database_url,
        data_dir=tmp_path / "hub",
        port=free_port(),
        poll_hold_ms=1_000,
        certify_prove_ms=0,
        leader_ttl_ms=1_000,
    )
    settings.data_dir.mkdir()
    hub = Replica(settings)
    network = Network([hub])
    start(hub, "matching.before_rooms=1" if killed else "")
    network.key = (settings.data_dir / OPERATOR_KEY_FILE).read_text().strip()
    site = None
    try:
        site = a_site(network, tmp_path)
        customer, other = (network.client(hub, network.customer(name)) for name in ("lab", "institute"))
        run = {
            "command": ["python3", "count.py"],
            "files": {"count.py": PATIENT},
            "outputs": ["result"],
            "checkpoint": {"folder": "kept"},
        }
        need = {"cores": 0.4, "memory": "64MiB"}
        body = order_json(run=run, requirement=need, duration="2m", spot=True)
        cheap = customer.post("/v1/orders", content=body, headers=JSON).json()["id"]
        saved = site.data_dir / "leases" / f"{cheap}.0.1" / "job" / "kept" / "count"
        wait_for(saved.exists, 60)
        body = order_json(run={"command": ["sleep", "1"]}, requirement=need, duration="1m")
        wants = other.post("/v1/orders", content=body, headers=JSON).json()["id"]
        if killed:
            assert hub.process is not None
            assert hub.process.wait(60) != 0
            assert not (site.data_dir / "leases" / f"{cheap}.0.1" / "cancel").is_symlink()
            start(hub)

        wait_for(lambda: shown(other, wants)["settled"], 90)
        assert shown(other, wants)["state"] == "succeeded", site.text()[-2000:]
        assert (kinds(other, wants).count("room"), kinds(other, wants).count("leased")) == (1, 1)
        wait_for(lambda: shown(customer, cheap)["settled"], 90)
        assert shown(customer, cheap)["state"] == "succeeded", site.text()[-2000:]
        found = kinds(customer, cheap)
        assert [found.count(kind) for kind in ("reclaimed", "preempted", "leased", "retry")] == [1, 1, 2, 0]
        began = customer.get(f"/v1/orders/{cheap}/logs", params={"attempt": 2}).text
        assert int(began.split()[1]) >= 25
        charges = customer.get(f"/v1/orders/{cheap}/usage").json()["charges"]
        assert [charge["disputed"] for charge in charges] == [True, False]
        for charge in charges:
            inputs = {n: v for n, v in charge["inputs"].items() if n in RatingInputs.__dataclass_fields__}
            assert charge["price"]["total_microcny"] == rate(RatingInputs(**inputs)).price.total > 0
        [full] = other.get(f"/v1/orders/{wants}/usage").json()["charges"]
        price = "price_microcny_per_unit_hour"
        assert charges[0]["inputs"][price] == full["inputs"][price] // 2
        assert network.operator(hub).get("/v1/trial-balance").json()["balanced"]
    finally:
        if site is not None:
            site.stop(120)
            wait_for(lambda: not supervisors(site.data_dir), 20)
        network.close()
