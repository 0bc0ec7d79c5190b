"""What the agent asks of an engine, whichever it is.

A lease is known by (lease_id, epoch). A driver never reports what it does not know: an engine that cannot be
asked is UNKNOWN, one that has no trace of the lease is ABSENT, and neither means that the job failed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from yunhe.core.demand import Ability
from yunhe.core.lifecycle import EndReason
from yunhe.wire.link import MovedFile, PoolDigest, PoolReport, StartLease, UsageTotals


class SpawnFailed(Exception):
    """The engine did not take the job; the lease ends with this text as its detail. Never leaves the site."""


class LeaseKey(NamedTuple):
    lease_id: str
    epoch: int

    def __str__(self) -> str:
        return f"{self.lease_id}.{self.epoch}"

    @classmethod
    def parse(cls, text: str) -> "LeaseKey | None":
        lease_id, _, epoch = text.rpartition(".")
        return cls(lease_id, int(epoch)) if lease_id and epoch.isdecimal() else None


class Phase(StrEnum):
    ABSENT = "absent"  # the engine has no trace of it
    ACCEPTED = "accepted"  # taken, not running yet
    STARTED = "started"
    ENDED = "ended"
    UNKNOWN = "unknown"  # the engine cannot say now


class Moving(NamedTuple):
    """How far a lease's data is: before its job starts ("in"), or after it has ended ("out")."""

    phase: Literal["in", "out"]
    done_bytes: int = 0
    total_bytes: int | None = None  # None: not known yet
    problem: str = ""  # why it is tried again


@dataclass(frozen=True, slots=True)
class Status:
    """`started` says whether the job ever ran: a lease that ended without has no usage."""

    phase: Phase
    started: bool = False
    started_utc_ms: int = 0
    totals: UsageTotals | None = None  # cumulative, as fresh as the engine has it
    reason: EndReason | None = None  # ENDED only, like the two below
    exit_code: int | None = None
    detail: str = ""
    moving: Moving | None = None  # only of a `MovesData`, not yet ENDED


@dataclass(frozen=True, slots=True)
class Job:
    """A lease with all that it needs. `contact_ms`: CLOCK_BOOTTIME at which the poll that brought it was sent."""

    lease: StartLease
    contact_ms: int
    files: Mapping[str, str] = field(default_factory=dict)  # path in the job's directory -> text
    # Name -> value, for files that no disk ever holds; only for drivers with `delivers_secrets`.
    secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    # Path in the job's directory -> a file of the site's cache, which the job must not be able to change.
    data: Mapping[str, Path] = field(default_factory=dict)
    checkpoint: Path | None = None  # archive of what the job goes on from; only for a `Checkpoints`
    notice_ms: int = 0  # from the signal of a preemption to the end of the job

    @property
    def key(self) -> LeaseKey:
        return LeaseKey(self.lease.lease_id, self.lease.epoch)


@dataclass(frozen=True, slots=True)
class Output:
    """A file that the job left at one of its stated paths. `missing`: there is none, and why."""

    path: str
    size_bytes: int = 0
    sha256: str = ""
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Isolation:
    """What really holds a job here: `tier` 2 sandbox and limits by the kernel, 1 sandbox only, 0 neither."""

    tier: int
    text: str


def delivers_secrets(driver: object) -> bool:
    """Whether a driver gives jobs their secrets: one that does says so by an attribute `delivers_secrets = True`.

    One that cannot is never handed a job that has any. A lease with secrets that was submitted, did not begin, and is
    met again by another process is ABSENT (what was in memory is gone): then it is submitted again with them.
    """
    return bool(getattr(driver, "delivers_secrets", False))


def abilities(driver: object) -> tuple[Ability, ...]:
    """What the engine can do for jobs beyond running them: placement sends no order where it cannot be carried out.

    A driver whose jobs get no network even when they ask for it says so by `gives_network = False`.
    """
    able = {
        Ability.SECRETS: delivers_secrets(driver),
        Ability.DATA: isinstance(driver, DataDriver | MovesData),
        Ability.CHECKPOINTS: isinstance(driver, Checkpoints),
        Ability.NETWORK: bool(getattr(driver, "gives_network", True)),
    }
    return tuple(ability for ability, there in able.items() if there)


