"""A tenant's namespace and what holds the tenant in it. Made when the tenant's first lease comes; what is there is
left as it is, so that a site's administrator may change it."""

import asyncio
import hashlib
import time
from collections.abc import Iterable

from yunhe.core.errors import Unavailable
from yunhe.site.drivers.kubernetes.client import KubeClient, Object, Refusal
from yunhe.site.drivers.kubernetes.manifest import LOCAL_QUEUE, MANAGED, names
from yunhe.site.drivers.kubernetes.supply import KubePool, pairs
from yunhe.site.drivers.kubernetes.views import NETWORK
from yunhe.site.settings import KubernetesSettings

ROLE = "yunhe-tenant"
QUOTA_WAIT_S, RIGHTS_WAIT_S = 10.0, 5.0
LOOK_S = 0.05
PODS = "1000"
KUEUE = "kueue.x-k8s.io"
KUEUE_VERSION = "v1beta1"


def namespace_of(prefix: str, tenant: str) -> str:
    """A DNS label; the tenant's own name does not show in it."""
    return f"{prefix}-{hashlib.sha256(tenant.encode()).hexdigest()[:16]}"


class Tenants:
    """Namespaces that this process has seen to."""

    def __init__(self, client: KubeClient, settings: KubernetesSettings) -> None:
        self._client = client
        self._settings = settings
        self._seen: set[str] = set()
        self._turn = asyncio.Lock()

    async def ensure(self, tenant: str, pools: Iterable[KubePool], kueue: bool) -> bool:
        """True: nothing was done, it was seen to before. Raises Refusal when the agent's rights do not reach,
        Unavailable when it takes long."""
        name = namespace_of(self._settings.namespace_prefix, tenant)
        async with self._turn:
            if name in self._seen:
                return True
            await self._make(name, tuple(pools), kueue)
            self._seen.add(name)
        return False

    def forget(self, tenant: str) -> None:
        """It is looked at again for the next lease."""
        self._seen.discard(namespace_of(self._settings.namespace_prefix, tenant))

    async def _make(self, name: str, pools: tuple[KubePool, ...], kueue: bool) -> None:
        client, base = self._client, f"/api/v1/namespaces/{name}"
        policies = f"/apis/networking.k8s.io/v1/namespaces/{name}/networkpolicies"
        await client.create("/api/v1/namespaces", self.namespace(name))
        if account := client.account():
            bindings = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{name}/rolebindings"
            await client.create(bindings, binding(*account))
        # The network is closed before anything can run there.
        await self._soon_allowed(policies, closed())
        await client.create(policies, self.opened())
        await client.create(f"{base}/limitranges", limits())
        await client.create(f"{base}/resourcequotas", self.quota(pools))
        if kueue:
            path = f"/apis/{KUEUE}/{KUEUE_VERSION}/namespaces/{name}/localqueues"
            await client.create(path, self.local_queue())
        await self._ready(base)

    async def _soon_allowed(self, path: str, body: Object) -> None:
        """The server needs a moment to know of a right that was just given."""
        until = time.monotonic() + RIGHTS_WAIT_S
        while True:
            try:
                await self._client.create(path, body)
                return
            except Refusal as refusal:
                if refusal.status != 403 or time.monotonic() > until:
                    raise
            await asyncio.sleep(LOOK_S)

    async def _ready(self, base: str) -> None:
        """Until the quota is counted: before that every pod is refused, and the next try comes 10 s later."""
        for _ in range(round(QUOTA_WAIT_S / LOOK_S)):
            quota = await self._client.get(f"{base}/resourcequotas/yunhe")
            if (quota.get("status") or {}).get("hard"):
                return
            await asyncio.sleep(LOOK_S)
        raise Unavailable(f"the quota of {base} is not counted: does the cluster's controller manager run?")

    def namespace(self, name: str) -> Object:
        """Pod security as strict as the shared folder's kind of volume allows."""
        volume = (self._settings.shared_volume or "").partition(":")[0]
        level = {"": "restricted", "nfs": "baseline", "host": "privileged"}[volume]
        labels = {**MANAGED, "pod-security.kubernetes.io/enforce": level}
        return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}

    def quota(self, pools: tuple[KubePool, ...]) -> Object:
        """All that is offered, and none of what a job has no business with."""
        hard = {"pods": PODS, "services.loadbalancers": "0", "services.nodeports": "0", "persistentvolumeclaims": "0"}
        for pool in pools:
            if pool.device:
                name = f"requests.{pool.device}"
                hard[name] = str(int(hard.get(name, "0")) + pool.report.capacity_milli // 1000)
        cores = sum(_cores(pool) for pool in pools)
        hard["requests.cpu"] = hard["limits.cpu"] = f"{cores}m"
        hard["requests.memory"] = hard["limits.memory"] = str(sum(pool.report.memory_bytes for pool in pools))
        hard.update(pairs(self._settings.tenant_quota))
        return {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "yunhe", "labels": MANAGED},
            "spec": {"hard": hard},
        }

    def opened(self) -> Object:
        """For jobs with network: the outside world and its names, not the cluster and the centre."""
        outside = {"ipBlock": {"cidr": "0.0.0.0/0", "except": list(self._settings.network_except)}}
        return {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "yunhe-open", "labels": MANAGED},
            "spec": {
                "podSelector": {"matchLabels": {NETWORK: "open"}},
                "policyTypes": ["Egress"],
                "egress": [{"to": [outside]}, names()],
            },
        }

    def local_queue(self) -> Object:
        return {
            "apiVersion": f"{KUEUE}/{KUEUE_VERSION}",
            "kind": "LocalQueue",
            "metadata": {"name": LOCAL_QUEUE, "labels": MANAGED},
            "spec": {"clusterQueue": self._settings.cluster_queue},
        }


def binding(namespace: str, name: str) -> Object:
    """The agent's own rights in the namespace; what it may give itself is this role and no other."""
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "yunhe-agent", "labels": MANAGED},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": ROLE},
        "subjects": [{"kind": "ServiceAccount", "namespace": namespace, "name": name}],
    }


def closed() -> Object:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "yunhe-closed", "labels": MANAGED},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
    }


def limits() -> Object:
    """For pods that somebody else makes there; those of leases state all of it."""
    item = {
        "type": "Container",
        "default": {"cpu": "1", "memory": "1Gi"},
        "defaultRequest": {"cpu": "100m", "memory": "128Mi"},
    }
    return {
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": {"name": "yunhe", "labels": MANAGED},
        "spec": {"limits": [item]},
    }


def _cores(pool: KubePool) -> int:
    milli = pool.report.capacity_milli
    return milli * pool.cores_per_card if pool.device else milli
