"""What the runner of leases works with: each lease in memory, and the other parts of the agent."""

import asyncio
from dataclasses import dataclass, field

from yunhe.core.lifecycle import EndReason
from yunhe.site.bundles import Bundles
from yunhe.site.checkpoints import CheckpointStore
from yunhe.site.contact import Contact
from yunhe.site.crash import CrashPoint, no_crash
from yunhe.site.data.transfers import Transfers
from yunhe.site.drivers.contract import Driver, LeaseKey, Moving
from yunhe.site.recorder import Recorder
from yunhe.site.secrets import Secrets
from yunhe.site.settings import LendSettings, SiteSettings
from yunhe.site.spool import HeldLease, LeaseState
from yunhe.site.uploads import LogSent, Uploads
from yunhe.wire.link import UsageTotals


@dataclass(slots=True)
class Lease:
    """A held lease in this process's memory."""

    held: HeldLease
    state: LeaseState
    cancel: EndReason | None
    next_usage: float
    totals: UsageTotals | None
    log: LogSent
    submitted: bool = False
    task: asyncio.Task[None] | None = None  # starting it, or finishing it
    finishing: bool = False
    moving: Moving | None = None  # what was told last of data that its engine moves
    stopped: asyncio.Event = field(default_factory=asyncio.Event)  # `cancel` has been set

    @property
    def key(self) -> LeaseKey:
        return self.held.key


@dataclass(slots=True)
class Parts:
    """What a runner works with."""

    settings: SiteSettings
    driver: Driver
    recorder: Recorder
    uploads: Uploads
    bundles: Bundles
    secrets: Secrets
    transfers: Transfers
    checkpoints: CheckpointStore
    lend: LendSettings
    contact: Contact
    crash_point: CrashPoint = no_crash
    leases: dict[LeaseKey, Lease] = field(default_factory=dict)
