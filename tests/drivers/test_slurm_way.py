"""Orders on a Slurm site, the whole way: the command line joins it, a real hub places, the agent's process runs it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.engines import slurm
from tests.fakes.agent import order_json
from tests.hub.running import RunningHub, running_hub
from tests.site.conftest import SiteProcess, wait_for

JSON = {"Content-Type": "application/json"}


def yunhe(cluster: slurm.Cluster, *words: str) -> subprocess.CompletedProcess[str]:
    """The command line, where SLURM_CONF names the cluster."""
    return subprocess.run(
        [sys.executable, "-m", "yunhe.cli.main", *words],
        env=os.environ | cluster.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[RunningHub]:
    with running_hub(f"sqlite:///{tmp_path}/hub.db", tmp_path / "hub", poll_hold_ms=2_000) as running:
        yield running


@pytest.fixture
def site(hub: RunningHub, cluster: slurm.Cluster, tmp_path: Path) -> Iterator[SiteProcess]:
    with joined(hub, cluster, tmp_path / "hall") as process:
        yield process


@contextmanager
def joined(hub: RunningHub, cluster: slurm.Cluster, data_dir: Path) -> Iterator[SiteProcess]:
    """Joined as a centre would, approved, measured by a job of its own, and active."""
    hub.operator.post("/v1/organisations", json={"id": "centre", "name": "centre"}).raise_for_status()
    token = hub.operator.post("/v1/enrolment-tokens", json={"provider": "centre"}).json()["token"]
    words = ["site", "join", hub.url, "--name", "hall", "--token", token, "--cluster", "zhangjiakou"]
    words += ["--engine", "slurm", "--partition", cluster.shape.partition, "--data-dir", str(data_dir), "--json"]
    done = yunhe(cluster, *words)
    assert done.returncode == 0, done.stderr
    site_id = json.loads(done.stdout)["site_id"]
    hub.operator.post(f"/v1/sites/{site_id}/approve", json={}).raise_for_status()
    process = SiteProcess(data_dir).start()
    try:
        wait_for(lambda: hub.operator.get(f"/v1/sites/{site_id}").json()["state"] == "active", 90)
        yield process
    finally:
        process.stop()


def ended(customer: httpx.Client, order_id: str) -> dict[str, Any]:
    view: dict[str, Any] = customer.get(f"/v1/orders/{order_id}/wait", params={"timeout_ms": 60_000}).json()
    return view


@pytest.mark.timeout(300)  # a slow machine needs most of two minutes
def test_orders_run_on_slurm_and_are_settled(hub: RunningHub, site: SiteProcess, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    customer = hub.customer()
    plain = {"command": ["sh", "-c", f"echo $SLURM_JOB_NAME; echo once >> {witness}; sleep 4"]}
    gang = {"command": ["sh", "-c", "echo rank $YUNHE_RANK of $YUNHE_SIZE; sleep 0.2"]}
    orders = [
        customer.post("/v1/orders", content=order_json(**order), headers=JSON).json()["id"]
        for order in ({"run": plain}, {"run": gang, "requirement": {"slots": 2, "cores": 1, "memory": "64MiB"}})
    ]
    wait_for(witness.exists, 60)
    site.kill()  # its jobs go on, and are taken up again
    site.start()
    views = [ended(customer, order) for order in orders]
    assert [(view["state"], view["settled"]) for view in views] == [("succeeded", True)] * 2, views
    assert witness.read_text() == "once\n"
    logs = [customer.get(f"/v1/orders/{order}/logs").text for order in orders]
    assert logs[0] == f"yunhe:{orders[0]}.0.1\n"
    assert sorted(logs[1].splitlines()) == ["rank 0 of 2", "rank 1 of 2"]
    [charge] = customer.get(f"/v1/orders/{orders[0]}/usage").json()["charges"]
    assert 0 < charge["price"]["total_microcny"] == views[0]["charged_microcny"] <= views[0]["hold_microcny"]
    stats = hub.operator.get("/v1/stats").json()
    assert stats["usage_gaps"] == 0 and stats["orders"] == {"succeeded": 2}
    assert hub.operator.get("/v1/trial-balance").json()["balanced"]
    wait_for(lambda: not list((tmp_path / "hall" / "leases").iterdir()))


def test_what_is_wrong_with_a_slurm_site_is_said_before_the_token_is_used(
    cluster: slurm.Cluster, tmp_path: Path
) -> None:
    def join(*words: str) -> str:
        place = ["http://127.0.0.1:1", "--name", "hall", "--token", "t", "--data-dir", str(tmp_path / "x")]
        done = yunhe(cluster, "site", "join", *place, *words)
        assert done.returncode != 0
        return done.stderr

    assert "no partition 'nightly'" in join("--engine", "slurm", "--partition", "nightly")
    assert "--cores" in join("--engine", "slurm", "--cores", "4")
    assert "--chip" in join("--engine", "slurm", "--chip", "a100")
    assert "--qos" in join("--qos", "low")
