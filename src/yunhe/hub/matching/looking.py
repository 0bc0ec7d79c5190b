"""Kept rounds as people see them; what was decided of one order is worked out again when somebody asks.

Everything here runs on threads of readers. What a round was decided on is read and kept for the next question: people
ask about several orders of one round.
"""

import threading
import zlib
from collections import OrderedDict
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from yunhe.core.errors import InvalidInput, NotFound
from yunhe.core.placement.review import Candidate, Review, review
from yunhe.core.round import Bound
from yunhe.core.supply import Pool, Site, Supply
from yunhe.hub.matching import store
from yunhe.wire.api import (
    CandidateView,
    PriceView,
    ReasonView,
    RoundDetail,
    RoundList,
    RoundOrderLine,
    RoundOrderView,
    RoundShare,
    RoundSummary,
    SiteReasonsView,
)
from yunhe.wire.rounds import RecordedRound, from_parts, read_supply

KEPT_ROUNDS = 4  # in memory: of a large network some tens of MiB each
TRIED_ROUNDS = 3  # for one lease: rounds of two leaders may overlap


@dataclass(frozen=True, slots=True)
class _Kept:
    recorded: RecordedRound
    sites: dict[str, Site]
    pools: dict[str, Pool]


class Rounds:
    """One per process."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, _Kept] = OrderedDict()
        self._supply: tuple[str, Supply] | None = None
        self._lock = threading.Lock()

    def page(self, conn: sa.Connection, cursor: str | None, limit: int) -> RoundList:
        """Raises InvalidInput for what is no cursor."""
        if cursor is not None and not _is_number(cursor):
            raise InvalidInput("is no cursor of this list", field="cursor", hint="leave it out to begin again")
        rows = store.page(conn, None if cursor is None else int(cursor), limit + 1)
        shown = rows[:limit]
        following = str(shown[-1].id) if len(rows) > limit else None
        return RoundList(rounds=tuple(_summary(row) for row in shown), next_cursor=following)

    def detail(self, conn: sa.Connection, number: int, cursor: str | None, limit: int) -> RoundDetail:
        """Raises NotFound for a round that is not kept, InvalidInput for what is no cursor."""
        if cursor is not None and not _is_number(cursor):
            raise InvalidInput("is no cursor of this list", field="cursor", hint="leave it out to begin again")
        row = _found(conn, number)
        recorded = self._read(conn, row).recorded
        first = int(cursor or 0)
        snapshot = recorded.snapshot
        following = str(first + limit) if first + limit < len(snapshot.queue.ids) else None
        return RoundDetail(
            summary=_summary(row),
            seed=recorded.seed,
            policy=asdict(recorded.policy),
            cost_microcny=row.cost,
            least_microcny=row.least,
            sites=len(snapshot.supply.sites),
            pools=len(snapshot.supply.pools),
            shares=tuple(
                RoundShare(account=a.id, weight=a.weight, used_milli=a.used_milli, quota_milli=a.quota_milli)
                for a in snapshot.accounts
            ),
            orders=_lines(recorded, first, limit),
            next_cursor=following,
        )

    def order(self, conn: sa.Connection, number: int, order_id: str) -> RoundOrderView:
        """Raises NotFound for a round that is not kept, and for an order that it did not look at."""
        kept = self._read(conn, _found(conn, number))
        if order_id not in kept.recorded.snapshot.queue.ids:
            raise NotFound(
                f"round {number} did not look at order {order_id}", hint=f"`yunhe rounds show {number}` lists those"
            )
        return _order_view(number, kept, order_id)

    def placing(self, conn: sa.Connection, order_id: str, placed_ms: int) -> RoundOrderView | None:
        """The round that gave a task of the order its place at `placed_ms`; None when it is not kept (any more)."""
        for number in store.at(conn, placed_ms, TRIED_ROUNDS):
            row = store.find(conn, number)
            kept = None if row is None else self._read(conn, row)
            if kept is not None and any(item.order_id == order_id for item in kept.recorded.plan.assignments):
                return _order_view(number, kept, order_id)
        return None

    def _read(self, conn: sa.Connection, row: sa.Row[Any]) -> _Kept:
        with self._lock:
            known = self._kept.get(row.id)
            if known is not None:
                self._kept.move_to_end(row.id)
                return known
            supply = self._read_supply(conn, row)
        recorded = from_parts(supply, zlib.decompress(row.body))
        sites = {site.id: site for site in supply.sites}
        pools = {pool.id: pool for pool in supply.pools}
        kept = _Kept(recorded, sites, pools)
        with self._lock:
            self._kept[row.id] = kept
            while len(self._kept) > KEPT_ROUNDS:
                self._kept.popitem(last=False)
        return kept

    def _read_supply(self, conn: sa.Connection, row: sa.Row[Any]) -> Supply:
        if self._supply is None or self._supply[0] != row.supply:
            body = store.supply(conn, row.supply)
            if body is None:
                raise _gone(row.id)
            self._supply = (row.supply, read_supply(zlib.decompress(body)))
        return self._supply[1]


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 18


def _found(conn: sa.Connection, number: int) -> sa.Row[Any]:
    row = store.find(conn, number)
    if row is None:
        raise _gone(number)
    return row


def _gone(number: int) -> NotFound:
    return NotFound(f"round {number} is not kept", hint="`yunhe rounds` lists those that are (setting round_keep)")


def _summary(row: sa.Row[Any]) -> RoundSummary:
    bound = None if row.cost is None or row.least is None else Bound(row.cost, row.least)
    return RoundSummary(
        id=row.id,
        at_utc_ms=row.at_ms,
        cause=row.cause,
        open_orders=row.orders,
        assigned=row.assigned,
        placed=row.placed,
        waiting=row.waiting,
        unplaceable=row.unplaceable,
        took_ms=row.took_ms,
        gap_percent=None if bound is None else bound.gap_percent,
    )


def _lines(recorded: RecordedRound, first: int, limit: int) -> tuple[RoundOrderLine, ...]:
    queue = recorded.snapshot.queue
    shown = range(first, min(first + limit, len(queue.ids)))
    pools: dict[str, dict[str, int]] = {queue.ids[i]: {} for i in shown}
    for item in (*recorded.plan.assignments, *recorded.plan.bookings):
        went = pools.get(item.order_id)
        if went is not None:
            went[item.pool_id] = went.get(item.pool_id, 0) + item.tasks
    return tuple(
        RoundOrderLine(
            order_id=queue.ids[i],
            account=recorded.snapshot.accounts[int(queue.account[i])].id,
            priority=int(queue.priority[i]),
            submitted_utc_ms=int(queue.submitted_ms[i]),
            tasks=int(queue.tasks[i]),
            assigned=sum(pools[queue.ids[i]].values()),
            pools=pools[queue.ids[i]],
        )
        for i in shown
    )


def _order_view(number: int, kept: _Kept, order_id: str) -> RoundOrderView:
    recorded = kept.recorded
    snapshot, queue = recorded.snapshot, recorded.snapshot.queue
    found: Review = review(snapshot, recorded.policy, recorded.now_ms, recorded.plan, order_id)
    row = queue.ids.index(order_id)
    return RoundOrderView(
        round_id=number,
        at_utc_ms=recorded.now_ms,
        order_id=order_id,
        account=snapshot.accounts[int(queue.account[row])].id,
        preference=snapshot.shapes[int(queue.shape[row])].terms.preference.value,
        tasks=found.tasks,
        assigned=found.given,
        candidates=tuple(_candidate(item, kept) for item in found.candidates),
        fitting=found.fitting,
        refused=tuple(
            SiteReasonsView(
                site_id=item.site_id,
                site_name=kept.sites[item.site_id].name,
                pool_id=item.pool_id,
                reasons=tuple(ReasonView(**asdict(reason)) for reason in item.reasons),
            )
            for item in found.refused
        ),
        refused_by=found.refused_by,
    )


def _candidate(item: Candidate, kept: _Kept) -> CandidateView:
    offer = item.offer
    return CandidateView(
        rank=item.rank,
        site_id=offer.site_id,
        site_name=kept.sites[offer.site_id].name,
        pool_id=offer.pool_id,
        chip=kept.pools[offer.pool_id].chip,
        tasks=item.tasks,
        units_milli=offer.units_milli,
        run_ms=offer.run_ms,
        start_utc_ms=offer.start_ms,
        finish_utc_ms=offer.finish_ms,
        price=PriceView(
            compute_microcny=offer.price.compute,
            energy_microcny=offer.price.energy,
            transfer_microcny=offer.price.transfer,
            line_microcny=offer.price.line,
            total_microcny=offer.price.total,
        ),
        carbon_mg=offer.carbon_mg,
        latency_us=offer.latency_us,
        free_milli=item.free.milli,
        left_milli=item.left.milli,
        reasons=tuple(ReasonView(**asdict(reason)) for reason in item.reasons),
    )
