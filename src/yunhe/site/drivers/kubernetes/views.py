"""What is kept of the API's objects: a few fields each, so that a large cluster fits into a small agent."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from yunhe.site.drivers.contract import LeaseKey
from yunhe.site.drivers.kubernetes.client import Object

# Keys without a prefix are for private use.
SITE, LEASE, NETWORK, KEY = "yunhe-site", "yunhe-lease", "yunhe-network", "yunhe-key"
RANK = "batch.kubernetes.io/job-completion-index"
# Of a container: it was never started, whatever its exit code says.
NOT_RUN = ("StartError", "ContainerCannotRun", "CreateContainerError", "RunContainerError")
# Devices as vendors' plugins name them.
DEVICES = ("nvidia.com/gpu", "huawei.com/Ascend910", "cambricon.com/mlu", "hygon.com/dcu", "amd.com/gpu")
_SUFFIXES = {
    "n": Decimal(10) ** -9, "u": Decimal(10) ** -6, "m": Decimal(10) ** -3, "": Decimal(1),
    "k": Decimal(10) ** 3, "M": Decimal(10) ** 6, "G": Decimal(10) ** 9, "T": Decimal(10) ** 12, "P": Decimal(10) ** 15,
    "E": Decimal(10) ** 18, "Ki": Decimal(2) ** 10, "Mi": Decimal(2) ** 20, "Gi": Decimal(2) ** 30,
    "Ti": Decimal(2) ** 40, "Pi": Decimal(2) ** 50, "Ei": Decimal(2) ** 60,
}  # fmt: skip


def quantity(text: object) -> Decimal:
    """A quantity as Kubernetes writes it: "250m", "64Gi", "1e3". What is none counts as zero."""
    word = str(text)
    digits = word.rstrip("numkMGTPEi")
    try:
        return Decimal(digits) * _SUFFIXES[word[len(digits) :]]
    except (InvalidOperation, KeyError):
        try:
            return Decimal(word)
        except InvalidOperation:
            return Decimal(0)


def utc_ms(text: object) -> int:
    """RFC 3339, whole seconds as a rule; 0 for none, and for the zero time that stands for none."""
    if not isinstance(text, str) or not text:
        return 0
    return max(0, round(datetime.fromisoformat(text).timestamp() * 1000))


@dataclass(frozen=True, slots=True)
class JobView:
    namespace: str
    name: str
    uid: str
    key: LeaseKey | None
    start_ms: int  # by the server's clock; 0: the controller has not taken it up, or it is suspended
    deadline_s: int | None
    deleting: bool
    suspended: bool
    failed: str  # reason of its failure, empty without
    message: str

    @classmethod
    def of(cls, item: Object) -> "JobView":
        meta, spec, status = item["metadata"], item.get("spec") or {}, item.get("status") or {}
        notes = meta.get("annotations") or {}
        failed = _condition(status, "Failed")
        return cls(
            namespace=meta["namespace"],
            name=meta["name"],
            uid=meta["uid"],
            key=LeaseKey.parse(notes.get(KEY, "")),
            start_ms=utc_ms(status.get("startTime")),
            deadline_s=spec.get("activeDeadlineSeconds"),
            deleting="deletionTimestamp" in meta,
            suspended=bool(spec.get("suspend")),
            failed=str(failed.get("reason", "Failed")) if failed else "",
            message=str(failed.get("message", ""))[:300],
        )


@dataclass(frozen=True, slots=True)
class PodView:
    """A pod of ours. Times by the node's clock, in whole seconds as ms; `gone`: it is no longer in the cluster."""

    namespace: str
    name: str
    uid: str
    lease: str
    rank: int
    node: str
    phase: str
    reason: str
    message: str
    deleting: bool
    disrupted: str
    waiting: str
    waiting_message: str
    started_ms: int
    finished_ms: int
    exit_code: int | None
    ended_for: str  # the container's own reason: Completed, Error, OOMKilled, ...
    gone: bool = False

    @property
    def over(self) -> bool:
        return self.phase in ("Succeeded", "Failed") or self.gone

    @property
    def preempted(self) -> bool:
        """Whether it had to make room for a pod that comes first: by the scheduler's word, or by the kubelet's."""
        return self.disrupted == "PreemptionByScheduler" or self.reason == "Preempting"

    @property
    def taken(self) -> bool:
        """Whether the cluster took it away: it says so, or the pod ran and is gone without a word of its end."""
        return bool(self.disrupted) or (self.gone and bool(self.started_ms) and self.exit_code is None)

    @classmethod
    def of(cls, item: Object) -> "PodView":
        meta, status = item["metadata"], item.get("status") or {}
        state = _container_state(status)
        ended, waiting = state.get("terminated") or {}, state.get("waiting") or {}
        runs = ended or state.get("running") or {}
        ran = ended.get("reason") not in NOT_RUN
        disrupted = _condition(status, "DisruptionTarget")
        rank = (meta.get("annotations") or {}).get(RANK, "0")
        return cls(
            namespace=meta["namespace"],
            name=meta["name"],
            uid=meta["uid"],
            lease=(meta.get("labels") or {}).get(LEASE, ""),
            rank=int(rank) if rank.isdecimal() else 0,
            node=(item.get("spec") or {}).get("nodeName", ""),
            phase=status.get("phase", ""),
            reason=status.get("reason", ""),
            message=str(status.get("message") or ended.get("message") or "")[:300],
            deleting="deletionTimestamp" in meta,
            disrupted=str(disrupted.get("reason", "")),
            waiting=waiting.get("reason", ""),
            waiting_message=str(waiting.get("message", ""))[:300],
            started_ms=utc_ms(runs.get("startedAt")) if ran else 0,
            finished_ms=utc_ms(ended.get("finishedAt")) if ran else 0,
            exit_code=ended.get("exitCode"),
            ended_for=ended.get("reason", ""),
        )


