"""The round: one pure decision over a snapshot of the whole network, and the two questions beside it.

    plan_round(snapshot, policy, now_ms, seed) -> Plan      who gets which pool now
    quote(shape, supply, policy, now_ms)       -> Quote     what it would cost, where, and why not elsewhere
    explain(shape, supply, policy, now_ms)     -> reasons   per site and constraint

All three ask the same constraints (`placement.feasible`).  No clock, no randomness: equal input and seed give an
equal plan.
"""

from dataclasses import replace
from itertools import repeat

import numpy as np

from yunhe.core.demand import Shape
from yunhe.core.placement.assign import Assigner
from yunhe.core.placement.board import Board
from yunhe.core.placement.booking import NOTHING_BOOKED, around, fit_ahead
from yunhe.core.placement.calendar import is_booking
from yunhe.core.placement.classes import Classes, classes
from yunhe.core.placement.explain import explain_shape
from yunhe.core.placement.improve import Improver
from yunhe.core.placement.offer import best_first, offer_of
from yunhe.core.placement.rooms import Made
from yunhe.core.placement.values import (
    AccountShare,
    Assignment,
    Bound,
    Delay,
    Given,
    Held,
    Offer,
    Plan,
    Preemption,
    Queue,
    Quote,
    Reason,
    Room,
    SiteReasons,
    Snapshot,
)
from yunhe.core.placement.when import best_starts, held_back
from yunhe.core.policy import Policy
from yunhe.core.supply import Supply
from yunhe.core.tariff import Price

__all__ = [
    "AccountShare",
    "Assignment",
    "Bound",
    "Delay",
    "Held",
    "Offer",
    "Plan",
    "Preemption",
    "Price",
    "Queue",
    "Quote",
    "Reason",
    "Room",
    "SiteReasons",
    "Snapshot",
    "explain",
    "plan_round",
    "quote",
]


def plan_round(snapshot: Snapshot, policy: Policy, now_ms: int, seed: int, board: Board | None = None) -> Plan:
    """Decide which open orders get which pools now.

    Tasks are all-or-nothing (a gang never splits), arrays are not: their tasks may go to several pools and rounds.
    At most `policy.max_assignments` tasks are given.  `seed` turns the order of pools that are otherwise equal.
    """
    if not snapshot.shapes or not snapshot.queue.ids:
        return Plan((), 0, 0, seed)
    # 0. leave out what waits for a better hour; book what starts later, and see what that leaves for the others.
    board = board or Board(snapshot.supply, policy)
    snapshot, delays = held_back(snapshot, board, now_ms)
    if not snapshot.queue.ids:
        return Plan((), len(delays), 0, seed, delays=delays)
    ahead = around(snapshot, board, policy, now_ms, seed)
    if ahead is not None:
        snapshot, board = ahead.snapshot, ahead.board
    # 1. feasible and 2. score: for every kind of shape the pools that it can go to, best first.
    grouped = classes(snapshot.shapes, board, now_ms, seed)
    # 3. assign: by priority and fair share, each class down its own ranking of the pools that fit.
    assigner = Assigner(grouped, snapshot, policy, now_ms)
    large = len(snapshot.queue.ids) * len(snapshot.supply.pools) >= policy.improve_from_pairs
    given = assigner.run(Improver(grouped, grouped.of_shape[snapshot.queue.shape]) if large else None)
    if ahead is not None:
        given = ahead.checked(given, now_ms)
    # 4. say it: what was given, and who waits for what.
    waiting, unplaceable = _left_over(snapshot.queue, grouped, given)
    booked = ahead.booked if ahead is not None else NOTHING_BOOKED
    return Plan(
        _assignments(snapshot, given),
        waiting + booked.waiting + len(delays),
        unplaceable + booked.unplaceable,
        seed,
        assigner.bound if large else None,
        bookings=booked.assignments,
        delays=delays,
        preempted=_preempted(snapshot, assigner.made),
    )


def quote(shape: Shape, supply: Supply, policy: Policy, now_ms: int, queue_ahead_ms: int = 0) -> Quote:
    """Ranked offers of all pools that fit (those that are busy too, starting after `queue_ahead_ms`), and the
    reasons of those that do not."""
    fit, room = fit_ahead(shape, supply, policy, now_ms)
    # A booking cannot wait for units that are busy.
    fits = fit.now if is_booking(shape, now_ms) else fit.certified
    fitting = {supply.pools[p].id: p for p in np.flatnonzero(fits).tolist()}
    offers = [offer_of(fit, p, queue_ahead_ms) for p in fitting.values()]
    if not fit.look.board.hourly.flat and not is_booking(shape, now_ms):
        starts, saves = best_starts(fit.look.take(np.array(list(fitting.values()), dtype=np.int64)))
        best = zip(offers, starts.tolist(), saves.tolist(), strict=True)
        tasks = shape.terms.array
        offers = [replace(each, best_start_ms=at, best_saves=int(saved) * tasks) for each, at, saved in best]
    refused = tuple(entry for entry in explain_shape(fit, supply.free, room) if entry.pool_id not in fitting)
    return Quote(best_first(offers, shape.terms.preference), refused)


def explain(shape: Shape, supply: Supply, policy: Policy, now_ms: int) -> tuple[SiteReasons, ...]:
    """For every pool, and every site without one: the constraints that fail, as data. No reasons: it fits."""
    fit, room = fit_ahead(shape, supply, policy, now_ms)
    return explain_shape(fit, supply.free, room)


def _assignments(snapshot: Snapshot, given: Given) -> tuple[Assignment, ...]:
    queue = snapshot.queue
    pool_ids = [pool.id for pool in snapshot.supply.pools]
    columns = (
        map(queue.ids.__getitem__, given.row.tolist()),
        queue.version[given.row].tolist(),
        map(pool_ids.__getitem__, given.pool.tolist()),
        given.tasks.tolist(),
        given.milli.tolist(),
        given.memory.tolist(),
    )
    # The constructor of tuple makes each row without a Python call: thousands of them are half of this function.
    return tuple(map(tuple.__new__, repeat(Assignment), zip(*columns, strict=True)))


def _preempted(snapshot: Snapshot, made: list[Made]) -> tuple[Preemption, ...]:
    queue, pools = snapshot.queue, snapshot.supply.pools
    return tuple(
        Preemption(
            queue.ids[room.row],
            int(queue.version[room.row]),
            pools[room.pool].id,
            room.tasks,
            tuple(sorted(one.key for one in room.leases)),
        )
        for room in made
    )


def _left_over(queue: Queue, grouped: Classes, given: Given) -> tuple[int, int]:
    """Orders with tasks left: those that some pool could take one day, and those that none can."""
    placed = np.bincount(given.row, weights=given.tasks, minlength=len(queue.ids))
    left = queue.tasks > placed
    hopeful = grouped.hopeful[grouped.of_shape[queue.shape]]
    return int(np.count_nonzero(left & hopeful)), int(np.count_nonzero(left & ~hopeful))
