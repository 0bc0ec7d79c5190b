"""Jobs of a Slurm cluster, behind the contract that all drivers keep."""

import asyncio
import hashlib
import logging
import os
import pwd
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from yunhe.core.errors import Unavailable
from yunhe.core.lifecycle import EndReason
from yunhe.site import certify
from yunhe.site.background import Background
from yunhe.site.crash import CrashPoint, no_crash
from yunhe.site.drivers.contract import Isolation, Job, LeaseKey, Phase, SpawnFailed, Status
from yunhe.site.drivers.lease_dir import replace_text
from yunhe.site.drivers.nodes.folder import Evidence, LeaseFolder
from yunhe.site.drivers.nodes.leases import LeaseFolders
from yunhe.site.drivers.nodes.program import Program
from yunhe.site.drivers.nodes.verdict import Act, Stage, Verdict
from yunhe.site.drivers.slurm.accounting import Accounting
from yunhe.site.drivers.slurm.batches import Batches
from yunhe.site.drivers.slurm.client import Listing, SlurmClient
from yunhe.site.drivers.slurm.folder import StepFolder, remove
from yunhe.site.drivers.slurm.lookout import Lookout
from yunhe.site.drivers.slurm.plan import PROGRAM, Planner
from yunhe.site.drivers.slurm.sender import Sender
from yunhe.site.drivers.slurm.supply import NOTHING, Held, Node, SlurmPool, foreign, parse_nodes, pools
from yunhe.site.drivers.slurm.tenants import Tenants
from yunhe.site.drivers.slurm.verdict import Memory, explained, judge, rules, waits_for_word, with_word
from yunhe.site.settings import DriverSettings, SlurmSettings
from yunhe.wire.link import PoolDigest, PoolReport

log = logging.getLogger(__name__)
REAP_AFTER_S = 10.0  # a step that has written its end still has to leave


