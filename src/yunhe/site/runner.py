"""The leases that this site holds: each from its acceptance to the report of its end."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

from yunhe.core.errors import InvalidInput, NotFound, Refused, YunheError
from yunhe.core.lifecycle import EndReason
from yunhe.site.background import Background
from yunhe.site.checkpoints import saved_ms
from yunhe.site.data.failure import TransferFailed
from yunhe.site.data.progress import Progress
from yunhe.site.data.transfers import end_reason
from yunhe.site.drivers.contract import Job, LeaseKey, MovesData, Phase, SpawnFailed, Status
from yunhe.site.endings import lost, usage
from yunhe.site.link import Backoff
from yunhe.site.parts import Lease, Parts
from yunhe.site.persist import persist
from yunhe.site.spool import Ended, Event, HeldLease, LeaseState, Moved, Staged, Started, Used
from yunhe.site.uploads import LogSent
from yunhe.wire.link import MovedFile, UsageTotals

log = logging.getLogger(__name__)
Fetched = TypeVar("Fetched")
SUBMITS = 16  # at a time: more only wait for each other on the disk
LOG_PUSHES = 8
MAX_BACKLOG = 200  # unsent reports, above which nothing is said of transfers


class Runner:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._settings = parts.settings
        self._driver = parts.driver
        self._recorder = parts.recorder
        self.leases = parts.leases
        self._submits = asyncio.Semaphore(SUBMITS)
        self._background = Background("a lease")

    def _spawn(self, lease: Lease, work: Callable[[], Awaitable[None]]) -> None:
        lease.task = self._background.start(self._kept(lease, work))

    async def _kept(self, lease: Lease, work: Callable[[], Awaitable[None]]) -> None:
        """No mistake leaves a lease hanging, and none becomes the end of a job that did something else."""
        ending = lease.finishing
        broken = await persist(str(lease.key), work, self._backoff())
        if broken and lease.finishing is ending and lease.state is not LeaseState.ENDED:
            await self._give_up(lease, broken)

    def _backoff(self) -> Backoff:
        return Backoff(self._settings.backoff_first_ms, self._settings.backoff_cap_ms)

    async def close(self) -> None:
        await self._background.close()

    # --- taking up --------------------------------------------------------------------------------------------------

    async def recover(self, held: Sequence[HeldLease], boot: str) -> None:
        """After a restart of the agent: adopt what runs, report what ended, start what was never started."""
        for one in held:
            self._remember(one, fresh=False)
        alive = [one.key for one in held if one.state is not LeaseState.ENDED]
        for key, status in (await self._driver.observe(alive)).items():
            lease = self.leases[key]
            if status.phase is not Phase.ENDED and lease.held.boot != boot:
                if status.phase is not Phase.ABSENT:  # on another host: it stops before the hub places it anew
                    await self._driver.cancel(key, EndReason.SUPERVISOR_LOST)
                self._lost(lease)
            elif status.phase is not Phase.ABSENT:
                lease.submitted = True
                self._handle(lease, status)
                if lease.cancel and status.phase is not Phase.ENDED:
                    await self._driver.cancel(key, lease.cancel)
            elif lease.state is LeaseState.STARTED:
                self._lost(lease)
            else:
                self._spawn(lease, partial(self._start, lease))
        for key in await self._driver.known() - self.leases.keys():
            self._background.start(self._clear(key))

    async def _clear(self, key: LeaseKey) -> None:
        await persist(f"{key}, which is not held", partial(self._cleared, key), self._backoff())

    async def _cleared(self, key: LeaseKey) -> None:
        """What an agent left that was killed: between its last word about a lease and forgetting it, or measuring."""
        await self._driver.cancel(key, EndReason.SUPERVISOR_LOST)
        while (await self._driver.observe([key]))[key].phase not in (Phase.ENDED, Phase.ABSENT):
            await asyncio.sleep(self._settings.sweep_ms / 1000)
        await self._driver.forget(key)

    def _remember(self, held: HeldLease, fresh: bool) -> Lease:
        due = asyncio.get_running_loop().time() + self._settings.usage_interval_ms / 1000
        lease = Lease(held, held.state, held.cancel, due, held.totals, LogSent(0 if fresh else None))
        if held.cancel:
            lease.stopped.set()
        self.leases[held.key] = lease
        return lease

    def accept(self, accepted: Iterable[HeldLease]) -> None:
        """Start leases that the spool has just taken."""
        for held in accepted:
            lease = self._remember(held, fresh=True)
            self._spawn(lease, partial(self._start, lease))

    async def cancel(self, key: LeaseKey, reason: EndReason) -> None:
        """Stop a lease; its end is reported like any other."""
        lease = self.leases.get(key)
        if lease is None or lease.cancel is not None or lease.state is LeaseState.ENDED:
            return
        lease.cancel = reason
        lease.stopped.set()
        if lease.submitted:
            await self._driver.cancel(key, reason)

    def forget(self, keys: Iterable[LeaseKey]) -> None:
        """The hub knows that these ended."""
        for key in keys:
            lease = self.leases.pop(key, None)
            if lease:
                self._parts.crash_point("runner.before_forget")
                self._spawn(lease, partial(self._forget, key))

    async def _forget(self, key: LeaseKey) -> None:
        await self._driver.forget(key)
        await self._parts.transfers.release(key)
        self._parts.checkpoints.forget(key)  # one that was fetched for a start that never came

    # --- start ------------------------------------------------------------------------------------------------------

    async def _start(self, lease: Lease) -> None:
        """Give it to the engine, or report why not. At another try it may be over already."""
        if lease.finishing:
            return
        try:
            files = await self._files(lease)
            data = await self._data(lease)
            secrets = await self._fetched(lease, "secrets", lambda: self._parts.secrets.get(lease.held.start)) or {}
            saved = await self._fetched(lease, "checkpoint", lambda: self._parts.checkpoints.fetch(lease.held.start))
            async with self._submits:
                late = self._parts.contact.silent_ms(lease.held.contact_ms) >= lease.held.start.disconnect_limit_ms
                if lease.cancel is None and late:
                    lease.cancel = EndReason.DISCONNECTED
                if lease.cancel is None:
                    start, notice_ms = lease.held.start, self._parts.lend.notice_ms
                    await self._driver.submit(
                        Job(start, lease.held.contact_ms, files, secrets, data, checkpoint=saved, notice_ms=notice_ms)
                    )
                    lease.submitted = True
                    self._parts.checkpoints.forget(lease.key)
        except (SpawnFailed, YunheError) as error:
            await self._end(lease, [Ended(lease.key, EndReason.SPAWN_FAILED, detail=str(error))])
            return
        except TransferFailed as failure:
            await self._end(lease, [Ended(lease.key, end_reason(failure), detail=failure.text)])
            return
        if lease.cancel is None:
            return
        if lease.submitted:  # the cancel came while the engine was being told
            await self._driver.cancel(lease.key, lease.cancel)
        else:
            await self._end(lease, [Ended(lease.key, lease.cancel, detail="stopped before it was started")])

    async def _files(self, lease: Lease) -> dict[str, str]:
        wanted = lease.held.start.bundle_sha256
        return (await self._fetched(lease, "files", lambda: self._parts.bundles.get(wanted)) or {}) if wanted else {}

    async def _fetched(self, lease: Lease, what: str, get: Callable[[], Awaitable[Fetched]]) -> Fetched | None:
        """What the job needs of the hub; one that is away is asked again until the disconnect limit or a cancel."""
        backoff = self._backoff()
        while lease.cancel is None:
            try:
                return await get()
            except (InvalidInput, NotFound, Refused):
                raise
            except YunheError as error:
                if self._parts.contact.silent_ms(lease.held.contact_ms) >= lease.held.start.disconnect_limit_ms:
                    lease.cancel = EndReason.DISCONNECTED
                log.warning("%s: its %s cannot be fetched: %s", lease.key, what, error)
                await backoff.wait()
        return None

    async def _data(self, lease: Lease) -> dict[str, Path]:
        """Its inputs, fetched; nothing more is fetched once it is cancelled. Raises TransferFailed."""
        start, transfers = lease.held.start, self._parts.transfers
        transfers.check(start)
        if not start.inputs or isinstance(self._driver, MovesData):
            return {}
        secrets: dict[str, bytes] = {}
        if any(item.secret for item in start.inputs):
            secrets = await self._fetched(lease, "secrets", lambda: self._parts.secrets.get(start)) or {}
        if lease.cancel is not None:  # without its secrets an input would look wrong
            return {}
        fetched = await self._unless_stopped(lease, transfers.fetch(start, secrets, self._progress(lease, "in")))
        if fetched is None:
            return {}
        self._recorder.record([Moved(lease.key, "in", fetched.files)])
        return fetched.places

    def _progress(self, lease: Lease, phase: Literal["in", "out"]) -> Progress:
        def tell(staged: Staged) -> None:
            if len(self._recorder.outbox) < MAX_BACKLOG:  # while the hub is away the newest word is enough, later
                self._recorder.record([staged])

        return Progress(lease.key, phase, tell, self._settings.data.report_ms)

    async def _unless_stopped(self, lease: Lease, work: Coroutine[object, object, Fetched]) -> Fetched | None:
        """The work's result, or None and an end of the work as soon as the lease is cancelled."""
        working = asyncio.ensure_future(work)
        stopped = asyncio.ensure_future(lease.stopped.wait())
        try:
            await asyncio.wait((working, stopped), return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else None
        finally:
            stopped.cancel()
            working.cancel()
            await asyncio.wait((working, stopped))

    # --- watch ------------------------------------------------------------------------------------------------------

    async def watch(self) -> None:
        """Ask the engine whenever it announces something, and about everything now and then. Until cancelled."""
        loop = asyncio.get_running_loop()
        sweep_s = self._settings.sweep_ms / 1000
        next_sweep = loop.time() + sweep_s
        while True:
            news = await self._driver.changed(max(1, int((next_sweep - loop.time()) * 1000)))
            keys = [key for key in news if key in self.leases]
            if loop.time() >= next_sweep:
                next_sweep = loop.time() + sweep_s
                keys = [lease.key for lease in self.leases.values() if lease.submitted and not lease.finishing]
                await self._stop_disconnected()
            for key, status in (await self._driver.observe(keys)).items():
                lease = self.leases.get(key)
                if lease:
                    self._handle(lease, status)

    async def _stop_disconnected(self) -> None:
        """Supervisors do this themselves; engines without them rely on it."""
        for lease in list(self.leases.values()):
            limit = lease.held.start.disconnect_limit_ms
            if not lease.finishing and self._parts.contact.silent_ms(lease.held.contact_ms) >= limit:
                await self.cancel(lease.key, EndReason.DISCONNECTED)

    def _handle(self, lease: Lease, status: Status) -> None:
        if lease.finishing or lease.state is LeaseState.ENDED:
            return
        if status.moving is not None and status.moving != lease.moving and len(self._recorder.outbox) < MAX_BACKLOG:
            lease.moving = status.moving
            self._recorder.record([Staged(lease.key, *status.moving)])
        if status.phase is Phase.STARTED:
            if lease.state is LeaseState.ACCEPTED:
                lease.state = LeaseState.STARTED
                self._recorder.record([Started(lease.key, status.started_utc_ms)])
            now = asyncio.get_running_loop().time()
            if status.totals and now >= lease.next_usage:
                lease.next_usage = now + self._settings.usage_interval_ms / 1000
                lease.totals = status.totals
                self._background.start(self._tell_use(lease, status.totals))
        elif status.phase is Phase.ENDED:
            lease.finishing = True
            self._spawn(lease, partial(self._finish, lease, status))
        elif status.phase is Phase.ABSENT and lease.submitted:
            self._lost(lease)

    async def _tell_use(self, lease: Lease, totals: UsageTotals) -> None:
        saved = await saved_ms(self._driver, lease.held.start)
        self._recorder.record([Used(lease.key, totals, final=False, saved_ms=saved)])

    # --- end --------------------------------------------------------------------------------------------------------

    def _lost(self, lease: Lease) -> None:
        """The engine has no trace of a lease that it was given."""
        lease.finishing = True
        self._spawn(lease, partial(self._finish, lease, lost(lease.state is LeaseState.STARTED, lease.totals)))

    async def _finish(self, lease: Lease, status: Status) -> None:
        """Everything the job left goes to the hub before the report of its end."""
        assert status.reason is not None
        start = lease.held.start
        if status.reason is EndReason.PREEMPTED:
            await self._finish_preempted(lease, status)
            return
        moved = await self._deliver(lease) if status.started and start.deliveries else ()
        notes = await self._parts.uploads.finish(start, lease.log, start.outputs if status.started else ())
        there = tuple(f"output {file.path}: " for file in moved if not file.problem)
        notes = [note for note in notes if not note.startswith(there)]  # too large for the hub, and where it belongs
        events: list[Event] = [Moved(lease.key, "out", moved)] if moved else []
        detail = "; ".join(part for part in (status.detail, *notes) if part)
        ended = Ended(lease.key, status.reason, status.exit_code, detail)
        await self._end(lease, [*events, *usage(lease.key, status), ended])

    async def _finish_preempted(self, lease: Lease, status: Status) -> None:
        """It goes on elsewhere: what it saved goes to the hub, and its outputs are not ready."""
        start, archive, notes = lease.held.start, None, []
        try:
            if status.started and status.totals:
                archive = await self._parts.checkpoints.pack(start, status.totals.wall_ms)
        except (YunheError, OSError) as error:
            notes.append(f"its checkpoint cannot be kept: {error}")
        self._parts.crash_point("runner.packed")
        notes += await self._parts.uploads.finish(start, lease.log, (), archive)
        self._parts.crash_point("runner.saved")
        kept = archive.told(start.epoch) if archive is not None and archive.delivered else None
        detail = "; ".join(part for part in (status.detail, *notes) if part)
        ended = Ended(lease.key, EndReason.PREEMPTED, status.exit_code, detail, kept)
        await self._end(lease, [*usage(lease.key, status), ended])
        self._parts.checkpoints.forget(lease.key)

    async def _deliver(self, lease: Lease) -> tuple[MovedFile, ...]:
        """Send the outputs that have a URL; what does not get there is told, and changes nothing about the end."""
        start = lease.held.start
        problem = "cancelled"
        try:
            sent = await self._unless_stopped(lease, self._parts.transfers.push(start, self._progress(lease, "out")))
        except (YunheError, OSError) as error:
            sent, problem = None, f"it cannot be read: {error}"[:200]
        await self._parts.transfers.abandon(start)
        return sent or tuple(MovedFile(path=item.path, problem=problem) for item in start.deliveries)

    async def _give_up(self, lease: Lease, broken: str) -> None:
        """The agent cannot go on with it: nothing of it may run, and its end says what broke. An engine that does not
        answer is asked for as long as it takes: until it does, nobody knows."""
        lease.finishing = True
        backoff, status = self._backoff(), None
        while status is None or status.phase not in (Phase.ENDED, Phase.ABSENT):
            try:
                await self._driver.cancel(lease.key, EndReason.SUPERVISOR_LOST)
                status = (await self._driver.observe([lease.key]))[lease.key]
            except Exception:
                log.exception("%s: the engine cannot be told to stop it", lease.key)
            await backoff.wait()
        status = status if status.phase is Phase.ENDED else lost(lease.state is LeaseState.STARTED, lease.totals)
        reason = EndReason.SUPERVISOR_LOST if status.started else EndReason.SPAWN_FAILED
        ended = Ended(lease.key, reason, detail=f"a mistake of this site's agent: {broken}")
        await self._end(lease, [*usage(lease.key, status), ended])

    async def _end(self, lease: Lease, events: list[Event]) -> None:
        lease.finishing = True
        await self._recorder.record(events)
        lease.state = LeaseState.ENDED

    # --- logs -------------------------------------------------------------------------------------------------------

    async def stream_logs(self) -> None:
        """New log text of running jobs, every now and then. Until cancelled."""
        gate = asyncio.Semaphore(LOG_PUSHES)

        async def push(lease: Lease) -> None:
            async with gate:
                try:
                    await self._parts.uploads.push_log(lease.key, lease.log)
                except YunheError as error:
                    log.info("%s: its log waits: %s", lease.key, error)

        while True:
            await asyncio.sleep(self._settings.log_interval_ms / 1000)
            running = [lease for lease in self.leases.values() if lease.state is LeaseState.STARTED]
            await asyncio.gather(*(push(lease) for lease in running if not lease.finishing))
