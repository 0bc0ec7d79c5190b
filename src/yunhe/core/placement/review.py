"""A round looked at again: for one of its orders every pool that fits, in the order in which the round ranked it, and
why the order's tasks did not go there.

All of it is computed by the parts that the round itself used, from what it decided on, so it is exact.  What was free
when the round began and what was left when it was over tell the rest: free units only shrink during a round, so a
better pool that is full at its end was taken before the order's turn.
"""

from dataclasses import dataclass

import numpy as np

from yunhe.core import units
from yunhe.core.demand import Preference
from yunhe.core.placement.board import free_of
from yunhe.core.placement.booking import fit_ahead
from yunhe.core.placement.classes import row_of
from yunhe.core.placement.columns import Ints
from yunhe.core.placement.explain import explain_shape, reasons_of
from yunhe.core.placement.offer import offer_of
from yunhe.core.placement.values import Offer, Plan, Reason, SiteReasons, Snapshot
from yunhe.core.policy import Policy
from yunhe.core.supply import Free

MOST = 100
# Why a pool that fits was not chosen, beside the constraints of `feasible`.
CODES = frozenset(
    {
        "taken",
        "price",
        "finish",
        "emission",
        "tie",
        "together",
        "quota",
        "round_full",
        "kept",
        "delayed",
        "freeing",
    }
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pool that fits. `reasons`: why none, or no more, of the tasks went there; empty: nothing is left to explain."""

    rank: int  # 1: the best by the order's preference
    offer: Offer
    tasks: int  # that went there
    free: Free  # of the pool when the round began
    left: Free  # when it was over
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Review:
    tasks: int  # that waited for a place
    given: int  # that got one
    candidates: tuple[Candidate, ...]  # best first: the first `most`, and each that was chosen
    fitting: int  # pools that fit, shown or not
    refused: tuple[SiteReasons, ...]  # the first `most` of those that do not
    refused_by: dict[str, int]  # pools by constraint that fails; a pool may fail several


def review(
    snapshot: Snapshot,
    policy: Policy,
    now_ms: int,
    plan: Plan,
    order_id: str,
    most: int = MOST,
) -> Review:
    """Raises ValueError for an order that the round did not look at."""
    seen = _Seen(snapshot, policy, now_ms, plan, order_id)
    fit, ranked = seen.fit, seen.ranked
    shown = [p for rank, p in enumerate(ranked, 1) if rank <= most or seen.given[p]]
    explained = explain_shape(fit, snapshot.supply.free, seen.room)
    refused = [e for e in explained if e.pool_id is None or e.pool_id in seen.unfit]
    by_code: dict[str, int] = {}
    for constraint, fails in fit.failing:
        if constraint.code != "busy":
            by_code[constraint.code] = by_code.get(constraint.code, 0) + int(np.count_nonzero(fails))
    return Review(
        tasks=seen.tasks,
        given=seen.tasks - seen.remaining,
        candidates=tuple(seen.candidate(p) for p in shown),
        fitting=len(ranked),
        refused=tuple(refused[:most]),
        refused_by=by_code,
    )


class _Seen:
    """One order in one round. Arrays have one element per pool of the supply."""

    def __init__(self, snapshot: Snapshot, policy: Policy, now_ms: int, plan: Plan, order_id: str) -> None:
        queue, pools = snapshot.queue, snapshot.supply.pools
        row = queue.ids.index(order_id)
        self._snapshot, self._policy, self._plan, self._now_ms = snapshot, policy, plan, now_ms
        self._shape = snapshot.shapes[int(queue.shape[row])]
        self.tasks = int(queue.tasks[row])
        free, memory = free_of(snapshot.supply)
        self.fit, self.room = fit_ahead(self._shape, snapshot.supply, policy, now_ms)
        order = row_of(self._shape, self.fit.look.board, self.fit.look.now_ms, plan.seed).pools.tolist()
        self.ranked = [p for p in order if self.fit.certified[p]]
        self._rank = {p: rank for rank, p in enumerate(self.ranked, 1)}
        fitting = set(self.ranked)
        self.unfit = {pool.id for p, pool in enumerate(pools) if p not in fitting}
        number = {pool.id: p for p, pool in enumerate(pools)}
        self.given: Ints = np.zeros(len(pools), dtype=np.int64)
        self._left_milli, self._left_memory = free.copy(), memory.copy()
        account = int(queue.account[row])
        of_account = {queue.ids[i] for i in np.flatnonzero(queue.account == account).tolist()}
        taken = 0
        for item in plan.assignments:
            p = number[item.pool_id]
            self._left_milli[p] -= item.milli
            self._left_memory[p] -= item.memory_bytes
            if item.order_id == order_id:
                self.given[p] += item.tasks
            if item.order_id in of_account:
                taken += item.milli
        for item in plan.bookings:
            if item.order_id == order_id:
                self.given[number[item.pool_id]] += item.tasks
        self._delay = next((item for item in plan.delays if item.order_id == order_id), None)
        freeing = {item.pool_id for item in snapshot.rooms if item.order_id == order_id}
        freeing |= {item.pool_id for item in plan.preempted if item.order_id == order_id}
        self._freeing = {number[pool_id] for pool_id in freeing if pool_id in number}
        self.remaining = self.tasks - int(self.given.sum())
        share = snapshot.accounts[account]
        self._quota = None if share.quota_milli is None else max(0, share.quota_milli - share.used_milli - taken)
        chosen = [p for p in self.ranked if self.given[p]]
        self._chosen = offer_of(self.fit, chosen[-1], 0) if chosen else None
        self._worst = self._rank[chosen[-1]] if chosen else 0

    def candidate(self, pool: int) -> Candidate:
        offer = offer_of(self.fit, pool, 0)
        left = Free(int(self._left_milli[pool]), int(self._left_memory[pool]))
        free = self._snapshot.supply.free[pool]
        reasons = () if self.given[pool] and not self.remaining else self._reasons(pool, offer, left)
        return Candidate(self._rank[pool], offer, int(self.given[pool]), free, left, reasons)

    def _reasons(self, pool: int, offer: Offer, left: Free) -> tuple[Reason, ...]:
        if self._delay is not None:
            hour = f"one is expected at {self._delay.site_id} in {_until(self._delay.start_ms - self._now_ms)}"
            return (_passing("delayed", "a better hour", hour),)
        if pool in self._freeing and self.remaining:
            return (_passing("freeing", "units that spot orders held", "being freed for it"),)
        if not self.fit.now[pool]:
            return reasons_of(self.fit, pool, self._snapshot.supply.free[pool], self.room[pool])
        if not self.remaining and self._rank[pool] > self._worst and self._chosen is not None:
            return (self._behind(offer, self._chosen),)
        if offer.units_milli > left.milli or offer.memory_bytes > left.memory_bytes:
            return (_taken(offer, left),)
        if self._quota is not None and self._quota < offer.units_milli:
            have = f"{units.format_milli(self._quota)} left of the account's quota"
            return (_passing("quota", f"{units.format_milli(offer.units_milli)} units", have),)
        if not self.remaining:
            return (
                _passing("together", "the places that cost all orders least together", "a better one for this alone"),
            )
        if sum(item.tasks for item in self._plan.assignments) >= self._policy.max_assignments:
            most = f"at most {self._policy.max_assignments} tasks in a round"
            return (_passing("round_full", "a place in this round", most),)
        return (_passing("kept", "units that nobody waits for longer", "kept for an order before it"),)

    def _behind(self, offer: Offer, chosen: Offer) -> Reason:
        """Why it ranks behind the last that was chosen: the first figure of the preference that is worse."""
        at = f"as at {chosen.pool_id}"
        price = ("price", offer.price.total, chosen.price.total, units.format_money)
        run = ("finish", offer.run_ms, chosen.run_ms, units.format_span)
        carbon = ("emission", offer.carbon_mg, chosen.carbon_mg, units.format_carbon_mass)
        keys = {
            Preference.COST: (price, run),
            Preference.SPEED: (run, price),
            Preference.CARBON: (carbon, price),
        }
        for code, have, need, text in keys[self._shape.terms.preference]:
            if have > need:
                return _passing(code, f"<= {text(need)} {at}", text(have))
        return _passing("tie", f"an earlier turn among equals (seed {self._plan.seed})", f"the same {at}")


def _taken(offer: Offer, left: Free) -> Reason:
    if offer.units_milli > left.milli:
        need, have = f"{units.format_milli(offer.units_milli)} units", units.format_milli(left.milli)
    else:
        need, have = units.format_bytes(offer.memory_bytes, 2), units.format_bytes(left.memory_bytes, 2)
    return _passing("taken", need, f"{have} left by orders before it")


def _until(ms: int) -> str:
    return units.format_span(max(0, ms))


def _passing(code: str, need: str, have: str) -> Reason:
    return Reason(code, need, have, lasting=False)