def yields_units(driver: object) -> bool:
    """Whether local users simply take units that leases hold, so that the agent has to make room for them: on a plain
    host, whose driver says so by `yields_units = True`. An engine that allocates units itself lets nobody have those of
    a lease, and what it says of others' use may lag behind what its own jobs hold by seconds.
    """
    return bool(getattr(driver, "yields_units", False))


class Driver(Protocol):
    """One engine. Constructors do no I/O; `open` comes first, `close` last. Jobs go on after `close`."""

    async def open(self) -> Isolation:
        """Look at the engine and take up what runs there already."""
        ...

    async def close(self) -> None: ...

    async def discover(self) -> tuple[PoolReport, ...]:
        """What is there, with nominal rates."""
        ...

    async def foreign(self) -> tuple[PoolDigest, ...]:
        """Of every pool: the units and memory that others than this site's leases hold now, within seconds."""
        ...

    async def certify(self) -> tuple[PoolReport, ...]:
        """What is there, with rates measured under the limits that a job would have; takes seconds."""
        ...

    async def submit(self, job: Job) -> None:
        """Start it, at most once by (lease id, epoch) however often this is called. Raises SpawnFailed."""
        ...

    async def observe(self, keys: Sequence[LeaseKey]) -> dict[LeaseKey, Status]:
        """All of them in one call that ends within seconds."""
        ...

    async def changed(self, timeout_ms: int) -> frozenset[LeaseKey]:
        """Wait for news; which leases to observe again. Empty after the timeout. Hints only, some may be lost."""
        ...

    async def cancel(self, key: LeaseKey, reason: EndReason) -> None:
        """Stop it, or see to it that it never starts. The end shows in `observe`. Unknown leases: nothing."""
        ...

    async def logs(self, key: LeaseKey, offset: int, limit: int) -> bytes:
        """Bytes of its log from `offset`; empty when there are no more yet."""
        ...

    async def outputs(self, key: LeaseKey, wanted: Sequence[str], cap_bytes: int) -> tuple[Output, ...]:
        """Of an ended lease: the wanted files (and all files of wanted folders) that fit the cap together."""
        ...

    async def read_output(self, key: LeaseKey, path: str, offset: int, limit: int) -> bytes: ...

    async def known(self) -> frozenset[LeaseKey]:
        """Every lease of which there is any trace, ended ones too."""
        ...

    async def forget(self, key: LeaseKey) -> None:
        """Remove every trace; only after the hub has acknowledged the end."""
        ...


@runtime_checkable
class DataDriver(Protocol):
    """A driver whose jobs have a folder on a disk of this host: it puts `Job.data` there, and lets outputs be read.

    Leases with data are given to no other driver but a `MovesData`.
    """

    async def open_output(self, key: LeaseKey, path: str) -> int:
        """A descriptor of a plain file that an ended lease left, without following links. Raises OSError."""
        ...


@runtime_checkable
class MovesData(Protocol):
    """A driver whose engine brings inputs and sends outputs itself, by what the lease says: another hub. The agent
    fetches and sends nothing; how far it is, `Status.moving` says."""

    async def moved(self, key: LeaseKey) -> tuple[MovedFile, ...]:
        """What became of the outputs with a URL of an ended lease. Raises the engine's errors."""
        ...


@runtime_checkable
class Told(Protocol):
    """A driver that can give a job something while it runs: certification holds back what a test is about with it."""

    async def tell(self, key: LeaseKey, name: str, text: str) -> None:
        """A file in the running job's directory; it is there whole or not at all. Raises OSError."""
        ...


@runtime_checkable
class Checkpoints(Protocol):
    """A driver that keeps what its jobs save: it makes the folder of `StartLease.checkpoint`, names it to the job in
    YUNHE_CHECKPOINT, fills it from `Job.checkpoint`, and before it stops a job as PREEMPTED it sends the signal of the
    plan and waits `Job.notice_ms`.

    Leases that go on from a checkpoint are given to no other driver.
    """

    async def kept_ms(self, key: LeaseKey, folder: str) -> int:
        """Wall time from the job's start to the newest finished file of the folder; 0: nothing was saved since."""
        ...
