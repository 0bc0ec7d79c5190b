"""The round, live: one snapshot, one plan in a worker process, one commit. The leader runs it.

A submit or freed units trigger it (debounced); there is no tick to wait for.  A plan's assignments are rechecked at
commit; what became stale waits for the next round, which its cause triggers.
"""

import asyncio
import contextlib
import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import sqlalchemy as sa

from yunhe.core.errors import Unavailable, YunheError
from yunhe.core.round import Plan, plan_round
from yunhe.hub.accounts import service as accounts
from yunhe.hub.catalogue import service as catalogue
from yunhe.hub.catalogue.service import SUPPLY_TOPIC
from yunhe.hub.orders import snapshot
from yunhe.hub.orders.commit import Committer, PlanCommit
from yunhe.hub.orders.create import ROUND
from yunhe.hub.orders.shapes import Shapes
from yunhe.hub.orders.snapshot import View
from yunhe.hub.platform import leader
from yunhe.hub.platform.context import Platform
from yunhe.hub.platform.leader import Leader
from yunhe.hub.platform.writer import CrashPoint

log = logging.getLogger(__name__)

IDLE_S = 1.0  # hints may be lost, retry delays run out
FAILURE_S = 1.0
MAX_REST_MS = 1_000


class Matching:
    def __init__(self, platform: Platform, lead: Leader, shapes: Shapes, crash_point: CrashPoint) -> None:
        self._platform = platform
        self._leader = lead
        self._shapes = shapes
        self._committer = Committer(platform.settings)
        self._crash_point = crash_point
        self._pool: ProcessPoolExecutor | None = None
        self._worker: Future[int] | None = None  # the worker's process id
        self.rounds = 0
        self.last_round_ms = 0.0

    async def run(self) -> None:
        """Until cancelled."""
        topics = (ROUND, SUPPLY_TOPIC, leader.TOPIC)
        self._start_worker()  # also where another replica leads: the lead may fall to this one at any time
        try:
            with self._platform.signals.waiting(*topics) as waiter:
                while True:
                    waiter.rearm()
                    placed = 0
                    if self._leader.leading:
                        placed = await self._guarded_round()
                    rested_s = time.monotonic() + self._rest_s(placed)
                    if not placed:
                        await waiter.wait(IDLE_S)
                    debounce_s = self._platform.settings.round_debounce_ms / 1000
                    await asyncio.sleep(max(debounce_s, rested_s - time.monotonic()) if self.rounds else 0)
        finally:
            self._stop_worker()

    def _rest_s(self, placed: int) -> float:
        """Between rounds, so that half of the time is others', or three quarters after a round that placed nothing.

        A network that is idle has rested already when an order comes.
        """
        return min(self.last_round_ms * (1 if placed else 3), MAX_REST_MS) / 1000

    def _start_worker(self) -> None:
        # spawn: a fork would carry the hub's sockets and database connections into the worker.
        self._pool = ProcessPoolExecutor(
            1, mp_context=multiprocessing.get_context("spawn"), initializer=_end_with_the_hub
        )
        self._worker = self._pool.submit(os.getpid)

    def _stop_worker(self, *, busy: bool = False) -> None:
        """`busy`: it still computes a plan that nobody waits for."""
        if self._pool is None or self._worker is None:
            return
        self._pool.shutdown(wait=False, cancel_futures=True)
        if busy and self._worker.done() and self._worker.exception() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._worker.result(), signal.SIGKILL)
        self._pool = self._worker = None

    async def _guarded_round(self) -> int:
        try:
            return await self._round()
        except BrokenProcessPool:
            log.warning("the round's worker process ended; starting another")
            self._stop_worker()
        except TimeoutError:
            log.error("a round took too long (limit %d ms)", self._platform.settings.round_timeout_ms)
            self._stop_worker(busy=True)
        except YunheError as error:
            log.warning("no round right now: %s", error)
        except Exception:
            # What breaks a round must not take the hub with it: submits, reports and settlement go on.
            log.exception("a round failed by a mistake of ours")
        if self._pool is None:
            self._start_worker()
        await asyncio.sleep(FAILURE_S)
        return 0

    async def _round(self) -> int:
        """One round. Returns the number of tasks that were placed."""
        platform = self._platform
        started = time.perf_counter()
        view = await platform.read(self._take)
        if not view.snapshot.queue.ids:
            return 0
        plan = await self._plan(view)
        placed = 0
        if plan.assignments:
            self._crash_point("matching.before_commit")
            commit = PlanCommit(plan.assignments, view.open_orders, view.snapshot.supply)
            placed = await platform.write(self._committer.commit_plans, commit)
        self.rounds += 1
        self.last_round_ms = (time.perf_counter() - started) * 1000
        log.debug("round: %d open, %d placed, %.1f ms", len(view.snapshot.queue.ids), placed, self.last_round_ms)
        return placed

    def _take(self, conn: sa.Connection) -> View:
        settings, now_ms = self._platform.settings, self._platform.clock.now_ms()
        return snapshot.take(
            conn,
            catalogue.supply(conn, now_ms, settings.silent_after_ms),
            accounts.shares(conn),
            self._shapes,
            now_ms,
            settings.round_orders,
        )

    async def _plan(self, view: View) -> Plan:
        settings = self._platform.settings
        if self._pool is None:
            raise Unavailable("the round's worker is not running")
        planning = asyncio.get_running_loop().run_in_executor(
            self._pool, plan_round, view.snapshot, settings.policy, self._platform.clock.now_ms(), settings.round_seed
        )
        return await asyncio.wait_for(planning, settings.round_timeout_ms / 1000)


def _end_with_the_hub() -> None:
    """In the worker, whose start has loaded numpy. A hub that was killed closes nothing, so its end is waited for."""
    hub = multiprocessing.parent_process()
    if hub is not None:
        threading.Thread(target=_exit_after, args=(hub.sentinel,), daemon=True).start()


def _exit_after(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(0)
