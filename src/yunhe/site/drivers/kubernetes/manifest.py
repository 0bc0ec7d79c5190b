"""A lease as objects of Kubernetes: one Job, a Secret for its files, and for a gang what lets its ranks meet."""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from yunhe.site.drivers.contract import Job, LeaseKey, SpawnFailed
from yunhe.site.drivers.kubernetes.client import Object
from yunhe.site.drivers.kubernetes.supply import KubePool, pairs
from yunhe.site.drivers.kubernetes.views import KEY, LEASE, NETWORK, RANK, SITE
from yunhe.site.drivers.nodes.chips import UNIT
from yunhe.site.settings import DriverSettings, KubernetesSettings

JOB_DIR = "/job"
SECRETS_DIR = "/run/secrets"
MANAGED = {"app.kubernetes.io/managed-by": "yunhe"}
INDEXED_MINOR = 24  # gangs: ranks of an indexed Job
POLICY_MINOR = 28  # pod failure policies by default, and the first version that is supported as a whole
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
MAX_FILES_BYTES = 1_000_000  # of a Secret, which may have 1 MiB
QUEUE = "kueue.x-k8s.io/queue-name"
LOCAL_QUEUE = "yunhe"


def site_tag(site_id: str) -> str:
    """A label value; the site's id may have characters that a label may not."""
    return hashlib.sha256(site_id.encode()).hexdigest()[:16]


def job_name(tag: str, key: LeaseKey) -> str:
    """The same for the same lease and epoch for ever: that is why a second create does nothing. 42 characters."""
    return f"y-{hashlib.sha256(f'{tag} {key}'.encode()).hexdigest()[:40]}"


