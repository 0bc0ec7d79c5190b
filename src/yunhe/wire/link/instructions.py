"""Instructions: hub to site, numbered by the hub."""

from typing import Annotated, Literal

from pydantic import Field

from yunhe.core.demand import Precision
from yunhe.core.lifecycle import EndReason
from yunhe.wire.link.parts import Challenge, Count, Id, Small
from yunhe.wire.link.reports import Checkpoint
from yunhe.wire.message import Message
from yunhe.wire.origin import Origin
from yunhe.wire.urls import DataUrl, JobPath

# Names of files at the site: a hub that was taken over must not write where it likes.
SecretName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]


class CheckpointPlan(Message):
    """How the job is told to save its work, and where it does: `folder` of its directory is $YUNHE_CHECKPOINT."""

    signal: Literal["SIGTERM", "SIGUSR1"] = "SIGTERM"
    folder: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$")]
    cap_bytes: Count


class DataInput(Message):
    """A file to be in the job's directory before the job starts."""

    url: DataUrl
    path: JobPath
    size_bytes: Count | None = None
    sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""
    secret: str = ""  # of the lease's secrets: options of the store, as JSON


class Delivery(Message):
    """A file or folder that goes to a URL when the job has ended."""

    path: JobPath
    url: DataUrl


class StartLease(Message):
    kind: Literal["start"] = "start"
    seq: Count
    lease_id: Id
    epoch: Small
    pool: str  # pool name in the site
    slots: int
    slot_milli: int  # units per slot
    slot_memory_bytes: int  # per slot; 0: the slot's share of the pool
    run_limit_ms: int
    disconnect_limit_ms: int
    command: tuple[str, ...]
    tenant: str = ""  # the customer's organisation: whose jobs may see each other's files
    origin: Origin | None = None  # of an order that another hub has passed down to this one
    spot: bool = False  # of an order that the hub may end for another
    earns_microcny: int = 0  # most that this attempt can bring the site's provider; 0: not said
    image: str = ""  # container image of the command; empty: the engine's own
    network: bool = False  # the job may open connections; otherwise it has none where the engine can hold it
    secrets: tuple[SecretName, ...] = ()  # names; the values by POST /v1/agent/secrets/{lease_id}/{epoch}
    env: dict[str, str] = Field(default_factory=dict)
    bundle_sha256: str | None = None  # files for the job's directory, GET /v1/agent/bundles/{sha256}
    inputs: tuple[DataInput, ...] = ()
    outputs: tuple[JobPath, ...] = ()  # relative paths to collect at the end
    deliveries: tuple[Delivery, ...] = ()  # those of them that go to a URL too
    log_cap_bytes: int = 10 * 1024 * 1024
    output_cap_bytes: int = 64 * 1024 * 1024
    checkpoint: CheckpointPlan | None = None
    restore: Checkpoint | None = None  # to be in the folder before the job starts, GET /v1/agent/checkpoints/...


class SecretsWanted(Message):
    """Asks for the secrets of a lease that this site holds and that has not started."""

    public_key: Annotated[str, Field(max_length=64)]  # base64, raw X25519, made for this delivery


class SealedSecrets(Message):
    sealed: Annotated[str, Field(max_length=512 * 1024)]  # `wire.sealing` of a JSON object, name to text


class CancelLease(Message):
    kind: Literal["cancel"] = "cancel"
    seq: Count
    lease_id: Id
    epoch: Small
    reason: EndReason


class CertifyNow(Message):
    """Measure now: the hub lets one site at a time do so. Answered by a Certificate report."""

    kind: Literal["certify"] = "certify"
    seq: Count


class ProveNow(Message):
    """Show a claimed rate: compute the chain of `core.chain` that `challenge` names. Answered by a Proof report.

    The hub counts the time from here to the answer. One at a time; a newer one replaces one that was not begun.

    `hold`: a card's library takes long to start, which is no part of the work. Then get everything ready first, say so
    by a Proof that is `ready`, and wait: the challenge that counts comes `after` this one, and its time with it.
    """

    kind: Literal["prove"] = "prove"
    seq: Count
    challenge: Challenge
    pool: str
    precision: Precision
    n: Annotated[int, Field(ge=1, le=4_096)]
    width: Annotated[int, Field(ge=1, le=16_384)]
    steps: Annotated[int, Field(ge=1, le=65_536)]
    hold: bool = False
    after: Challenge | None = None


SiteInstruction = Annotated[StartLease | CancelLease | CertifyNow | ProveNow, Field(discriminator="kind")]
