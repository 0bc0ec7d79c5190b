"""Jobs of a Ray cluster, behind the contract that all drivers keep."""

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from yunhe.core.errors import Unavailable
from yunhe.core.lifecycle import EndReason
from yunhe.site import certify
from yunhe.site.background import Background
from yunhe.site.crash import CrashPoint, no_crash
from yunhe.site.drivers.contract import Isolation, Job, LeaseKey, Phase, SpawnFailed, Status
from yunhe.site.drivers.lease_dir import remove_tree, replace_text
from yunhe.site.drivers.nodes.folder import LeaseFolder
from yunhe.site.drivers.nodes.leases import LeaseFolders
from yunhe.site.drivers.nodes.program import Program
from yunhe.site.drivers.nodes.verdict import Act, Listed, Memory, Rules, Stage, Verdict, judge
from yunhe.site.drivers.ray.client import Listing, RayClient
from yunhe.site.drivers.ray.plan import Planner
from yunhe.site.drivers.ray.supply import RayPool, foreign, missing, parse_nodes, pools
from yunhe.site.settings import DriverSettings, RaySettings
from yunhe.wire.link import PoolDigest, PoolReport

log = logging.getLogger(__name__)
CALLS = 8  # of submit, stop and delete at a time
LISTING_WAIT_S = 2.0  # a look at leases does not wait longer for Ray
REAP_AFTER_S = 10.0  # what ended in our records still has to leave Ray
PULSES = 3  # a supervisor that missed so many writes of its use shows no sign of life


