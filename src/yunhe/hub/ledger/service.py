"""Money and other counted units: balanced posting sets, balances that follow them, and holds.

Every change is a posting set whose moves sum to zero per unit.  A balance row is a projection of the postings,
written in their transaction, and at the same time the guard of the account's floor.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from yunhe.core import posting
from yunhe.core.errors import (
    Conflict,
    IdempotencyConflict,
    InsufficientFunds,
    InvalidInput,
    NotFound,
    Unavailable,
    YunheError,
)
from yunhe.core.posting import PostingSet
from yunhe.hub.accounts import audit
from yunhe.hub.accounts import service as accounts
from yunhe.hub.accounts.service import Principal
from yunhe.hub.ledger import store
from yunhe.hub.platform.writer import Tx

PAGE = 200
FEW = 2  # balances that are changed one by one; more are locked in order, then changed together


@dataclass(frozen=True, slots=True)
class Balance:
    """An organisation's money, micro-CNY. It can spend `available + credit_limit`."""

    organisation: str
    available: int
    held: int
    earned: int
    credit_limit: int


@dataclass(frozen=True, slots=True)
class Hold:
    """Money reserved for an order, micro-CNY. `left` is what can still be captured or released."""

    order_id: str
    organisation: str
    amount: int
    left: int


@dataclass(frozen=True, slots=True)
class NewHold:
    """`amount` micro-CNY of `organisation` for an order that has no hold yet."""

    order_id: str
    organisation: str
    amount: int


@dataclass(frozen=True, slots=True)
class Capture:
    """A posting set that takes money out of one order's hold; its other moves may be anything that balances."""

    order_id: str
    postings: PostingSet


@dataclass(frozen=True, slots=True)
class Release:
    """Give back to the customer `amount` micro-CNY of an order's hold; None: all that is left."""

    order_id: str
    ref: str
    at_ms: int
    amount: int | None = None


@dataclass(frozen=True, slots=True)
class Deposit:
    """`amount` micro-CNY paid in for `organisation`. A reference is booked once."""

    organisation: str
    amount: int
    reference: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class TrialRow:
    account: str
    unit: str
    amount: int


@dataclass(frozen=True, slots=True)
class Trial:
    """All balances, recomputed. `balanced`: every unit sums to zero and every balance row agrees with its postings."""

    rows: tuple[TrialRow, ...]
    sum_by_unit: dict[str, int]
    postings: int
    balanced: bool


# --- posting ------------------------------------------------------------------------------------------------------


def post(tx: Tx, sets: Sequence[PostingSet], floors: Mapping[str, int] | None = None) -> tuple[str, ...]:
    """Book the sets that are not booked yet, and return their refs.

    `floors` maps accounts to the smallest balance (micro-CNY) that a payment may leave.  All or nothing.
    Raises InsufficientFunds at a floor.
    """
    by_ref = {item.ref: item for item in sets}
    known = store.known_refs(tx.conn, tuple(by_ref))
    fresh = [item for ref, item in by_ref.items() if ref not in known]
    if not fresh:
        return ()
    if not store.add_sets(tx.conn, fresh):
        if len(fresh) == 1:  # another replica booked it in the meantime; the insert has waited for its COMMIT
            return ()
        raise Unavailable("another replica books the same entries right now", hint="try again")
    _change_balances(tx, _deltas(fresh), floors or {})
    return tuple(item.ref for item in fresh)


def _deltas(sets: Sequence[PostingSet]) -> dict[tuple[str, str], int]:
    """The change of each (account, unit) by all the sets together."""
    total: defaultdict[tuple[str, str], int] = defaultdict(int)
    for item in sets:
        for move in item.postings:
            total[move.source, move.unit] -= move.amount
            total[move.destination, move.unit] += move.amount
    return total


def _lock_order(key: tuple[str, str]) -> tuple[bool, str, str]:
    """Every writer takes balance rows in this order. `hold_many` needs all `available` rows before any other."""
    account, unit = key
    return not account.endswith(":available"), account, unit


def _change_balances(tx: Tx, deltas: Mapping[tuple[str, str], int], floors: Mapping[str, int]) -> None:
    if not floors and len(deltas) > FEW:
        store.add_to_balances(tx.conn, {key: deltas[key] for key in sorted(deltas, key=_lock_order) if deltas[key]})
        return
    for account, unit in sorted(deltas, key=_lock_order):
        delta = deltas[account, unit]
        floor = floors.get(account) if delta < 0 and unit == posting.CNY else None
        if delta and not store.change_balance(tx.conn, account, unit, delta, floor):
            raise InsufficientFunds(f"account {account} does not cover the payment")


# --- holds --------------------------------------------------------------------------------------------------------