def grace_of(job: Job, driver: DriverSettings) -> int:
    """From SIGTERM to SIGKILL, in ms: a job that saves its work has the site's notice, and half of its disconnect
    limit at most, because Kubernetes gives it that time however it is ended."""
    notice_ms = job.notice_ms if job.lease.checkpoint else 0
    return max(driver.term_grace_ms, min(notice_ms, job.lease.disconnect_limit_ms // 2))


@dataclass(frozen=True, slots=True)
class Size:
    """Of one slot."""

    cpu_milli: int
    cards: int
    memory_bytes: int


def size_of(job: Job, pool: KubePool) -> Size:
    """Raises SpawnFailed for what would wait for ever."""
    lease, report = job.lease, pool.report
    if lease.slot_milli > report.max_slot_milli or lease.slots * lease.slot_milli > report.capacity_milli:
        raise SpawnFailed(f"{lease.slots} x {lease.slot_milli} milli-units are more than the pool has")
    memory = lease.slot_memory_bytes or report.memory_bytes * lease.slot_milli // report.capacity_milli
    if not pool.device:
        return Size(lease.slot_milli, 0, memory)
    if lease.slot_milli % UNIT:
        raise SpawnFailed("Kubernetes gives whole cards only")
    cards = lease.slot_milli // UNIT
    return Size(max(1, cards * pool.cores_per_card) * UNIT, cards, memory)


@dataclass(frozen=True, slots=True)
class Objects:
    """What a lease consists of, in the order in which it is made: (path of the collection, object)."""

    before: tuple[tuple[str, Object], ...]
    job: Object


@dataclass(frozen=True, slots=True)
class Planner:
    """Everything that is the same for all leases of a site. `minor`: the server's version 1.MINOR."""

    driver: DriverSettings
    kubernetes: KubernetesSettings
    tag: str
    minor: int = 0
    kueue: bool = False

    def plan(self, job: Job, pool: KubePool, namespace: str, deadline_s: int) -> Objects:
        """Raises SpawnFailed for what this cluster cannot run."""
        lease = job.lease
        name = job_name(self.tag, job.key)
        size, image = size_of(job, pool), self.image(job, pool)
        if lease.slots > 1 and self.minor < INDEXED_MINOR:
            raise SpawnFailed(f"a gang needs Kubernetes 1.{INDEXED_MINOR}; this is 1.{self.minor}")
        if lease.outputs and self.kubernetes.shared_dir is None:
            raise SpawnFailed("this site has no folder that it shares with its nodes, and so no outputs")
        shared = self.kubernetes.shared_dir is not None
        before: list[tuple[str, Object]] = []
        base = f"/api/v1/namespaces/{namespace}"
        if job.files and not shared:
            before.append((f"{base}/secrets", self._secret(job, name, _encoded(job.files))))
        if job.secrets:
            values = {key: base64.b64encode(value).decode() for key, value in job.secrets.items()}
            before.append((f"{base}/secrets", self._secret(job, f"{name}-s", values)))
        if lease.slots > 1:
            before.append((f"{base}/services", self._service(job, name)))
            policies = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies"
            before.append((policies, self._among_ranks(job, name)))
        return Objects(tuple(before), self._job(job, pool, size, image, deadline_s))

    def image(self, job: Job, pool: KubePool) -> str:
        stack = pool.report.stack
        image = job.lease.image or pairs(self.kubernetes.images).get(stack, "")
        if not image:
            raise SpawnFailed(f"the order names no image, and this site has none for {stack}")
        allowed = self.kubernetes.allow_images
        if allowed and not any(fnmatchcase(image, pattern) for pattern in allowed):
            raise SpawnFailed(f"this site does not run the image {image!r}")
        return image

    def _labels(self, job: Job, name: str) -> Object:
        network = {NETWORK: "open"} if job.lease.network else {}
        return {**MANAGED, SITE: self.tag, LEASE: name, **network}

    def _meta(self, job: Job, name: str) -> Object:
        labels = self._labels(job, job_name(self.tag, job.key))
        return {"name": name, "labels": labels, "annotations": {KEY: str(job.key)}}

    def _secret(self, job: Job, name: str, data: Mapping[str, str]) -> Object:
        if sum(len(text) * 3 // 4 for text in data.values()) > MAX_FILES_BYTES:
            raise SpawnFailed(
                f"its files are more than {MAX_FILES_BYTES} bytes; this site has no shared folder for more"
            )
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": self._meta(job, name),
            "type": "Opaque",
            "data": dict(data),
        }

    def _service(self, job: Job, name: str) -> Object:
        """Without an address of its own: it gives the ranks their names."""
        return {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": self._meta(job, name),
            "spec": {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": {LEASE: name}},
        }

    def _among_ranks(self, job: Job, name: str) -> Object:
        peer = [{"podSelector": {"matchLabels": {LEASE: name}}}]
        return {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": self._meta(job, name),
            "spec": {
                "podSelector": {"matchLabels": {LEASE: name}},
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [{"from": peer}],
                "egress": [{"to": peer}, names()],
            },
        }

    def _job(self, job: Job, pool: KubePool, size: Size, image: str, deadline_s: int) -> Object:
        lease, name = job.lease, job_name(self.tag, job.key)
        meta = self._meta(job, name)
        if self.kueue:
            meta["labels"] = {**meta["labels"], QUEUE: LOCAL_QUEUE}
        spec: Object = {
            "parallelism": lease.slots,
            "completions": lease.slots,
            "backoffLimit": 0,
            # The dead man's switch: the agent moves it on for as long as it hears the hub.
            "activeDeadlineSeconds": deadline_s,
            "ttlSecondsAfterFinished": self.kubernetes.keep_ms // 1000,
            "template": {
                "metadata": {"labels": self._labels(job, name), "annotations": {KEY: str(job.key)}},
                "spec": self._pod(job, pool, size, image),
            },
        }
        if lease.slots > 1:
            spec["completionMode"] = "Indexed"
        if self.minor >= POLICY_MINOR:
            # A pod that the cluster takes away is never made anew: one lease epoch runs at most once.
            rule = {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
            spec["podFailurePolicy"] = {"rules": [rule]}
        return {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": spec}

    def _pod(self, job: Job, pool: KubePool, size: Size, image: str) -> Object:
        lease, kubernetes = job.lease, self.kubernetes
        volumes, mounts = self._volumes(job, pool, size)
        selector = pairs(kubernetes.node_selector)
        if pool.product:
            selector[pool.product[0]] = pool.product[1]
        uid = kubernetes.job_uid
        # A backstop by the node for an agent that is away; the agent itself counts from the start of the command.
        backstop_ms = lease.run_limit_ms + kubernetes.start_ms
        pod: Object = {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "activeDeadlineSeconds": -(-backstop_ms // 1000),
            "terminationGracePeriodSeconds": max(1, -(-grace_of(job, self.driver) // 1000)),
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": uid,
                "runAsGroup": uid,
                "fsGroup": uid,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "nodeSelector": selector,
            "volumes": volumes,
            "containers": [self._container(job, pool, size, image, mounts)],
        }
        if kubernetes.priority_class:
            pod["priorityClassName"] = kubernetes.priority_class
        if pool.device:
            pod["tolerations"] = [{"key": pool.device, "operator": "Exists"}]
        if lease.slots > 1:
            pod["subdomain"] = job_name(self.tag, job.key)
        return pod

    def _container(self, job: Job, pool: KubePool, size: Size, image: str, mounts: list[Object]) -> Object:
        amounts = {"cpu": f"{size.cpu_milli}m", "memory": str(size.memory_bytes)}
        if size.cards:
            amounts[pool.device] = str(size.cards)
        container: Object = {
            "name": "job",
            "image": image,
            "imagePullPolicy": "IfNotPresent",
            "command": [literal(word) for word in job.lease.command],
            "workingDir": JOB_DIR,
            "env": self._env(job, size),
            "resources": {
                "requests": {**amounts, "ephemeral-storage": "0"},
                "limits": {**amounts, "ephemeral-storage": str(self.kubernetes.scratch_bytes)},
            },
            "volumeMounts": mounts,
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
        if job.lease.checkpoint and job.lease.checkpoint.signal != "SIGTERM":
            container["lifecycle"] = {"preStop": {"exec": {"command": ["/bin/sh", "-c", signal_all(job)]}}}
        return container

    def _env(self, job: Job, size: Size) -> list[Object]:
        lease, name = job.lease, job_name(self.tag, job.key)
        values = {
            "HOME": JOB_DIR,
            **dict.fromkeys(THREADS, str(max(1, size.cpu_milli // UNIT))),
            **lease.env,
            "YUNHE_LEASE": str(job.key),
            "YUNHE_SIZE": str(lease.slots),
        }
        if job.secrets:
            values["YUNHE_SECRETS"] = SECRETS_DIR
        if lease.checkpoint:
            values["YUNHE_CHECKPOINT"] = f"{JOB_DIR}/{lease.checkpoint.folder}"
        env: list[Object] = [{"name": key, "value": literal(value)} for key, value in values.items()]
        if lease.slots == 1:
            return [*env, {"name": "YUNHE_RANK", "value": "0"}]
        rank = {"fieldRef": {"fieldPath": f"metadata.annotations['{RANK}']"}}
        return [
            *env,
            {"name": "YUNHE_RANK", "valueFrom": rank},
            {"name": "YUNHE_RANK0_HOST", "value": f"{name}-0.{name}"},
        ]

    def _volumes(self, job: Job, pool: KubePool, size: Size) -> tuple[list[Object], list[Object]]:
        name = job_name(self.tag, job.key)
        volumes: list[Object] = []
        mounts: list[Object] = [{"name": "job", "mountPath": JOB_DIR}]
        if self.kubernetes.shared_volume:
            volumes.append({"name": "job", **volume_of(self.kubernetes.shared_volume)})
            mounts[0]["subPath"] = f"leases/{job.key}/job"
        else:
            volumes.append({"name": "job", "emptyDir": {"sizeLimit": str(self.kubernetes.scratch_bytes)}})
            if job.files:
                items = [{"key": key_of(path), "path": path} for path in sorted(job.files)]
                volumes.append({"name": "files", "secret": {"secretName": name, "items": items, "defaultMode": 0o444}})
                for top in sorted({path.partition("/")[0] for path in job.files}):
                    mounts.append({"name": "files", "mountPath": f"{JOB_DIR}/{top}", "subPath": top, "readOnly": True})
        if job.secrets:
            volumes.append({"name": "secrets", "secret": {"secretName": f"{name}-s", "defaultMode": 0o440}})
            mounts.append({"name": "secrets", "mountPath": SECRETS_DIR, "readOnly": True})
        if pool.device:
            # Frameworks hand batches between processes over it; a container's own has 64 MiB. Counts as memory.
            volumes.append({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": str(size.memory_bytes // 2)}})
            mounts.append({"name": "shm", "mountPath": "/dev/shm"})
        return volumes, mounts


def signal_all(job: Job) -> str:
    """A shell's words: every process gets the signal of the plan, and Kubernetes sends its SIGTERM when these words are
    over or the time is. They end with the container."""
    plan = job.lease.checkpoint
    assert plan is not None
    name = plan.signal.removeprefix("SIG")
    return f"kill -{name} 1 -1; while kill -0 1 2>/dev/null; do sleep 0.1; done"


def literal(text: str) -> str:
    """Kubernetes would replace $(NAME) in commands and values; a doubled sign stands for itself."""
    return text.replace("$", "$$")


def key_of(path: str) -> str:
    """A Secret's key may not have slashes."""
    return f"f-{hashlib.sha256(path.encode()).hexdigest()[:40]}"


def _encoded(files: Mapping[str, str]) -> dict[str, str]:
    return {key_of(path): base64.b64encode(text.encode()).decode() for path, text in files.items()}


def volume_of(text: str) -> Object:
    """ "nfs:SERVER:/PATH" or "host:/PATH" as the source of a volume."""
    kind, _, rest = text.partition(":")
    if kind == "host":
        return {"hostPath": {"path": rest, "type": "Directory"}}
    server, _, path = rest.partition(":")
    return {"nfs": {"server": server, "path": path}}


def names() -> Object:
    """To the cluster's name service; port 53 of the whole world would be a way out."""
    system = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}
    return {"to": [system], "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
