"""Orders of a simulated network that have not ended. One order is one task here."""

from dataclasses import dataclass

from yunhe.core.demand import Shape
from yunhe.core.lease import LeaseTerms
from yunhe.core.lifecycle import Task
from yunhe.simulator.work import Incoming

# What happens in one millisecond, in this order: units become free before they are given.
END, SITE, HOUR, ARRIVE, RETRY, START, ROUND = range(7)


@dataclass(frozen=True, slots=True)
class Terms:
    """Of a workload's orders."""

    priority: int
    retries: int
    busy_bps: int
    precision: str


class Order:
    """An order that has not ended; one task."""

    __slots__ = (
        "customer",
        "hold_microcny",
        "id",
        "job",
        "memory_bytes",
        "milli",
        "number",
        "paid_microcny",
        "pool",
        "priority",
        "shape",
        "started_ms",
        "submitted_ms",
        "task",
        "terms",
        "ticket",
        "version",
        "wall_ms",
    )

    def __init__(self, number: int, job: Incoming, hold_microcny: int, submitted_ms: int, settings: Terms) -> None:
        self.number = number
        self.id = f"o{number:09d}"
        self.job = job
        self.customer: int = job.customer
        self.shape: Shape = job.shape
        self.priority = settings.priority
        self.submitted_ms = submitted_ms
        self.hold_microcny = hold_microcny
        self.paid_microcny = 0
        self.version = 1
        self.task = Task(f"{self.id}.0", retries_left=settings.retries)
        self.pool = -1
        self.milli = 0
        self.memory_bytes = 0
        self.started_ms = -1
        self.wall_ms = 0  # that the attempt will take if nothing happens
        self.ticket = 0  # of the end that is scheduled; another one makes it void
        self.terms: LeaseTerms | None = None
