"""Orders as the public API shows them."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from yunhe.core.demand import Shape
from yunhe.core.errors import InvalidInput, NotFound, Refused
from yunhe.core.lifecycle import ORDER_ENDED, PLACED, WAITING, OrderState, TaskState
from yunhe.hub.accounts.service import Principal
from yunhe.hub.orders import store
from yunhe.hub.orders.model import Lease, OrderKey, Placement, terms_from_json
from yunhe.hub.orders.shapes import Shapes
from yunhe.hub.orders.tasks import chunks
from yunhe.hub.orders.transfers import UNDELIVERED
from yunhe.hub.platform import bulk
from yunhe.wire.api import FactView, OrderDetail, OrderPage, OrderSpec, OrderView, RunSpec, StagingView, TaskView
from yunhe.wire.link import Checkpoint
from yunhe.wire.origin import Origin

MAX_TASKS_SHOWN = 1_000
MAX_FACTS_SHOWN = 5_000

_lease, _order = store.lease.c, store.order.c
# A task is staging from the first word about its inputs to its start.
_SHOWN_STATE = sa.case(
    (sa.and_(store.task.c.state == TaskState.LEASED.value, store.task.c.staging != ""), "staging"),
    else_=store.task.c.state,
)
_PLACEMENTS = sa.select(_lease.lease_id, _lease.epoch, _lease.site_id, _lease.end_reason, _lease.ended_ms).where(
    bulk.any_of(_lease.lease_id)
)
_LEASES = (
    sa.select(
        _lease.lease_id,
        _lease.epoch,
        _lease.order_id,
        _order.org,
        _lease.site_id,
        _lease.pool_id,
        _lease.terms,
        _lease.end_reason,
        _lease.kept_ms,
        _lease.placed_ms,
        _lease.ended_ms,
    )
    .join(store.order, _order.id == _lease.order_id)
    .where(bulk.any_of(_lease.lease_id))
)


def check_sees(conn: sa.Connection, principal: Principal, order_id: str) -> OrderKey:
    """The order, if the caller may see it; NotFound otherwise."""
    found = keys(conn, [order_id]).get(order_id)
    if found is None:
        raise NotFound(f"order {order_id} is not known", hint="`yunhe orders` lists yours")
    principal.check_sees(found.org, f"order {order_id}")
    return found


def keys(conn: sa.Connection, order_ids: Sequence[str]) -> dict[str, OrderKey]:
    found: dict[str, OrderKey] = {}
    for ids in chunks(sorted(set(order_ids))):
        rows = conn.execute(
            sa.select(store.order.c.id, store.order.c.org, store.order.c.state, store.order.c.settled).where(
                store.order.c.id.in_(ids)
            )
        )
        found.update((row.id, OrderKey(row.id, row.org, row.state, row.settled)) for row in rows)
    return found


def is_over(conn: sa.Connection, order_id: str) -> bool:
    """Ended and settled."""
    row = conn.execute(sa.select(store.order.c.state, store.order.c.settled).where(store.order.c.id == order_id)).one()
    return row.settled and OrderState(row.state) in ORDER_ENDED


def order_views(conn: sa.Connection, order_ids: Sequence[str]) -> list[OrderView]:
    """In the order of the ids; unknown ids are left out."""
    rows: dict[str, sa.Row[Any]] = {}
    for ids in chunks(order_ids):
        rows.update((row.id, row) for row in conn.execute(sa.select(store.order).where(store.order.c.id.in_(ids))))
    counts = _task_counts(conn, list(rows))
    failed = _undelivered(conn, list(rows))
    return [_view(rows[i], counts[i], failed.get(i, 0)) for i in order_ids if i in rows]


def page(
    conn: sa.Connection, org: str | None, states: Sequence[str], limit: int, cursor: str | None, text: str = ""
) -> OrderPage:
    """Newest first; `org` None: of everybody; `text`: in the name, or what the id begins with. The cursor is the id of
    the last order of the page before."""
    order = store.order
    statement = sa.select(order.c.id, order.c.submitted_ms).order_by(order.c.submitted_ms.desc(), order.c.id.desc())
    if org is not None:
        statement = statement.where(order.c.org == org)
    if states:
        statement = statement.where(order.c.state.in_(states))
    if text:
        named = order.c.name.icontains(text, autoescape=True)
        statement = statement.where(sa.or_(named, order.c.id.startswith(text, autoescape=True)))
    if cursor is not None:
        last = conn.execute(sa.select(order.c.submitted_ms, order.c.org).where(order.c.id == cursor)).first()
        if last is None or (org is not None and last.org != org):
            raise InvalidInput("this cursor is not of this listing", field="cursor")
        statement = statement.where(
            sa.or_(
                order.c.submitted_ms < last.submitted_ms,
                sa.and_(order.c.submitted_ms == last.submitted_ms, order.c.id < cursor),
            )
        )
    ids = [row.id for row in conn.execute(statement.limit(limit + 1))]
    shown = ids[:limit]
    return OrderPage(
        orders=tuple(order_views(conn, shown)), next_cursor=shown[-1] if len(ids) > limit and shown else None
    )


def detail(conn: sa.Connection, order_id: str) -> OrderDetail:
    row = conn.execute(sa.select(store.order).where(store.order.c.id == order_id)).one()
    view = _view(row, _task_counts(conn, [order_id])[order_id], _undelivered(conn, [order_id]).get(order_id, 0))
    task_rows = conn.execute(
        sa.select(store.task).where(store.task.c.order_id == order_id).order_by(store.task.c.idx).limit(MAX_TASKS_SHOWN)
    )
    return OrderDetail(
        **view.model_dump(),
        spec=_spec(conn, row.spec_hash).model_copy(update={"origin": origin_of(row)}),
        task_list=tuple(_task_view(task) for task in task_rows),
        facts=_facts(conn, order_id),
    )


def origin_of(order: sa.Row[Any]) -> Origin | None:
    """Of an order's row: kept apart from the spec, which orders of one shape share."""
    return None if order.origin is None else Origin.model_validate_json(order.origin)


