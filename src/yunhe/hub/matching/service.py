"""The round, live: one snapshot, one plan in a worker process, one commit. The leader runs it.

A submit or freed units trigger it (debounced); there is no tick to wait for.  A plan's assignments are rechecked at
commit; what became stale waits for the next round, which its cause triggers.
"""

import asyncio
import logging
import time

import sqlalchemy as sa

from yunhe.core.errors import YunheError
from yunhe.core.round import Snapshot
from yunhe.core.supply import Supply
from yunhe.hub.accounts import service as accounts
from yunhe.hub.catalogue import service as catalogue
from yunhe.hub.catalogue.service import SUPPLY_TOPIC
from yunhe.hub.matching.keeping import Decided, Keeper
from yunhe.hub.matching.recording import Recorder
from yunhe.hub.matching.worker import RoundWorker
from yunhe.hub.orders import delaying, rooms, snapshot
from yunhe.hub.orders.commit import Committer, PlanCommit
from yunhe.hub.orders.create import ROUND
from yunhe.hub.orders.shapes import Shapes
from yunhe.hub.orders.snapshot import View
from yunhe.hub.orders.starting import Due, Timer
from yunhe.hub.platform import leader
from yunhe.hub.platform.context import Platform
from yunhe.hub.platform.leader import Leader
from yunhe.hub.platform.writer import CrashPoint
from yunhe.wire.rounds import RecordedRound

log = logging.getLogger(__name__)

IDLE_S = 1.0  # hints may be lost, retry delays run out
FAILURE_S = 1.0
MAX_REST_MS = 1_000
MORE = "more"  # the round before placed some, so there may be more to place


class Matching:
    def __init__(self, platform: Platform, lead: Leader, shapes: Shapes, crash_point: CrashPoint) -> None:
        self._platform = platform
        self._leader = lead
        self._shapes = shapes
        self._timer = Timer(shapes)
        self._committer = Committer(platform.settings)
        self._crash_point = crash_point
        self._worker = RoundWorker()
        to = platform.settings.round_record
        self._recorder = Recorder(to, platform.settings.round_record_cap_bytes) if to is not None else None
        self.keeper = Keeper(platform)
        self._seen_ms = 0  # until when orders were looked at
        self.rounds = 0
        self.last_round_ms = 0.0

    async def run(self) -> None:
        """Until cancelled."""
        topics = (ROUND, SUPPLY_TOPIC, leader.TOPIC)
        try:
            await self._worker.start()  # also where another replica leads: the lead may fall to this one at any time
            with self._platform.signals.waiting(*topics) as waiter:
                placed = 0
                while True:
                    woken_by = waiter.topics | ({MORE} if placed else set())
                    waiter.rearm()
                    placed = 0
                    if self._leader.leading:
                        placed = await self._guarded_round(woken_by)
                    rested_s = time.monotonic() + self._rest_s(placed)
                    if not placed:
                        await waiter.wait(IDLE_S)
                    debounce_s = self._platform.settings.round_debounce_ms / 1000
                    await asyncio.sleep(max(debounce_s, rested_s - time.monotonic()) if self.rounds else 0)
        finally:
            self._worker.stop()

    def _rest_s(self, placed: int) -> float:
        """Between rounds, so that half of the time is others', or three quarters after a round that placed nothing.

        A network that is idle has rested already when an order comes.
        """
        return min(self.last_round_ms * (1 if placed else 3), MAX_REST_MS) / 1000

    async def _guarded_round(self, woken_by: set[str]) -> int:
        try:
            await self._start_booked(SUPPLY_TOPIC in woken_by)
            return await self._round(woken_by)
        except TimeoutError:
            log.error("a round took too long (limit %d ms)", self._platform.settings.round_timeout_ms)
        except YunheError as error:
            log.warning("no round right now: %s", error)
        except Exception:
            # What breaks a round must not take the hub with it: submits, reports and settlement go on.
            log.exception("a round failed by a mistake of ours")
        await asyncio.sleep(FAILURE_S)
        return 0

    async def _round(self, woken_by: set[str]) -> int:
        """One round. Returns the number of tasks that were placed."""
        platform = self._platform
        started = time.perf_counter()
        view = await platform.read(self._take)
        if view is None or not view.snapshot.queue.ids:
            return 0
        settings, now_ms = platform.settings, platform.clock.now_ms()
        limit_s = settings.round_timeout_ms / 1000
        plan = await self._worker.plan(view.snapshot, settings.policy, now_ms, settings.round_seed, limit_s)
        recorded = RecordedRound(view.snapshot, settings.policy, now_ms, settings.round_seed, plan)
        if self._recorder is not None:
            await asyncio.to_thread(self._recorder.write, recorded)
        placed = 0
        if plan.assignments or plan.bookings:
            self._crash_point("matching.before_commit")
            commit = PlanCommit(plan.assignments, view.open_orders, view.snapshot.supply, plan.bookings)
            placed = await platform.write(self._committer.commit_plans, commit)
        if plan.preempted:
            self._crash_point("matching.before_rooms")
            told = await platform.write(rooms.make, plan.preempted)
            log.info("%d spot leases end for %d orders", told, len(plan.preempted))
        if plan.delays:
            self._crash_point("matching.before_delays")
            await platform.write(delaying.delay, plan.delays)
        self.rounds += 1
        self.last_round_ms = (time.perf_counter() - started) * 1000
        self.keeper.note(Decided(recorded, self._cause(view.snapshot, woken_by), placed, self.last_round_ms))
        self._seen_ms = now_ms
        log.debug("round: %d open, %d placed, %.1f ms", len(view.snapshot.queue.ids), placed, self.last_round_ms)
        return placed

    async def _start_booked(self, also_gone: bool) -> None:
        """Bookings whose time has come become leases; with `also_gone`, those whose pool has gone are lost."""
        due = await self._platform.read(lambda conn: self._due(conn, also_gone))
        if due is not None:
            self._crash_point("matching.before_start")
            await self._platform.write(self._committer.start_booked, due)

    def _due(self, conn: sa.Connection, also_gone: bool) -> Due | None:
        settings, now_ms = self._platform.settings, self._platform.clock.now_ms()

        def supply() -> Supply:
            return catalogue.supply(conn, now_ms, settings.silent_after_ms)

        return self._timer.look(conn, supply, now_ms, also_gone=also_gone)

    def _cause(self, snapshot: Snapshot, woken_by: set[str]) -> str:
        """Why a round was held: orders came, the one before placed some, units came free, a site changed, or time."""
        if int(snapshot.queue.submitted_ms.max(initial=0)) > self._seen_ms:
            return "submitted"
        causes = {MORE: MORE, ROUND: "freed", SUPPLY_TOPIC: "supply"}
        return next((name for topic, name in causes.items() if topic in woken_by), "time")

    def _take(self, conn: sa.Connection) -> View | None:
        """None when nothing waits: it is asked every second, and the supply of a large network is long."""
        settings, now_ms = self._platform.settings, self._platform.clock.now_ms()
        if not snapshot.waiting(conn, now_ms):
            return None
        return snapshot.take(
            conn,
            catalogue.supply(conn, now_ms, settings.silent_after_ms),
            accounts.shares(conn),
            self._shapes,
            settings,
            now_ms,
        )
