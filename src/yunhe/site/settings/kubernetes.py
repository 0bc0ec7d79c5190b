"""How a Kubernetes cluster is used."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

GIB = 1 << 30

# "NAME=VALUE", both sides not empty.
Pair = Annotated[str, Field(max_length=300, pattern=r"^[^=\s]+=\S+$")]


class KubernetesSettings(BaseModel):
    """How a Kubernetes cluster is used; the pool of cores is named by `DriverSettings.pool`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # None: $KUBECONFIG or ~/.kube/config where there is one, else the service account of the agent's own pod.
    kubeconfig: Path | None = None
    # None: the kubeconfig's current one.
    context: str | None = Field(default=None, max_length=200)
    # A tenant's namespace is PREFIX-HASH; room is left for the hash in 63 characters.
    namespace_prefix: str = Field(default="yunhe", pattern=r"^[a-z]([a-z0-9-]*[a-z0-9])?$", max_length=40)
    # "LABEL=VALUE": only nodes with all of these labels are offered and used. Empty: all that take pods.
    node_selector: tuple[Pair, ...] = ()
    # "PRODUCT=CHIP": the catalogue's chip for a product label that does not say it exactly.
    chips: tuple[Pair, ...] = ()
    # The catalogue's chip of the nodes' processors; Kubernetes has no label that names it.
    cpu_chip: str | None = Field(default=None, max_length=40)
    # "STACK=IMAGE": what runs an order that names no image, as "cpu=registry.example/python:3.11".
    images: tuple[Pair, ...] = ()
    # Patterns of images that run here; empty: any.
    allow_images: tuple[str, ...] = ()
    # Cores that go with each card and are not offered as cores; None: half of a node's, divided by its cards.
    cores_per_card: int | None = Field(default=None, ge=1)
    # Kueue's ClusterQueue; each tenant's namespace gets a LocalQueue to it. None: Kueue is not used.
    cluster_queue: str | None = Field(default=None, max_length=63, pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")
    # PriorityClass of the jobs; one below that of the centre's own pods lets these push them out. None: the default.
    priority_class: str | None = Field(default=None, max_length=63, pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")
    # Outputs, data by URL, checkpoints, and files that the job may change, need a folder that agent and nodes share:
    # where the agent sees it, and the volume as pods mount it, "nfs:SERVER:/PATH" or "host:/PATH". None: orders with
    # any of these are refused.
    shared_dir: Path | None = None
    shared_volume: str | None = Field(default=None, max_length=300, pattern=r"^(nfs:[^:/\s]+|host):/\S+$")
    # Images that would run as root run as this user; above what distributions hand out.
    job_uid: int = Field(default=10_001, ge=1, le=2**31 - 1)
    # A job's own files outside a shared folder; the node evicts a pod that is over it.
    scratch_bytes: int = Field(default=20 * GIB, ge=1 << 20)
    # "NAME=QUANTITY" of a ResourceQuota, instead of or besides: all that is offered, and 1000 pods.
    tenant_quota: tuple[Pair, ...] = ()
    # Whether the cluster's network plugin enforces NetworkPolicy: only the site knows, and its tier follows from it.
    network_enforced: bool = False
    # Whether orders with secrets are taken: they pass through the cluster's store, as a Secret that is removed when the
    # job has begun. Only the site knows whether that store is encrypted on its disk.
    deliver_secrets: bool = False
    # Where a job with network may not go: the cluster, the centre, and the metadata address of clouds.
    network_except: tuple[str, ...] = (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",
        "100.64.0.0/10",
    )
    # One request; the server is told the same limit.
    request_limit_ms: int = Field(default=5_000, ge=100)
    # The server ends a watch after this time and the agent resumes it: so a silent break is noticed.
    watch_ms: int = Field(default=10_000, ge=1_000)
    # Without a word of the watch for so long nothing is known of any lease. Longer than `watch_ms` and a request.
    stale_ms: int = Field(default=25_000, ge=1_000)
    # Leases are looked at so often for what happens by time alone: limits, images that do not come.
    tend_ms: int = Field(default=500, ge=10)
    # A Job that was acknowledged or asked for and is not there: looked for by name after this time.
    vanished_ms: int = Field(default=5_000, ge=100)
    submit_tries: int = Field(default=5, ge=1)
    # An image that cannot be pulled is given up after this time; registries have bad minutes.
    pull_ms: int = Field(default=120_000, ge=0)
    # No pod, or a pod that has its node and does not start, is given up after this time; large images take minutes.
    start_ms: int = Field(default=900_000, ge=100)
    # A pod that was told to end and whose node is silent is given up after this time.
    lost_ms: int = Field(default=120_000, ge=100)
    # The log of a running job is asked for at most so often.
    log_ms: int = Field(default=5_000, ge=0)
    # The metrics API keeps one value for so long.
    metrics_ms: int = Field(default=15_000, ge=100)
    # An ended Job stays so long for an agent that is away; then its log and exit code are gone.
    keep_ms: int = Field(default=86_400_000, ge=1_000)