class SlurmDriver(LeaseFolders[StepFolder]):
    """`data_dir` holds `contact` (written by the agent). Nodes see the shared folder alone: `leases/`, `batches/`,
    `news/`, `programs/` and `beacon`."""

    def __init__(
        self,
        driver: DriverSettings,
        slurm: SlurmSettings,
        site_id: str,
        data_dir: Path,
        crash_point: CrashPoint = no_crash,
    ) -> None:
        self._driver, self._slurm = driver, slurm
        self._crash_point = crash_point
        self._data_dir = data_dir.absolute()
        shared = (self._slurm.shared_dir or self._data_dir).absolute()
        program = Program(shared / "programs", PROGRAM)
        super().__init__(shared, self._data_dir / "contact", slurm.news_ms, program, StepFolder)
        tag = hashlib.sha256(str(self._data_dir).encode()).hexdigest()[:12]
        self._client = SlurmClient(self._slurm, f"yunhe-site:{site_id}:{tag}")
        self._planner = Planner(driver, slurm, program, self._news.folder, self._beacon.path)
        self.python = self._planner.python  # as nodes see it: certification's programs run there
        self._tenants = Tenants.of(slurm, self._leases, self._data_dir / "tenants.json")
        self._batches = Batches(shared / "batches")
        self._sender = Sender(
            self._client, self._batches, self._planner, self._still_wanted, self._refused, crash_point
        )
        self._rules = rules(self._slurm, self._driver)
        self._pools: dict[str, SlurmPool] = {}
        self._learning = asyncio.Lock()
        self._memory: dict[LeaseKey, Memory] = {}
        self._ended: dict[LeaseKey, Status] = {}
        self._forgotten: dict[LeaseKey, float] = {}  # when, while Slurm still lists it
        self._accounting = Accounting(self._client, self._batches, self._slurm)
        self._lookout = Lookout(self._client, self._slurm, self._batches.members, self._reap)
        self._background = Background("the Slurm driver")

    # --- open and close -------------------------------------------------------------------------------------------

    async def open(self) -> Isolation:
        """The controller need not answer yet. Raises Unavailable without Slurm's commands, OSError for the folder."""
        version = await self._client.version()
        await asyncio.to_thread(self._prepare_folders)
        self._background.start(self._beacon.keep())
        self._background.start(self._sender.run())
        self._background.start(self._accounting.run())
        if self._tenants:
            if wrong := await asyncio.to_thread(self._tenants.try_one):
                log.warning("jobs of tenants cannot start: %s", wrong)
            return Isolation(1, f"Slurm {version}: {self._tenants.text}, memory sampled, no sandbox")
        user = pwd.getpwuid(os.geteuid()).pw_name
        return Isolation(0, f"Slurm {version}: all jobs as user {user}, memory sampled, no sandbox")

    def _prepare_folders(self) -> None:
        super()._prepare_folders()
        if self._tenants:
            self._tenants.open_way()
        self._batches.load(self._known())

    async def close(self) -> None:
        """Jobs go on."""
        await self._background.close()
        await self._lookout.close()
        await self._sender.close()

    # --- supply -----------------------------------------------------------------------------------------------------

    async def discover(self) -> tuple[PoolReport, ...]:
        """Partitions and GRES types. Raises Unavailable before the controller has ever answered."""
        kept = self._data_dir / "slurm-nodes"
        try:
            text = await self._client.nodes()
            nodes = parse_nodes(text)
            await asyncio.to_thread(replace_text, kept, text)
        except Unavailable as error:
            if not kept.exists():
                raise
            # Jobs need an agent that speaks for them, also while the controller is away.
            log.warning("the nodes of the last time are taken: %s", error)
            nodes = parse_nodes(await asyncio.to_thread(kept.read_text))
        self._take_up(nodes)
        return tuple(pool.report for pool in self._pools.values())

    def _take_up(self, nodes: Sequence[Node]) -> None:
        self._pools = {pool.report.name: pool for pool in pools(nodes, self._slurm, self._driver)}

    async def foreign(self) -> tuple[PoolDigest, ...]:
        """Raises Unavailable when the controller does not answer.

        A lease counts as ours when it ran just before or just after the nodes were asked: one that begins meanwhile is
        not taken for somebody else's.
        """
        before = self._lookout.running
        nodes = parse_nodes(await self._client.nodes())
        if not self._pools:
            self._take_up(nodes)
        await self._lookout.next()
        ours: dict[str, Held] = {}
        for key in before | self._lookout.running:
            memory = self._memory.get(key)
            if memory is None:  # forgotten: the hub does not count it any more
                continue
            if memory.slots == 0:
                await asyncio.to_thread(self._read_plan, key, memory)
            held = ours.get(memory.pool, NOTHING)
            ours[memory.pool] = Held(held.milli + memory.held.milli, held.memory_bytes + memory.held.memory_bytes)
        return foreign(tuple(self._pools.values()), nodes, ours, self._slurm)

    async def certify(self) -> tuple[PoolReport, ...]:
        """Pools of cores by a benchmark that runs as a job; cards keep their nominal rates."""
        reports = await self.discover()
        return tuple(
            [await certify.certify(self, report) if report.kind_of_unit == "core" else report for report in reports]
        )

    # --- jobs -------------------------------------------------------------------------------------------------------

    def _of(self, key: LeaseKey) -> Memory:
        return self._memory.setdefault(key, Memory())

    async def submit(self, job: Job) -> None:
        """Goes to Slurm within moments; `observe` tells what Slurm says, and what became of an earlier submit."""
        folder = self._folder(job.key)
        if await asyncio.to_thread(lambda: folder.prepared):
            return
        async with self._learning:
            if not self._pools:
                await self.discover()
        pool = self._pools.get(job.lease.pool)
        if pool is None:
            raise SpawnFailed(f"this site has no pool {job.lease.pool!r}")
        options = await asyncio.to_thread(self._prepare, job, pool, folder)
        self._crash_point("driver.prepared")
        self._sender.place(job.key, self._of(job.key), options)

    def _prepare(self, job: Job, pool: SlurmPool, folder: LeaseFolder) -> list[str]:
        account = self._tenants.account(job.lease.tenant) if self._tenants else None
        plan = self._planner.plan(job, pool, account)
        spec = self._planner.spec(job, pool, folder.path, account)
        try:
            folder.fill(spec, dict(plan), job)
        except OSError as error:
            raise SpawnFailed(f"the job's folder cannot be made: {error}") from error
        return plan["options"]

    def _still_wanted(self, keys: Sequence[LeaseKey]) -> list[LeaseKey]:
        """What was cancelled or forgotten before it went to Slurm does not go."""
        found = ((key, self._folder(key)) for key in keys)
        return [key for key, folder in found if folder.prepared and not folder.claimed]

    def _refused(self, key: LeaseKey, refusal: str) -> None:
        folder = self._folder(key)
        if folder.prepared and folder.seal(EndReason.SPAWN_FAILED, f"Slurm refuses it: {refusal}"):
            folder.announce(key)

    # --- what became of them ----------------------------------------------------------------------------------------

    async def observe(self, keys: Sequence[LeaseKey]) -> dict[LeaseKey, Status]:
        """One question to the controller, at most every `listing_interval_ms`; the rest is read from the disk."""
        open_keys = [key for key in keys if key not in self._ended]
        listing = await self._lookout.fresh() if open_keys else None
        found = await asyncio.to_thread(self._look, open_keys, listing)
        for key, (status, verdict) in found.items():
            if status.phase is Phase.ENDED:
                self._ended[key] = status
            elif verdict.act is not Act.NOTHING:
                await self._act(key, verdict)
        return {key: self._ended.get(key) or found[key][0] for key in keys}

    async def _reap(self, listing: Listing) -> None:
        """What Slurm still has of leases that are over, or of which nothing is known here.

        An element of an array that waits is left alone as long as another is wanted: it finds its lease sealed.
        """
        for key in self._forgotten.keys() - listing.jobs.keys():
            del self._forgotten[key]
        known = self._memory.keys() | self._ended.keys()
        if listing.jobs.keys() - known:
            known |= await self.known()
        wanted: set[str] = set()
        unwanted: set[str] = set(listing.strays)
        for key, jobs in listing.jobs.items():
            over = key not in known or key in self._ended
            late = listing.asked - (self._forgotten.get(key) or self._of_ended(key)) > REAP_AFTER_S
            for job in jobs:
                if not over and job.stage is not Stage.OVER:
                    wanted.add(job.batch)
                elif over and job.stage is Stage.WAITING:
                    unwanted.add(job.batch)
                elif over and job.stage is Stage.RUNNING and late:
                    self._sender.stop(job)
        for batch in unwanted - wanted:
            self._sender.cancel(batch)

    def _of_ended(self, key: LeaseKey) -> float:
        """When the end of the lease was seen, monotonic s; long ago for one that is not known."""
        memory = self._memory.get(key)
        return memory.ended_since or 0.0 if memory else 0.0

    def _look(self, keys: Iterable[LeaseKey], listing: Listing | None) -> dict[LeaseKey, tuple[Status, Verdict]]:
        return {key: self._look_at(key, listing) for key in keys}

    def _look_at(self, key: LeaseKey, listing: Listing | None) -> tuple[Status, Verdict]:
        folder, memory, now = self._folder(key), self._of(key), time.monotonic()
        evidence = folder.evidence()
        if memory.slots == 0 and evidence.prepared:
            self._read_plan(key, memory)
        if evidence.cancel and memory.cancelled_since is None:
            memory.notice = folder.notice_ms() / 1000
        memory.see(evidence, now)
        current = listing is not None and (memory.placed is None or listing.asked > memory.placed)
        jobs = listing.of(key) if listing is not None and current else None
        verdict = judge(evidence, memory, jobs, now, self._rules)
        if verdict.phase is Phase.ABSENT:
            self._memory.pop(key, None)
            return Status(Phase.ABSENT), verdict
        if verdict.phase is Phase.ENDED:
            return self._ended_status(folder, memory, evidence, listing, key), verdict
        phase = verdict.phase
        if phase is Phase.UNKNOWN and not evidence.claimed and listing is not None and not current:
            # The list is older than the submit: Slurm's acknowledgement is the newest word.
            phase = Phase.ACCEPTED if memory.acknowledged else Phase.UNKNOWN
        if phase is Phase.STARTED:
            if memory.status is None or memory.status_pulse != evidence.pulse:
                read = folder.status()  # an end that was written meanwhile is for the next look
                memory.status = Status(phase, True, read.started_utc_ms, read.totals)
                memory.status_pulse = evidence.pulse
            return memory.status, verdict
        return Status(phase, started=evidence.started), verdict

    def _read_plan(self, key: LeaseKey, memory: Memory) -> None:
        try:
            plan = self._folder(key).plan()
        except FileNotFoundError:  # forgotten meanwhile
            return
        memory.slots, memory.pool = plan["slots"], plan["pool"]
        memory.held = Held(plan["milli"], plan["memory_bytes"])

    def _ended_status(
        self, folder: LeaseFolder, memory: Memory, evidence: Evidence, listing: Listing | None, key: LeaseKey
    ) -> Status:
        """As recorded, with Slurm's word where it was Slurm that made the end."""
        status = folder.status()
        jobs = listing.of(key) if listing else ()
        waited = time.monotonic() - (memory.ended_since or 0)
        if waited < self._slurm.end_word_ms / 1000 and waits_for_word(evidence, memory, listing, jobs):
            return Status(Phase.UNKNOWN, started=status.started)
        return with_word(status, jobs)

    async def _act(self, key: LeaseKey, verdict: Verdict) -> None:
        folder = self._folder(key)
        memory = self._of(key)
        if verdict.act is Act.PLACE and not memory.placing:
            log.warning("%s: Slurm has lost it, it is submitted again", key)
            self._sender.place(key, memory, (await asyncio.to_thread(folder.plan))["options"])
        elif verdict.act is Act.SEAL:
            await asyncio.to_thread(self._seal, key, folder, verdict)
        elif verdict.act is Act.LOSE:
            if verdict.unexplained and self._accounting.waits(key):
                return
            account = self._accounting.word(key) if verdict.unexplained else None
            verdict = explained(account) if account else verdict
            await asyncio.to_thread(folder.lose, verdict.reason, verdict.detail, account.ran_ms if account else None)
            await asyncio.to_thread(folder.announce, key)
        elif verdict.act is Act.STOP:
            memory.cancelled_since = time.monotonic()
            for job in self._lookout.running_of(key):
                self._sender.stop(job)

    def _seal(self, key: LeaseKey, folder: LeaseFolder, verdict: Verdict) -> None:
        said = "; ".join(text for text in (verdict.detail, self._batches.said(key), folder.said()) if text)
        if folder.seal(verdict.reason, said):
            folder.announce(key)

    async def cancel(self, key: LeaseKey, reason: EndReason) -> None:
        """A job that waits never starts, whether Slurm cancels it or not; one that runs is told by a link."""
        if not await asyncio.to_thread(self._stop_folder, key, reason):
            return
        self._ended[key] = await asyncio.to_thread(self._folder(key).status)
        for batch in self._batches.names(key):
            if all(other in self._ended for other in self._batches.members(batch)):
                self._sender.cancel(batch)

    async def forget(self, key: LeaseKey) -> None:
        """Its folder goes first: without it no step starts, and one that runs after all stops."""
        self._ended.pop(key, None)
        self._memory.pop(key, None)
        self._accounting.forget(key)
        self._forgotten[key] = time.monotonic()
        await asyncio.to_thread(self._remove, key)

    def _remove(self, key: LeaseKey) -> None:
        folder = self._folder(key)
        remove(folder.path, folder.become())
        self._batches.forget(key)
