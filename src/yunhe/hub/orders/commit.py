"""Commit a plan: recheck it against the rows it was made from, reserve, write leases and instructions.

    1. lock the orders; drop assignments whose order changed since the snapshot
       write what was booked, and keep the others clear of it (`booking`)
    2. reserve pools and quotas by their guards; drop what no longer fits
    3. step each task: `Placed`
    4. write leases, instructions, tasks, orders
What is dropped stays open and waits for the next round.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from yunhe.core import lease, lifecycle
from yunhe.core.lifecycle import OrderState, Placed, Task, TaskState
from yunhe.core.placement.sizing import slots_of
from yunhe.core.policy import Policy
from yunhe.core.round import Assignment
from yunhe.core.supply import Pool, Site, Supply
from yunhe.hub.accounts import service as accounts
from yunhe.hub.catalogue import service as catalogue
from yunhe.hub.orders import booking, outbox, rooms, starting, store, tasks
from yunhe.hub.orders.booking import Promise
from yunhe.hub.orders.model import terms_to_json
from yunhe.hub.orders.snapshot import OpenOrder
from yunhe.hub.orders.starting import Due
from yunhe.hub.orders.views import origin_of
from yunhe.hub.platform import bulk
from yunhe.hub.platform.settings import HubSettings
from yunhe.hub.platform.writer import Tx
from yunhe.wire.api.orders import CheckpointSpec
from yunhe.wire.convert import command_for
from yunhe.wire.data import deliveries_of, inputs_of, output_paths
from yunhe.wire.link import Checkpoint, CheckpointPlan, StartLease

# A task that goes on from a checkpoint has what is left of its run limit, and at least this: to start again and to
# read the checkpoint is no progress of its own.
RESUMED_LEAST_MS = 10_000


@dataclass(frozen=True, slots=True)
class PlanCommit:
    """Assignments and what they were decided on."""

    assignments: tuple[Assignment, ...]
    open_orders: dict[str, OpenOrder]
    supply: Supply
    bookings: tuple[Assignment, ...] = ()


@dataclass(frozen=True, slots=True)
class _Placement:
    """One task that gets a lease."""

    order: sa.Row[Any]
    row: sa.Row[Any]
    assignment: Assignment
    open: OpenOrder

    @property
    def milli(self) -> int:
        return self.assignment.milli // self.assignment.tasks

    @property
    def memory_bytes(self) -> int:
        return self.assignment.memory_bytes // self.assignment.tasks

    @property
    def run_limit_ms(self) -> int:
        """What was kept of earlier attempts counts as run."""
        whole = self.open.shape.terms.run_limit_ms
        return max(whole - int(self.row.kept_ms), min(whole, RESUMED_LEAST_MS))


class Committer:
    def __init__(self, settings: HubSettings) -> None:
        self._settings = settings
        self._policy: Policy = settings.policy

    def commit_plans(self, tx: Tx, plans: Sequence[PlanCommit]) -> list[int]:
        """Writer handler. Gives the number of tasks that were placed for each plan."""
        return [self._commit(tx, plan) for plan in plans]

    def _commit(self, tx: Tx, plan: PlanCommit) -> int:
        orders = tasks.lock_orders(tx, (a.order_id for a in (*plan.assignments, *plan.bookings)))
        fresh = list(_fresh(plan.assignments, orders))
        promised = self._book(tx, plan, orders, fresh)
        placed = booking.clear(tx, _reserve_pools(tx, fresh), plan.open_orders, self._policy)
        kept = _within_quota(tx, placed, orders)
        placements = list(_pick_tasks(tx, kept, orders, plan))
        pools = {pool.id: pool for pool in plan.supply.pools}
        sites = {site.id: site for site in plan.supply.sites}
        self._write(tx, placements, pools, sites)
        return len(placements) + promised

    def _book(self, tx: Tx, plan: PlanCommit, orders: dict[str, sa.Row[Any]], others: list[Assignment]) -> int:
        """The number of tasks that were booked."""
        wanted = list(_fresh(plan.bookings, orders))
        also = [a.pool_id for a in others]
        kept = booking.bookable(tx, wanted, also, plan.open_orders, self._policy)
        promises = [
            Promise(p.order, p.row, p.assignment.pool_id, p.open.shape, p.milli, p.memory_bytes)
            for p in _pick_tasks(tx, kept, orders, plan)
        ]
        if promises:
            booking.write(tx, promises)
        return len(promises)

    def start_booked(self, tx: Tx, batches: Sequence[Due]) -> list[int]:
        """Writer handler: begins the leases of bookings whose time has come. Gives the number that began."""
        return [self._start_booked(tx, due) for due in batches]

    def _start_booked(self, tx: Tx, due: Due) -> int:
        orders = tasks.lock_orders(tx, due.open_orders)
        rows = starting.still_due(tx, due)
        pools = {pool.id: pool for pool in due.supply.pools}
        sites = {site.id: site for site in due.supply.sites}
        wanted = {
            Assignment(row.order_id, row.idx, row.pool_id, 1, row.milli, row.memory_bytes): row
            for row in rows
            if row.pool_id in pools and sites[pools[row.pool_id].site_id].connected
        }
        reserved = _reserve_pools(tx, list(wanted))
        kept = _within_quota(tx, reserved, orders)
        over_quota = {wanted[a].lease_id for a in set(reserved) - set(kept)}
        placements = [_Placement(orders[a.order_id], wanted[a], a, due.open_orders[a.order_id]) for a in kept]
        self._write(tx, placements, pools, sites)
        begun = {p.row.lease_id for p in placements}
        left = [row for row in rows if row.lease_id not in begun]
        starting.lose(tx, left, over_quota, due.supply, self._policy)
        return len(placements)

    def _write(self, tx: Tx, placements: list[_Placement], pools: dict[str, Pool], sites: dict[str, Site]) -> None:
        changed: list[tuple[Task, dict[str, object]]] = []
        leases: list[dict[str, object]] = []
        facts: list[dict[str, object]] = []
        starts: dict[str, list[StartLease]] = defaultdict(list)
        for p in placements:
            pool = pools[p.assignment.pool_id]
            site = sites[pool.site_id]
            step = lifecycle.step(tasks.to_task(p.row), Placed(site.id, pool.id), tx.now_ms)
            changed.append((step.task, self._columns(tx, p)))
            leases.append(self._lease_row(tx, p, step.task, pool, site))
            facts += tasks.fact_rows(p.order.id, step, tx.now_ms)
            starts[site.id].append(self._start(p, step.task, pool))
        bulk.write(
            tx.conn,
            tasks.changing(changed),
            bulk.Insert(store.lease, leases),
            bulk.Insert(store.fact, facts),
            bulk.Update(store.order, ("id",), _order_rows(tx, placements)),  # they are locked
            outbox.adding(tx, starts),
        )
        if facts:
            tx.notify(tasks.FACTS)

    def _columns(self, tx: Tx, p: _Placement) -> dict[str, object]:
        booked = p.row.state == TaskState.BOOKED.value
        return {
            "milli": p.milli,
            "memory_bytes": p.memory_bytes,
            "detail": "",
            "staging": "",
            "delivery": "",
            "moving_ms": None,
            "placed_ms": tx.now_ms,
            "started_ms": None,
            "saved_ms": 0,
            "ended_ms": None,
            "limit_ms": p.run_limit_ms + self._settings.overdue_grace_ms,
            "overdue_ms": tx.now_ms + self._settings.queue_limit_ms,
            "booked_from_ms": p.row.booked_from_ms if booked else None,
            "booked_until_ms": p.row.booked_until_ms if booked else None,
        }

    def _lease_row(self, tx: Tx, p: _Placement, task: Task, pool: Pool, site: Site) -> dict[str, object]:
        asked = lease.Asked(
            milli=p.milli,
            memory_bytes=p.memory_bytes,
            data_bytes=p.open.shape.requirement.data_bytes,
            run_limit_ms=p.run_limit_ms,
            hold_microcny=p.order.hold_microcny,
            tasks=p.order.array,
            attempts=_attempts(p),
            spot=p.open.shape.terms.spot,
        )
        return {
            "lease_id": task.lease_id,
            "epoch": task.epoch,
            "order_id": p.order.id,
            "site_id": site.id,
            "pool_id": pool.id,
            "placed_ms": tx.now_ms,
            "terms": terms_to_json(lease.agreed(asked, pool, site, self._policy, tx.now_ms)),
        }

    def _start(self, p: _Placement, task: Task, pool: Pool) -> StartLease:
        spec = p.open.loaded.spec
        slots, slot_milli = slots_of(p.open.shape.requirement, pool, p.milli)
        origin = origin_of(p.order)
        # `pool.id` is "site:name"; the site knows its pools by name.
        return StartLease(
            seq=0,
            lease_id=task.lease_id,
            epoch=task.epoch,
            pool=pool.id.partition(":")[2],
            slots=slots,
            slot_milli=slot_milli,
            slot_memory_bytes=p.memory_bytes // slots,
            run_limit_ms=p.run_limit_ms,
            disconnect_limit_ms=self._settings.disconnect_limit_ms,
            command=command_for(spec, pool.stack),
            # No organisation's id has a slash: whoever states an origin names no other organisation by it.
            tenant=f"{p.order.org}/{origin.tenant}" if origin else p.order.org,
            origin=origin,
            spot=spec.spot,
            earns_microcny=_earns(p.order.hold_microcny // _attempts(p), self._policy),
            image=spec.run.images.get(pool.stack, spec.run.image),
            network=spec.run.network,
            secrets=tuple(spec.run.secrets),
            env={
                **spec.run.env,
                "YUNHE_TASK_INDEX": str(origin.index if origin else p.row.idx),
                "YUNHE_LEASE_ID": task.lease_id,
            },
            bundle_sha256=p.open.loaded.bundle,
            inputs=inputs_of(spec.run, p.row.idx),
            outputs=output_paths(spec.run),
            deliveries=deliveries_of(spec.run, p.row.idx),
            log_cap_bytes=self._settings.log_cap_bytes,
            output_cap_bytes=self._settings.output_cap_bytes,
            checkpoint=self._checkpoint(spec.run.checkpoint),
            restore=Checkpoint.model_validate_json(p.row.checkpoint) if p.row.checkpoint else None,
        )

    def _checkpoint(self, wanted: CheckpointSpec | None) -> CheckpointPlan | None:
        if wanted is None:
            return None
        return CheckpointPlan(signal=wanted.signal, folder=wanted.folder, cap_bytes=self._settings.checkpoint_cap_bytes)


def _attempts(p: _Placement) -> int:
    """Among which the order's hold is divided."""
    return int(p.order.array) * (1 + p.open.loaded.spec.retries)


