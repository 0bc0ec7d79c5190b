"""The values that go into a round and come out of it. `yunhe.core.round` is where others import them from."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from yunhe.core.demand import Shape
from yunhe.core.supply import Supply
from yunhe.core.tariff import Price


@dataclass(frozen=True, slots=True)
class AccountShare:
    """An account's standing in the fair share. `quota_milli` None: no limit."""

    id: str
    weight: int
    used_milli: int
    quota_milli: int | None


@dataclass(frozen=True, slots=True)
class Queue:
    """Open orders as columns; all arrays have the same length n. `ids[i]` belongs to row i."""

    ids: tuple[str, ...]
    shape: npt.NDArray[np.int32]  # index into Snapshot.shapes
    account: npt.NDArray[np.int32]  # index into Snapshot.accounts
    priority: npt.NDArray[np.int16]  # higher first
    submitted_ms: npt.NDArray[np.int64]
    tasks: npt.NDArray[np.int32]  # tasks still to be placed
    version: npt.NDArray[np.int64]  # of the order's row


class Held(NamedTuple):
    """A spot lease that holds units of a pool."""

    lease_id: str
    epoch: int
    pool_id: str
    milli: int
    memory_bytes: int
    at_risk_ms: int  # what it ran since its start or its newest checkpoint
    leaving: bool  # it was told to end: its units come soon, and it need not be told again
    account: str  # whose it is

    @property
    def key(self) -> tuple[str, int]:
        return self.lease_id, self.epoch


class Room(NamedTuple):
    """Units of one pool that are being freed for `tasks` tasks of an order that waits, or have been."""

    order_id: str
    pool_id: str
    tasks: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    supply: Supply
    shapes: tuple[Shape, ...]
    accounts: tuple[AccountShare, ...]
    queue: Queue
    held: tuple[Held, ...] = ()
    rooms: tuple[Room, ...] = ()


class Assignment(NamedTuple):
    """`tasks` tasks of one order go to one pool; each consumes the given units and memory in total (all slots).

    A named tuple: a plan holds thousands, and they cross a process boundary (a fifth of the time of a dataclass
    to make, a third to pickle).
    """

    order_id: str
    version: int
    pool_id: str
    tasks: int
    milli: int
    memory_bytes: int


class Preemption(NamedTuple):
    """The spot `leases` (lease id, epoch) of one pool end, so that `tasks` tasks of an order have room there."""

    order_id: str
    version: int
    pool_id: str
    tasks: int
    leases: tuple[tuple[str, int], ...]


class Delay(NamedTuple):
    """An order waits for a better hour (see `placement.when`); times in UTC ms."""

    order_id: str
    version: int
    site_id: str  # where that is expected
    until_ms: int  # when it is asked again, at the latest
    start_ms: int  # expected
    latest_ms: int
    saves: int  # of all its tasks, micro-CNY or (preference carbon) milligrams


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a pool (or a site without pools) does not take a task: one failed constraint, as data."""

    code: str  # one of placement.feasible.CODES
    need: str  # for people: "<= 20 ms rtt to shanghai"
    have: str  # for people: "27.1 ms"
    lasting: bool  # False: it can pass by waiting (busy, a paused site)


@dataclass(frozen=True, slots=True)
class SiteReasons:
    site_id: str
    pool_id: str | None
    reasons: tuple[Reason, ...]  # empty: it fits


@dataclass(frozen=True, slots=True)
class Offer:
    """One way to run the whole order (all array tasks at this pool)."""

    site_id: str
    pool_id: str
    units_milli: int  # per task
    memory_bytes: int  # per task
    run_ms: int  # predicted run time of one task (the run limit where it cannot be predicted)
    start_ms: int  # predicted UTC ms
    finish_ms: int  # of the last task; the tasks of an array that do not fit side by side follow each other
    price: Price  # expected, for the predicted run
    hold: Price  # most it can cost: the run limit at full load
    carbon_mg: int  # expected
    latency_us: tuple[int, ...]  # one per bound, in its own kind
    best_start_ms: int | None = None  # where prices change with the hour: of those of the next 24 the best (`when`)
    best_saves: int = 0  # against a start now: micro-CNY or (preference carbon) milligrams


@dataclass(frozen=True, slots=True)
class Quote:
    offers: tuple[Offer, ...]  # best first, by the preference
    refused: tuple[SiteReasons, ...]  # each pool that does not fit


class Given(NamedTuple):
    """Tasks per row of the queue and pool, and what they take together; equal lengths."""

    row: npt.NDArray[np.int64]
    pool: npt.NDArray[np.int64]
    tasks: npt.NDArray[np.int64]
    milli: npt.NDArray[np.int64]
    memory: npt.NDArray[np.int64]


class Bound(NamedTuple):
    """How good the places of a plan are: what they cost by what the orders prefer (see `placement.improve`), and what
    they cost at least wherever the same tasks went; micro-CNY."""

    cost: float
    least: float

    @property
    def gap_percent(self) -> float:
        return 100 * (self.cost - self.least) / self.least if self.least > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What a round decided. Orders not named stay open."""

    assignments: tuple[Assignment, ...]
    waiting: int  # orders with tasks left that a pool could take, now or when it is free, back or within quota
    unplaceable: int  # orders that no pool can take, however long they wait
    seed: int
    bound: Bound | None = None  # of large rounds, whose places are improved together
    preempted: tuple[Preemption, ...] = ()
    bookings: tuple[Assignment, ...] = ()  # of orders that start later
    delays: tuple[Delay, ...] = ()  # orders that wait for a better hour