class RayDriver(LeaseFolders[LeaseFolder]):
    """`data_dir` holds `contact` (written by the agent). Nodes see the shared folder alone: `leases/`, `news/`,
    `programs/` and `beacon`."""

    def __init__(
        self,
        driver: DriverSettings,
        ray: RaySettings,
        site_id: str,
        data_dir: Path,
        crash_point: CrashPoint = no_crash,
    ) -> None:
        self._driver, self._ray = driver, ray
        self._crash_point = crash_point
        self._data_dir = data_dir.absolute()
        shared = (ray.shared_dir or self._data_dir).absolute()
        program = Program(shared / "programs")
        super().__init__(shared, self._data_dir / "contact", ray.news_ms, program, LeaseFolder)
        tag = hashlib.sha256(f"{site_id}:{self._data_dir}".encode()).hexdigest()[:12]
        self._client = RayClient(ray, tag)
        self._planner = Planner(driver, ray, program, self._news.folder, self._beacon.path)
        self.python = self._planner.python  # as nodes see it: certification's programs run there
        self._rules = Rules(
            engine="Ray",
            pulse=PULSES * driver.usage_write_ms / 1000,
            vanished=ray.vanished_ms / 1000,
            start=ray.start_ms / 1000,
            lost=ray.lost_ms / 1000,
            cancel_hard=(driver.term_grace_ms + ray.cancel_hard_ms) / 1000,
            tries=ray.submit_tries,
        )
        self._pools: dict[str, RayPool] = {}
        self._offered: tuple[PoolReport, ...] = ()  # when it was last discovered
        self._memory: dict[LeaseKey, Memory] = {}
        self._ended: dict[LeaseKey, Status] = {}
        self._over: dict[LeaseKey, float] = {}  # when its end was seen, or it was forgotten; while Ray lists it
        self._listing: Listing | None = None
        self._asked = float("-inf")
        self._asking: asyncio.Task[None] | None = None
        self._calls = asyncio.Semaphore(CALLS)
        self._background = Background("the Ray driver")

    # --- open and close -------------------------------------------------------------------------------------------

    async def open(self) -> Isolation:
        """Ray need not answer yet. Raises OSError for the shared folder."""
        await asyncio.to_thread(self._prepare_folders)
        self._background.start(self._beacon.keep())
        return Isolation(0, "Ray: all jobs as Ray's user, memory sampled, no sandbox")

    async def close(self) -> None:
        """Jobs go on."""
        await self._background.close()
        await self._client.close()

    # --- supply -----------------------------------------------------------------------------------------------------

    async def discover(self) -> tuple[PoolReport, ...]:
        """Cores and cards of the nodes that are there. Raises Unavailable before Ray has ever answered."""
        kept = self._data_dir / "ray-nodes"
        try:
            listed = await self._client.nodes()
            await asyncio.to_thread(replace_text, kept, json.dumps(listed))
        except Unavailable as error:
            if not kept.exists():
                raise
            # Jobs need an agent that speaks for them, also while Ray is away.
            log.warning("the nodes of the last time are taken: %s", error)
            listed = json.loads(await asyncio.to_thread(kept.read_text))
        self._take_up(listed)
        self._offered = tuple(pool.report for pool in self._pools.values())
        return self._offered

    def _take_up(self, listed: Sequence[object]) -> None:
        nodes = parse_nodes(listed, self._ray.lent)
        self._pools = {pool.report.name: pool for pool in pools(nodes, self._ray, self._driver)}

    async def foreign(self) -> tuple[PoolDigest, ...]:
        """What other jobs and actors of the cluster hold. Ray's figures are up to 5 s old. Raises Unavailable."""
        self._take_up(await self._client.nodes())
        taken_utc_ms, usage = await self._client.usage()
        found = tuple(self._pools.values())
        held = foreign(found, usage, taken_utc_ms, await self._client.listing())
        return tuple(missing(self._offered, held, found)) or held

    async def certify(self) -> tuple[PoolReport, ...]:
        """By benchmarks that run as jobs. Cards that cannot be measured so keep their nominal rates."""
        return tuple([await self._certified(report) for report in await self.discover()])

    async def _certified(self, report: PoolReport) -> PoolReport:
        if report.kind_of_unit == "core":
            return await certify.certify(self, report)
        if report.stack == "unknown":
            return report
        try:
            return await certify.certify(self, report)
        except Unavailable as error:
            log.warning("the cards of pool %s are not measured: %s", report.name, error)
            return report

    # --- jobs -------------------------------------------------------------------------------------------------------

    def _of(self, key: LeaseKey) -> Memory:
        return self._memory.setdefault(key, Memory())

    async def submit(self, job: Job) -> None:
        """A lease whose folder is there was given to Ray before, perhaps: `observe` finds out."""
        folder = self._folder(job.key)
        if await asyncio.to_thread(lambda: folder.prepared):
            return
        if not self._pools:
            await self.discover()
        pool = self._pools.get(job.lease.pool)
        if pool is None:
            raise SpawnFailed(f"this site has no pool {job.lease.pool!r}")
        await asyncio.to_thread(self._prepare, job, pool, folder)
        self._crash_point("driver.prepared")
        refusal = await self._place(job.key)
        self._crash_point("driver.launched")
        if refusal:
            self._memory.pop(job.key, None)
            # Without its folder nothing of it can start, whatever Ray may still make of the request.
            await asyncio.to_thread(remove_tree, folder.path)
            raise SpawnFailed(f"Ray refuses it: {refusal}")

    def _prepare(self, job: Job, pool: RayPool, folder: LeaseFolder) -> None:
        request = self._planner.request(job, pool, folder.path)
        spec = self._planner.spec(job, pool, folder.path)
        try:
            folder.fill(spec, request, job)
        except OSError as error:
            raise SpawnFailed(f"the job's folder cannot be made: {error}") from error

    async def _place(self, key: LeaseKey) -> str:
        """Ask for the job; why it is refused, or nothing. Without a clear answer it is looked for by its id."""
        memory, folder = self._of(key), self._folder(key)
        memory.placing = True
        memory.tries += 1
        try:
            request = await asyncio.to_thread(folder.plan)
            async with self._calls:
                submitted = await self._client.submit(key, request)
            self._crash_point("driver.asked")
            memory.acknowledged = memory.acknowledged or submitted.known
        finally:
            memory.placing = False
            memory.placed = time.monotonic()
            memory.missed_since = None
        return submitted.refusal

    # --- what became of them ----------------------------------------------------------------------------------------

    async def observe(self, keys: Sequence[LeaseKey]) -> dict[LeaseKey, Status]:
        """One question to Ray, at most every `listing_interval_ms`; the rest is read from the disk."""
        open_keys = [key for key in keys if key not in self._ended]
        listing = await self._fresh_listing() if open_keys else None
        found = await asyncio.to_thread(self._look, open_keys, listing)
        for key, (status, verdict) in found.items():
            if status.phase is Phase.ENDED:
                self._ended[key] = status
                self._over[key] = time.monotonic()
            elif verdict.act is not Act.NOTHING:
                await self._act(key, verdict)
        return {key: self._ended.get(key) or found[key][0] for key in keys}

    async def _fresh_listing(self) -> Listing | None:
        """The newest list that there is within `LISTING_WAIT_S`; None when none is new enough to say anything."""
        now = time.monotonic()
        due = now - self._asked >= self._ray.listing_interval_ms / 1000
        if due and (self._asking is None or self._asking.done()):
            self._asked = now
            self._asking = self._background.start(self._ask())
        if self._asking is not None:
            await asyncio.wait({self._asking}, timeout=LISTING_WAIT_S)
        listing = self._listing
        if listing is None or time.monotonic() - listing.asked > self._ray.listing_valid_ms / 1000:
            return None
        return listing

    async def _ask(self) -> None:
        try:
            self._listing = await self._client.listing()
        except Unavailable as error:
            if self._listing is not None:
                log.warning("Ray cannot be asked: %s", error)
            self._listing = None
            return
        await self._reap(self._listing)

    async def _reap(self, listing: Listing) -> None:
        """What Ray still has of leases that are over, or of which nothing is known here."""
        known = await self.known()
        for key in self._over.keys() - listing.jobs.keys() - known:
            del self._over[key]
        for key, job in listing.jobs.items():
            if key in known and key not in self._ended:
                continue
            if listing.asked - self._over.get(key, float("-inf")) < REAP_AFTER_S:
                continue
            self._over[key] = listing.asked  # Ray takes its time; it is not asked again at once
            if job.stage in (Stage.WAITING, Stage.RUNNING):
                self._background.start(self._stop(key))
            elif job.stage is Stage.OVER and key not in known:
                self._background.start(self._delete(key))

    def _look(self, keys: Iterable[LeaseKey], listing: Listing | None) -> dict[LeaseKey, tuple[Status, Verdict]]:
        return {key: self._look_at(key, listing) for key in keys}

    def _look_at(self, key: LeaseKey, listing: Listing | None) -> tuple[Status, Verdict]:
        folder, memory, now = self._folder(key), self._of(key), time.monotonic()
        evidence = folder.evidence()
        if evidence.cancel and memory.cancelled_since is None:
            memory.notice = folder.notice_ms() / 1000
        memory.see(evidence, now)
        current = listing is not None and (memory.placed is None or listing.asked > memory.placed)
        job = listing.jobs.get(key) if listing is not None and current else None
        listed = None if not current else Listed(job.stage, job.word) if job else Listed(Stage.MISSING)
        verdict = judge(evidence, memory, listed, now, self._rules)
        if verdict.phase is Phase.ABSENT:
            self._memory.pop(key, None)
            return Status(Phase.ABSENT), verdict
        if verdict.phase is Phase.ENDED:
            return _with_word(folder.status(), listed), verdict
        phase = verdict.phase
        if phase is Phase.UNKNOWN and not evidence.claimed and listing is not None and not current:
            # The list is older than the submit: Ray's acknowledgement is the newest word.
            phase = Phase.ACCEPTED if memory.acknowledged else Phase.UNKNOWN
        if phase is Phase.STARTED:
            if memory.status is None or memory.status_pulse != evidence.pulse:
                read = folder.status()  # an end that was written meanwhile is for the next look
                memory.status = Status(phase, True, read.started_utc_ms, read.totals)
                memory.status_pulse = evidence.pulse
            return memory.status, verdict
        return Status(phase, started=evidence.started), verdict

    async def _act(self, key: LeaseKey, verdict: Verdict) -> None:
        folder = self._folder(key)
        if verdict.act is Act.PLACE:
            self._background.start(self._place_again(key))
        elif verdict.act is Act.SEAL:
            await asyncio.to_thread(self._seal, key, folder, verdict)
        elif verdict.act is Act.LOSE:
            await asyncio.to_thread(folder.lose, verdict.reason, verdict.detail)
            await asyncio.to_thread(folder.announce, key)
        else:
            self._of(key).cancelled_since = time.monotonic()
            self._background.start(self._stop(key))

    def _seal(self, key: LeaseKey, folder: LeaseFolder, verdict: Verdict) -> None:
        said = folder.said()
        if folder.seal(verdict.reason, f"{verdict.detail}; {said}" if said else verdict.detail):
            folder.announce(key)

    async def _place_again(self, key: LeaseKey) -> None:
        memory = self._of(key)
        if memory.placing:
            return
        log.warning("%s: Ray has lost it, it is submitted again", key)
        refusal = await self._place(key)
        if refusal:
            verdict = Verdict(Phase.UNKNOWN, Act.SEAL, EndReason.SPAWN_FAILED, f"Ray refuses it: {refusal}")
            await self._act(key, verdict)

    async def _stop(self, key: LeaseKey) -> None:
        try:
            async with self._calls:
                await self._client.stop(key)
        except Unavailable as error:  # the supervisor sees the link, and what is left over is reaped later
            log.warning("%s: %s", key, error)

    async def _delete(self, key: LeaseKey) -> None:
        try:
            async with self._calls:
                await self._client.delete(key)
        except Unavailable as error:  # it is listed again
            log.warning("%s: %s", key, error)

    async def cancel(self, key: LeaseKey, reason: EndReason) -> None:
        """A job that waits never starts; one that runs is told by a link, which its supervisor soon sees."""
        if await asyncio.to_thread(self._stop_folder, key, reason):
            self._background.start(self._stop(key))

    async def forget(self, key: LeaseKey) -> None:
        """Its folder goes first: without it nothing starts, and what runs after all stops."""
        self._ended.pop(key, None)
        self._memory.pop(key, None)
        self._over[key] = time.monotonic()
        path = self._folder(key).path
        if await asyncio.to_thread(path.exists):
            await asyncio.to_thread(remove_tree, path)


def _with_word(status: Status, listed: Listed | None) -> Status:
    """Ray's own word, where it was Ray that made the end."""
    if status.reason is not EndReason.SUPERVISOR_LOST or listed is None or listed.stage is not Stage.OVER:
        return status
    return replace(status, detail="; ".join(text for text in (status.detail, listed.words) if text)[:400])
