"""What can happen to a task; `core.lifecycle` says what comes of it."""

from dataclasses import dataclass
from enum import StrEnum


class EndReason(StrEnum):
    """Why an attempt (one lease epoch) ended."""

    EXITED = "exited"  # by itself; the exit code says how
    MEMORY_LIMIT = "memory_limit"
    TIME_LIMIT = "time_limit"
    CANCELLED = "cancelled"
    WITHDRAWN = "withdrawn"
    DEADLINE_MISSED = "deadline_missed"  # never placed in time
    SPAWN_FAILED = "spawn_failed"  # the site could not start it
    DISK_FULL = "disk_full"  # the site's
    DATA_IN_FAILED = "data_in_failed"  # an input is not there, or not what the order says: the same at every site
    DATA_UNREACHABLE = "data_unreachable"  # an input cannot be fetched from this site
    SITE_REFUSED = "site_refused"  # allow-list or pause of the site
    DISCONNECTED = "disconnected"  # the site stopped it: no hub for the disconnect limit
    SUPERVISOR_LOST = "supervisor_lost"  # the site's host killed the supervisor or restarted
    LOST = "lost"  # the hub gave the site up
    PREEMPTED = "preempted"  # others need the units: the site's own users, or of a spot order those of another order


@dataclass(frozen=True, slots=True)
class Placed:
    site_id: str
    pool_id: str


@dataclass(frozen=True, slots=True)
class Booked:
    site_id: str
    pool_id: str
    detail: str  # for people: from when to when


@dataclass(frozen=True, slots=True)
class BookingLost:
    """What was promised is not there."""

    detail: str  # for people: why


@dataclass(frozen=True, slots=True)
class Started:
    epoch: int


@dataclass(frozen=True, slots=True)
class Ended:
    epoch: int
    reason: EndReason
    exit_code: int | None
    kept_ms: int = 0  # preempted: wall time since the start of the newest checkpoint that the hub has


@dataclass(frozen=True, slots=True)
class CancelRequested:
    pass


@dataclass(frozen=True, slots=True)
class Reclaimed:
    """Of a task of a spot order: an order that is not needs its units."""

    epoch: int


@dataclass(frozen=True, slots=True)
class SiteSilent:
    pass


@dataclass(frozen=True, slots=True)
class SiteBack:
    pass


@dataclass(frozen=True, slots=True)
class GivenUp:
    """disconnect_limit + grace have passed: the site has stopped the job by its own clock."""


@dataclass(frozen=True, slots=True)
class Overdue:
    """The hub notices that the run limit has passed since the start, or its limit for waiting without a start; or, of
    a task that is to stop already, that its site does not say that it has."""


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """The order's deadline passed before the task was placed."""


Event = (
    Placed
    | Booked
    | BookingLost
    | Started
    | Ended
    | CancelRequested
    | Reclaimed
    | SiteSilent
    | SiteBack
    | GivenUp
    | Overdue
    | DeadlinePassed
)
