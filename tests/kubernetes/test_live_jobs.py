"""What a lease becomes in a real cluster, and every way in which it ends there."""

import json
import stat
from typing import Any

import pytest

from tests.engines.kubernetes import Cluster, custom
from tests.kubernetes.kube_harness import IMAGE, KubeHarness
from yunhe.core.lifecycle import EndReason
from yunhe.site.drivers.contract import Job, LeaseKey, Phase, SpawnFailed

BURN = "i=0; while [ $i -lt 4000000 ]; do i=$((i+1)); done"


def container(kube: KubeHarness, key: LeaseKey) -> dict[str, Any]:
    (pod,) = kube.pods(key)
    found: dict[str, Any] = pod["spec"]["containers"][0]
    return found


# --- what is made -------------------------------------------------------------------------------------------------


def test_the_pod_holds_its_job(kube: KubeHarness) -> None:
    key = kube.submit("a", kube.command(run_ms=20_000), slot_milli=250)
    kube.until(key, Phase.STARTED)
    (pod,) = kube.pods(key)
    spec, main = pod["spec"], pod["spec"]["containers"][0]
    assert spec["automountServiceAccountToken"] is False and spec["restartPolicy"] == "Never"
    assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] == 10_001
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert main["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert main["image"] == IMAGE
    assert main["resources"]["limits"]["cpu"] == main["resources"]["requests"]["cpu"] == "250m"
    assert main["resources"]["limits"]["memory"] == str(64 << 20)
    job = kube.there(kube.path(key))
    assert job is not None and job["spec"]["backoffLimit"] == 0 and job["spec"]["ttlSecondsAfterFinished"] > 0


def test_a_tenant_has_a_namespace_with_limits_and_no_network(kube: KubeHarness) -> None:
    first = kube.submit("a", kube.command())
    second = kube.submit("b", kube.command(), network=True)
    other = kube.submit("c", kube.command(), tenant="another tenant")
    base, policies = f"/api/v1/namespaces/{kube.namespace}", f"/apis/networking.k8s.io/v1/namespaces/{kube.namespace}"
    quota = kube.there(f"{base}/resourcequotas/yunhe")
    assert quota is not None and quota["spec"]["hard"]["services.loadbalancers"] == "0"
    capacity = kube.run(kube.driver.discover())[0].capacity_milli
    assert quota["status"]["hard"]["requests.cpu"] in (f"{capacity}m", str(capacity // 1000))
    assert kube.there(f"{base}/limitranges/yunhe")
    closed = kube.there(f"{policies}/networkpolicies/yunhe-closed")
    assert closed is not None
    assert closed["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    opened = kube.there(f"{policies}/networkpolicies/yunhe-open")
    assert opened is not None and "169.254.0.0/16" in json.dumps(opened["spec"]["egress"])
    wanted = opened["spec"]["podSelector"]["matchLabels"].items()
    for key in (first, second, other):
        kube.ended(key)
    assert [wanted <= kube.pods(key)[0]["metadata"]["labels"].items() for key in (first, second)] == [False, True]
    assert kube.pods(other) == []  # in a namespace of its own
    assert kube.tenant not in kube.namespace


def test_what_a_site_changed_in_a_namespace_stays(kube: KubeHarness) -> None:
    kube.ended(kube.submit("a", kube.command()))
    path = f"/api/v1/namespaces/{kube.namespace}/resourcequotas/yunhe"
    kube.cluster.call("PATCH", path, {"spec": {"hard": {"pods": "7"}}}, "application/merge-patch+json")
    kube.reopen()
    kube.ended(kube.submit("b", kube.command()))
    quota = kube.there(path)
    assert quota is not None and quota["spec"]["hard"]["pods"] == "7"


def test_files_reach_the_job(kube: KubeHarness) -> None:
    files = {"main.sh": "cat deep/er.txt; echo changed > new; cat new", "deep/er.txt": "größe\n"}
    status, log = kube.do("a", ("sh", "main.sh"), files=files)
    assert (status.exit_code, log) == (0, "größe\nchanged\n")


def test_words_are_taken_as_they_are(kube: KubeHarness) -> None:
    """Kubernetes has variables of its own in commands and values."""
    odd = "$(YUNHE_LEASE) $$ $x $$(A)"
    status, log = kube.do("a", ("sh", "-c", 'printf "%s|" "$0" "$ODD"', odd), env={"ODD": odd})
    assert (status.exit_code, log.strip()) == (0, f"{odd}|{odd}|")


def test_secrets_are_files_and_leave_the_store(cluster: Cluster, kubeconfig: Any, tmp_path: Any) -> None:
    made = KubeHarness(cluster, kubeconfig, tmp_path, deliver_secrets=True)
    try:
        plain = made.job("a", ("sh", "-c", 'cat "$YUNHE_SECRETS/TOKEN"; sleep 5'), secrets=("TOKEN",))
        job = Job(plain.lease, plain.contact_ms, {}, {"TOKEN": b"correct horse"})
        made.run(made.driver.submit(job))
        made.until(job.key, Phase.STARTED)
        assert "correct horse" not in json.dumps(made.pods(job.key))
        path = f"/api/v1/namespaces/{made.namespace}/secrets/{made.name(job.key)}-s"
        made.eventually(lambda: made.there(path) is None)
        made.eventually(lambda: b"correct horse" in made.log(job.key))
        for file in made.data_dir.rglob("*"):
            if file.name not in ("log",) and file.is_file():
                assert b"correct horse" not in file.read_bytes(), file
    finally:
        made.close()


def test_nothing_is_left_of_a_forgotten_lease(kube: KubeHarness) -> None:
    key = kube.submit("a", ("true",), files={"x": "y"})
    kube.ended(key)
    secret = f"/api/v1/namespaces/{kube.namespace}/secrets/{kube.name(key)}"
    assert kube.there(secret)
    kube.run(kube.driver.forget(key))
    kube.eventually(lambda: kube.there(kube.path(key)) is None and kube.there(secret) is None and not kube.pods(key))
    assert not kube.lease_dir(key).exists()
    assert key not in kube.run(kube.driver.known())


def test_what_is_kept_is_kept_from_others(kube: KubeHarness) -> None:
    key = kube.submit("a", kube.command(), env={"PASSWORD": "hidden"})
    kube.ended(key)
    assert stat.S_IMODE(kube.lease_dir(key).stat().st_mode) == 0o700


# --- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes, why",
    [
        ({"pool": "h100"}, "no pool 'h100'"),
        ({"outputs": ("result.txt",)}, "no outputs"),
        ({"slots": 2}, "1.24"),
        ({"slot_milli": 20_000}, "more than the pool has"),
    ],
)
def test_an_order_that_cannot_run_here_is_refused(kube: KubeHarness, changes: dict[str, Any], why: str) -> None:
    job = kube.job("a", ("true",), **changes)
    with pytest.raises(SpawnFailed, match=why):
        kube.run(kube.driver.submit(job))
    assert kube.status(job.key).phase is Phase.ABSENT


def test_images_that_the_site_does_not_run(cluster: Cluster, kubeconfig: Any, tmp_path: Any) -> None:
    made = KubeHarness(cluster, kubeconfig, tmp_path, images=(), allow_images=("registry.example/*",))
    try:
        for image, why in (("", "names no image"), ("elsewhere/miner", "does not run the image")):
            with pytest.raises(SpawnFailed, match=why):
                made.run(made.driver.submit(made.job("a", ("true",), image=image)))
        assert made.do("b", ("true",), image="registry.example/x:1")[0].exit_code == 0
    finally:
        made.close()


def test_an_image_that_cannot_be_pulled(kube: KubeHarness) -> None:
    status, _ = kube.do("a", ("true",), image="registry.example/missing:1")
    assert (status.reason, status.started, status.totals) == (EndReason.SPAWN_FAILED, False, None)
    assert "ImagePullBackOff" in status.detail


def test_a_quota_that_is_used_up_ends_in_words(cluster: Cluster, kubeconfig: Any, tmp_path: Any) -> None:
    made = KubeHarness(cluster, kubeconfig, tmp_path, tenant_quota=("pods=0",), start_ms=1_500)
    try:
        status, _ = made.do("a", ("true",))
        assert (status.reason, status.started) == (EndReason.SPAWN_FAILED, False)
        assert "exceeded quota" in status.detail
    finally:
        made.close()


# --- how it ends --------------------------------------------------------------------------------------------------


def test_over_its_memory(kube: KubeHarness) -> None:
    grow = "x=a; while true; do x=$x$x; done"
    status, _ = kube.do("a", ("sh", "-c", grow))
    assert (status.reason, status.exit_code, status.started) == (EndReason.MEMORY_LIMIT, 137, True)


def test_the_cancel_is_a_signal_first(kube: KubeHarness) -> None:
    key = kube.submit("a", ("sh", "-c", "trap 'echo saved; exit 5' TERM; echo up; sleep 30 & wait"))
    kube.eventually(lambda: b"up" in kube.log(key))
    kube.run(kube.driver.cancel(key, EndReason.CANCELLED))
    status = kube.ended(key)
    assert (status.reason, status.exit_code) == (EndReason.CANCELLED, 5)
    assert status.totals is not None and status.totals.wall_ms > 0


@pytest.mark.parametrize(
    "said, reason, words",
    [
        (
            {"reason": "Evicted", "message": "The node was low on resource: memory."},
            EndReason.SUPERVISOR_LOST,
            "low on",
        ),
        ({"reason": "Evicted", "message": "Pod ephemeral local storage usage exceeds"}, EndReason.EXITED, "disk space"),
        ({"reason": "DeadlineExceeded", "message": "Pod was active too long"}, EndReason.TIME_LIMIT, "run limit"),
    ],
)
def test_a_pod_that_its_node_ended(kube: KubeHarness, said: dict[str, str], reason: EndReason, words: str) -> None:
    key = kube.submit("a", kube.command(run_ms=20_000))
    kube.until(key, Phase.STARTED)
    kube.set_pod(key, {"phase": "Failed", **said})
    status = kube.ended(key)
    assert status.reason is reason and words in status.detail and status.started


def test_deleted_by_others(kube: KubeHarness) -> None:
    key = kube.submit("a", kube.command(run_ms=20_000))
    kube.until(key, Phase.STARTED)
    kube.cluster.call("DELETE", f"{kube.path(key)}?propagationPolicy=Background")
    status = kube.ended(key)
    assert status.reason is EndReason.SUPERVISOR_LOST and "deleted by others" in status.detail
    assert status.totals is not None and status.totals.wall_ms < 15_000


def test_a_pod_deleted_by_others_ends_its_job(kube: KubeHarness) -> None:
    """This version of Kubernetes makes the pod anew at once; from 1.28 on the failure policy of the Job forbids it."""
    key = kube.submit("a", ("sh", "-c", "echo run; sleep 20"))
    kube.eventually(lambda: kube.log(key) == b"run\n")
    (pod,) = kube.pods(key)
    kube.cluster.call("DELETE", f"/api/v1/namespaces/{kube.namespace}/pods/{pod['metadata']['name']}")
    status = kube.ended(key)
    assert status.reason is EndReason.SUPERVISOR_LOST and "by others" in status.detail
    kube.eventually(lambda: kube.there(kube.path(key)) is None and not kube.pods(key))


def test_a_job_that_ended_before_it_was_deleted_ended_well(kube: KubeHarness) -> None:
    key = kube.submit("a", kube.command(say="done"))
    kube.ended(key)
    assert kube.log(key) == b"done\n"
    kube.cluster.call("DELETE", f"{kube.path(key)}?propagationPolicy=Background")
    kube.eventually(lambda: kube.there(kube.path(key)) is None)
    kube.reopen()
    status = kube.status(key)
    assert (status.phase, status.reason, status.exit_code) == (Phase.ENDED, EndReason.EXITED, 0)
    assert kube.log(key) == b"done\n"


def test_an_agent_that_stays_away_ends_its_jobs(kube: KubeHarness) -> None:
    """The deadline of the Job is a dead man's switch: nobody moves it on any more."""
    key = kube.submit("a", kube.command(run_ms=60_000), disconnect_limit_ms=3_000, run_limit_ms=60_000)
    kube.until(key, Phase.STARTED)
    kube.run(kube.driver.close())
    path = kube.path(key)
    until_failed(kube, path)
    kube.reopen_closed()
    status = kube.ended(key)
    assert status.reason is EndReason.DISCONNECTED and status.started


def until_failed(kube: KubeHarness, path: str) -> None:
    def failed() -> bool:
        job = kube.there(path)
        return bool(job and any(c["type"] == "Failed" for c in job["status"].get("conditions", ())))

    kube.cluster.until(failed, "end the job")


def test_the_deadline_is_moved_on_while_the_hub_is_heard(kube: KubeHarness) -> None:
    key = kube.submit("a", kube.command(run_ms=60_000), disconnect_limit_ms=8_000, run_limit_ms=60_000)
    kube.until(key, Phase.STARTED)
    job = kube.there(kube.path(key))
    assert job is not None
    first = job["spec"]["activeDeadlineSeconds"]
    assert first <= 8

    def moved() -> bool:
        kube.hear()
        now = kube.there(kube.path(key))
        return now is not None and now["spec"]["activeDeadlineSeconds"] > first

    kube.eventually(moved)
    assert kube.status(key).phase is Phase.STARTED


# --- what it used -------------------------------------------------------------------------------------------------


def test_use_is_measured_where_there_are_metrics(kube: KubeHarness) -> None:
    key = kube.submit("a", ("sh", "-c", f"{BURN}; {BURN}; sleep 20"), slot_milli=1000)
    kube.until(key, Phase.STARTED)

    def measured() -> bool:
        totals = kube.status(key).totals
        return totals is not None and totals.peak_memory_bytes > 0 and totals.cpu_ms > 500

    kube.eventually(measured, 30)
    totals = kube.status(key).totals
    assert totals is not None and totals.sampled and totals.cpu_ms <= totals.wall_ms * 1.5


def test_what_others_hold_is_not_free(kube: KubeHarness) -> None:
    (before,) = kube.run(kube.driver.foreign())
    pod = {
        "metadata": {"name": "theirs"},
        "spec": {
            "nodeName": "n1",
            "containers": [
                {
                    "name": "job",
                    "image": IMAGE,
                    "command": ["sleep", "60"],
                    "resources": {
                        "requests": {"cpu": "1500m", "memory": "1Gi"},
                        "limits": {"cpu": "2", "memory": "1073741824"},
                    },
                }
            ],
        },
    }
    kube.cluster.call("POST", "/api/v1/namespaces/default/pods", pod)

    def foreign() -> tuple[int, int]:
        (now,) = kube.run(kube.driver.foreign())
        return now.foreign_milli - before.foreign_milli, now.foreign_memory_bytes - before.foreign_memory_bytes

    try:
        kube.eventually(lambda: foreign() == (1500, 1 << 30))
        key = kube.submit("a", kube.command(run_ms=20_000))
        kube.until(key, Phase.STARTED)
        assert foreign() == (1500, 1 << 30)  # our own are not foreign
    finally:
        kube.cluster.call("DELETE", "/api/v1/namespaces/default/pods/theirs?gracePeriodSeconds=0")
    kube.eventually(lambda: foreign() == (0, 0))


def test_kueue_is_used_where_it_is(cluster: Cluster, kubeconfig: Any, tmp_path: Any) -> None:
    """Its API group and objects are real here, what would admit jobs is not installed."""
    cluster.apply(custom("kueue.x-k8s.io", "v1beta1", "LocalQueue", "localqueues"))
    cluster.until(lambda: "kueue.x-k8s.io" in json.dumps(cluster.call("GET", "/apis")), "serve the group")
    made = KubeHarness(cluster, kubeconfig, tmp_path, cluster_queue="science")
    try:
        key = made.submit("a", ("true",))
        queues = f"/apis/kueue.x-k8s.io/v1beta1/namespaces/{made.namespace}/localqueues/yunhe"
        queue, job = made.there(queues), made.there(made.path(key))
        assert queue is not None and queue["spec"]["clusterQueue"] == "science"
        assert job is not None and job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "yunhe"
        made.ended(key)
    finally:
        made.close()
