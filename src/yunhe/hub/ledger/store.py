"""The tables of the ledger room and the statements on them. Only `ledger.service` imports this module."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Index,
    Integer,
    Table,
    Text,
    and_,
    bindparam,
    func,
    literal,
    or_,
    select,
    union_all,
    update,
)

from yunhe.core.posting import CNY, Posting, PostingSet
from yunhe.hub.platform import bulk
from yunhe.hub.platform.db import insert_ignore, metadata

# The truth: append-only.
posting = Table(
    "posting",
    metadata,
    Column("set_ref", Text, primary_key=True),
    Column("n", Integer, primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("destination", Text, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("unit", Text, nullable=False),
    Index("ix_posting_source", "source", "at_ms"),
    Index("ix_posting_destination", "destination", "at_ms"),
    Index("ix_posting_at_ms", "at_ms"),
)
# A projection of the postings, written in their transaction; also the guard of the floors.
balance = Table(
    "balance",
    metadata,
    Column("account", Text, primary_key=True),
    Column("unit", Text, primary_key=True),
    Column("amount", BigInteger, nullable=False),
)
# The guard of an order's hold: what is left of it can be captured or released once.
hold = Table(
    "hold",
    metadata,
    Column("order_id", Text, primary_key=True),
    Column("organisation", Text, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("left_amount", BigInteger, nullable=False),
)
_ADD = (
    update(balance)
    .where(balance.c.account == bindparam("b_account"), balance.c.unit == bindparam("b_unit"))
    .values(amount=balance.c.amount + bindparam("delta", type_=BigInteger))
)
_ADD_ABOVE = _ADD.where(balance.c.amount + bindparam("delta", type_=BigInteger) >= bindparam("floor", type_=BigInteger))
_KNOWN_REFS = select(posting.c.set_ref).where(bulk.any_of(posting.c.set_ref), posting.c.n == 0)
_LOCKED_HOLDS = (
    select(hold.c.order_id, hold.c.organisation, hold.c.amount, hold.c.left_amount)
    .where(bulk.any_of(hold.c.order_id))
    .order_by(hold.c.order_id)
    .with_for_update()
)
_BALANCES = select(balance.c.account, balance.c.unit, balance.c.amount).where(bulk.any_of(balance.c.account))
# The order of `service._lock_order`, whatever the database's collation.
_LOCKED_BALANCES = _BALANCES.order_by(
    balance.c.account.like("%:available").desc(), balance.c.account.collate("C"), balance.c.unit.collate("C")
).with_for_update()


@dataclass(frozen=True, slots=True)
class HoldRow:
    """One row of `hold`, micro-CNY."""

    order_id: str
    organisation: str
    amount: int
    left_amount: int


@dataclass(frozen=True, slots=True)
class PostingRow:
    """One row of `posting`."""

    set_ref: str
    n: int
    at_ms: int
    kind: str
    source: str
    destination: str
    amount: int
    unit: str


# --- postings -----------------------------------------------------------------------------------------------------


def known_refs(conn: Connection, refs: Sequence[str]) -> set[str]:
    """Those of `refs` that are booked already."""
    return set(conn.scalars(_KNOWN_REFS, {"ids": list(refs)}).all()) if refs else set()


def add_sets(conn: Connection, sets: Sequence[PostingSet]) -> bool:
    """Insert in order of the refs; False when a row was there already (another replica was faster).

    A set that moves nothing leaves one row of amount 0, so that its ref is known to be done.
    """
    rows = _posting_rows(sets)
    return bulk.insert(conn, posting, rows, ignore=True) == len(rows)


def _posting_rows(sets: Sequence[PostingSet]) -> list[dict[str, object]]:
    return [
        {
            "set_ref": item.ref,
            "n": n,
            "at_ms": item.at_ms,
            "kind": item.kind.value,
            "source": source,
            "destination": destination,
            "amount": amount,
            "unit": unit,
        }
        for item in sorted(sets, key=lambda item: item.ref)
        for n, (source, destination, amount, unit) in enumerate(_moves(item))
    ]


def _moves(item: PostingSet) -> list[tuple[str, str, int, str]]:
    return [(move.source, move.destination, move.amount, move.unit) for move in item.postings] or [("", "", 0, CNY)]


def list_postings(
    conn: Connection, accounts: Sequence[str] | None, after: tuple[int, str, int] | None, limit: int
) -> list[PostingRow]:
    """Newest first; `after` is the (at_ms, set_ref, n) of the last row of the page before."""
    table = posting.c
    newest = (table.at_ms.desc(), table.set_ref.desc(), table.n.desc())
    query = select(posting).where(table.amount > 0).order_by(*newest).limit(limit)
    if accounts is not None:
        query = query.where(or_(table.source.in_(accounts), table.destination.in_(accounts)))
    if after is not None:
        at_ms, ref, n = after
        older = or_(
            table.at_ms < at_ms,
            and_(table.at_ms == at_ms, or_(table.set_ref < ref, and_(table.set_ref == ref, table.n < n))),
        )
        query = query.where(older)
    return [PostingRow(**row._mapping) for row in conn.execute(query)]


def count_postings(conn: Connection) -> int:
    return int(conn.scalar(select(func.count()).select_from(posting).where(posting.c.amount > 0)) or 0)


def moves_of(conn: Connection, ref: str) -> tuple[Posting, ...]:
    """The moves of one set, in their order."""
    rows = conn.execute(select(posting).where(posting.c.set_ref == ref, posting.c.amount > 0).order_by(posting.c.n))
    return tuple(Posting(row.source, row.destination, row.amount, row.unit) for row in rows)


def both_balances(conn: Connection) -> tuple[dict[tuple[str, str], int], dict[tuple[str, str], int], int]:
    """(balances from the postings alone, balance rows, number of postings), as of one moment: one statement."""
    moved = posting.c.amount > 0
    moves = union_all(
        select(posting.c.source.label("account"), posting.c.unit, (-posting.c.amount).label("amount")).where(moved),
        select(posting.c.destination, posting.c.unit, posting.c.amount).where(moved),
    ).subquery()
    query = union_all(
        select(literal("sum").label("what"), moves.c.account, moves.c.unit, func.sum(moves.c.amount).label("amount"))
        .select_from(moves)
        .group_by(moves.c.account, moves.c.unit),
        select(literal("row"), balance.c.account, balance.c.unit, balance.c.amount),
        select(literal("count"), literal(""), literal(""), func.count()).select_from(posting).where(moved),
    )
    computed: dict[tuple[str, str], int] = {}
    kept: dict[tuple[str, str], int] = {}
    count = 0
    for what, account, unit, amount in conn.execute(query):
        if what == "count":
            count = int(amount)
        else:
            (computed if what == "sum" else kept)[account, unit] = int(amount)
    return computed, kept, count


# --- balances -----------------------------------------------------------------------------------------------------


def balances(conn: Connection, accounts: Sequence[str] | None = None) -> dict[tuple[str, str], int]:
    """(account, unit) -> balance row. None: all of them."""
    query = select(balance.c.account, balance.c.unit, balance.c.amount)
    if accounts is not None:
        query = query.where(balance.c.account.in_(accounts))
    return {(account, unit): amount for account, unit, amount in conn.execute(query)}


def change_balance(conn: Connection, account: str, unit: str, delta: int, floor: int | None) -> bool:
    """One conditional update; False, and nothing changed, when the balance would go under `floor`.

    A row that is not there counts as 0 and is made.
    """
    if _try_change(conn, account, unit, delta, floor):
        return True
    insert_ignore(balance).execute(conn, [{"account": account, "unit": unit, "amount": 0}])
    return _try_change(conn, account, unit, delta, floor)


def _try_change(conn: Connection, account: str, unit: str, delta: int, floor: int | None) -> bool:
    values = {"b_account": account, "b_unit": unit, "delta": delta}
    if floor is None:
        return conn.execute(_ADD, values).rowcount == 1
    return conn.execute(_ADD_ABOVE, {**values, "floor": floor}).rowcount == 1


def add_to_balances(conn: Connection, deltas: Mapping[tuple[str, str], int]) -> None:
    """Change many balances that have no floor, locked in the order in which they are given."""
    known = _lock_balances(conn, deltas)
    missing = [{"account": account, "unit": unit, "amount": 0} for account, unit in deltas.keys() - known.keys()]
    if missing:
        bulk.insert(conn, balance, sorted(missing, key=lambda row: str(row["account"])), ignore=True)
        known = _lock_balances(conn, deltas)
    rows = [
        {"account": account, "unit": unit, "amount": known[account, unit] + delta}
        for (account, unit), delta in deltas.items()
    ]
    bulk.update(conn, balance, ("account", "unit"), rows)


def _lock_balances(conn: Connection, keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], int]:
    statement = _BALANCES if conn.dialect.name == "sqlite" else _LOCKED_BALANCES
    rows = conn.execute(statement, {"ids": list(dict.fromkeys(account for account, _ in keys))})
    return {(account, unit): amount for account, unit, amount in rows}


def lock_balance(conn: Connection, account: str, unit: str) -> int:
    """The balance, with its row locked until the end of the transaction."""
    query = select(balance.c.amount).where(balance.c.account == account, balance.c.unit == unit).with_for_update()
    return int(conn.scalar(query) or 0)


# --- holds --------------------------------------------------------------------------------------------------------


def add_holds(conn: Connection, rows: Sequence[HoldRow], sets: Sequence[PostingSet]) -> None:
    """Holds and what books them. Raises sqlalchemy.exc.IntegrityError for an order that has a hold: that is a bug."""
    values = [
        {
            "order_id": row.order_id,
            "organisation": row.organisation,
            "amount": row.amount,
            "left_amount": row.left_amount,
        }
        for row in rows
    ]
    bulk.write(conn, bulk.Insert(hold, values), bulk.Insert(posting, _posting_rows(sets), ignore=True))


def lock_holds(conn: Connection, order_ids: Sequence[str]) -> dict[str, HoldRow]:
    """Rows in sorted order, locked until the end of the transaction."""
    ids = sorted(set(order_ids))
    rows = conn.execute(_LOCKED_HOLDS, {"ids": ids}).all() if ids else ()
    return {order_id: HoldRow(order_id, org, amount, left) for order_id, org, amount, left in rows}


def find_hold(conn: Connection, order_id: str) -> HoldRow | None:
    row = conn.execute(select(hold).where(hold.c.order_id == order_id)).one_or_none()
    return None if row is None else HoldRow(**row._mapping)


def set_left(conn: Connection, left: dict[str, int]) -> bool:
    """What is left of holds that the caller has locked; False when one of them is not there."""
    rows = [{"order_id": order_id, "left_amount": amount} for order_id, amount in sorted(left.items())]
    return bulk.update(conn, hold, ("order_id",), rows) == len(rows)
