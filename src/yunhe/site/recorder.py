"""The agent's one way to its spool: a thread of its own, transactions shared by whatever queued meanwhile."""

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from yunhe.core.errors import StorageFull
from yunhe.site.drivers.contract import LeaseKey
from yunhe.site.spool import Applied, Event, HeldLease, Marks, Spool
from yunhe.wire.link import MAX_REPORTS_PER_SYNC, MAX_SYNC_BYTES, Certificate, LeaseMoved, Proof, Report

log = logging.getLogger(__name__)
Result = TypeVar("Result")
FULL_PAUSE_S = 1.0
LARGE = (Certificate, Proof, LeaseMoved)  # of all others as many as a poll may have fit into it
LARGE_BYTES = MAX_SYNC_BYTES // 4  # of those in one poll, unless it is a single one


class Recorder:
    """`outbox` is what the hub has not acknowledged, in order; `news` is set when something was put there."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._thread = ThreadPoolExecutor(1, "spool")
        self._queue: asyncio.Queue[tuple[Sequence[Event], asyncio.Future[None]]] = asyncio.Queue()
        self._order = asyncio.Lock()  # commits and the outbox in one order
        self.outbox: deque[Report] = deque()
        self.news = asyncio.Event()
        self.full = False
        self.marks = Marks()

    async def open(self) -> list[HeldLease]:
        await self._call(self._spool.open)
        self.outbox.extend(await self._call(self._spool.unsent))
        self.marks = await self._call(self._spool.marks)
        return await self._call(self._spool.leases)

    async def close(self) -> None:
        await self._call(self._spool.close)
        self._thread.shutdown()

    async def _call(self, function: Callable[..., Result], *args: object) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *args)

    async def run(self) -> None:
        """Write what is recorded, until cancelled."""
        while True:
            batch = [await self._queue.get()]
            while not self._queue.empty():
                batch.append(self._queue.get_nowait())
            events = [event for part, _ in batch for event in part]
            await self._until_written(events)
            for _, done in batch:
                if not done.done():
                    done.set_result(None)

    async def _until_written(self, events: Sequence[Event]) -> None:
        """A full disk delays the report and loses nothing: what happened can still be read from the engine."""
        while True:
            try:
                async with self._order:
                    self._add(await self._call(self._spool.record, events))
                self.full = False
                return
            except StorageFull as error:
                self._note_full(error)
                await asyncio.sleep(FULL_PAUSE_S)

    def _note_full(self, error: StorageFull) -> None:
        if not self.full:
            log.error("%s", error)
            self.full = True
            self.news.set()

    def _add(self, reports: Sequence[Report]) -> None:
        if reports:
            self.outbox.extend(reports)
            self.news.set()

    def record(self, events: Sequence[Event]) -> asyncio.Future[None]:
        """Done when the events are durable and their reports are in the outbox."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((events, done))
        return done

    async def apply(self, applied: Applied) -> None:
        """Raises StorageFull, and then nothing of the batch was taken."""
        try:
            async with self._order:
                self._add(await self._call(self._spool.apply, applied))
                self.marks = await self._call(self._spool.marks)
        except StorageFull as error:
            self._note_full(error)
            raise

    async def certificate(self, certificate: Certificate, certify_seq: int) -> None:
        async with self._order:
            self._add([await self._call(self._spool.record_certificate, certificate, certify_seq)])
            self.marks = await self._call(self._spool.marks)

    async def proof(self, proof: Proof) -> None:
        async with self._order:
            self._add([await self._call(self._spool.record_proof, proof)])

    async def count_start(self) -> None:
        await self._call(self._spool.count_start)
        self.marks = await self._call(self._spool.marks)

    async def note_epoch(self, spoken: int, heard: int) -> None:
        await self._call(self._spool.note_epoch, spoken, heard)
        self.marks = await self._call(self._spool.marks)

    async def welcome(self, hub_seq: int) -> None:
        """The hub has stored reports up to `hub_seq`."""
        if hub_seq > self.marks.report_seq:
            log.warning("the hub has stored report %d, this spool made %d", hub_seq, self.marks.report_seq)
            await self._call(self._spool.skip_reports, hub_seq)

    def next_reports(self) -> list[Report]:
        """The oldest that fit into one poll: the hub would refuse a larger one for ever."""
        found: list[Report] = []
        large = 0
        for report in itertools.islice(self.outbox, MAX_REPORTS_PER_SYNC):
            if isinstance(report, LARGE):
                large += len(report.model_dump_json())
                if found and large > LARGE_BYTES:
                    break
            found.append(report)
        return found

    def stored(self, report_seq: int) -> bool:
        """Take reports that the hub has stored out of the outbox; True when there were any."""
        before = len(self.outbox)
        while self.outbox and self.outbox[0].seq <= report_seq:
            self.outbox.popleft()
        return len(self.outbox) < before

    async def acknowledge(self, report_seq: int) -> list[LeaseKey]:
        """Leases whose end the hub has stored."""
        try:
            return await self._call(self._spool.acknowledge, report_seq)
        except StorageFull as error:  # the rows stay, and are acknowledged again later
            self._note_full(error)
            return []

    async def room_again(self) -> bool:
        """After a full disk: is there room for work again?"""
        return await self._call(self._spool.refill_reserve)