def hold_many(tx: Tx, wanted: Sequence[NewHold]) -> list[None | InsufficientFunds]:
    """Reserve money (>= 0) for new orders; one result per item, None: held.

    Per organisation one conditional update for the sum; only where that does not fit, item by item in order.
    An order may be held for once: a second hold of the same order breaks the whole group.
    """
    by_org: defaultdict[str, list[int]] = defaultdict(list)
    for index, item in enumerate(wanted):
        by_org[item.organisation].append(index)
    limits = accounts.credit_limits(tx.conn, tuple(by_org))
    results: list[None | InsufficientFunds] = [None] * len(wanted)
    for org, indices in sorted(by_org.items()):
        for index in _hold_for(tx, org, [(i, wanted[i].amount) for i in indices], limits.get(org)):
            results[index] = InsufficientFunds(
                f"organisation {org} has not enough money for a hold of {wanted[index].amount / 1e6:.6f} CNY"
            )
    held = [item for item, refusal in zip(wanted, results, strict=True) if refusal is None]
    sets = [posting.hold(f"hold:{h.order_id}", tx.now_ms, h.organisation, h.amount) for h in held if h.amount]
    store.add_holds(tx.conn, [store.HoldRow(h.order_id, h.organisation, h.amount, h.amount) for h in held], sets)
    incoming = {key: delta for key, delta in _deltas(sets).items() if delta > 0}
    _change_balances(tx, incoming, {})
    return results


def _hold_for(tx: Tx, org: str, amounts: Sequence[tuple[int, int]], credit_limit: int | None) -> list[int]:
    """Take the amounts, (index, micro-CNY), from what the organisation has; returns the indices that do not fit."""
    if credit_limit is None:
        return [index for index, _ in amounts]
    account = posting.available(org)
    total = sum(amount for _, amount in amounts)
    if not total or store.change_balance(tx.conn, account, posting.CNY, -total, -credit_limit):
        return []
    left = store.lock_balance(tx.conn, account, posting.CNY) + credit_limit
    refused = []
    taken = 0
    for index, amount in amounts:
        if amount <= left - taken or not amount:
            taken += amount
        else:
            refused.append(index)
    if taken and not store.change_balance(tx.conn, account, posting.CNY, -taken, -credit_limit):
        raise Unavailable("the balance changed under its lock", hint="try again")
    return refused


def capture(tx: Tx, captures: Sequence[Capture]) -> list[None | YunheError]:
    """Book each set against its order's hold; one result per item, None: booked (now or before).

    NotFound without a hold; Conflict when the set takes more than is left of it, or moves money but none of the hold.
    An empty set (nothing to pay) is recorded as done.
    """
    return settle(tx, captures, ())[0]


def release(tx: Tx, releases: Sequence[Release]) -> list[int | YunheError]:
    """Give money of holds back; one result per item: micro-CNY released now (0: booked before, or nothing was left).

    NotFound without a hold; Conflict when more than is left is asked for.
    """
    return settle(tx, (), releases)[1]


def settle(
    tx: Tx, captures: Sequence[Capture], releases: Sequence[Release]
) -> tuple[list[None | YunheError], list[int | YunheError]]:
    """First the captures, then the releases, each as described above, in as few statements as for one of them."""
    taking = _Taking(tx, captures, releases)
    results = [taking.capture(item) for item in captures], [taking.release(item) for item in releases]
    taking.write()
    return results


class _Taking:
    """Holds under lock, and what was taken from them so far."""

    def __init__(self, tx: Tx, captures: Sequence[Capture], releases: Sequence[Release]) -> None:
        self._tx = tx
        self._holds = store.lock_holds(tx.conn, [c.order_id for c in captures] + [r.order_id for r in releases])
        refs = [item.postings.ref for item in captures] + [item.ref for item in releases]
        self._known = store.known_refs(tx.conn, refs)
        self._left = {order_id: row.left_amount for order_id, row in self._holds.items()}
        self._booked: list[PostingSet] = []

    def capture(self, item: Capture) -> None | YunheError:
        hold = self._holds.get(item.order_id)
        if hold is None:
            return NotFound(f"order {item.order_id} has no hold")
        if item.postings.ref in self._known:
            return None
        amount = -posting.deltas(item.postings).get(posting.held(hold.organisation), 0)
        left = self._left[item.order_id]
        if not (0 < amount <= left or not item.postings.postings):
            return Conflict(f"{amount} micro-CNY cannot be taken: {left} is left of {item.order_id}'s hold")
        self._take(item.order_id, amount, item.postings)
        return None

    def release(self, item: Release) -> int | YunheError:
        hold = self._holds.get(item.order_id)
        if hold is None:
            return NotFound(f"order {item.order_id} has no hold")
        left = self._left[item.order_id]
        amount = left if item.amount is None else item.amount
        if item.ref in self._known or not amount:
            return 0
        if not 0 < amount <= left:
            return Conflict(f"{amount} micro-CNY cannot be freed: {left} is left of {item.order_id}'s hold")
        self._take(item.order_id, amount, posting.release(item.ref, item.at_ms, hold.organisation, amount))
        return amount

    def _take(self, order_id: str, amount: int, postings: PostingSet) -> None:
        self._left[order_id] -= amount
        self._known.add(postings.ref)
        self._booked.append(postings)

    def write(self) -> None:
        if not self._booked:
            return
        left = {i: amount for i, amount in self._left.items() if amount != self._holds[i].left_amount}
        # The holds are locked, so this can only fail when the same ref is booked against two holds at once.
        if not store.set_left(self._tx.conn, left) or not store.add_sets(self._tx.conn, self._booked):
            raise Unavailable("another replica books the same entries right now", hint="try again")
        _change_balances(self._tx, _deltas(self._booked), {})