def _spec(conn: sa.Connection, spec_hash: str) -> OrderSpec:
    text = conn.scalar(sa.select(store.spec.c.json).where(store.spec.c.hash == spec_hash))
    return OrderSpec.model_validate_json(text or "")


def bundle(conn: sa.Connection, sha256: str) -> str:
    text = conn.scalar(sa.select(store.bundle.c.json).where(store.bundle.c.sha256 == sha256))
    if text is None:
        raise NotFound("this bundle is not known")
    return str(text)


def _view(row: sa.Row[Any], counts: dict[str, int], undelivered: int) -> OrderView:
    return OrderView(
        id=row.id,
        name=row.name,
        account=row.org,
        state=OrderState(row.state),
        submitted_utc_ms=row.submitted_ms,
        ended_utc_ms=row.ended_ms,
        array=row.array,
        tasks=counts,
        undelivered=undelivered,
        hold_microcny=row.hold_microcny,
        charged_microcny=row.charged_microcny,
        settled=row.settled,
    )


def _task_counts(conn: sa.Connection, order_ids: Sequence[str]) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = defaultdict(dict)
    for ids in chunks(order_ids):
        rows = conn.execute(
            sa.select(store.task.c.order_id, _SHOWN_STATE.label("state"), sa.func.count().label("n"))
            .where(store.task.c.order_id.in_(ids))
            .group_by(store.task.c.order_id, sa.text("2"))
        )
        for row in rows:
            counts[row.order_id][row.state] = row.n
    return counts


def _undelivered(conn: sa.Connection, order_ids: Sequence[str]) -> dict[str, int]:
    """Tasks whose outputs did not all get to their URLs, by order; orders without any are absent."""
    found: dict[str, int] = {}
    for ids in chunks(order_ids):
        rows = conn.execute(
            sa.select(store.task.c.order_id, sa.func.count().label("n"))
            .where(store.task.c.order_id.in_(ids), store.task.c.delivery == UNDELIVERED)
            .group_by(store.task.c.order_id)
        )
        found.update((row.order_id, row.n) for row in rows)
    return found


def task_views(conn: sa.Connection, lease_ids: Sequence[str]) -> list[TaskView]:
    """Unknown ones are left out."""
    found: list[TaskView] = []
    for ids in chunks(lease_ids):
        found += [_task_view(row) for row in conn.execute(sa.select(store.task).where(store.task.c.lease_id.in_(ids)))]
    return found


def _task_view(row: sa.Row[Any]) -> TaskView:
    return TaskView(
        lease_id=row.lease_id,
        index=row.idx,
        state=TaskState(row.state),
        epoch=row.epoch,
        site_id=row.site_id,
        pool_id=row.pool_id,
        exit_code=row.exit_code,
        reason=row.reason,
        detail=row.detail,
        kept_ms=row.kept_ms,
        booked_from_utc_ms=row.booked_from_ms if row.state == TaskState.BOOKED.value else None,
        booked_until_utc_ms=row.booked_until_ms if row.state == TaskState.BOOKED.value else None,
        staging=_staging(row),
        delivery=row.delivery,
        placed_utc_ms=row.placed_ms,
        started_utc_ms=row.started_ms,
        ended_utc_ms=row.ended_ms,
    )


def _staging(row: sa.Row[Any]) -> StagingView | None:
    """The last word about data while it moves: not the fetching of a job that runs, nothing of one that is over."""
    staging = StagingView.model_validate_json(row.staging) if row.staging else None
    if staging is None or row.state not in PLACED or (staging.phase == "in" and row.started):
        return None
    return staging


def run_of(conn: sa.Connection, order_id: str) -> RunSpec:
    """What the order runs, without its files."""
    return _spec(conn, str(conn.scalar(sa.select(store.order.c.spec_hash).where(store.order.c.id == order_id)))).run


