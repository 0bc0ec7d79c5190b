"""Instructions for sites, numbered per site in the transaction of their cause."""

from collections.abc import Iterable, Mapping, Sequence

import sqlalchemy as sa
from pydantic import TypeAdapter

from yunhe.hub.orders import store
from yunhe.hub.platform import bulk
from yunhe.hub.platform.db import insert_ignore
from yunhe.hub.platform.writer import Tx
from yunhe.wire.link import SiteInstruction

MAX_ANSWER_CHARS = 4 * 1024 * 1024
OUTBOX = "outbox"  # topic: some site has a new instruction

_instruction: TypeAdapter[SiteInstruction] = TypeAdapter(SiteInstruction)


def append(tx: Tx, site_id: str, instructions: Sequence[SiteInstruction]) -> None:
    """Number and store them in order; their own `seq` is replaced."""
    if not instructions:
        return
    head = store.outbox_head
    step = sa.update(head).where(head.c.site_id == site_id).returning(head.c.seq)
    numbers = step.values(seq=head.c.seq + len(instructions))
    last = tx.conn.scalar(numbers)
    if last is None:  # the site's first
        insert_ignore(head).execute(tx.conn, [{"site_id": site_id, "seq": 0}])
        last = tx.conn.execute(numbers).scalar_one()
    first = last - len(instructions) + 1
    rows = [
        {
            "site_id": site_id,
            "seq": first + i,
            "body": item.model_copy(update={"seq": first + i}).model_dump_json(exclude_defaults=False),
        }
        for i, item in enumerate(instructions)
    ]
    bulk.insert(tx.conn, store.instruction, rows)
    tx.notify(OUTBOX)


def after(conn: sa.Connection, site_id: str, seq: int, limit: int | None) -> tuple[SiteInstruction, ...]:
    """Instructions numbered above `seq`, in order; `limit` None: all."""
    rows = conn.execute(
        sa.select(store.instruction.c.body)
        .where(store.instruction.c.site_id == site_id, store.instruction.c.seq > seq)
        .order_by(store.instruction.c.seq)
        .limit(limit)
    )
    return tuple(_instruction.validate_json(row.body) for row in rows)


def texts_after(conn: sa.Connection, applied: Mapping[str, int], limit: int) -> dict[str, tuple[str, ...]]:
    """For each site and the last number that it holds: its later instructions as JSON, in order, at most `limit`."""
    newest = heads(conn, list(applied))
    instruction = store.instruction.c
    found: dict[str, tuple[str, ...]] = {}
    for site_id, seq in applied.items():
        if newest.get(site_id, 0) > seq:
            later = sa.select(instruction.body).where(instruction.site_id == site_id, instruction.seq > seq)
            found[site_id] = _cut(conn.scalars(later.order_by(instruction.seq).limit(limit)))
    return found


def _cut(texts: Iterable[str]) -> tuple[str, ...]:
    """As many as an answer may hold, one at least; the rest comes with the next poll."""
    kept: list[str] = []
    size = 0
    for text in texts:
        size += len(text)
        if kept and size > MAX_ANSWER_CHARS:
            break
        kept.append(text)
    return tuple(kept)


def heads(conn: sa.Connection, site_ids: Sequence[str]) -> dict[str, int]:
    """The number of the last instruction of each site; a site without any is absent."""
    head = store.outbox_head
    rows = conn.execute(sa.select(head.c.site_id, head.c.seq).where(head.c.site_id.in_(sorted(site_ids))))
    return {row.site_id: row.seq for row in rows}


def prune(tx: Tx, applied: Mapping[str, int]) -> None:
    """Forget what sites hold durably themselves."""
    for site_id, seq in sorted(applied.items()):
        tx.conn.execute(
            sa.delete(store.instruction).where(store.instruction.c.site_id == site_id, store.instruction.c.seq <= seq)
        )
