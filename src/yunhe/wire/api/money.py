"""Usage, what is charged for it, and the books."""

from typing import Annotated, Any

from pydantic import Field

from yunhe.wire.message import NO_NUL, Answer, Message, Name, Quantity


class PriceView(Answer):
    compute_microcny: int
    energy_microcny: int
    transfer_microcny: int
    line_microcny: int
    total_microcny: int


class UsageView(Answer):
    lease_id: str
    epoch: int
    n: int
    from_ms: int
    to_ms: int
    wall_ms: int  # cumulative
    cpu_ms: int
    peak_memory_bytes: int
    sampled: bool
    final: bool
    disputed: bool
    evidence: str = ""  # "site/agent epoch/poll": the signed batch that carried it, see EvidenceView


class EvidenceView(Answer):
    """A site's own words about usage and its signature: Ed25519 of `signed` by `public_key`, all base64url.

    `signed` names the request and ends with the SHA-256 of `body`, the poll as JSON.
    """

    site_id: str
    public_key: str
    signed: str
    body: str
    signature: str


class ChargeView(Answer):
    """One charge with every input it was computed from (`inputs`) so that anyone can recompute it."""

    lease_id: str
    epoch: int
    site_id: str
    price: PriceView
    operator_fee_microcny: int
    disputed: bool
    energy_mwh: int  # milliwatt-hours, at the meter (IT x PUE)
    carbon_mg: int
    compute_delivered: dict[str, int]  # FLOP by precision: measured rate x units x time (nominal derated: absent)
    inputs: dict[str, Any]


class UsageList(Answer):
    usage: tuple[UsageView, ...]
    charges: tuple[ChargeView, ...]


class SiteChargeView(Answer):
    """One charge as the site's provider sees it: what ran, what it earned. No customer is named."""

    at_utc_ms: int  # when it was booked
    lease_id: str
    epoch: int
    site_id: str
    units_milli: int  # leased: 1/1000 core or card
    wall_ms: int
    price: PriceView  # what the customer paid
    operator_fee_microcny: int
    earned_microcny: int  # price less fee
    energy_mwh: int  # milliwatt-hours, at the meter (IT x PUE)
    disputed: bool  # ended by the site's doing, or more was reported than can be


class SiteChargePage(Answer):
    charges: tuple[SiteChargeView, ...]  # newest first
    next_cursor: str | None = None


class RevenueView(Answer):
    """Sums of a site's charges of one day (UTC)."""

    day: str  # "2026-11-22"
    charges: int
    disputed: int
    charged_microcny: int
    operator_fee_microcny: int
    earned_microcny: int
    energy_mwh: int


class SiteRevenue(Answer):
    """Of one month; days without a charge are left out."""

    site_id: str
    month: str  # "2026-11", UTC
    days: tuple[RevenueView, ...]


class BalanceView(Answer):
    account: str
    available_microcny: int
    held_microcny: int
    credit_limit_microcny: int
    earned_microcny: int = 0


class InvoiceLine(Answer):
    order_id: str
    order_name: str
    lease_id: str
    epoch: int
    site_id: str
    price: PriceView


class InvoiceView(Answer):
    account: str
    month: str  # "2026-11", UTC
    lines: tuple[InvoiceLine, ...]
    total_microcny: int  # of the whole month
    line_count: int = 0  # of the whole month
    next_cursor: str | None = None  # where the lines of the next page begin


class PostingView(Answer):
    """One move of `amount` of `unit` from `source` to `destination`; rows of one `set_ref` belong together."""

    set_ref: str
    n: int
    utc_ms: int
    kind: str
    source: str
    destination: str
    amount: int
    unit: str


class PostingPage(Answer):
    postings: tuple[PostingView, ...]
    next_cursor: str | None = None


class TrialBalanceRow(Answer):
    account: str
    unit: str
    amount: int


class TrialBalance(Answer):
    rows: tuple[TrialBalanceRow, ...]
    sum_by_unit: dict[str, int]
    postings: int
    balanced: bool  # every balance equals the sum of its postings, and every unit sums to zero


class DepositRequest(Message):
    organisation: Name
    amount: Quantity
    # A repeat of a reference is not booked twice.
    reference: Annotated[str, Field(min_length=1, max_length=80, pattern=NO_NUL)]
