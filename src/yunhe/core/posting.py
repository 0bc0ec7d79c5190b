"""Double entry: who owes whom, as postings in integers.

A posting moves `amount` of one unit from `source` to `destination`, so every set of postings sums to zero by
construction.  Accounts are names; only `DEPOSITS`, the world outside, may go below zero (a customer's `available`
may too, down to its credit limit: the ledger guards that).  Nothing is changed afterwards: `reversal` undoes a set.

    DEPOSITS -> available -> held -> earned (provider) + FEES (operator)
                    ^----------'     what the hold did not need
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from yunhe.core.errors import InvalidInput

CNY = "CNY/6"  # unit and its decimals: amounts are micro-CNY

FEES = "operator:fees"
DEPOSITS = "world:deposits"


def available(org: str) -> str:
    """Money that the organisation can spend; negative means credit in use."""
    return f"org:{org}:available"


def held(org: str) -> str:
    """Money set aside for open orders."""
    return f"org:{org}:held"


def earned(org: str) -> str:
    """Money that the organisation earned as a provider."""
    return f"org:{org}:earned"


class PostingKind(StrEnum):
    DEPOSIT = "deposit"
    HOLD = "hold"
    CAPTURE = "capture"
    RELEASE = "release"
    REVERSAL = "reversal"


@dataclass(frozen=True, slots=True)
class Posting:
    """`amount` (> 0, in `unit`) goes from `source` to `destination`. Raises InvalidInput when it does not."""

    source: str
    destination: str
    amount: int
    unit: str = CNY

    def __post_init__(self) -> None:
        if self.amount <= 0:
            raise InvalidInput(f"a posting moves more than zero, not {self.amount}", field="amount")
        if self.source == self.destination:
            raise InvalidInput(f"a posting needs two accounts, not {self.source} twice", field="destination")


@dataclass(frozen=True, slots=True)
class PostingSet:
    """Postings that are booked together or not at all. `ref` is unique: a repeat is not booked twice.

    `postings` is empty where nothing moves (a free task); the ledger still records that `ref` is done.
    """

    ref: str
    at_ms: int
    kind: PostingKind
    postings: tuple[Posting, ...]


def _set(ref: str, at_ms: int, kind: PostingKind, moves: tuple[tuple[str, str, int], ...]) -> PostingSet:
    """Drop moves of zero; a negative one is refused by Posting."""
    return PostingSet(ref, at_ms, kind, tuple([Posting(a, b, amount) for a, b, amount in moves if amount]))


def deposit(ref: str, at_ms: int, org: str, amount_microcny: int) -> PostingSet:
    """Money comes in from outside. Raises InvalidInput (`amount`) unless it is more than zero."""
    return PostingSet(ref, at_ms, PostingKind.DEPOSIT, (Posting(DEPOSITS, available(org), amount_microcny),))


def hold(ref: str, at_ms: int, org: str, amount_microcny: int) -> PostingSet:
    """Set aside the most that an order can cost."""
    return _set(ref, at_ms, PostingKind.HOLD, ((available(org), held(org), amount_microcny),))


def release(ref: str, at_ms: int, org: str, amount_microcny: int) -> PostingSet:
    """Give back a hold, or a part of it."""
    return _set(ref, at_ms, PostingKind.RELEASE, ((held(org), available(org), amount_microcny),))


def capture(
    ref: str,
    at_ms: int,
    customer: str,
    provider: str,
    *,
    hold_microcny: int,
    provider_microcny: int,
    fee_microcny: int,
) -> PostingSet:
    """Pay out of a hold: the provider its part, the operator its fee, the rest back to the customer.

    Pass as `hold_microcny` the part of the hold that ends with this charge: exactly the charge when the hold goes on
    (another attempt of the task follows).  Raises InvalidInput (`hold`) when the charge is more than that.
    """
    rest = hold_microcny - provider_microcny - fee_microcny
    if rest < 0:
        charge = provider_microcny + fee_microcny
        raise InvalidInput(f"a charge of {charge} micro-CNY is over its hold of {hold_microcny}", field="hold")
    moves = (
        (held(customer), earned(provider), provider_microcny),
        (held(customer), FEES, fee_microcny),
        (held(customer), available(customer), rest),
    )
    return _set(ref, at_ms, PostingKind.CAPTURE, moves)


def reversal(of: PostingSet, at_ms: int) -> PostingSet:
    """The set that undoes `of`, in reverse order, under a `ref` of its own."""
    back = tuple(Posting(p.destination, p.source, p.amount, p.unit) for p in reversed(of.postings))
    return PostingSet(f"reversal:{of.ref}", at_ms, PostingKind.REVERSAL, back)


def deltas(postings: PostingSet, unit: str = CNY) -> Mapping[str, int]:
    """What each account gains (or loses, negative) in `unit`; sums to zero. Accounts in sorted order, as guards are
    taken; an account whose gains and losses cancel is left out."""
    change: dict[str, int] = {}
    for posting in postings.postings:
        if posting.unit == unit:
            change[posting.source] = change.get(posting.source, 0) - posting.amount
            change[posting.destination] = change.get(posting.destination, 0) + posting.amount
    return MappingProxyType({account: change[account] for account in sorted(change) if change[account]})
