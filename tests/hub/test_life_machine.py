"""Random lives of orders through the real rooms: submits, rounds, reports, silence, losses, cancels, settlement.

After every step the capacity, the quotas, the orders' states, the holds and the books must agree.
"""

import tempfile
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.hub.conftest import FakeClock
from tests.hub.world import SiteDouble, World
from yunhe.core.lifecycle import EndReason
from yunhe.hub.orders import events
from yunhe.hub.orders.commit import PlanCommit
from yunhe.hub.platform.context import open_platform
from yunhe.hub.platform.db import metadata
from yunhe.hub.platform.settings import HubSettings
from yunhe.hub.platform.writer import no_crash

ENDS = [
    (EndReason.EXITED, 0),
    (EndReason.EXITED, 3),
    (EndReason.MEMORY_LIMIT, 137),
    (EndReason.TIME_LIMIT, None),
    (EndReason.CANCELLED, None),
    (EndReason.SPAWN_FAILED, None),
    (EndReason.SUPERVISOR_LOST, None),
]


class Life(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        at = Path(self.folder.name)
        chosen = HubSettings(database_url=f"sqlite:///{at / 'hub.db'}", data_dir=at, read_connections=1)
        self.platform = open_platform(chosen, FakeClock(), no_crash)
        metadata.create_all(self.platform.db.write_engine)
        with self.platform.db.write_engine.connect() as conn:  # this database need not outlive a power cut
            conn.connection.execute("PRAGMA synchronous=OFF")
        clock = self.platform.clock
        assert isinstance(clock, FakeClock)
        self.world, self.clock = World(self.platform, clock), clock
        self.orders: list[str] = []
        self.old_plan: PlanCommit | None = None

    def teardown(self) -> None:
        self.platform.readers.shutdown()
        self.platform.db.close()
        self.folder.cleanup()

    @initialize()
    def network(self) -> None:
        self.world.organisation("a", quota_milli=3_000)
        self.world.organisation("b", cny=3)
        self.sites = [self.world.site("north", cores=3), self.world.site("south", cores=2)]

    def site(self, number: int) -> SiteDouble:
        return self.sites[number % len(self.sites)]

    # --- customers ----------------------------------------------------------------------------------------------

    @rule(
        org=st.sampled_from("ab"),
        cores=st.sampled_from([0.5, 1, 2]),
        array=st.integers(1, 4),
        retries=st.integers(0, 2),
        start_at=st.sampled_from([None, None, "in 30s", "in 8m"]),
    )
    def submit(self, org: str, cores: float, array: int, retries: int, start_at: str | None) -> None:
        held = sum(
            row.amount for row in self.world.rows("SELECT amount FROM balance WHERE account = :a", a=f"org:{org}:held")
        )
        if held < 1_500_000:  # the poor one's money must not run out: refusals have tests of their own
            requirement = {"cores": cores, "memory": "64MiB"}
            terms = {"array": array, "retries": retries, "start_at": start_at, "duration": "5m", "budget": "1CNY"}
            self.orders.append(self.world.submit(org, requirement=requirement, **terms))

    @precondition(lambda self: self.orders)
    @rule(pick=st.integers(0, 99))
    def cancel(self, pick: int) -> None:
        order = self.orders[pick % len(self.orders)]
        if self.world.state(order) not in ("succeeded", "failed"):
            self.world.write(events.cancel_orders, order)

    # --- the hub ------------------------------------------------------------------------------------------------

    @rule(seed=st.integers(0, 3))
    def plan_and_commit(self, seed: int) -> None:
        plan = self.world.plan(seed)
        self.world.commit(plan)
        self.old_plan = plan

    @rule()
    def plan_for_later(self) -> None:
        self.old_plan = self.world.plan()

    @precondition(lambda self: self.old_plan is not None)
    @rule()
    def commit_what_was_planned_before(self) -> None:
        assert self.old_plan is not None
        self.world.commit(self.old_plan)

    @rule()
    def begin_what_was_booked(self) -> None:
        self.world.start_booked()

    @rule(ms=st.sampled_from([1, 1_000, 20_000, 400_000]))
    def time_passes(self, ms: int) -> None:
        self.clock.ms += ms
        self.world.do(lambda tx: events.overdue(tx, 100))
        self.world.do(lambda tx: events.deadlines(tx, 100))

    @rule(number=st.integers(0, 1), lost=st.booleans())
    def site_falls_silent(self, number: int, lost: bool) -> None:
        self.world.silent(self.site(number))
        if lost:
            self.world.lost(self.site(number))

    @rule()
    def settle(self) -> None:
        self.world.settle()

    # --- the sites ----------------------------------------------------------------------------------------------

    @rule(number=st.integers(0, 1), accepting=st.booleans())
    def poll(self, number: int, accepting: bool) -> None:
        self.site(number).poll(accepting=accepting)

    @rule(number=st.integers(0, 1))
    def new_agent_process(self, number: int) -> None:
        self.site(number).hello()
        self.site(number).poll()

    @rule(number=st.integers(0, 1), pick=st.integers(0, 9), more_ms=st.integers(1, 400_000))
    def run_on(self, number: int, pick: int, more_ms: int) -> None:
        site = self.site(number)
        if site.held:
            held = list(site.held.values())[pick % len(site.held)]
            said = [] if held.running else [site.started(held)]
            if held.used_ms < held.start.run_limit_ms:
                said.append(site.used(held, more_ms))
            site.poll(*said)

    @rule(number=st.integers(0, 1), pick=st.integers(0, 9), end=st.sampled_from(ENDS), more_ms=st.integers(0, 300_000))
    def end(self, number: int, pick: int, end: tuple[EndReason, int | None], more_ms: int) -> None:
        site = self.site(number)
        if site.held:
            held = list(site.held.values())[pick % len(site.held)]
            said = [site.used(held, more_ms, final=True)] if held.running else []
            site.poll(*said, site.ended(held, *end))

    # --- always ---------------------------------------------------------------------------------------------------

    @invariant()
    def all_agree(self) -> None:
        self.world.check()

    @precondition(lambda self: self.orders)
    @rule()
    def everything_ends_and_is_settled(self) -> None:
        for order in self.orders:
            if self.world.state(order) in ("open", "running"):
                self.world.write(events.cancel_orders, order)
        for site in self.sites:
            site.poll()
            for held in list(site.held.values()):
                site.poll(site.ended(held, EndReason.CANCELLED, None))
        self.world.settle()
        for order in self.orders:
            row = self.world.order(order)
            assert row.settled and row.pending == 0, order
        held_left = sum(row.left_amount for row in self.world.rows("SELECT left_amount FROM hold"))
        assert held_left == 0
        self.world.check_settled()


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=30, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
