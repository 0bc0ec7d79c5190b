"""Files that a job left behind, complete and checked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from yunhe.core.errors import InvalidInput, NotFound, TooLarge
from yunhe.hub.dispatch import store
from yunhe.hub.dispatch.blobs import Blobs
from yunhe.hub.orders import views
from yunhe.hub.orders.model import order_of
from yunhe.hub.platform.writer import Tx
from yunhe.wire.api import OutputView
from yunhe.wire.data import url_of
from yunhe.wire.link import CHECKPOINT_PATH, LeaseEnded, LeaseMoved

MAX_OUTPUTS = 1_000  # files of one task


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of an output of `total` bytes."""

    lease_id: str
    epoch: int
    path: str
    offset: int
    body: bytes
    total: int
    sha256: str


def check_room(conn: sa.Connection, lease_id: str, path: str, total: int, cap: int) -> None:
    """Raises TooLarge when the task's outputs would be more than `cap` bytes together, or too many."""
    if path == CHECKPOINT_PATH:
        if total > cap:
            raise TooLarge(f"the checkpoint has {total} bytes, more than {cap}", field="total")
        return
    others = (store.output.c.lease_id == lease_id, store.output.c.path.not_in([path, CHECKPOINT_PATH]))
    size = sa.func.coalesce(sa.func.sum(store.output.c.size_bytes), 0)
    count, kept = conn.execute(sa.select(sa.func.count(), size).where(*others)).one()
    if kept + total > cap:
        raise TooLarge(f"{path} has {total} bytes, {cap - int(kept)} are left of the task's {cap}", field="total")
    if count >= MAX_OUTPUTS:
        raise TooLarge(f"a task may leave {MAX_OUTPUTS} outputs", field="path")


def store_chunk(blobs: Blobs, chunk: Chunk) -> int:
    """Bytes stored so far; at `total` the file is durable and its hash checked.

    Raises InvalidInput when more than `total` comes or the hash differs.
    """
    if chunk.offset + len(chunk.body) > chunk.total:
        raise InvalidInput("more bytes than `total`", field="total")
    size = blobs.append_output(chunk.lease_id, chunk.epoch, chunk.path, chunk.offset, chunk.body, chunk.total)
    if size == chunk.total:
        blobs.check_output(chunk.lease_id, chunk.epoch, chunk.path, chunk.sha256)
    return size


def record(tx: Tx, chunks: Sequence[Chunk]) -> list[None]:
    """Writer handler: list the complete outputs; a later epoch's replaces an earlier one's."""
    output = store.output
    for chunk in chunks:
        at = (output.c.lease_id == chunk.lease_id, output.c.path == chunk.path)
        tx.conn.execute(sa.delete(output).where(*at, output.c.epoch <= chunk.epoch))
        if tx.conn.execute(sa.select(output.c.epoch).where(*at)).first() is None:
            row = {
                "lease_id": chunk.lease_id,
                "path": chunk.path,
                "epoch": chunk.epoch,
                "size_bytes": chunk.total,
                "sha256": chunk.sha256,
            }
            tx.conn.execute(output.insert(), row)
    return [None] * len(chunks)


def saved(conn: sa.Connection, ends: Sequence[LeaseEnded]) -> set[tuple[str, int]]:
    """(lease id, epoch) of those whose checkpoint is here, as it was stated, and whose order has checkpoints."""
    found = set()
    output = store.output
    for end in ends:
        if end.checkpoint is not None and end.checkpoint.epoch == end.epoch:
            row = conn.execute(
                sa.select(output.c.sha256).where(
                    output.c.lease_id == end.lease_id, output.c.path == CHECKPOINT_PATH, output.c.epoch == end.epoch
                )
            ).first()
            if row is not None and row.sha256 == end.checkpoint.sha256 and _keeps(conn, end.lease_id):
                found.add((end.lease_id, end.epoch))
    return found


def _keeps(conn: sa.Connection, lease_id: str) -> bool:
    """Whether a job of the order can go on from what it saved: else its site could sell time that nobody keeps."""
    return views.run_of(conn, order_of(lease_id)).checkpoint is not None


def delivered(tx: Tx, reports: Sequence[LeaseMoved]) -> None:
    """What became of outputs with a URL; a later epoch's word replaces an earlier one's."""
    delivery = store.delivery
    for report in reports:
        if report.phase == "in":
            continue
        of_lease = delivery.c.lease_id == report.lease_id
        tx.conn.execute(sa.delete(delivery).where(of_lease, delivery.c.epoch <= report.epoch))
        if report.files and tx.conn.execute(sa.select(delivery.c.epoch).where(of_lease)).first() is None:
            about = {"lease_id": report.lease_id, "epoch": report.epoch}
            rows = {file.path: {**about, **file.model_dump()} for file in report.files}
            tx.conn.execute(delivery.insert(), list(rows.values()))


def of_order(conn: sa.Connection, order_id: str) -> tuple[OutputView, ...]:
    """Files that the hub has, and files that a site sent, or should have sent, to a URL."""
    found = {
        (row.lease_id, row.path): OutputView(
            lease_id=row.lease_id, path=row.path, size_bytes=row.size_bytes, sha256=row.sha256
        )
        for row in _rows(conn, store.output, order_id)
    }
    sent = _rows(conn, store.delivery, order_id)
    run = views.run_of(conn, order_id) if sent else None
    for row in sent:
        stored = found.get((row.lease_id, row.path))
        found[row.lease_id, row.path] = OutputView(
            lease_id=row.lease_id,
            path=row.path,
            size_bytes=row.size_bytes,
            sha256=row.sha256,
            stored=stored is not None and stored.sha256 == row.sha256,
            url=url_of(run, int(row.lease_id.rpartition(".")[2]), row.path) if run else "",
            problem=row.problem,
        )
    return tuple(found[key] for key in sorted(found))


def _rows(conn: sa.Connection, table: sa.Table, order_id: str) -> Sequence[sa.Row[Any]]:
    of_order = (table.c.lease_id >= order_id + ".", table.c.lease_id < order_id + "/")
    return conn.execute(sa.select(table).where(*of_order)).all()


def epoch_of(conn: sa.Connection, order_id: str, lease_id: str, path: str) -> int:
    """The lease epoch that left this output. Raises NotFound."""
    output = store.output
    epoch = conn.scalar(sa.select(output.c.epoch).where(output.c.lease_id == lease_id, output.c.path == path))
    if epoch is None or not lease_id.startswith(order_id + "."):
        raise NotFound(f"the hub has no output {path!r} of {lease_id}", hint="`yunhe outputs list` shows where it is")
    return int(epoch)