def _earns(hold_microcny: int, policy: Policy) -> int:
    return hold_microcny * (10_000 - policy.operator_fee_bps) // 10_000


def _fresh(assignments: Iterable[Assignment], orders: dict[str, sa.Row[Any]]) -> Iterable[Assignment]:
    """Assignments whose order is as the snapshot saw it. One order may have several (an array over pools)."""
    planned: dict[str, int] = defaultdict(int)
    for assignment in assignments:
        row = orders.get(assignment.order_id)
        if row is None or row.version != assignment.version:
            continue
        planned[row.id] += assignment.tasks
        if planned[row.id] <= row.pending:
            yield assignment


def _reserve_pools(tx: Tx, assignments: list[Assignment]) -> list[Assignment]:
    """Those whose units were free; the guards are taken for them."""
    sums: dict[str, tuple[int, int]] = {}
    for a in assignments:
        milli, memory = sums.get(a.pool_id, (0, 0))
        sums[a.pool_id] = (milli + a.milli, memory + a.memory_bytes)
    full = catalogue.reserve_many(tx, sums)
    # Where a sum does not fit, perhaps a part of it does. Guards in sorted order here too.
    return [
        a
        for a in sorted(assignments, key=lambda a: a.pool_id)
        if a.pool_id not in full or catalogue.reserve(tx, a.pool_id, a.milli, a.memory_bytes)
    ]


