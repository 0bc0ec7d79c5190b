"""The tables of the ledger room and the statements on them. Only `ledger.service` imports this module."""

from collections.abc import Iterator, Sequence
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
# Bound parameters of one statement stay far under every database's limit.
CHUNK = 500


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


def _chunks(items: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(items), CHUNK):
        yield items[start : start + CHUNK]


# --- postings -----------------------------------------------------------------------------------------------------


def known_refs(conn: Connection, refs: Sequence[str]) -> set[str]:
    """Those of `refs` that are booked already."""
    found: set[str] = set()
    for chunk in _chunks(refs):
        found.update(conn.scalars(select(posting.c.set_ref).where(posting.c.set_ref.in_(chunk), posting.c.n == 0)))
    return found


def add_sets(conn: Connection, sets: Sequence[PostingSet]) -> bool:
    """Insert in order of the refs; False when a row was there already (another replica was faster).

    A set that moves nothing leaves one row of amount 0, so that its ref is known to be done.
    """
    rows = [
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
    return bulk.insert(conn, posting, rows, ignore=True) == len(rows)


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
    statement = (
        update(balance)
        .where(balance.c.account == account, balance.c.unit == unit)
        .values(amount=balance.c.amount + bindparam("delta"))
    )
    values = {"delta": delta}
    if floor is not None:
        # Money that comes in is always welcome, also under the floor.
        statement = statement.where(balance.c.amount + bindparam("delta") >= bindparam("floor"))
        values["floor"] = floor
    return conn.execute(statement, values).rowcount == 1


def lock_balance(conn: Connection, account: str, unit: str) -> int:
    """The balance, with its row locked until the end of the transaction."""
    query = select(balance.c.amount).where(balance.c.account == account, balance.c.unit == unit).with_for_update()
    return int(conn.scalar(query) or 0)


# --- holds --------------------------------------------------------------------------------------------------------


def add_holds(conn: Connection, rows: Sequence[HoldRow]) -> None:
    """Raises sqlalchemy.exc.IntegrityError for an order that has a hold: that is a bug of the caller."""
    values = [
        {
            "order_id": row.order_id,
            "organisation": row.organisation,
            "amount": row.amount,
            "left_amount": row.left_amount,
        }
        for row in rows
    ]
    bulk.insert(conn, hold, values)


def lock_holds(conn: Connection, order_ids: Sequence[str]) -> dict[str, HoldRow]:
    """Rows in sorted order, locked until the end of the transaction."""
    found: dict[str, HoldRow] = {}
    for chunk in _chunks(sorted(set(order_ids))):
        query = select(hold).where(hold.c.order_id.in_(chunk)).order_by(hold.c.order_id).with_for_update()
        for row in conn.execute(query):
            found[row.order_id] = HoldRow(**row._mapping)
    return found


def find_hold(conn: Connection, order_id: str) -> HoldRow | None:
    row = conn.execute(select(hold).where(hold.c.order_id == order_id)).one_or_none()
    return None if row is None else HoldRow(**row._mapping)


def take_from_holds(conn: Connection, taken: dict[str, int]) -> bool:
    """Conditional updates, one per order; False when one of them found less than it takes."""
    rows = [{"key": order_id, "taken": amount} for order_id, amount in sorted(taken.items()) if amount]
    if not rows:
        return True
    statement = (
        update(hold)
        .where(hold.c.order_id == bindparam("key"), hold.c.left_amount >= bindparam("taken"))
        .values(left_amount=hold.c.left_amount - bindparam("taken"))
    )
    return conn.execute(statement, rows).rowcount == len(rows)
