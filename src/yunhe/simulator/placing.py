"""Who decides: the core's own round, over what the simulated network has. Nothing is decided here.

- `Rounds` gathers the open orders and asks `plan_round`, as the hub's matching room does.
- `AtOnce` asks the core's online engine for every order as it comes, and rounds for those that have to wait.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from yunhe.core.demand import Preference, Requirement, Shape, Terms
from yunhe.core.hours import FLAT
from yunhe.core.placement.board import Board
from yunhe.core.placement.columns import is_open
from yunhe.core.placement.dearest import Dearest, is_timed, takes_any_length
from yunhe.core.placement.online import Online
from yunhe.core.placement.passing import passes
from yunhe.core.placement.when import wait_of
from yunhe.core.policy import Policy
from yunhe.core.round import AccountShare, Assignment, Plan, Queue, Snapshot, plan_round
from yunhe.core.supply import Free, Site, SiteState
from yunhe.simulator.build import Customer
from yunhe.simulator.in_line import InLine, Waiting, turn
from yunhe.simulator.islands import Part
from yunhe.simulator.placer import Placement

STAND_IN_MS = 3_600_000  # run limit of the shapes that stand for those of all run limits
MAX_PRICES = 50_000  # holds that are remembered, and what is asked for each shape


class Rounds:
    """Decides by `core.round.plan_round` over snapshots."""

    def __init__(self, part: Part, customers: Sequence[Customer], policy: Policy, seed: int, round_orders: int) -> None:
        self._part = part
        self._supply = supply = part.supply
        self._customers = customers
        self._policy = policy
        self._seed = seed
        self._limit = round_orders
        self._pool_at = {pool.id: i for i, pool in enumerate(supply.pools)}
        self._local = {number: i for i, number in enumerate(part.pools)}
        self._milli = [free.milli for free in supply.free]  # free of each pool
        self._memory = [free.memory_bytes for free in supply.free]
        self._used: dict[int, int] = {}  # milli by customer
        self._waiting: dict[int, Waiting] = {}
        self._later: dict[int, tuple[int, Waiting]] = {}  # not to be looked at before, UTC ms
        self._prices: dict[int, tuple[Shape, int | None]] = {}
        self._without_data: dict[int, tuple[Shape, Shape]] = {}
        self._by_terms: dict[tuple[Requirement, Terms], Shape] = {}
        self._least_bps = 0 if supply.links else min((site.bandwidth_bps for site in supply.sites), default=0)
        self._board: Board | None = None
        self._dearest: Dearest | None = None
        self.rounds = 0

    def __getstate__(self) -> dict[str, object]:
        to_save_time: dict[str, object] = {
            "_prices": {},
            "_without_data": {},
            "_by_terms": {},
            "_board": None,
            "_dearest": None,
        }
        return {**self.__dict__, **to_save_time}

    @property
    def open(self) -> int:
        return len(self._waiting) + len(self._later)

    @property
    def wake_ms(self) -> int | None:
        return min((until_ms for until_ms, _ in self._later.values()), default=None)

    def hold(self, shape: Shape, now_ms: int) -> int | None:
        # By identity: equal shapes are one object, and hashing one takes longer than the rest.
        known = self._prices.get(id(shape))
        if known is None:
            if len(self._prices) >= MAX_PRICES:
                self._prices.clear()
            known = self._prices[id(shape)] = (shape, self._holds().hold(self._asked(shape), now_ms))
        return known[1]

    def _asked(self, shape: Shape) -> Shape:
        """`shape` without its input data where they decide nothing, so that the orders of all customers are of few
        kinds: they come in time everywhere, their way costs nothing, and nothing else depends on how long it takes."""
        need, terms = shape.requirement, shape.terms
        if not need.data_bytes:
            return shape
        known = self._without_data.get(id(shape))
        if known is None:
            found = shape
            if self._data_decide_nothing(need, terms):
                found = Shape(replace(need, data_at=None, data_bytes=0), terms)
            if len(self._without_data) >= MAX_PRICES:
                self._without_data.clear()
                self._by_terms.clear()
            found = self._by_terms.setdefault((found.requirement, terms), found)
            known = self._without_data[id(shape)] = (shape, found)
        return known[1]

    def _data_decide_nothing(self, need: Requirement, terms: Terms) -> bool:
        untimed = need.work is None and terms.deadline_ms is None and terms.preference is not Preference.SPEED
        if not untimed or not self._least_bps or self._policy.transfer_microcny_per_gib:
            return False
        return need.data_bytes * 8 * 1000 < (terms.run_limit_ms - 1) * self._least_bps

    def _holds(self) -> Dearest:
        if self._dearest is None:
            self._dearest = Dearest(self._seen())
        return self._dearest

    def _seen(self) -> Board:
        if self._board is None:
            self._board = Board(self._supply, self._policy)
            self._board.rows = {}
        return self._board

    def add(self, order: Waiting, now_ms: int) -> Sequence[Placement]:
        self._enter(order)
        return ()

    def _enter(self, order: Waiting) -> None:
        self._waiting[order.number] = order

    def _leave(self, order: Waiting) -> None:
        del self._waiting[order.number]

    def _enter_due(self, now_ms: int) -> None:
        for number, (until_ms, order) in list(self._later.items()):
            if until_ms <= now_ms:
                del self._later[number]
                self._enter(order)

    def release(self, pool: int, milli: int, memory_bytes: int, customer: int) -> None:
        self._take(self._local[pool], -milli, -memory_bytes, customer)

    def change_sites(self, sites: Sequence[Site]) -> None:
        self._supply = replace(self._supply, sites=tuple([sites[i] for i in self._part.sites]))
        self._prices.clear()
        self._board = self._dearest = None

    def decide(self, now_ms: int) -> Sequence[Placement]:
        self._enter_due(now_ms)
        if not self._waiting:
            return ()
        self.rounds += 1
        orders = self._in_question(now_ms)
        if not orders:
            return ()
        snapshot = self._snapshot(orders)
        by_id = {order.id: order for order in orders}
        plan = decided(snapshot, self._policy, now_ms, self._seed, self._seen())
        for delay in plan.delays:
            order = by_id[delay.order_id]
            self._leave(order)
            self._later[order.number] = (delay.until_ms, order)
        return [self._placed(by_id[given.order_id], given) for given in plan.assignments]

    def _in_question(self, now_ms: int) -> list[Waiting]:
        """The orders of which a round decides; the others would get nothing and change nothing."""
        orders = sorted(self._waiting.values(), key=turn)
        return self._in_turn(orders) if len(orders) > self._limit else orders

    def _placed(self, order: Waiting, given: Assignment) -> Placement:
        self._leave(order)
        pool = self._pool_at[given.pool_id]
        self._take(pool, given.milli, given.memory_bytes, order.customer)
        return Placement(order.number, self._part.pools[pool], given.milli, given.memory_bytes)

    def _take(self, pool: int, milli: int, memory_bytes: int, customer: int) -> None:
        self._milli[pool] -= milli
        self._memory[pool] -= memory_bytes
        self._used[customer] = self._used.get(customer, 0) + milli

    def _snapshot(self, orders: Sequence[Waiting]) -> Snapshot:
        """As `hub.orders.snapshot` takes it: by priority and age, and of a long queue every customer's in turn."""
        account_at: dict[int, int] = {}
        shape_at: dict[int, int] = {}
        shapes: list[Shape] = []
        account, shape = [], []
        for order in orders:
            account.append(account_at.setdefault(order.customer, len(account_at)))
            asked = self._asked(order.shape)
            number = shape_at.setdefault(id(asked), len(shapes))
            if number == len(shapes):
                shapes.append(asked)
            shape.append(number)
        shares = [
            AccountShare(who.id, who.weight, self._used.get(i, 0), who.quota_milli)
            for i, who in ((i, self._customers[i]) for i in account_at)
        ]
        queue = Queue(
            ids=tuple([order.id for order in orders]),
            shape=np.array(shape, dtype=np.int32),
            account=np.array(account, dtype=np.int32),
            priority=np.array([order.priority for order in orders], dtype=np.int16),
            submitted_ms=np.array([order.submitted_ms for order in orders], dtype=np.int64),
            tasks=np.ones(len(orders), dtype=np.int32),
            version=np.array([order.version for order in orders], dtype=np.int64),
        )
        supply = replace(self._supply, free=self._free())
        return Snapshot(supply, tuple(shapes), tuple(shares), queue)

    def _free(self) -> tuple[Free, ...]:
        return tuple(map(Free, self._milli, self._memory))

    def _in_turn(self, orders: list[Waiting]) -> list[Waiting]:
        turns: dict[int, int] = {}
        ranked = []
        for order in orders:
            turn = turns[order.customer] = turns.get(order.customer, 0) + 1
            ranked.append((turn, order.id, order))
        ranked.sort(key=lambda item: item[:2])
        chosen = {order.number for _, _, order in ranked[: self._limit]}
        return [order for order in orders if order.number in chosen]


