"""Local users of a centre come first: a real Slurm takes nodes from Yunhe's jobs for a job of a partition above."""

import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.drivers.conftest import SlurmHarness
from tests.drivers.test_slurm_way import JSON, joined
from tests.engines.slurm import Cluster, Shape, missing
from tests.fakes.agent import order_json
from tests.hub.running import running_hub
from tests.site.conftest import wait_for
from yunhe.core.lifecycle import EndReason
from yunhe.core.tariff import RatingInputs, rate
from yunhe.site.drivers.contract import LeaseKey, Phase

SHAPE = Shape(nodes=1, cpus=4, partition="cpu", memory_mib=4000)
PARTITIONS = """\
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=cpu Nodes=n1 Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=CANCEL
PartitionName=requeue Nodes=n1 MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE
PartitionName=graced Nodes=n1 MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=CANCEL GraceTime=2
PartitionName=local Nodes=n1 MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""
GOAL = 250  # counts of 20 ms
COUNT = f"""
import os, time
path = os.path.join(os.environ["YUNHE_CHECKPOINT"], "count")
n = int(open(path).read()) if os.path.exists(path) else 0
print("from", n, flush=True)
while n < {GOAL}:
    time.sleep(0.02)
    n += 1
    if n % 25 == 0:
        with open(path + ".tmp", "w") as file:
            file.write(str(n))
        os.rename(path + ".tmp", path)
open("result", "w").write(str(n))
"""


class LendingCluster(Cluster):
    """One node: what Yunhe's jobs have of it, local jobs take."""

    def _configure(self) -> None:
        super()._configure()
        conf = self.folder / "slurm.conf"
        left = (line for line in conf.read_text().splitlines() if not line.startswith("PartitionName"))
        conf.write_text("\n".join([*left, PARTITIONS]))

    def idle(self) -> list[str]:
        """Once, of whatever partitions it is."""
        return sorted(set(super().idle()))

    def local_job(self, seconds: float) -> str:
        """Its number; it wants the whole node."""
        return self.sbatch("--partition=local", "-c4", "--mem=3000", "--output=/dev/null", f"--wrap=sleep {seconds}")

    def over(self, number: str) -> None:
        self.until(lambda: self.call("squeue", "-h", "-t", "all", "-j", number, "-o", "%T") == "COMPLETED", "end it")


@pytest.fixture(scope="module")
def lending() -> Iterator[LendingCluster]:
    if why := missing():
        pytest.skip(why)
    with tempfile.TemporaryDirectory(prefix="yunhe-lending-") as folder:
        made = LendingCluster(Path(folder), SHAPE)
        try:
            made.start()
            yield made
        finally:
            made.stop()


@pytest.fixture(params=["cpu", "requeue", "graced"])
def site(lending: LendingCluster, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SlurmHarness]:
    with closing(SlurmHarness(lending, tmp_path, partitions=(request.param,))) as made:
        yield made
    lending.clear()


def submit(site: SlurmHarness, witness: Path, script: str, **changes: Any) -> LeaseKey:
    pool = site.run(site.driver.discover())[0].name
    key = site.submit("a", ("sh", "-c", f"echo started >> {witness}; {script}"), pool=pool, **changes)
    site.until(key, Phase.STARTED)
    site.cluster.until(
        lambda: witness.exists() and len(witness.read_text().split()) == changes.get("slots", 1), "begin"
    )
    return key


def test_a_job_that_local_users_displace_ends_as_preempted(
    lending: LendingCluster, site: SlurmHarness, tmp_path: Path
) -> None:
    """Cancelled, cancelled after a grace, and where the centre requeues: --no-requeue makes that a cancel too."""
    key = submit(site, tmp_path / "witness", "sleep 60", slot_milli=2_000)
    local = lending.local_job(0.5)
    status = site.ended(key)
    assert (status.reason, status.started) == (EndReason.PREEMPTED, True)
    assert "PREEMPTED" in status.detail
    assert status.totals is not None and 0 < status.totals.wall_ms < 60_000
    lending.over(local)
    assert site.listed(key, "%T") == ["PREEMPTED"]
    lending.over(lending.local_job(0))  # after the next job of the node nothing of it waits
    assert (tmp_path / "witness").read_text() == "started\n"