def _within_quota(tx: Tx, placed: list[Assignment], orders: dict[str, sa.Row[Any]]) -> list[Assignment]:
    """Those whose account may have so many units, for which its guard is taken; the units of the others go back."""
    quota: dict[str, int] = defaultdict(int)
    for a in placed:
        quota[orders[a.order_id].org] += a.milli
    refused = accounts.reserve_quota(tx, quota)
    kept = []
    for a in sorted(placed, key=lambda a: orders[a.order_id].org):
        org = orders[a.order_id].org
        if org in refused and accounts.reserve_quota(tx, {org: a.milli}):
            catalogue.release(tx, a.pool_id, a.milli, a.memory_bytes)
        else:
            kept.append(a)
    return kept


def _pick_tasks(
    tx: Tx, assignments: list[Assignment], orders: dict[str, sa.Row[Any]], plan: PlanCommit
) -> Iterable[_Placement]:
    """The pending tasks of each assignment's order, lowest index first; last those that are to wait longer."""
    wanted: dict[str, int] = defaultdict(int)
    for a in assignments:
        wanted[a.order_id] += a.tasks
    single = [order_id for order_id in wanted if orders[order_id].array == 1]
    rows: dict[str, list[sa.Row[Any]]] = defaultdict(list)
    for row in tasks.load(tx, (f"{order_id}.0" for order_id in single)).values():
        rows[row.order_id].append(row)
    for order_id in sorted(set(wanted) - set(single)):
        rows[order_id] = list(
            tx.conn.execute(
                sa.select(store.task)
                .where(store.task.c.order_id == order_id, store.task.c.state == TaskState.PENDING.value)
                .order_by(store.task.c.not_before_ms > tx.now_ms, store.task.c.idx)
                .limit(wanted[order_id])
            )
        )
    for a in assignments:
        for _ in range(a.tasks):
            row = rows[a.order_id].pop(0)
            yield _Placement(orders[a.order_id], row, a, plan.open_orders[a.order_id])


def _order_rows(tx: Tx, placements: list[_Placement]) -> list[dict[str, object]]:
    placed: dict[str, int] = defaultdict(int)
    for p in placements:
        placed[p.order.id] += p.row.state == TaskState.PENDING.value  # a booked one has been counted
    orders = {p.order.id: p.order for p in placements}
    for order_id in placed:
        tx.notify(f"order:{order_id}")
    return [
        {
            "id": order_id,
            "pending": orders[order_id].pending - n,
            "version": orders[order_id].version + 1,
            "state": OrderState.RUNNING.value,
            **rooms.after_placing(orders[order_id], n),
        }
        for order_id, n in sorted(placed.items())
    ]
