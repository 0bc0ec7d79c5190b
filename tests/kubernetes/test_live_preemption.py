"""The cluster's own users come first: the real scheduler takes the units of a lease for a pod of higher priority."""

import contextlib
import time
import urllib.error
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.engines.kubernetes import ROOT, Cluster
from tests.hub.running import running_hub
from tests.kubernetes.kube_harness import IMAGE, KubeHarness
from tests.kubernetes.test_live_site import join, wait
from yunhe.apps.children import Child
from yunhe.core.lifecycle import EndReason
from yunhe.site.drivers.contract import Checkpoints, DataDriver, LeaseKey, Phase, abilities
from yunhe.wire.link import CheckpointPlan

PRIORITY = ROOT / "deploy" / "kubernetes" / "priority.yaml"
NODE = "n1"
PODS = "/api/v1/namespaces/default/pods"
# Every process of the job may take the signal; the work is done by the first.
SAVES = (
    "cat $YUNHE_CHECKPOINT/n 2>/dev/null; "
    "save() { echo saved > $YUNHE_CHECKPOINT/n.tmp; mv $YUNHE_CHECKPOINT/n.tmp $YUNHE_CHECKPOINT/n; exit 9; }; "
    "trap save TERM USR1; echo up; while :; do sleep 0.1; done"
)


@pytest.fixture(scope="module")
def classes(cluster: Cluster) -> None:
    shipped = yaml.safe_load(PRIORITY.read_text())
    for body in (shipped, {**shipped, "metadata": {"name": "own"}, "value": 10, "preemptionPolicy": None}):
        cluster.call("POST", "/apis/scheduling.k8s.io/v1/priorityclasses", body)


@pytest.fixture
def lending(cluster: Cluster, kubeconfig: Path, classes: None, tmp_path: Path) -> Iterator[KubeHarness]:
    """A site that lends one node, behind the centre's own users."""
    shared = tmp_path / "shared"
    shared.mkdir()
    made = KubeHarness(
        cluster, kubeconfig, tmp_path, shared_dir=shared, shared_volume=f"host:{shared}",
        priority_class="yunhe-lent", node_selector=(f"kubernetes.io/hostname={NODE}",),
    )  # fmt: skip
    yield made
    made.close()


@pytest.fixture
def own_pod(cluster: Cluster) -> Iterator[Any]:
    """Makes a pod of the centre's own users, which needs most of the node."""

    def make() -> None:
        size = {"cpu": "6", "memory": "67108864"}
        main = {"name": "job", "image": IMAGE, "command": ["sleep", "60"]}
        spec = {
            "priorityClassName": "own",
            "nodeSelector": {"kubernetes.io/hostname": NODE},
            "terminationGracePeriodSeconds": 0,
            "containers": [{**main, "resources": {"requests": size, "limits": size}}],
        }
        cluster.call("POST", PODS, {"metadata": {"name": "theirs"}, "spec": spec})

    yield make
    with contextlib.suppress(urllib.error.HTTPError):  # it is gone already
        cluster.call("DELETE", f"{PODS}/theirs?gracePeriodSeconds=0")


def runs(cluster: Cluster) -> bool:
    return bool(cluster.call("GET", f"{PODS}/theirs")["status"].get("phase") == "Running")


def start(kube: KubeHarness, command: str, **changes: Any) -> LeaseKey:
    job = kube.job("a", ("sh", "-c", command), slot_milli=6_000, run_limit_ms=60_000, **changes)
    kube.run(kube.driver.submit(replace(job, notice_ms=5_000)))
    kube.eventually(lambda: b"up" in kube.log(job.key))
    kube.until(job.key, Phase.STARTED)
    return job.key


def test_units_that_the_scheduler_takes_are_no_fault_of_the_site(lending: KubeHarness, own_pod: Any) -> None:
    key = start(lending, "echo up; sleep 50")
    own_pod()
    status = lending.ended(key)
    assert status.reason is EndReason.PREEMPTED and status.started, status
    assert "theirs" not in status.detail  # whose it was is not for the customer
    assert status.totals is not None and 0 < status.totals.wall_ms < 20_000
    lending.eventually(lambda: runs(lending.cluster))
    lending.reopen()
    assert lending.status(key) == status


def test_an_agent_that_was_away_finds_out_why(lending: KubeHarness, own_pod: Any) -> None:
    key = start(lending, "echo up; sleep 50")
    lending.run(lending.driver.close())
    own_pod()
    lending.cluster.until(lambda: runs(lending.cluster), "preempt")
    lending.reopen_closed()
    status = lending.ended(key)
    assert status.reason is EndReason.PREEMPTED and status.started


