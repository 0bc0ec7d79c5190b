"""What is sent to newer servers, checked against the API of Kubernetes 1.28 as its own specification has it (the
generated models of lightkube-models): every field exists there, and has that type. What a server does with it is not
checked here; the cluster of the live tests is older and knows neither indexed Jobs nor failure policies."""

import typing
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from lightkube.models import apps_v1, batch_v1, core_v1, networking_v1, rbac_v1, scheduling_v1

from tests.drivers.harness import QUICK
from tests.fakes.fake_hub import start_lease
from yunhe.site.drivers.contract import Job
from yunhe.site.drivers.kubernetes.client import Object
from yunhe.site.drivers.kubernetes.manifest import Objects, Planner
from yunhe.site.drivers.kubernetes.supply import KubePool, pools
from yunhe.site.drivers.kubernetes.tenant import Tenants, binding, closed, limits
from yunhe.site.drivers.kubernetes.views import NodeView
from yunhe.site.settings import KubernetesSettings
from yunhe.wire.link import CheckpointPlan

DEPLOY = Path(__file__).parents[2] / "deploy" / "kubernetes"
SETTINGS = KubernetesSettings(images=("cpu=busybox", "cuda=cuda", "unknown=any"), cluster_queue="science")
KINDS: dict[str, Any] = {
    "Job": batch_v1.Job,
    "Secret": core_v1.Secret,
    "Service": core_v1.Service,
    "NetworkPolicy": networking_v1.NetworkPolicy,
    "Namespace": core_v1.Namespace,
    "ResourceQuota": core_v1.ResourceQuota,
    "LimitRange": core_v1.LimitRange,
    "RoleBinding": rbac_v1.RoleBinding,
    "ClusterRole": rbac_v1.ClusterRole,
    "ClusterRoleBinding": rbac_v1.ClusterRoleBinding,
    "ServiceAccount": core_v1.ServiceAccount,
    "Deployment": apps_v1.Deployment,
    "PriorityClass": scheduling_v1.PriorityClass,
}