def _condition(status: Object, kind: str) -> Object:
    """The condition of that type, where it holds; empty otherwise."""
    for condition in status.get("conditions") or ():
        if condition.get("type") == kind and condition.get("status") == "True":
            found: Object = condition
            return found
    return {}


def _container_state(status: Object) -> Object:
    for container in status.get("containerStatuses") or ():
        if container.get("name") == "job":
            state: Object = container.get("state") or {}
            return state
    return {}


@dataclass(frozen=True, slots=True)
class Claim:
    """What a pod that is not ours has been promised on its node."""

    node: str
    cpu_milli: int
    memory_bytes: int
    cards: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, item: Object) -> "Claim | None":
        """None for a pod that holds nothing: not on a node, or over."""
        spec, phase = item.get("spec") or {}, (item.get("status") or {}).get("phase")
        if not spec.get("nodeName") or phase in ("Succeeded", "Failed"):
            return None
        held = _requests(spec)
        cards = tuple((name, int(held[name])) for name in sorted(held) if name in DEVICES and held[name])
        return cls(spec["nodeName"], int(held.get("cpu", 0) * 1000), int(held.get("memory", 0)), cards)


def _requests(spec: Object) -> dict[str, Decimal]:
    """Containers together, or the largest of those that run before them, and the pod's own overhead."""
    total: dict[str, Decimal] = {}
    for container in spec.get("containers") or ():
        for name, text in _asked(container).items():
            total[name] = total.get(name, Decimal(0)) + quantity(text)
    for container in spec.get("initContainers") or ():
        for name, text in _asked(container).items():
            total[name] = max(total.get(name, Decimal(0)), quantity(text))
    for name, text in (spec.get("overhead") or {}).items():
        total[name] = total.get(name, Decimal(0)) + quantity(text)
    return total


def _asked(container: Object) -> dict[str, Any]:
    resources = container.get("resources") or {}
    return {**(resources.get("limits") or {}), **(resources.get("requests") or {})}


@dataclass(frozen=True, slots=True)
class NodeView:
    name: str
    ready: bool  # and takes pods
    silent: bool  # the cluster does not hear it
    labels: tuple[tuple[str, str], ...]
    cpu_milli: int
    memory_bytes: int
    cards: tuple[tuple[str, int], ...]
    cards_only: bool = False  # tainted for pods that ask for its cards, as many centres do

    @classmethod
    def of(cls, item: Object) -> "NodeView":
        status, spec = item.get("status") or {}, item.get("spec") or {}
        there = {name: quantity(text) for name, text in (status.get("allocatable") or {}).items()}
        heard = next((c["status"] for c in status.get("conditions") or () if c["type"] == "Ready"), "Unknown")
        taints = [
            taint["key"] for taint in spec.get("taints") or () if taint.get("effect") in ("NoSchedule", "NoExecute")
        ]
        closed = spec.get("unschedulable") or any(key not in DEVICES for key in taints)
        return cls(
            name=item["metadata"]["name"],
            ready=heard == "True" and not closed,
            silent=heard == "Unknown",
            labels=tuple(sorted((item["metadata"].get("labels") or {}).items())),
            cpu_milli=int(there.get("cpu", 0) * 1000),
            memory_bytes=int(there.get("memory", 0)),
            cards=tuple((name, int(there[name])) for name in DEVICES if there.get(name)),
            cards_only=bool(taints),
        )
