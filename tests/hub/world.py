"""The hub's rooms without processes, network or time that passes: each step is one real write transaction."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import sqlalchemy as sa

from tests.fakes.agent import cpu_pool
from tests.hub.conftest import FakeClock
from yunhe.core.errors import YunheError
from yunhe.core.lifecycle import ORDER_ENDED, EndReason, OrderState, TaskState, order_state
from yunhe.core.round import Delay, Preemption, plan_round
from yunhe.core.supply import Supply
from yunhe.facts.load import place_coordinates
from yunhe.hub.accounts import service as accounts
from yunhe.hub.accounts.service import Organisation, Principal
from yunhe.hub.catalogue import service as catalogue
from yunhe.hub.dispatch import sync
from yunhe.hub.dispatch.sync import Poll, SyncHandler
from yunhe.hub.intake import service as intake
from yunhe.hub.intake.pricing import Pricer, canonical
from yunhe.hub.intake.service import Submission
from yunhe.hub.ledger import service as ledger
from yunhe.hub.ledger.service import Deposit
from yunhe.hub.metering import service as metering
from yunhe.hub.orders import delaying, events, outbox, rooms, snapshot, starting
from yunhe.hub.orders.commit import Committer, PlanCommit
from yunhe.hub.orders.model import SETTLEMENT
from yunhe.hub.orders.shapes import Shapes
from yunhe.hub.platform import work
from yunhe.hub.platform.context import Platform
from yunhe.hub.platform.writer import Tx
from yunhe.hub.settlement import service as settlement
from yunhe.wire import signing
from yunhe.wire.api import OrderSpec, SiteTerms
from yunhe.wire.link import (
    Certificate,
    Enrol,
    Hello,
    LeaseEnded,
    LeaseStarted,
    Report,
    StartLease,
    Sync,
    UsageReport,
    UsageTotals,
)

R = TypeVar("R")
PROVIDER = "centre"
PLACED = ("leased", "running", "unknown")


@dataclass
class Held:
    """A lease at its site; `used_ms` and `n` are what was reported of it."""

    start: StartLease
    used_ms: int = 0
    n: int = 0
    running: bool = False
    told: EndReason | None = None  # to end


@dataclass
class SiteDouble:
    """A site: what it has been told, and what it will say next."""

    world: "World"
    id: str
    epoch: int = 0
    poll_no: int = 0
    applied_seq: int = 0
    report_seq: int = 0
    held: dict[tuple[str, int], Held] = field(default_factory=dict)

    def hello(self) -> None:
        self.epoch, self.report_seq = self.world.write(sync.greet, Hello(site_id=self.id, previous_epoch=self.epoch))
        self.poll_no = 0

    def poll(self, *reports: Report, accepting: bool = True) -> None:
        """Say it, then take in the instructions."""
        self.poll_no += 1
        numbered = tuple(r.model_copy(update={"seq": self.report_seq + i}) for i, r in enumerate(reports, start=1))
        self.report_seq += len(reports)
        message = Sync(
            site_id=self.id,
            epoch=self.epoch,
            poll_no=self.poll_no,
            applied_seq=self.applied_seq,
            wait_ms=0,
            accepting=accepting,
            reports=numbered,
        )
        body = message.model_dump_json().encode()
        self.world.write(
            self.world.sync.apply, Poll(message, body, hashlib.sha256(body).hexdigest(), b"signed", "signature")
        )
        with self.world.platform.db.reading() as conn:
            told = outbox.after(conn, self.id, self.applied_seq, None)
        for item in told:
            if item.kind == "start":
                self.held[item.lease_id, item.epoch] = Held(item)
            elif item.kind == "cancel" and (item.lease_id, item.epoch) in self.held:
                self.held[item.lease_id, item.epoch].told = item.reason
            self.applied_seq = item.seq

    def started(self, held: Held) -> Report:
        held.running = True
        return LeaseStarted(seq=0, lease_id=held.start.lease_id, epoch=held.start.epoch, started_utc_ms=1)

    def used(self, held: Held, more_ms: int, final: bool = False) -> Report:
        start, from_ms = held.start, held.used_ms
        held.used_ms = min(from_ms + more_ms, start.run_limit_ms)
        self.world.clock.ms += held.used_ms - from_ms
        totals = UsageTotals(
            wall_ms=held.used_ms,
            cpu_ms=held.used_ms * start.slot_milli * start.slots // 1000,
            peak_memory_bytes=1 << 20,
        )
        held.n += 1
        return UsageReport(
            seq=0,
            lease_id=start.lease_id,
            epoch=start.epoch,
            n=held.n - 1,
            from_ms=from_ms,
            to_ms=held.used_ms,
            totals=totals,
            final=final,
        )

    def ended(self, held: Held, reason: EndReason = EndReason.EXITED, exit_code: int | None = 0) -> Report:
        del self.held[held.start.lease_id, held.start.epoch]
        return LeaseEnded(
            seq=0, lease_id=held.start.lease_id, epoch=held.start.epoch, reason=reason, exit_code=exit_code
        )

    def run(self, reason: EndReason = EndReason.EXITED, exit_code: int | None = 0, wall_ms: int = 1_000) -> None:
        """Everything that is held here runs and ends."""
        for held in list(self.held.values()):
            self.poll(self.started(held), self.used(held, wall_ms, final=True), self.ended(held, reason, exit_code))


class World:
    """A hub on the given platform, whose writer need not run."""

    def __init__(self, platform: Platform, clock: FakeClock) -> None:
        self.platform, self.clock = platform, clock
        places = frozenset(place_coordinates())
        self.pricer, self.shapes = Pricer(platform, places), Shapes(places)
        self.timer = starting.Timer(self.shapes)
        self.committer, self.sync = Committer(platform.settings), SyncHandler(metering.accept, platform.settings)
        self.sites: dict[str, SiteDouble] = {}
        self._deposits = 0
        self.preempted: tuple[Preemption, ...] = ()
        self.delays: tuple[Delay, ...] = ()

    def write(self, handler: Callable[[Tx, Sequence[Any]], Sequence[R | YunheError]], item: object) -> R:
        with self.platform.db.write_engine.begin() as conn:
            result = handler(Tx(conn, self.clock.now_ms()), [item])[0]
        if isinstance(result, YunheError):
            raise result
        return result

    def do(self, what: Callable[[Tx], R]) -> R:
        return self.write(lambda tx, items: [what(tx)], None)

    def rows(self, query: str, **values: object) -> list[sa.Row[Any]]:
        with self.platform.db.reading() as conn:
            return list(conn.execute(sa.text(query), values))

    # --- who takes part -----------------------------------------------------------------------------------------

    def organisation(self, name: str, cny: int = 100, quota_milli: int | None = None, weight: int = 1) -> None:
        self.write(accounts.create_organisations, Organisation(name, name, 0, quota_milli, weight))
        self._deposits += 1
        self.write(ledger.deposit, Deposit(name, cny * 1_000_000, f"deposit {self._deposits}", self.clock.now_ms()))

    def site(self, name: str, cores: int = 4) -> SiteDouble:
        def join(tx: Tx) -> str:
            accounts.create_organisations(tx, [Organisation(PROVIDER, PROVIDER)])
            token, key = catalogue.create_token(tx, PROVIDER).secret, signing.new_key()
            enrol = Enrol(
                token=token,
                name=name,
                public_key=signing.public_text(key),
                proof=signing.sign(key, token.encode()),
                cluster="zhangjiakou",
            )
            site_id = catalogue.enrol(tx, enrol).site_id
            catalogue.approve(tx, site_id, SiteTerms())
            pool = cpu_pool(cores * 1000)
            certificate = Certificate(seq=1, tested_utc_ms=1, tier=2, isolation="", software="", pools=(pool,))
            catalogue.certify(tx, site_id, certificate)
            return site_id

        double = SiteDouble(self, self.do(join))
        double.hello()
        double.poll()
        self.sites[double.id] = double
        return double

    # --- the way of an order ------------------------------------------------------------------------------------

    def submit(self, org: str, **changes: object) -> str:
        """A millisecond after whatever was before it, so that the order of submits is the order of time."""
        self.clock.ms += 1
        fields: dict[str, object] = {
            "run": {"command": ["true"]},
            "requirement": {"cores": 1, "memory": "64MiB"},
            "duration": "1m",
            "budget": "5CNY",
            **changes,
        }
        spec = OrderSpec.model_validate(fields)
        text, now_ms = canonical(spec), self.clock.now_ms()
        with self.platform.db.reading() as conn:
            priced = self.pricer.price(conn, spec, text.hash)
        order = intake.new_order(Principal(org, "m", "customer", "k"), spec, text, priced, now_ms, None)
        return self.write(intake.accept, Submission((order,))).ids[0]

    def view(self) -> snapshot.View:
        settings, now_ms = self.platform.settings, self.clock.now_ms()
        with self.platform.db.reading() as conn:
            supply = catalogue.supply(conn, now_ms, settings.silent_after_ms)
            return snapshot.take(conn, supply, accounts.shares(conn), self.shapes, settings, now_ms)

    def plan(self, seed: int = 1) -> PlanCommit:
        view = self.view()
        plan = plan_round(view.snapshot, self.platform.settings.policy, self.clock.now_ms(), seed)
        self.preempted, self.delays = plan.preempted, plan.delays
        return PlanCommit(plan.assignments, view.open_orders, view.snapshot.supply, plan.bookings)

    def commit(self, plan: PlanCommit) -> int:
        return self.write(self.committer.commit_plans, plan)

    def hold_back(self) -> int:
        """The newest plan's orders that wait for a better hour."""
        return self.write(delaying.delay, self.delays) if self.delays else 0

    def due(self) -> starting.Due | None:
        settings, now_ms = self.platform.settings, self.clock.now_ms()
        with self.platform.db.reading() as conn:

            def supply() -> Supply:
                return catalogue.supply(conn, now_ms, settings.silent_after_ms)

            return self.timer.look(conn, supply, now_ms, also_gone=True)

    def start_booked(self) -> int:
        """Bookings whose time has come begin, and every site hears of it."""
        due = self.due()
        begun = 0 if due is None else self.write(self.committer.start_booked, due)
        for site in self.sites.values():
            site.poll()
        return begun

    def make_rooms(self) -> int:
        """The newest plan's spot leases are told to end."""
        return self.write(rooms.make, self.preempted) if self.preempted else 0

    def round(self) -> int:
        """Plan, commit, and every site that takes part hears of it."""
        placed = self.commit(self.plan())
        self.make_rooms()
        self.hold_back()
        for site in self.sites.values():
            site.poll()
        return placed

    def settle(self) -> None:
        """All due work of the settlement room."""
        rows = self.rows("SELECT key FROM work WHERE room = :room AND due_ms <= :now", **self._now())
        keys = [row.key for row in rows]
        self.do(lambda tx: settlement.consume(tx, work.take(tx, SETTLEMENT, keys)) if keys else None)

    def _now(self) -> dict[str, object]:
        return {"room": SETTLEMENT, "now": self.clock.now_ms()}

    def silent(self, *sites: SiteDouble) -> None:
        self.do(lambda tx: events.site_silent(tx, [site.id for site in sites]))

    def lost(self, *sites: SiteDouble) -> None:
        self.do(lambda tx: events.give_up(tx, [site.id for site in sites]))

    def order(self, order_id: str) -> sa.Row[Any]:
        return self.rows("SELECT * FROM order_ WHERE id = :id", id=order_id)[0]

    def tasks(self, order_id: str) -> list[sa.Row[Any]]:
        return self.rows("SELECT * FROM task WHERE order_id = :id ORDER BY idx", id=order_id)

    def state(self, order_id: str) -> str:
        return str(self.order(order_id).state)

    # --- what always holds ----------------------------------------------------------------------------------------

    def check(self) -> None:
        self._check_capacity()
        self._check_orders()
        self._check_money()

    def _check_capacity(self) -> None:
        placed = self.rows(
            f"SELECT t.*, o.org FROM task t JOIN order_ o ON o.id = t.order_id WHERE t.state IN {PLACED}"
        )
        pools: dict[str, tuple[int, int]] = {}
        orgs: dict[str, int] = {}
        for row in placed:
            milli, memory = pools.get(row.pool_id, (0, 0))
            pools[row.pool_id] = (milli + row.milli, memory + row.memory_bytes)
            orgs[row.org] = orgs.get(row.org, 0) + row.milli
        for pool in self.rows("SELECT id, used_milli, used_memory, capacity_milli FROM pool"):
            assert (pool.used_milli, pool.used_memory) == pools.get(pool.id, (0, 0)), pool.id
            assert pool.used_milli <= pool.capacity_milli
        for org in self.rows("SELECT id, used_milli, quota_milli FROM organisation"):
            assert org.used_milli == orgs.get(org.id, 0), org.id
            assert org.quota_milli is None or org.used_milli <= org.quota_milli
        self._check_bookings()
        live = self.rows("SELECT lease_id, epoch FROM lease WHERE end_reason IS NULL")
        assert sorted((r.lease_id, r.epoch) for r in live) == sorted((r.lease_id, r.epoch) for r in placed)

    def _check_bookings(self) -> None:
        """At no time more of a pool is promised than there is."""
        booked = self.rows("SELECT * FROM task WHERE state = 'booked'")
        capacity = {row.id: row.capacity_milli for row in self.rows("SELECT id, capacity_milli FROM pool")}
        for first in booked:
            at_ms = first.booked_from_ms
            there = [row for row in booked if row.pool_id == first.pool_id]
            promised = sum(row.milli for row in there if row.booked_from_ms <= at_ms < row.booked_until_ms)
            assert promised <= capacity[first.pool_id], first.pool_id

    def _check_orders(self) -> None:
        counts: dict[str, dict[TaskState, int]] = {}
        for row in self.rows("SELECT order_id, state, count(*) AS n FROM task GROUP BY order_id, state"):
            counts.setdefault(row.order_id, {})[TaskState(row.state)] = row.n
        for order in self.rows("SELECT * FROM order_"):
            assert OrderState(order.state) is order_state(counts[order.id]), order.id
            assert order.pending == counts[order.id].get(TaskState.PENDING, 0), order.id
            assert (order.ended_ms is not None) == (OrderState(order.state) in ORDER_ENDED)
            assert not order.settled or OrderState(order.state) in ORDER_ENDED

    def _check_money(self) -> None:
        with self.platform.db.reading() as conn:
            trial = ledger.trial_balance(conn)
        assert trial.balanced, trial
        charged = {
            row.order_id: int(row.total)
            for row in self.rows(
                "SELECT order_id, sum(compute_microcny + energy_microcny + transfer_microcny + line_microcny) AS total"
                " FROM charge GROUP BY order_id"
            )
        }
        for row in self.rows(
            "SELECT h.*, o.settled, o.charged_microcny FROM hold h JOIN order_ o ON o.id = h.order_id"
        ):
            assert charged.get(row.order_id, 0) == row.charged_microcny <= row.amount, row.order_id
            if row.settled:
                assert row.left_amount == 0, row.order_id
            else:
                assert row.left_amount == row.amount - row.charged_microcny, row.order_id

    def check_settled(self) -> None:
        """After `settle`: what has ended is settled, and nothing is left to do for it."""
        for order in self.rows("SELECT * FROM order_"):
            assert bool(order.settled) == (OrderState(order.state) in ORDER_ENDED), order.id