def _facts(conn: sa.Connection, order_id: str) -> tuple[FactView, ...]:
    """The order's way, from its submission on, in the order in which it happened."""
    fact = store.fact.c
    rows = conn.execute(
        sa.select(fact.at_ms, fact.lease_id, fact.epoch, fact.kind, fact.detail)
        .where(fact.order_id == order_id)
        .order_by(fact.xact, fact.id)
        .limit(MAX_FACTS_SHOWN)
    )
    return tuple(
        FactView(utc_ms=r.at_ms, lease_id=r.lease_id, epoch=r.epoch, kind=r.kind, detail=r.detail) for r in rows
    )


def leases(conn: sa.Connection, pairs: Sequence[tuple[str, int]]) -> dict[tuple[str, int], Lease]:
    """Placements by (lease id, epoch); unknown ones are absent."""
    wanted = set(pairs)
    ids = sorted({lease_id for lease_id, _ in wanted})
    rows = conn.execute(_LEASES, {"ids": ids}).all() if ids else ()
    return {
        (lease_id, epoch): Lease(lease_id, epoch, order_id, org, site_id, pool_id, terms_from_json(terms), *rest)
        for lease_id, epoch, order_id, org, site_id, pool_id, terms, *rest in rows
        if (lease_id, epoch) in wanted
    }


def count_by_state(conn: sa.Connection) -> dict[str, int]:
    rows = conn.execute(sa.select(store.order.c.state, sa.func.count().label("n")).group_by(store.order.c.state))
    return {row.state: row.n for row in rows}


def lease_of_task(conn: sa.Connection, order_id: str, index: int) -> tuple[str, int]:
    """(lease id, latest epoch) of one task; NotFound when the order has no such task."""
    row = conn.execute(
        sa.select(store.task.c.lease_id, store.task.c.epoch).where(
            store.task.c.order_id == order_id, store.task.c.idx == index
        )
    ).first()
    if row is None:
        raise NotFound(f"order {order_id} has no task {index}", field="task")
    return row.lease_id, row.epoch


def task_over(conn: sa.Connection, lease_id: str) -> bool:
    """Whether nothing more can come of the task (its logs and outputs are complete)."""
    state = conn.scalar(sa.select(store.task.c.state).where(store.task.c.lease_id == lease_id))
    return state not in WAITING | PLACED


def placements(conn: sa.Connection, lease_ids: Iterable[str]) -> dict[tuple[str, int], Placement]:
    """Every epoch of the leases. A site may speak only of those that it was given."""
    ids = sorted(set(lease_ids))
    rows = conn.execute(_PLACEMENTS, {"ids": ids}).all() if ids else ()
    return {(lease_id, epoch): Placement(site_id, *end) for lease_id, epoch, site_id, *end in rows}


def nth_end(conn: sa.Connection, from_ms: int, before_ms: int, n: int) -> int | None:
    """When the n-th attempt that ended in [from_ms, before_ms) did; None: there are fewer."""
    ended = sa.select(_lease.ended_ms).where(_lease.ended_ms >= from_ms, _lease.ended_ms < before_ms)
    return conn.scalar(ended.order_by(_lease.ended_ms).offset(n - 1).limit(1))


def ended_between(conn: sa.Connection, from_ms: int, before_ms: int) -> list[tuple[str, int]]:
    """(lease id, epoch) of the attempts that ended in [from_ms, before_ms)."""
    ended = sa.select(_lease.lease_id, _lease.epoch).where(_lease.ended_ms >= from_ms, _lease.ended_ms < before_ms)
    return [(row.lease_id, row.epoch) for row in conn.execute(ended)]


def checkpoint_epoch(conn: sa.Connection, lease_id: str) -> int | None:
    """The attempt whose checkpoint the task goes on from, if there is one."""
    text = conn.scalar(sa.select(store.task.c.checkpoint).where(store.task.c.lease_id == lease_id))
    return None if text is None else Checkpoint.model_validate_json(text).epoch


def placed_at_site(conn: sa.Connection, site_id: str) -> set[tuple[str, int]]:
    """(lease id, epoch) of every task that the hub counts on at this site."""
    rows = conn.execute(
        sa.select(store.task.c.lease_id, store.task.c.epoch).where(
            store.task.c.site_id == site_id, store.task.c.state.in_([s.value for s in PLACED])
        )
    )
    return {(row.lease_id, row.epoch) for row in rows}


def shape_of(conn: sa.Connection, order_id: str, shapes: Shapes) -> Shape:
    """The order's shape, as the round sees it."""
    row = conn.execute(sa.select(store.order).where(store.order.c.id == order_id)).one()
    loaded = shapes.load(conn, {row.spec_hash: row.submitted_ms}).get(row.spec_hash)
    if loaded is None:
        raise Refused(f"order {order_id} was written by another version of the hub and cannot be read by this one")
    return shapes.of_order(row, loaded)
