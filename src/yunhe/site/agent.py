"""The site agent: dials out to the hub, polls, and keeps its word about every lease.

    1. take up what the spool and the engine say about leases held before
    2. hello: the hub gives this process an epoch; an older process of this site is refused from then on
    3. poll: reports and acknowledgements go, instructions come; a report does not wait for a held poll
    4. meanwhile: watch the engine, stream logs, measure when told to

A newer poll overtakes a held one. An agent whose epoch is refused stops speaking for good; jobs go on under their
supervisors until their disconnect limit.
"""

import asyncio
import fcntl
import logging
import os
from collections.abc import Callable, Coroutine
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from yunhe.core.errors import StaleMessage, YunheError
from yunhe.core.lifecycle import EndReason
from yunhe.site.bundles import Bundles
from yunhe.site.certifier import Certifier
from yunhe.site.checkpoints import CheckpointStore
from yunhe.site.contact import Contact, Home, boot_id
from yunhe.site.crash import CrashPoint, no_crash
from yunhe.site.data.transfers import Transfers
from yunhe.site.drivers.contract import Driver
from yunhe.site.greeting import Greeting
from yunhe.site.intake import Standing, decide
from yunhe.site.lender import Lender
from yunhe.site.link import Backoff, Link
from yunhe.site.parts import Parts
from yunhe.site.recorder import Recorder
from yunhe.site.runner import Runner
from yunhe.site.secrets import Secrets
from yunhe.site.settings import LendSettings, SiteSettings
from yunhe.site.spool import Applied, HeldLease, LeaseState, Spool
from yunhe.site.supervisor.records import boottime_ms
from yunhe.site.uploads import Uploads
from yunhe.wire.link import (
    LeaseDigest,
    LeaseEnded,
    Report,
    Sync,
    SyncAnswer,
)

log = logging.getLogger(__name__)
PAUSE_FILE = "paused"
LOCK_FILE = "agent.lock"  # also known to the process driver
LOCK_TRIES = 10
LOCK_PAUSE_S = 0.1
STOP_LIMIT_S = 15.0
CONTACT_SHARE = 3  # a poll is held for at most this part of the shortest disconnect limit
LOOK_S = 0.5  # at the pause file and the disk


class Superseded(Exception):
    """Another process speaks for this site now, or the hub has let the site go."""


class AlreadyRunning(Exception):
    """Another agent uses this data directory."""


