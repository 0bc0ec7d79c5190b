"""What goes wrong with whole centres: outages by chance, and maintenance by plan.

A centre that has lost its power is silent.  Its leases become `unknown`, and after the disconnect limit and its grace
they are given up and placed again, as the hub does it; a centre that is back before that tells what was lost.
"""

from dataclasses import dataclass, replace
from typing import Protocol

from yunhe.core.lifecycle import Ended, EndReason, Event, GivenUp, SiteBack, SiteSilent
from yunhe.core.supply import Site, SiteState, Supply
from yunhe.simulator.build import Network
from yunhe.simulator.events import Timeline
from yunhe.simulator.order import SITE, Order
from yunhe.simulator.scenario import Scenario
from yunhe.simulator.sites import Sites
from yunhe.simulator.tally import Tally

What = tuple[int, str, int, int]  # (site, kind, number of the outage, its length)


class Host(Protocol):
    """The world, as troubles see it."""

    supply: Supply
    sites: Sites
    tally: Tally
    timeline: Timeline
    orders: dict[int, Order]

    def step(self, order: Order, event: Event, now_ms: int) -> bool: ...

    def end(self, order: Order, event: Event, wall_ms: int, now_ms: int) -> None: ...

    def change_site(self, index: int, site: Site, now_ms: int) -> None: ...


@dataclass(slots=True)
class _Dark:
    since_ms: int
    again: int  # the number of the outage


class Troubles:
    def __init__(self, world: Host, scenario: Scenario, network: Network) -> None:
        self._world = world
        self._model = scenario.sites
        self._centres = network.centres
        self._dark: dict[int, _Dark] = {}
        # Orders placed at centres that can fall silent; a dict keeps them in order.
        self._placed: dict[int, dict[int, None]] = {i: {} for i, c in enumerate(network.centres) if c.outages}

    def begin(self, start_ms: int) -> None:
        timeline = self._world.timeline
        for index, centre in enumerate(self._centres):
            self._next_outage(index, 0, start_ms)
            for window in centre.maintenance:
                timeline.at(start_ms + window.at, SITE, (index, "pause", 0, 0))
                timeline.at(start_ms + window.at + window.last, SITE, (index, "resume", 0, 0))

    def placed(self, site: int, order: Order) -> None:
        at = self._placed.get(site)
        if at is not None:
            at[order.number] = None

    def ended(self, site: int, order: Order) -> None:
        at = self._placed.get(site)
        if at is not None:
            at.pop(order.number, None)

    def dark(self, site: int) -> bool:
        return site in self._dark

    def _next_outage(self, index: int, again: int, now_ms: int) -> None:
        found = self._world.sites.outage(index, again)
        if found is not None:
            before_ms, length_ms = found
            self._world.timeline.at(now_ms + before_ms, SITE, (index, "dark", again, length_ms))

    def on_site(self, now_ms: int, what: What) -> None:
        index, kind, again, length_ms = what
        site, model = self._world.supply.sites[index], self._model
        if kind == "pause":
            self._world.change_site(index, replace(site, state=SiteState.PAUSED), now_ms)
        elif kind == "resume":
            self._world.change_site(index, replace(site, state=SiteState.ACTIVE), now_ms)
        elif kind == "dark":
            self._go_dark(index, again, now_ms)
            self._world.timeline.at(now_ms + model.silent_after, SITE, (index, "silent", again, 0))
            limit_ms = model.disconnect_limit + model.disconnect_grace
            self._world.timeline.at(now_ms + limit_ms, SITE, (index, "give_up", again, 0))
            self._world.timeline.at(now_ms + length_ms, SITE, (index, "back", again, 0))
        elif kind == "back":
            self._come_back(index, now_ms)
            self._next_outage(index, again + 1, now_ms)
        elif index in self._dark and self._dark[index].again == again:
            self._silence(index, kind == "give_up", now_ms)

    def _go_dark(self, index: int, again: int, now_ms: int) -> None:
        """Power is lost: what ran there has stopped, and nobody can say so."""
        self._world.tally.counts["outages"] += 1
        self._dark[index] = _Dark(now_ms, again)
        self._world.change_site(index, replace(self._world.supply.sites[index], connected=False), now_ms)
        for number in self._placed[index]:
            self._world.orders[number].ticket += 1

    def _silence(self, index: int, give_up: bool, now_ms: int) -> None:
        dark = self._dark[index]
        for number in list(self._placed[index]):
            order = self._world.orders[number]
            if give_up:
                self._world.end(order, GivenUp(), self._used_ms(order, dark), now_ms)
            else:
                self._world.step(order, SiteSilent(), now_ms)

    def _come_back(self, index: int, now_ms: int) -> None:
        """The agent tells what its hosts' restart ended."""
        dark = self._dark.pop(index)
        self._world.change_site(index, replace(self._world.supply.sites[index], connected=True), now_ms)
        for number in list(self._placed[index]):
            order = self._world.orders[number]
            self._world.step(order, SiteBack(), now_ms)
            lost = Ended(order.task.epoch, EndReason.SUPERVISOR_LOST, None)
            self._world.end(order, lost, self._used_ms(order, dark), now_ms)

    def _used_ms(self, order: Order, dark: _Dark) -> int:
        return max(0, dark.since_ms - order.started_ms) if order.started_ms >= 0 else 0
