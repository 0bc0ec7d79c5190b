"""A site on the Kubernetes that the tests share; it has no rights but those of deploy/kubernetes/rbac.yaml."""

import time
import urllib.error
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tests.drivers.harness import QUICK, Harness
from tests.engines.kubernetes import ROOT, Cluster
from yunhe.site.drivers.contract import Job, LeaseKey, Phase
from yunhe.site.drivers.kubernetes.driver import KubernetesDriver
from yunhe.site.drivers.kubernetes.manifest import job_name, site_tag
from yunhe.site.drivers.kubernetes.shared import SharedKubernetesDriver
from yunhe.site.drivers.kubernetes.tenant import namespace_of
from yunhe.site.settings import KubernetesSettings
from yunhe.site.supervisor.records import boottime_ms

RBAC = ROOT / "deploy" / "kubernetes" / "rbac.yaml"
TOKENS = "/api/v1/namespaces/yunhe-system/serviceaccounts/yunhe-agent/token"
IMAGE = "registry.example/busybox:1"
QUICK_KUBERNETES = KubernetesSettings(
    images=(f"cpu={IMAGE}",),
    watch_ms=1_000,
    stale_ms=4_000,
    request_limit_ms=3_000,
    tend_ms=20,
    vanished_ms=600,
    pull_ms=300,
    start_ms=20_000,
    lost_ms=4_000,
    log_ms=100,
    metrics_ms=300,
)


def install(cluster: Cluster) -> Path:
    """What an administrator does once: the shipped rights, and a kubeconfig with the account's token."""
    for document in yaml.safe_load_all(RBAC.read_text()):
        cluster.apply(document)
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 86_400}}
    token = cluster.call("POST", TOKENS, body)["status"]["token"]
    path = cluster.folder / "agent.kubeconfig"
    cluster.write_kubeconfig(path, {"token": token})
    return path


class KubeHarness(Harness):
    def __init__(self, cluster: Cluster, kubeconfig: Path, tmp_path: Path, **changes: Any) -> None:
        self.cluster = cluster
        self.site_id = f"test-{uuid.uuid4().hex[:8]}"
        self.tenant = f"tenant of {self.site_id}"
        self.settings = QUICK_KUBERNETES.model_copy(update={"kubeconfig": kubeconfig, **changes})
        data_dir = tmp_path / "site"
        data_dir.mkdir(mode=0o700, exist_ok=True)

        def make() -> KubernetesDriver:
            kind = KubernetesDriver if self.settings.shared_dir is None else SharedKubernetesDriver
            return kind(QUICK, self.settings, self.site_id, data_dir)

        super().__init__(make, scripted=False, data_dir=data_dir)

    def reopen_closed(self) -> None:
        """The agent comes back after it was stopped."""
        self.driver = self._make()
        self.run(self.driver.open())

    def hear(self) -> None:
        """As the agent does when the hub has answered."""
        (self.data_dir / "contact").write_text(str(boottime_ms()))

    # --- words for tests ------------------------------------------------------------------------------------------

    def job(self, lease_id: str, command: tuple[str, ...], files: dict[str, str] | None = None, **changes: Any) -> Job:
        return super().job(lease_id, command, files, **{"tenant": self.tenant, **changes})

    @property
    def namespace(self) -> str:
        return namespace_of(self.settings.namespace_prefix, self.tenant)

    def name(self, key: LeaseKey) -> str:
        return job_name(site_tag(self.site_id), key)

    def path(self, key: LeaseKey) -> str:
        return f"/apis/batch/v1/namespaces/{self.namespace}/jobs/{self.name(key)}"

    def there(self, path: str) -> dict[str, Any] | None:
        """As the administrator sees it; None for what is not there."""
        try:
            return self.cluster.call("GET", path)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise

    def pods(self, key: LeaseKey) -> list[dict[str, Any]]:
        path = f"/api/v1/namespaces/{self.namespace}/pods?labelSelector=yunhe-lease%3D{self.name(key)}"
        found: list[dict[str, Any]] = self.cluster.call("GET", path)["items"]
        return found

    def set_pod(self, key: LeaseKey, status: dict[str, Any]) -> None:
        """What a kubelet would say of its first pod."""
        (pod, *_) = self.pods(key)
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod['metadata']['name']}/status"
        self.cluster.call("PATCH", path, {"status": status}, "application/strategic-merge-patch+json")

    def eventually(self, reached: Callable[[], object], timeout_s: float = 15) -> None:
        """Waits for it, and lets the driver work meanwhile."""
        end = time.monotonic() + timeout_s
        while not reached():
            assert time.monotonic() < end, "it did not come to that"
            self.run(self.driver.changed(20))

    def until(self, key: LeaseKey, phase: Phase, timeout_s: float = 30) -> Any:
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            status = self.status(key)
            if status.phase is phase:
                return status
            # The driver's watches live in this loop: it has to run.
            self.run(self.driver.changed(5))
        raise AssertionError(f"{key} is not {phase} within {timeout_s} s: {self.status(key)}, {self.log(key)!r}")