def check(value: Any, kind: Any, path: str) -> None:
    """Raises AssertionError for a field that the kind does not have, or that is of another type."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Union:
        kinds = [one for one in inner if one is not type(None)]
        check(value, kinds[0] if len(kinds) == 1 else type(value), path)
    elif origin is list:
        assert isinstance(value, list), path
        for number, one in enumerate(value):
            check(one, inner[0], f"{path}[{number}]")
    elif isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        assert isinstance(value, dict), path
        fields = {one.encode_name: one for one in msgspec.structs.fields(kind)}
        for name, one in value.items():
            assert name in fields, f"{path}.{name} is not in the API"
            check(one, fields[name].type, f"{path}.{name}")
        for name, field in fields.items():
            assert name in value or not field.required, f"{path}.{name} is required"
    elif origin is dict or kind is dict:
        assert isinstance(value, dict), path
    elif kind in (str, int, bool, float):
        assert type(value) is kind, f"{path}: {value!r} is no {kind.__name__}"


def check_object(body: Object) -> None:
    check(body, KINDS[body["kind"]], body["kind"])


def node(name: str, cards: dict[str, str], labels: dict[str, str]) -> NodeView:
    status = {
        "allocatable": {"cpu": "64", "memory": "512Gi", **cards},
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    return NodeView.of({"metadata": {"name": name, "labels": labels}, "status": status})


POOLS = pools(
    [node("a", {"nvidia.com/gpu": "8"}, {"nvidia.com/gpu.product": "NVIDIA-H20"}), node("b", {}, {})], SETTINGS, QUICK
)


def pool(name: str) -> KubePool:
    return next(one for one in POOLS if one.report.name == name)


def planned(
    minor: int = 28, pool_name: str = "cpu", settings: KubernetesSettings = SETTINGS, **changes: Any
) -> Objects:
    files, secrets = changes.pop("files", {}), changes.pop("secrets", {})
    lease = start_lease("a", ("sh", "-c", "true"), pool=pool_name, **changes)
    planner = Planner(QUICK, settings, "tag", minor, kueue=True)
    return planner.plan(Job(lease, 0, files, secrets), pool(pool_name), "yunhe-x", 60)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"files": {"a/b.txt": "x"}, "secrets": {"TOKEN": b"x"}, "network": True, "env": {"A": "b"}},
        {"slots": 4},
        {"slots": 2, "pool_name": "nvidia-h20", "slot_milli": 4000, "network": True},
    ],
)
def test_a_lease_is_what_the_api_knows(changes: dict[str, Any]) -> None:
    objects = planned(**changes)
    check_object(objects.job)
    for _, body in objects.before:
        check_object(body)


@pytest.mark.parametrize("volume", ["nfs:server:/export", "host:/shared"])
def test_a_shared_folder_is_what_the_api_knows(volume: str) -> None:
    settings = SETTINGS.model_copy(update={"shared_dir": Path("/shared"), "shared_volume": volume})
    body = planned(settings=settings, outputs=("x",)).job
    check_object(body)
    (mount,) = body["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    assert mount["subPath"] == "leases/a.1/job"  # nobody else's


def test_a_gang_is_one_indexed_job() -> None:
    spec = planned(slots=4).job["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 4, 4)
    env = {one["name"]: one for one in spec["template"]["spec"]["containers"][0]["env"]}
    assert env["YUNHE_SIZE"]["value"] == "4"
    assert "job-completion-index" in env["YUNHE_RANK"]["valueFrom"]["fieldRef"]["fieldPath"]
    name = planned(slots=4).job["metadata"]["name"]
    assert env["YUNHE_RANK0_HOST"]["value"] == f"{name}-0.{name}"


def test_a_pod_that_is_taken_away_is_not_made_anew() -> None:
    (rule,) = planned().job["spec"]["podFailurePolicy"]["rules"]
    assert rule["action"] == "FailJob" and rule["onPodConditions"][0]["type"] == "DisruptionTarget"
    assert "podFailurePolicy" not in planned(minor=24).job["spec"]


def test_cards_are_asked_for_by_their_vendors_name() -> None:
    spec = planned(pool_name="nvidia-h20", slot_milli=2000).job["spec"]["template"]["spec"]
    assert spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert spec["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-H20"}
    assert spec["containers"][0]["image"] == "cuda"


def test_a_job_that_saves_its_work_is_told_in_time() -> None:
    plan = CheckpointPlan(signal="SIGUSR1", folder="kept", cap_bytes=1)
    lease = start_lease("a", ("true",), pool="cpu", checkpoint=plan, disconnect_limit_ms=40_000)
    settings = SETTINGS.model_copy(update={"priority_class": "yunhe-lent"})
    planner = Planner(QUICK, settings, "tag", 28)
    for notice_ms, grace_s in ((7_500, 8), (90_000, 20)):  # half of the disconnect limit at most
        body = planner.plan(Job(lease, 0, notice_ms=notice_ms), pool("cpu"), "yunhe-x", 60).job
        check_object(body)
        spec = body["spec"]["template"]["spec"]
        assert (spec["terminationGracePeriodSeconds"], spec["priorityClassName"]) == (grace_s, "yunhe-lent")
        assert "kill -USR1" in spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][2]
        assert {"name": "YUNHE_CHECKPOINT", "value": "/job/kept"} in spec["containers"][0]["env"]
    plain = planned().job["spec"]["template"]["spec"]
    assert "lifecycle" not in plain["containers"][0] and plain["terminationGracePeriodSeconds"] == 1


def test_a_tenants_namespace_is_what_the_api_knows() -> None:
    tenants = Tenants(None, SETTINGS)  # type: ignore[arg-type] - nothing is sent
    bodies = [tenants.namespace("yunhe-x"), tenants.quota(POOLS), tenants.opened(), closed(), limits()]
    for body in (*bodies, binding("yunhe-system", "yunhe-agent")):
        check_object(body)
    assert tenants.quota(POOLS)["spec"]["hard"]["requests.nvidia.com/gpu"] == "8"
    assert tenants.namespace("x")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("file", ["rbac.yaml", "agent.yaml", "priority.yaml"])
def test_the_shipped_manifests_are_what_the_api_knows(file: str) -> None:
    for document in yaml.safe_load_all((DEPLOY / file).read_text()):
        check_object(document)


def test_the_check_can_fail() -> None:
    body = planned().job
    body["spec"]["completionMod"] = "Indexed"
    with pytest.raises(AssertionError, match="completionMod is not in the API"):
        check_object(body)
    with pytest.raises(AssertionError, match="no int"):
        check_object({**planned().job, "spec": {**planned().job["spec"], "backoffLimit": "0"}})