class AtOnce(Rounds):
    """Decides an order alone as it comes; what has to wait is decided by rounds.

    The engine lasts from one change of prices to the next.  A site that takes no leases for a while is not a change of
    the network there: its units count as taken, so an order that nobody else could take waits for it.
    """

    def __init__(self, part: Part, customers: Sequence[Customer], policy: Policy, seed: int, round_orders: int) -> None:
        super().__init__(part, customers, policy, seed, round_orders)
        self._engine: Online | None = None
        self._pools_of: dict[str, list[int]] = {}
        for i, pool in enumerate(part.supply.pools):
            self._pools_of.setdefault(pool.site_id, []).append(i)
        self._any_length = takes_any_length(part.supply)
        self._stand_ins: dict[int, tuple[Shape, Shape]] = {}
        self._by_need: dict[tuple[Requirement, Preference], Shape] = {}
        self._line: InLine | None = None  # of all that wait, made when it is asked for

    def __getstate__(self) -> dict[str, object]:
        return {**super().__getstate__(), "_engine": None, "_stand_ins": {}, "_by_need": {}, "_line": None}

    def add(self, order: Waiting, now_ms: int) -> Sequence[Placement]:
        wait = wait_of(self._asked(order.shape), self._seen(), now_ms, order.submitted_ms)
        if wait is not None:
            self._later[order.number] = (wait.until_ms, order)
            return ()
        oldest = next(iter(self._waiting.values())).submitted_ms if self._waiting else None
        if passes(self._policy, oldest, now_ms):
            who = self._customers[order.customer]
            within = None if who.quota_milli is None else who.quota_milli - self._used.get(order.customer, 0)
            for pool, _, milli, memory in self._online().decide(
                self._stand_in(order.shape), now_ms, within_milli=within
            ):
                self._take(pool, milli, memory, order.customer)
                return (Placement(order.number, self._part.pools[pool], milli, memory),)
        return super().add(order, now_ms)

    def _enter(self, order: Waiting) -> None:
        super()._enter(order)
        if self._line is not None:
            self._line.add(order, self._asked(order.shape))

    def _leave(self, order: Waiting) -> None:
        super()._leave(order)
        if self._line is not None:
            self._line.remove(order)

    def _in_question(self, now_ms: int) -> list[Waiting]:
        line = self._in_line()
        few = len(self._waiting) * len(self._supply.pools) < self._policy.improve_from_pairs
        if not few or len(self._waiting) > self._limit or not self._is_one_customer(line):
            return super()._in_question(now_ms)
        engine = self._online()
        return line.in_question(
            lambda shape, count: sum(each.tasks for each in engine.decide(self._stand_in(shape), now_ms, count))
        )

    def _in_line(self) -> InLine:
        if self._line is None:
            self._line = InLine()
            for order in self._waiting.values():
                self._line.add(order, self._asked(order.shape))
        return self._line

    def _is_one_customer(self, line: InLine) -> bool:
        """Without a quota, which is a limit of another kind."""
        customers = line.customers
        return len(customers) == 1 and self._customers[next(iter(customers))].quota_milli is None

    def change_sites(self, sites: Sequence[Site]) -> None:
        own = [sites[i] for i in self._part.sites]
        changed = [(a, b) for a, b in zip(self._supply.sites, own, strict=True) if a is not b and a != b]
        # Sites are made anew for an hour: where one is what it was, the hours to come are others all the same.
        pairs = zip(self._supply.sites, own, strict=True)
        new_hour = any(a is not b and a == b and b.hours != FLAT for a, b in pairs)
        if not new_hour and all(_as_open(a) == _as_open(b) for a, b in changed):
            self._supply = replace(self._supply, sites=tuple(own))
        else:
            super().change_sites(sites)
            self._engine = None
        for before, after in changed:
            if self._engine is not None and is_open(before) != is_open(after):
                for pool in self._pools_of.get(after.id, ()):
                    self._hide(pool, -1 if is_open(after) else 1)

    def _hide(self, pool: int, times: int) -> None:
        """So much less is free that nothing fits, whatever is given back meanwhile."""
        assert self._engine is not None
        capacity = self._supply.pools[pool].capacity_milli
        self._engine.change(pool, -2 * capacity * times, 0)

    def _closed(self) -> list[int]:
        return [p for site in self._supply.sites if not is_open(site) for p in self._pools_of.get(site.id, ())]

    def _free(self) -> tuple[Free, ...]:
        """For a round on the engine's board, which has all sites open."""
        free = list(super()._free())
        for pool in self._closed():
            free[pool] = Free(0, 0)
        return tuple(free)

    def _stand_in(self, shape: Shape) -> Shape:
        """One of the shapes that differ in their run limits alone, where that decides nothing: the engine keeps one
        ranking of the network for all of them."""
        shape = self._asked(shape)
        if not self._any_length or is_timed(shape) or shape.terms.budget_microcny is not None:
            return shape
        known = self._stand_ins.get(id(shape))
        if known is None:
            if len(self._stand_ins) >= MAX_PRICES:
                self._stand_ins.clear()
                self._by_need.clear()
            # Of one run limit, so that where prices change with the hour it is not the first that decides.
            alike = replace(shape, terms=replace(shape.terms, run_limit_ms=STAND_IN_MS))
            first = self._by_need.setdefault((shape.requirement, shape.terms.preference), alike)
            known = self._stand_ins[id(shape)] = (shape, first)
        return known[1]

    def _seen(self) -> Board:
        return self._online().board

    def _online(self) -> Online:
        if self._engine is None:
            opened = tuple([_as_open(site) for site in self._supply.sites])
            supply = replace(self._supply, sites=opened, free=super()._free())
            self._engine = Online(supply, self._policy, self._seed)
            self._engine.board.rows = {}
            for pool in self._closed():
                self._hide(pool, 1)
        return self._engine

    def _take(self, pool: int, milli: int, memory_bytes: int, customer: int) -> None:
        super()._take(pool, milli, memory_bytes, customer)
        if self._engine is not None:
            self._engine.change(pool, -milli, -memory_bytes)


def _as_open(site: Site) -> Site:
    return site if is_open(site) else replace(site, state=SiteState.ACTIVE, connected=True)


def decided(snapshot: Snapshot, policy: Policy, now_ms: int, seed: int, board: Board | None = None) -> Plan:
    """The one place where the simulator asks for a round, also for recorded ones."""
    return plan_round(snapshot, policy, now_ms, seed, board)