class Agent:
    """One site. `run` returns after `stop`, and raises Superseded or AlreadyRunning."""

    def __init__(
        self, settings: SiteSettings, key: Ed25519PrivateKey, driver: Driver, crash_point: CrashPoint = no_crash
    ) -> None:
        self._settings = settings
        self._driver = driver
        self._recorder = Recorder(Spool(settings.data_dir / "spool.sqlite", crash_point))
        self._contact = Contact(settings.data_dir)
        self._link = Link(
            settings.hub_url, settings.site_id, key, settings.request_timeout_ms, settings.ca_file, crash_point
        )
        self._greeting = Greeting(settings, self._recorder, self._link)
        uploads = Uploads(driver, self._link, self._contact, settings)
        self._bundles = Bundles(self._link)
        secrets = Secrets(self._link, settings.site_id, driver)
        self._transfers = Transfers(settings, driver)
        parts = Parts(
            settings,
            driver,
            self._recorder,
            uploads,
            self._bundles,
            secrets,
            self._transfers,
            CheckpointStore(driver, self._link, settings.data_dir),
            settings.lend,
            self._contact,
            crash_point,
        )
        self._parts = parts
        self._runner = Runner(parts)
        self._lender = Lender(parts, self._runner)
        self._certifier = Certifier(settings, driver, self._recorder, self._link)
        self._stop = asyncio.Event()
        self._taking = asyncio.Lock()  # answers are taken one after the other
        self._held: asyncio.Task[int] | None = None  # a poll that a newer one has overtaken
        self._poll_no = 0
        self._hold_ms = 0
        self._next_snapshot = 0.0
        self._refusing = ""
        self._boot = boot_id()
        self._home = Home(settings.data_dir)
        self._to_recover: list[HeldLease] | None = None
        self._side: set[asyncio.Task[None]] = set()

    def stop(self) -> None:
        """Stop polling and return from `run`. Jobs go on, unless the settings say otherwise."""
        self._stop.set()

    def lend(self, policy: LendSettings) -> None:
        """From now on. What it takes away is given back at the next look at what others use."""
        self._parts.lend = policy

    # --- life -------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        lock = await _lock(self._settings.data_dir)
        try:
            self._contact.open()
            held = await self._recorder.open()
            isolation = self._certifier.isolation = await self._driver.open()
            self._parts.checkpoints.open()
            await self._lender.open()
            log.info("site %s: %s", self._settings.site_id, isolation.text)
            self._to_recover = held
            if self._home.unchanged():
                await self._recover()
            await self._work()
        finally:
            await self._close()
            os.close(lock)

    async def _recover(self) -> None:
        held, self._to_recover = self._to_recover, None
        if held is not None:
            await self._transfers.open([lease.key for lease in held])
            await self._runner.recover(held, self._boot)
            self._certifier.take_up()

    async def _close(self) -> None:
        await self._runner.close()
        await self._driver.close()
        await self._link.close()
        await self._recorder.close()
        self._contact.close()

    async def _work(self) -> None:
        """All loops, until one of them ends; a loop that fails ends the agent, and the error says so."""
        loops: list[Callable[[], Coroutine[object, object, None]]] = [
            self._recorder.run,
            self._speak,
            self._runner.watch,
            self._runner.stream_logs,
            self._look,
            self._lender.run,
            self._certifier.run,
            self._wait_stop,
        ]
        tasks = [asyncio.create_task(loop()) for loop in loops]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (*tasks, *self._side):
                task.cancel()
            await asyncio.gather(*tasks, *self._side, return_exceptions=True)

    async def _wait_stop(self) -> None:
        await self._stop.wait()
        if not self._settings.stop_jobs_on_exit:
            return
        for lease in list(self._runner.leases.values()):
            await self._runner.cancel(lease.key, EndReason.SUPERVISOR_LOST)
        try:
            async with asyncio.timeout(STOP_LIMIT_S):
                while self._recorder.outbox or any(
                    lease.state is not LeaseState.ENDED for lease in self._runner.leases.values()
                ):
                    await asyncio.sleep(0.02)
        except TimeoutError:
            log.warning("not everything was stopped and told within %s s", STOP_LIMIT_S)

    # --- hello ------------------------------------------------------------------------------------------------------

    async def _speak(self) -> None:
        try:
            welcome = await self._greeting.greet()
        except StaleMessage as error:
            raise Superseded(str(error)) from error
        self._hold_ms = min(self._settings.poll_wait_ms, welcome.poll_hold_ms)
        if self._recorder.stored(welcome.report_seq):
            await self._forget_stored(welcome.report_seq)
        # A copy of a data directory touches none of the original's jobs unless the hub takes it for the site.
        await self._recover()
        self._home.settle()
        await self._poll()

    # --- poll -------------------------------------------------------------------------------------------------------

    async def _poll(self) -> None:
        backoff = Backoff(self._settings.backoff_first_ms, self._settings.backoff_cap_ms)
        failing = False
        while True:
            self._recorder.news.clear()
            sync = self._next_sync()
            exchange = asyncio.create_task(self._exchange(sync))
            if sync.wait_ms and not await self._held_to_the_end(exchange):
                continue
            try:
                stored = await exchange
            except StaleMessage as error:
                raise Superseded(str(error)) from error
            except YunheError as error:
                if not failing:
                    log.warning("the link is down: %s", error)
                failing = True
                await backoff.wait()
                continue
            if failing:
                log.info("the link is up again")
                failing = False
            if sync.reports and stored < sync.reports[0].seq:
                log.warning("the hub does not take report %d", sync.reports[0].seq)
                await backoff.wait()
            else:
                backoff.reset()

    async def _held_to_the_end(self, exchange: asyncio.Task[int]) -> bool:
        """False: there is news first, and the next poll overtakes this one (its answer is still taken)."""
        news = asyncio.create_task(self._recorder.news.wait())
        try:
            await asyncio.wait((exchange, news), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            exchange.cancel()
            raise
        finally:
            news.cancel()
        if exchange.done():
            return True
        if self._held is not None:
            self._held.cancel()
        self._held = exchange
        exchange.add_done_callback(_overtaken)
        return False

    def _next_sync(self) -> Sync:
        """Built without waiting, so that all its parts are of one moment."""
        reports = self._recorder.next_reports()
        self._poll_no += 1
        now = asyncio.get_running_loop().time()
        leases = None
        if now >= self._next_snapshot:
            self._next_snapshot = now + self._settings.snapshot_interval_ms / 1000
            leases = self._snapshot(reports)
        return Sync(
            site_id=self._settings.site_id,
            epoch=self._link.epoch,
            poll_no=self._poll_no,
            applied_seq=self._recorder.marks.applied_seq,
            wait_ms=0 if reports or leases is not None else self._wait_ms(),
            accepting=not self._refusing,
            reports=tuple(reports),
            pools=self._lender.pools,
            leases=leases,
        )

    def _snapshot(self, reports: list[Report]) -> tuple[LeaseDigest, ...]:
        """Every lease held; those whose end is told in this very poll are over when the hub compares."""
        over = {(report.lease_id, report.epoch) for report in reports if isinstance(report, LeaseEnded)}
        return tuple(
            LeaseDigest(lease_id=key.lease_id, epoch=key.epoch, started=lease.state is LeaseState.STARTED)
            for key, lease in self._runner.leases.items()
            if key not in over
        )

    def _wait_ms(self) -> int:
        """Contact counts from a poll's sending: a poll held for longer than a disconnect limit would end the job."""
        limits = [lease.held.start.disconnect_limit_ms for lease in self._runner.leases.values()]
        return max(1, min([self._hold_ms, *(limit // CONTACT_SHARE for limit in limits)]))

    async def _exchange(self, sync: Sync) -> int:
        """One poll and what its answer asks for; returns the last report that the hub has stored."""
        sent_ms = boottime_ms()
        answer = await self._link.sync(sync)
        async with self._taking:
            await self._take(answer, sent_ms)
        return answer.report_seq

    async def _take(self, answer: SyncAnswer, sent_ms: int) -> None:
        standing = Standing(
            applied_seq=self._recorder.marks.applied_seq,
            held={key: lease.state for key, lease in self._runner.leases.items()},
            boot=self._boot,
            sent_ms=sent_ms,
            now_ms=boottime_ms(),
            refusing=self._refusing,
            programs=self._settings.allow_programs,
            longest_ms=self._parts.lend.longest_ms,
        )
        try:
            await self._carry_out(decide(answer.instructions, standing))
        finally:
            # Last: a lease that the hub gave up is cancelled before contact could let it start or go on.
            self._contact.heard(sent_ms)
        if answer.want_snapshot:
            self._next_snapshot = 0.0
        if self._recorder.marks.epoch_heard != answer.epoch:
            await self._recorder.note_epoch(spoken=answer.epoch, heard=answer.epoch)
        if self._recorder.stored(answer.report_seq):
            self._aside(self._forget_stored(answer.report_seq))

    async def _carry_out(self, applied: Applied | None) -> None:
        """Raises StorageFull when the batch cannot be stored; the hub repeats it, and what is to be stopped stops."""
        if applied is None:
            return
        for held in applied.accepted:
            if held.start.bundle_sha256:
                self._bundles.expect(held.start.bundle_sha256)
        try:
            await self._recorder.apply(applied)
            self._runner.accept(applied.accepted)
        finally:
            for key, reason in applied.cancelled:
                await self._runner.cancel(key, reason)
        if applied.certify_seq:
            self._certifier.wanted.set()
        if applied.prove is not None:
            self._certifier.prove(applied.prove)

    def _aside(self, coroutine: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._side.add(task)
        task.add_done_callback(self._side.discard)

    async def _forget_stored(self, report_seq: int) -> None:
        self._runner.forget(await self._recorder.acknowledge(report_seq))

    # --- beside the polls ----------------------------------------------------------------------------------------

    async def _look(self) -> None:
        """The site's own pause, and whether there is room for work."""
        while True:
            refusing = ""
            if (self._settings.data_dir / PAUSE_FILE).exists():
                refusing = "the site is paused by its own administrator"
            elif self._recorder.full and not await self._recorder.room_again():
                refusing = "the site's disk is full"
            elif _free_bytes(self._settings.data_dir) < self._settings.min_free_bytes:
                refusing = f"less than {self._settings.min_free_bytes} bytes of disk are free"
            if refusing != self._refusing:
                log.info("%s", refusing or "the site takes work again")
                self._refusing = refusing
                self._recorder.news.set()
            await asyncio.sleep(LOOK_S)


def _overtaken(task: asyncio.Task[int]) -> None:
    """The answer of an overtaken poll counts when it comes, and its failure does not."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.debug("an overtaken poll ended with: %s", error)


async def _lock(data_dir: Path) -> int:
    """The data directory is this process's while the descriptor is open. Raises AlreadyRunning."""
    fd = os.open(data_dir / LOCK_FILE, os.O_CREAT | os.O_RDWR, 0o600)
    for left in reversed(range(LOCK_TRIES)):  # the launcher of an agent before holds it for a moment
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if not left:
                os.close(fd)
                raise AlreadyRunning(f"another agent uses {data_dir}") from None
            await asyncio.sleep(LOCK_PAUSE_S)
    return fd


def _free_bytes(path: Path) -> int:
    disk = os.statvfs(path)
    return disk.f_bavail * disk.f_frsize
