"""A simulated network: orders come in, are held for, placed, run, metered, rated and posted, as the hub does it.

    arrive -> hold -> (placer) -> Placed -> Started -> Ended -> usage -> rating -> capture -> release

Every decision is another's: who gets what is the placer's (`core.round`), what an event does to a task is
`lifecycle.step`, what counts is `usage.accept`, what it costs is `lease.rating_inputs` and `tariff.rate`, what moves is
`posting`.  One order is one task here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from yunhe.core import lease, lifecycle, posting
from yunhe.core.errors import InsufficientFunds
from yunhe.core.lease import Asked
from yunhe.core.lifecycle import DISPUTED, ENDED, Ended, Event, Placed, Started, Task, TaskState
from yunhe.core.supply import Site
from yunhe.core.tariff import rate
from yunhe.core.usage import Accepted, Interval, Prefix, Totals, accept
from yunhe.simulator.book import Book
from yunhe.simulator.build import BPS, Network
from yunhe.simulator.events import Feed, State, Timeline
from yunhe.simulator.order import END, HOUR, RETRY, ROUND, START, Order, Terms
from yunhe.simulator.placer import Placement, Placer
from yunhe.simulator.scenario import Scenario
from yunhe.simulator.sites import Sites
from yunhe.simulator.tally import Tally, class_of
from yunhe.simulator.troubles import Troubles
from yunhe.simulator.work import HOUR_MS, Incoming

# For `network: off` which of the placers decides for the customers at home in a centre; None: one decides for all.
Islands = Mapping[int, int] | None
JobLog = Callable[[Order, Task, int, int, int], None]  # (order, task as it ended, now, wall ms, charged micro-CNY)


class World:
    """The state of one run, and what happens to it."""

    def __init__(self, scenario: Scenario, network: Network, placers: Sequence[Placer], island_of: Islands) -> None:
        self.scenario = scenario
        self.network = network
        self.supply = network.supply
        self.placers = tuple(placers)
        self.island_of = island_of
        self.sites = Sites(scenario, network)
        self.book = Book()
        self.tally = Tally(network.supply, self.sites.site_of, scenario.start)
        self.orders: dict[int, Order] = {}
        self.number = 0
        self.log: JobLog | None = None
        self.terms = tuple(
            Terms(w.priority, w.retries, w.busy, str(w.tokens.per_token.precision if w.tokens else w.precision))
            for w in scenario.workloads
        )
        self.troubles = Troubles(self, scenario, network)
        self._round_at: list[int | None] = [None] * len(placers)
        self._last_round_ms = [-(1 << 60)] * len(placers)
        self.timeline = self._new_timeline()

    def _new_timeline(self) -> Timeline:
        handlers = (
            self._on_end,
            self.troubles.on_site,
            self._on_hour,
            self._on_arrive,
            self._on_retry,
            self._on_start,
            self._on_round,
        )
        return Timeline(handlers, self.scenario.start)

    def begin(self) -> None:
        """Deposits, and the first of what repeats."""
        start_ms = self.scenario.start
        for customer in self.network.customers:
            if customer.deposit_microcny:
                ref = f"deposit:{customer.id}"
                self.book.book(posting.deposit(ref, start_ms, customer.id, customer.deposit_microcny))
        self._change_sites(self.sites.at_hour(self.supply.sites, start_ms))
        self.timeline.at(start_ms + HOUR_MS, HOUR, None)
        self.troubles.begin(start_ms)

    def finish(self, end_ms: int) -> None:
        """The last step of time, where the scenario does not end with an hour."""
        self.timeline.now_ms = end_ms
        if not self.tally.steps or self.tally.steps[-1].at_ms < end_ms:
            self._count_step(end_ms)

    def resume(self, state: State, feeds: Sequence[tuple[int, Feed]]) -> None:
        """After a world was read back: its timeline is not part of what is written."""
        self.timeline = self._new_timeline()
        self.timeline.restore(state, feeds)

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name not in ("timeline", "log")}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self.log = None
        self.timeline = self._new_timeline()

    # --- orders come in -------------------------------------------------------------------------------------------

    def _on_arrive(self, now_ms: int, job: Incoming) -> None:
        counts = self.tally.counts
        counts["submitted"] += 1
        placer = self.placers[self._island(job.customer)]
        one = placer.hold(job.shape, now_ms)
        if one is None:
            counts["refused_no_place"] += 1
            return
        settings = self.terms[job.workload]
        self.number += 1
        order = Order(self.number, job, one * (1 + settings.retries), now_ms, settings)
        who = self.network.customers[job.customer].id
        try:
            self.book.book(posting.hold(f"hold:{order.id}", now_ms, who, order.hold_microcny))
        except InsufficientFunds:
            counts["refused_no_funds"] += 1
            return
        self.orders[order.number] = order
        self._offer(order, now_ms)

    def _on_retry(self, now_ms: int, number: int) -> None:
        self._offer(self.orders[number], now_ms)

    def _offer(self, order: Order, now_ms: int) -> None:
        """Let the order be placed, now or by the next round."""
        island = self._island(order.customer)
        placed = self.placers[island].add(order, now_ms)
        if placed:
            self._place(placed, island, now_ms)
        else:
            self._want_round(island, now_ms)

    def _island(self, customer: int) -> int:
        home = self.network.customers[customer].home
        return 0 if self.island_of is None or home is None else self.island_of[home]

    # --- decisions ------------------------------------------------------------------------------------------------

    def _want_round(self, island: int, now_ms: int) -> None:
        if self.placers[island].open:
            self._round_from(island, now_ms)

    def _round_from(self, island: int, from_ms: int) -> None:
        at_ms, known = max(from_ms, self._last_round_ms[island] + self.scenario.round_every), self._round_at[island]
        if known is None or at_ms < known:
            self._round_at[island] = at_ms
            self.timeline.at(at_ms, ROUND, island)

    def _on_round(self, now_ms: int, island: int) -> None:
        if self._round_at[island] != now_ms:  # it was held before
            return
        self._round_at[island] = None
        self._last_round_ms[island] = now_ms
        placer = self.placers[island]
        self._place(placer.decide(now_ms), island, now_ms)
        if placer.wake_ms is not None:
            self._round_from(island, placer.wake_ms)

    def _place(self, placements: Sequence[Placement], island: int, now_ms: int) -> None:
        for number, pool, milli, memory_bytes in placements:
            order = self.orders[number]
            at = self.supply.pools[pool]
            site = self.supply.sites[self.sites.site_of[pool]]
            self.step(order, Placed(site.id, at.id), now_ms)
            order.pool, order.milli, order.memory_bytes = pool, milli, memory_bytes
            attempts = 1 + self.terms[order.job.workload].retries
            data_bytes = order.shape.requirement.data_bytes
            limit_ms = order.shape.terms.run_limit_ms
            asked = Asked(milli, memory_bytes, data_bytes, limit_ms, order.hold_microcny, 1, attempts)
            order.terms = lease.agreed(asked, at, site, self.network.policy, now_ms)
            order.started_ms = -1
            self.tally.level(pool, milli, now_ms)
            self.tally.counts["placed"] += 1
            self.troubles.placed(self.sites.site_of[pool], order)
            if self.scenario.sites.start_delay:
                self.timeline.at(now_ms + self.scenario.sites.start_delay, START, (number, order.task.epoch))
            else:
                self._start(order, now_ms)

    # --- at the sites ---------------------------------------------------------------------------------------------

    def _on_start(self, now_ms: int, what: tuple[int, int]) -> None:
        order = self.orders.get(what[0])
        if order is None or order.task.epoch != what[1] or order.task.state is not TaskState.LEASED:
            return
        if not self.troubles.dark(self.sites.site_of[order.pool]):
            self._start(order, now_ms)

    def _start(self, order: Order, now_ms: int) -> None:
        self.step(order, Started(order.task.epoch), now_ms)
        order.started_ms = now_ms
        if order.task.epoch == 1:
            self.tally.waits[class_of(order.job.cards)].add(now_ms - order.submitted_ms)
        run = self.sites.run(order.job, order.number, order.task.epoch, order.pool, order.milli, now_ms)
        order.wall_ms = run.wall_ms
        order.ticket += 1
        event = Ended(order.task.epoch, run.reason, run.exit_code)
        self.timeline.at(now_ms + run.wall_ms, END, (order.number, order.ticket, event))

    def _on_end(self, now_ms: int, what: tuple[int, int, Ended]) -> None:
        order = self.orders.get(what[0])
        if order is not None and order.ticket == what[1]:
            self.end(order, what[2], now_ms - order.started_ms, now_ms)

    def end(self, order: Order, event: Event, wall_ms: int, now_ms: int) -> None:
        """An attempt is over; `wall_ms` of it were used."""
        order.ticket += 1
        released = self.step(order, event, now_ms)
        if not released:
            return
        island = self._island(order.customer)
        self.tally.level(order.pool, -order.milli, now_ms)
        self.placers[island].release(order.pool, order.milli, order.memory_bytes, order.customer)
        self.troubles.ended(self.sites.site_of[order.pool], order)
        charged = self._settle(order, wall_ms, now_ms)
        if self.log is not None:
            self.log(order, order.task, now_ms, wall_ms, charged)
        if order.task.state in ENDED:
            self._close(order, now_ms)
        else:
            self.tally.counts["attempts_again"] += 1
            self.timeline.at(order.task.not_before_ms, RETRY, order.number)
        self._want_round(island, now_ms)

    def step(self, order: Order, event: Event, now_ms: int) -> bool:
        """Give the event to the task; whether its units are free again."""
        step = lifecycle.step(order.task, event, now_ms)
        order.task = step.task
        order.version += step.changed
        return step.released

    # --- metering and settlement ----------------------------------------------------------------------------------

    def _settle(self, order: Order, wall_ms: int, now_ms: int) -> int:
        """Meter, rate and post one attempt; what was charged, micro-CNY. An attempt that never started has no use."""
        terms, reason, tally = order.terms, order.task.reason, self.tally
        assert terms is not None and reason is not None
        tally.ends[reason] += 1
        milli_ms = order.milli * wall_ms
        if reason in DISPUTED:
            tally.lost_milli_ms += milli_ms
        if order.started_ms < 0:
            return 0
        busy_ms = milli_ms * self.terms[order.job.workload].busy_bps // (1000 * BPS)
        record = Interval(0, 0, wall_ms, Totals(wall_ms, busy_ms, order.memory_bytes), final=True)
        verdict = accept(Prefix(), record)
        assert isinstance(verdict, Accepted), verdict
        left = terms.task_hold_microcny - order.paid_microcny
        charge = rate(lease.rating_inputs(terms, verdict.prefix.totals, left, disputed=reason in DISPUTED))
        total = charge.price.total
        tally.energy_mwh += charge.energy_mwh
        tally.carbon_mg += charge.carbon_mg
        if total:
            order.paid_microcny += total
            who = self.network.customers[order.customer].id
            ref = f"charge:{order.task.lease_id}:{order.task.epoch}"
            self.book.book(lease.captured(ref, now_ms, who, terms.provider, charge))
            tally.charged(order.customer, total, milli_ms)
        return total

    def _close(self, order: Order, now_ms: int) -> None:
        """The order has ended: what is left of its hold goes back."""
        del self.orders[order.number]
        state = order.task.state
        self.tally.counts[state] += 1
        rest = order.hold_microcny - order.paid_microcny
        who = self.network.customers[order.customer].id
        self.book.book(posting.release(f"release:{order.id}", now_ms, who, rest))
        if state is TaskState.SUCCEEDED:
            self.tally.flop[self.terms[order.job.workload].precision] += order.job.flop
            self.tally.useful_milli_ms += order.milli * (now_ms - order.started_ms)

    # --- time and luck --------------------------------------------------------------------------------------------

    def _on_hour(self, now_ms: int, _: object) -> None:
        self._count_step(now_ms)
        warm_up_ms = self.scenario.warm_up
        if warm_up_ms and now_ms - HOUR_MS < self.scenario.start + warm_up_ms <= now_ms:
            self.tally = self.tally.afresh(self.supply, now_ms, self.under_way_flop(now_ms))
        if self.sites.by_the_hour():
            self._change_sites(self.sites.at_hour(self.supply.sites, now_ms))
        self.timeline.at(now_ms + HOUR_MS, HOUR, None)

    def under_way_flop(self, now_ms: int) -> dict[str, int]:
        """Of the work of orders that run: the share of their time that has passed, by precision."""
        found: dict[str, int] = {}
        for order in self.orders.values():
            if order.task.state is TaskState.RUNNING:
                done = order.job.flop * min(now_ms - order.started_ms, order.wall_ms) // max(1, order.wall_ms)
                precision = self.terms[order.job.workload].precision
                found[precision] = found.get(precision, 0) + done
        return found

    def _count_step(self, now_ms: int) -> None:
        self.tally.step(self.supply, now_ms, sum(placer.open for placer in self.placers))

    def _change_sites(self, sites: tuple[Site, ...]) -> None:
        self.supply = replace(self.supply, sites=sites)
        for placer in self.placers:
            placer.change_sites(sites)

    def change_site(self, index: int, site: Site, now_ms: int) -> None:
        sites = self.supply.sites
        sites = (*sites[:index], site, *sites[index + 1 :])
        self.supply = replace(self.supply, sites=sites)
        island = 0 if self.island_of is None else self.island_of.get(index)
        if island is not None:  # a centre that is nobody's home decides nothing
            self.placers[island].change_sites(sites)
            self._want_round(island, now_ms)