@pytest.mark.parametrize("signal", ["SIGTERM", "SIGUSR1"])
def test_a_preempted_job_saves_its_work_and_goes_on(lending: KubeHarness, own_pod: Any, signal: Any) -> None:
    driver = lending.driver
    assert isinstance(driver, Checkpoints) and isinstance(driver, DataDriver)
    plan = CheckpointPlan(signal=signal, folder="kept", cap_bytes=1 << 20)
    key = start(lending, SAVES, checkpoint=plan)
    assert lending.run(driver.kept_ms(key, "kept")) == 0
    own_pod()
    status = lending.ended(key)
    assert (status.reason, status.exit_code) == (EndReason.PREEMPTED, 9)
    kept_ms = lending.run(driver.kept_ms(key, "kept"))
    assert status.totals is not None and 0 < kept_ms <= status.totals.wall_ms
    (output,) = lending.run(driver.outputs(key, ("kept",), 1 << 20))
    assert lending.run(driver.read_output(key, output.path, 0, 100)) == b"saved\n"


COUNTS = (
    "n=$(cat $YUNHE_CHECKPOINT/n 2>/dev/null || echo 0); echo from $n; trap 'exit 9' TERM; "
    "while [ $n -lt 80 ]; do sleep 0.1; n=$((n+1)); echo $n > $YUNHE_CHECKPOINT/n.tmp; "
    "mv $YUNHE_CHECKPOINT/n.tmp $YUNHE_CHECKPOINT/n; done"
)


def test_an_order_goes_on_and_pays_for_what_was_kept(
    cluster: Cluster, kubeconfig: Path, classes: None, own_pod: Any, tmp_path: Path
) -> None:
    """From the order to its charges, over a real hub."""
    home, shared = tmp_path / "hall", tmp_path / "shared"
    shared.mkdir()
    with running_hub(f"sqlite:///{tmp_path}/hub.db", tmp_path / "hub") as hub:
        joined = join(
            hub, home, "--kubeconfig", str(kubeconfig), "--namespace-prefix", "yunhe-kept", "--image", f"cpu={IMAGE}",
            "--shared-dir", str(shared), "--shared-volume", f"host:{shared}",
            "--node-selector", f"kubernetes.io/hostname={NODE}",
        )  # fmt: skip
        assert joined.returncode == 0, joined.stderr
        toml = home / "site.toml"
        toml.write_text(toml.read_text().replace("[kubernetes]\n", '[kubernetes]\npriority_class = "yunhe-lent"\n'))
        site_id = joined.stdout.split()[0]
        hub.operator.post(f"/v1/sites/{site_id}/approve", json={}).raise_for_status()
        agent = Child("hall", "yunhe.apps.site:main", ["--data-dir", str(home)], home / "agent.log", {})
        try:
            wait(agent, lambda: hub.operator.get(f"/v1/sites/{site_id}").json()["state"] == "active")
            customer = hub.customer()
            run = {"command": ["sh", "-c", COUNTS], "checkpoint": {"folder": "kept"}}
            spec = {"requirement": {"cores": 6, "memory": "64MiB"}, "duration": "2m", "run": run}
            order = customer.post("/v1/orders", json=spec).raise_for_status().json()["id"]

            def task() -> dict[str, Any]:
                return dict(customer.get(f"/v1/orders/{order}").json()["task_list"][0])

            wait(agent, lambda: any(shared.rglob("kept/n")) and task()["state"] == "running")
            own_pod()
            wait(agent, lambda: task()["reason"] == "preempted")
            cluster.call("DELETE", f"{PODS}/theirs?gracePeriodSeconds=0")
            wait(agent, lambda: customer.get(f"/v1/orders/{order}").json()["settled"])
            assert (task()["state"], task()["epoch"]) == ("succeeded", 2), agent.tail()
            saved = int(customer.get(f"/v1/orders/{order}/logs", params={"attempt": 2}).text.split()[1])
            one, two = customer.get(f"/v1/orders/{order}/usage").json()["charges"]
            assert (one["disputed"], two["disputed"]) == (True, False) and 0 < saved < 80
            assert 0 < one["inputs"]["kept_wall_ms"] == task()["kept_ms"] <= one["inputs"]["wall_ms"]
            assert one["price"]["total_microcny"] > 0 < two["price"]["total_microcny"]
            assert hub.operator.get("/v1/trial-balance").json()["balanced"]
        finally:
            agent.ask_to_stop()
            agent.wait(time.monotonic() + 10)


def test_units_that_are_not_lent_any_more(lending: KubeHarness) -> None:
    """The agent's own way: the policy takes the units away."""
    plan = CheckpointPlan(folder="kept", cap_bytes=1 << 20)
    key = start(lending, SAVES, checkpoint=plan)
    lending.run(lending.driver.cancel(key, EndReason.PREEMPTED))
    status = lending.ended(key)
    assert (status.reason, status.exit_code) == (EndReason.PREEMPTED, 9)
    assert isinstance(lending.driver, Checkpoints) and lending.run(lending.driver.kept_ms(key, "kept")) > 0


def test_a_cluster_without_a_shared_folder_keeps_nothing(kube: KubeHarness) -> None:
    assert not set(abilities(kube.driver)) & {"checkpoints", "data"}