def test_a_gang_that_saves_its_work_on_the_signal_is_no_success(
    lending: LendingCluster, site: SlurmHarness, tmp_path: Path
) -> None:
    script = "trap 'echo saved; exit 0' TERM; while :; do sleep 0.05; done"
    key = submit(site, tmp_path / "witness", script, slots=2, slot_milli=1_000)
    local = lending.local_job(0.5)
    status = site.ended(key)
    # Ranks that end within the grace are COMPLETED to Slurm: the site's doing, and nothing more is known of it.
    graced = status.reason is EndReason.SUPERVISOR_LOST and "stopped by Slurm" in status.detail
    assert status.reason is EndReason.PREEMPTED or graced, status
    lending.over(local)
    assert len((tmp_path / "witness").read_text().split()) == 2


def test_a_centre_that_requeues_all_the_same_starts_nothing_twice(lending: LendingCluster, tmp_path: Path) -> None:
    """Its job_submit plugin may set Requeue. Slurm then says nothing of a preemption: the site's doing, not charged."""
    with closing(SlurmHarness(lending, tmp_path, partitions=("requeue",))) as site:
        key = submit(site, tmp_path / "witness", "sleep 60", slot_milli=2_000)
        [number] = site.listed(key, "%A")
        lending.call("scontrol", "update", f"JobId={number}", "Requeue=1")
        local = lending.local_job(0.5)
        status = site.ended(key)
        assert status.reason in (EndReason.SUPERVISOR_LOST, EndReason.PREEMPTED)
        lending.over(local)
        with suppress(RuntimeError):  # the agent may have taken it from the queue already
            lending.call("scontrol", "update", f"JobId={number}", "StartTime=now")
        lending.until(lambda: site.listed(key, "%T") in (["COMPLETED"], ["CANCELLED"]), "have it started again")
        assert (tmp_path / "witness").read_text() == "started\n"


def task_of(customer: httpx.Client, order: str) -> dict[str, Any]:
    return dict(customer.get(f"/v1/orders/{order}").json()["task_list"][0])


def test_the_customer_pays_for_what_is_kept_and_the_job_goes_on(lending: LendingCluster, tmp_path: Path) -> None:
    """A real hub and agent: the order is preempted once, placed again when the node is free, and goes on."""
    run = {"command": ["python3", "count.py"], "files": {"count.py": COUNT}, "checkpoint": {"folder": "kept"}}
    with (
        running_hub(f"sqlite:///{tmp_path}/hub.db", tmp_path / "hub", poll_hold_ms=2_000) as hub,
        joined(hub, lending, tmp_path / "hall"),
    ):
        customer = hub.customer()
        body = order_json(run={**run, "outputs": ["result"]}, duration="2m")
        order = customer.post("/v1/orders", content=body, headers=JSON).json()["id"]
        folder = tmp_path / "hall" / "leases" / f"{order}.0.1"
        wait_for((folder / "job" / "kept" / "count").exists, 40)
        local = lending.local_job(1)
        ended = customer.get(f"/v1/orders/{order}/wait", params={"timeout_ms": 60_000}).json()
        assert (ended["state"], ended["settled"]) == ("succeeded", True), ended
        lending.over(local)
        assert task_of(customer, order)["epoch"] == 2
        kinds = [fact["kind"] for fact in customer.get(f"/v1/orders/{order}").json()["facts"]]
        assert kinds.count("preempted") == 1 and kinds.count("leased") == 2 and "retry" not in kinds
        saved = int(customer.get(f"/v1/orders/{order}/logs", params={"attempt": 2}).text.split()[1])
        assert 0 < saved < GOAL and saved % 25 == 0
        one, two = customer.get(f"/v1/orders/{order}/usage").json()["charges"]
        assert (one["disputed"], two["disputed"]) == (True, False)
        assert saved * 20 <= one["inputs"]["kept_wall_ms"] <= one["inputs"]["wall_ms"]
        for charge in (one, two):
            known = RatingInputs.__dataclass_fields__
            inputs = {name: value for name, value in charge["inputs"].items() if name in known}
            assert charge["price"]["total_microcny"] == rate(RatingInputs(**inputs)).price.total > 0
        assert ended["charged_microcny"] == sum(c["price"]["total_microcny"] for c in (one, two))
        assert hub.operator.get("/v1/trial-balance").json()["balanced"]
