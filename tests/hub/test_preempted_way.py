"""The whole way of a preemption: a real hub, two real sites, a real job that counts and saves its count."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.fakes.agent import order_json
from tests.hub.running import RunningHub
from tests.site.conftest import QUICK, SiteProcess, supervisors, wait_for
from yunhe.apps.site import JoinRequest, join
from yunhe.core.tariff import RatingInputs, rate
from yunhe.site.settings import DriverSettings, LendSettings

JSON = {"Content-Type": "application/json"}
GOAL = 200  # counts, of 20 ms each
COUNT = f"""
import os, signal, sys, time
path = os.path.join(os.environ["YUNHE_CHECKPOINT"], "count")
n = int(open(path).read()) if os.path.exists(path) else 0
print("from", n, flush=True)
def save():
    with open(path + ".tmp", "w") as file:
        file.write(str(n))
    os.rename(path + ".tmp", path)
def stop(*_):
    sys.exit(1)  # what was counted since the last save is lost, as in a training
signal.signal(signal.SIGTERM, stop)
while n < {GOAL}:
    time.sleep(0.02)
    n += 1
    if n % 25 == 0:
        save()
open("result", "w").write(str(n))
"""


@pytest.fixture(scope="module")
def sites(shared_hub: RunningHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, SiteProcess]]:
    """Two sites on this host, by id; half a core each."""
    made: dict[str, SiteProcess] = {}
    shared_hub.operator.post("/v1/organisations", json={"id": "centre", "name": "centre"})
    for name in ("hall", "annex"):
        token = shared_hub.operator.post("/v1/enrolment-tokens", json={"provider": "centre"}).json()["token"]
        request = JoinRequest(
            hub_url=shared_hub.url,
            token=token,
            name=name,
            data_dir=tmp_path_factory.mktemp("sites") / name,
            cluster="zhangjiakou",
            driver=DriverSettings(cores_milli=500, memory_bytes=512 << 20, usage_write_ms=100),
            extra={**QUICK, "foreign_interval_ms": 100, "lend": LendSettings(give_back_ms=3_000)},
        )
        site_id = join(request).site_id
        shared_hub.operator.post(f"/v1/sites/{site_id}/approve", json={}).raise_for_status()
        made[site_id] = SiteProcess(request.data_dir).start()
    for site_id in made:
        wait_for(
            lambda site_id=site_id: shared_hub.operator.get(f"/v1/sites/{site_id}").json()["state"] == "active", 90
        )
    yield made
    for site in made.values():
        if site.process and site.process.poll() is None:
            site.stop()
        wait_for(lambda site=site: not supervisors(site.data_dir), 20)


def task_of(customer: httpx.Client, order: str) -> dict[str, Any]:
    return dict(customer.get(f"/v1/orders/{order}").json()["task_list"][0])


def reserve(site: SiteProcess, text: str) -> None:
    (site.data_dir / "reserve.new").write_text(text)
    (site.data_dir / "reserve.new").rename(site.data_dir / "reserve")


@pytest.mark.parametrize("killed", [False, True], ids=["agent lives", "agent killed meanwhile"])
def test_a_job_goes_on_elsewhere_and_pays_for_what_was_kept(
    shared_hub: RunningHub, sites: dict[str, SiteProcess], killed: bool
) -> None:
    customer = shared_hub.customer(f"lab-{int(killed)}")
    run = {
        "command": ["python3", "count.py"],
        "files": {"count.py": COUNT},
        "outputs": ["result"],
        "checkpoint": {"folder": "kept"},
    }
    body = order_json(run=run, requirement={"cores": 0.4, "memory": "64MiB"}, duration="2m")
    order = customer.post("/v1/orders", content=body, headers=JSON).json()["id"]
    wait_for(lambda: task_of(customer, order)["state"] == "running", 20)
    first = task_of(customer, order)["site_id"]
    folder = sites[first].data_dir / "leases" / f"{order}.0.1"
    wait_for(lambda: (folder / "job" / "kept" / "count").exists(), 20)
    reserve(sites[first], "0.5")
    if killed:
        wait_for(lambda: (folder / "cancel").is_symlink(), 10)
        sites[first].kill()
        wait_for(lambda: (folder / "exit.json").exists(), 10)
        sites[first].start()

    ended = customer.get(f"/v1/orders/{order}/wait", params={"timeout_ms": 40_000}).json()
    assert (ended["state"], ended["settled"]) == ("succeeded", True), sites[first].text()[-2000:]
    task = task_of(customer, order)
    assert (task["epoch"], task["site_id"] != first) == (2, True)
    kinds = [fact["kind"] for fact in customer.get(f"/v1/orders/{order}").json()["facts"]]
    assert kinds.count("preempted") == 1 and kinds.count("leased") == 2 and "retry" not in kinds
    began = customer.get(f"/v1/orders/{order}/logs", params={"attempt": 2}).text
    saved = int(began.split()[1])
    assert 0 < saved < GOAL and saved % 25 == 0
    result = customer.get(
        f"/v1/orders/{order}/outputs/content", params={"lease_id": f"{order}.0", "path": "result"}
    ).text
    assert result == str(GOAL)

    usage = customer.get(f"/v1/orders/{order}/usage").json()
    one, two = usage["charges"]
    assert (one["disputed"], two["disputed"]) == (True, False)
    assert 0 < one["inputs"]["kept_wall_ms"] == task["kept_ms"] <= one["inputs"]["wall_ms"]
    assert one["inputs"]["kept_wall_ms"] >= saved * 20
    for charge in (one, two):
        inputs = {name: value for name, value in charge["inputs"].items() if name in RatingInputs.__dataclass_fields__}
        assert charge["price"]["total_microcny"] == rate(RatingInputs(**inputs)).price.total > 0
    assert ended["charged_microcny"] == sum(c["price"]["total_microcny"] for c in usage["charges"])
    assert {(u["epoch"], u["final"]) for u in usage["usage"]} >= {(1, True), (2, True)}
    assert shared_hub.operator.get("/v1/trial-balance").json()["balanced"]

    # Local users hold the first site, and the network shows it.
    [pool] = shared_hub.operator.get(f"/v1/sites/{first}").json()["pools"]
    assert (pool["foreign_milli"], pool["free_milli"], pool["powered_milli"]) == (500, 0, 500)
    wait_for(lambda: not list((sites[first].data_dir / "leases").iterdir()), 20)
    reserve(sites[first], "0")
    wait_for(lambda: shared_hub.operator.get(f"/v1/sites/{first}").json()["pools"][0]["free_milli"] == 500, 10)
