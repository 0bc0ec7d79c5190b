"""Rounds as they were decided, and one order in one of them."""

from yunhe.wire.api.orders import CandidateView, SiteReasonsView
from yunhe.wire.message import Answer


class RoundSummary(Answer):
    id: int
    at_utc_ms: int
    cause: str  # submitted, more (the round before placed some), freed, supply, time
    open_orders: int  # that it looked at
    assigned: int  # tasks that its plan placed
    placed: int  # of them, when the plan was committed: what had changed meanwhile waits for the next round
    waiting: int  # orders with tasks left that some pool could take one day
    unplaceable: int  # and that none can
    took_ms: float
    gap_percent: float | None = None  # of a large round: how far its places are from the least cost that there can be


class RoundList(Answer):
    rounds: tuple[RoundSummary, ...]  # newest first
    next_cursor: str | None = None


class RoundShare(Answer):
    """An account's standing in the fair share when the round began."""

    account: str
    weight: int
    used_milli: int
    quota_milli: int | None


class RoundOrderLine(Answer):
    """One order that a round looked at. `pools`: where its tasks went, and how many."""

    order_id: str
    account: str
    priority: int
    submitted_utc_ms: int
    tasks: int
    assigned: int
    pools: dict[str, int]


class RoundDetail(Answer):
    summary: RoundSummary
    seed: int
    policy: dict[str, int | bool]
    cost_microcny: float | None = None  # of a large round: of its places, by what the orders prefer
    least_microcny: float | None = None
    sites: int
    pools: int
    shares: tuple[RoundShare, ...]
    orders: tuple[RoundOrderLine, ...]  # one page, in the order of the queue
    next_cursor: str | None = None


class RoundOrderView(Answer):
    """Why an order went where it did in one round: computed from what the round was decided on."""

    round_id: int
    at_utc_ms: int
    order_id: str
    account: str
    preference: str
    tasks: int  # that waited for a place
    assigned: int  # that got one
    candidates: tuple[CandidateView, ...]  # pools that fitted, best first
    fitting: int  # how many there were
    refused: tuple[SiteReasonsView, ...]  # pools that did not
    refused_by: dict[str, int]  # pools by the constraint that failed