# --- deposits -----------------------------------------------------------------------------------------------------


def deposit(tx: Tx, deposits: Sequence[Deposit]) -> list[Balance | YunheError]:
    """Book payments; the same reference with the same content again is not booked twice.

    InvalidInput without such an organisation, IdempotencyConflict for a used reference with other content.
    """
    results: list[Balance | YunheError] = []
    for item in deposits:
        try:
            results.append(_deposit(tx, item))
        except (InvalidInput, IdempotencyConflict) as refusal:
            results.append(refusal)
    return results


def deposit_by(tx: Tx, wanted: Sequence[tuple[Principal, Deposit]]) -> list[Balance | YunheError]:
    """Writer handler of `deposit`, for whoever asked; one that is booked already leaves no second line."""
    earlier = {item.reference for _, item in wanted if store.moves_of(tx.conn, f"deposit:{item.reference}")}
    booked = deposit(tx, [item for _, item in wanted])
    for (who, item), result in zip(wanted, booked, strict=True):
        if not isinstance(result, YunheError) and item.reference not in earlier:
            earlier.add(item.reference)
            values: audit.Values = {"amount_microcny": item.amount, "reference": item.reference}
            audit.record(tx, who, "deposit", item.organisation, {}, values)
    return booked


def _deposit(tx: Tx, item: Deposit) -> Balance:
    accounts.check_exists(tx.conn, item.organisation)
    wanted = posting.deposit(f"deposit:{item.reference}", item.at_ms, item.organisation, item.amount)
    if not post(tx, [wanted]) and store.moves_of(tx.conn, wanted.ref) != wanted.postings:
        raise IdempotencyConflict(
            f"reference {item.reference} is booked with another amount or organisation",
            field="reference",
            hint="use a new reference for a new deposit",
        )
    return balance(tx.conn, item.organisation)


# --- reading ------------------------------------------------------------------------------------------------------


def own_accounts(organisation: str) -> tuple[str, ...]:
    """The accounts of the book that belong to an organisation."""
    return (posting.available(organisation), posting.held(organisation), posting.earned(organisation))


def balance(conn: Connection, organisation: str) -> Balance:
    """Zeros where nothing was booked yet. Raises NotFound without such an organisation."""
    limit = accounts.credit_limits(conn, (organisation,)).get(organisation)
    if limit is None:
        raise NotFound(f"organisation {organisation} is not known")
    available, held, earned = own_accounts(organisation)
    rows = store.balances(conn, (available, held, earned))
    return Balance(
        organisation=organisation,
        available=rows.get((available, posting.CNY), 0),
        held=rows.get((held, posting.CNY), 0),
        earned=rows.get((earned, posting.CNY), 0),
        credit_limit=limit,
    )


def find_hold(conn: Connection, order_id: str) -> Hold | None:
    """The hold of an order, or None."""
    row = store.find_hold(conn, order_id)
    return None if row is None else Hold(row.order_id, row.organisation, row.amount, row.left_amount)


def posting_count(conn: Connection) -> int:
    """Number of moves in the book."""
    return store.count_postings(conn)


def trial_balance(conn: Connection) -> Trial:
    """Recompute every balance from the postings and compare, in one statement, so that writers do not disturb it."""
    computed, kept, count = store.both_balances(conn)
    sums: defaultdict[str, int] = defaultdict(int)
    for (_, unit), amount in computed.items():
        sums[unit] += amount
    agrees = all(computed.get(key, 0) == kept.get(key, 0) for key in computed.keys() | kept.keys())
    return Trial(
        rows=tuple(TrialRow(account, unit, amount) for (account, unit), amount in sorted(computed.items())),
        sum_by_unit=dict(sums),
        postings=count,
        balanced=agrees and not any(sums.values()),
    )


def postings(
    conn: Connection, book_accounts: Sequence[str] | None, cursor: str | None, limit: int = PAGE
) -> tuple[tuple[store.PostingRow, ...], str | None]:
    """One page, newest first, and the cursor of the next. Raises InvalidInput for a cursor that is not ours."""
    rows = store.list_postings(conn, book_accounts, _read_cursor(cursor), limit + 1)
    page = tuple(rows[:limit])
    last = page[-1] if len(rows) > limit else None
    return page, None if last is None else f"{last.at_ms}.{last.n}.{last.set_ref}"


def _read_cursor(cursor: str | None) -> tuple[int, str, int] | None:
    if cursor is None:
        return None
    at_ms, _, rest = cursor.partition(".")
    n, _, ref = rest.partition(".")
    if not (at_ms.isdecimal() and n.isdecimal() and ref) or len(at_ms) > 16 or len(n) > 6:
        raise InvalidInput("is not a cursor that this hub gave out", field="cursor")
    return int(at_ms), ref, int(n)
