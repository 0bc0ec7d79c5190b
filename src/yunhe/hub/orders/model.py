"""Values of the orders room that other rooms see."""

from dataclasses import dataclass

import orjson

from yunhe.core.lease import LeaseTerms
from yunhe.wire.api import OrderSpec

SETTLEMENT = "settlement"  # the room that work rows about ended attempts are for


@dataclass(frozen=True, slots=True)
class NewOrder:
    """An order that intake has checked and priced. `hold_microcny` covers all tasks and all retries."""

    id: str
    org: str
    member: str
    spec: OrderSpec
    spec_hash: str
    spec_json: str  # without files
    bundle_sha256: str | None
    bundle_json: str | None
    submitted_ms: int
    deadline_ms: int | None
    start_ms: int | None
    hold_microcny: int
    idem_key: str | None
    idem_sha: str | None
    origin_json: str | None = None
    sealed: str | None = None  # its secrets


@dataclass(frozen=True, slots=True)
class OrderKey:
    """What another room needs to know of an order."""

    id: str
    org: str
    state: str
    settled: bool


def terms_to_json(terms: LeaseTerms) -> str:
    return orjson.dumps(terms).decode()


def terms_from_json(text: str) -> LeaseTerms:
    return LeaseTerms(**orjson.loads(text))


@dataclass(frozen=True, slots=True)
class Lease:
    """One placement of one task: (lease_id, epoch)."""

    lease_id: str
    epoch: int
    order_id: str
    org: str
    site_id: str
    pool_id: str
    terms: LeaseTerms
    end_reason: str | None
    kept_ms: int = 0  # preempted: wall time up to the checkpoint that the next attempt goes on from
    placed_ms: int = 0  # UTC, by the hub's clock; so is the next
    ended_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one lease epoch was placed, and how and when it ended (None: not yet)."""

    site_id: str
    end_reason: str | None
    ended_ms: int | None = None  # UTC, by the hub's clock


def attempt_key(lease_id: str, epoch: int) -> str:
    """Key of the settlement room's work row about an ended attempt."""
    return f"{lease_id}:{epoch}"


def order_end_key(order_id: str) -> str:
    """Key of the settlement room's work row about an order that ended without an attempt."""
    return f"{order_id}:end"


def order_of(lease_id: str) -> str:
    return lease_id.partition(".")[0]
