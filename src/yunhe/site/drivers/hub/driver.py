"""A hub as the engine of a site, behind the contract that all drivers keep.

submit    one order below per lease epoch, by its Idempotency-Key; without an answer it is said again
observe   one look at all open orders together, at most every `look_interval_ms`
cancel    noted here first, then said below until it was heard
forget    nothing is deleted below, only this site's own record
"""

import asyncio
import logging
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from yunhe.core.errors import Conflict, NotFound, Unavailable, YunheError
from yunhe.core.lifecycle import PLACED, EndReason
from yunhe.site.background import Background
from yunhe.site.crash import CrashPoint, no_crash
from yunhe.site.drivers.contract import Isolation, Job, LeaseKey, Output, Phase, SpawnFailed, Status
from yunhe.site.drivers.hub import delivery, passing, states, supply
from yunhe.site.drivers.hub.around import Around
from yunhe.site.drivers.hub.lower import LowerHub
from yunhe.site.drivers.hub.records import Order, Record, Shelf
from yunhe.site.drivers.hub.upper import Upper
from yunhe.site.link import Backoff
from yunhe.site.settings import LowerHubSettings
from yunhe.wire.api import Follow, LookView, OrderSpec
from yunhe.wire.link import MovedFile, PoolDigest, PoolReport

log = logging.getLogger(__name__)
MIN_SILENCE_MS, USUAL_SILENCE_MS = 1_000, 300_000
LOOK_WAIT_S = 2.0  # a look at leases does not wait longer for the lower hub


@dataclass(slots=True)
class Passed:
    """One lease that was taken, in this process's memory."""

    record: Record
    order: Order
    order_id: str = ""
    cancel: EndReason | None = None
    view: LookView | None = None
    missing: float | None = None  # since when the lower hub does not know an order that it said yes to, monotonic s
    spec: OrderSpec | None = None  # with its secrets, until the lower hub has them
    status: Status | None = None  # its end, which does not change any more
    outputs: delivery.Outputs | None = None
    talk: asyncio.Task[None] | None = None  # submitting it again, or taking it back
    began: float = field(default_factory=time.monotonic)  # when this process took it up


class HubDriver:
    """`data_dir` holds `passed/`, one folder per lease, and what the lower hub offered last."""

    gives_network = False  # but where the pools below say so
    python = "python3"  # of the sites below: certification's programs run there, as orders

    def __init__(
        self, settings: LowerHubSettings, upper: Upper, data_dir: Path, crash_point: CrashPoint = no_crash
    ) -> None:
        self._settings = settings
        self.delivers_secrets = settings.deliver_secrets
        self._site_id = upper.site_id
        self._lower = LowerHub(settings)
        self._around = Around(settings, self._lower, upper, data_dir.absolute())
        self._crash_point = crash_point
        self._shelf = Shelf(data_dir.absolute() / "passed")
        self._passed: dict[LeaseKey, Passed] = {}
        self._looked = float("-inf")  # when the newest answer was asked for, monotonic s
        self._asked = float("-inf")
        self._away = False
        self._took = 0.0  # s, the last look: with ten thousand orders it is not taken back to back
        self._asking: asyncio.Task[None] | None = None
        self._news: set[LeaseKey] = set()
        self._bell = asyncio.Event()
        self._background = Background("the hub driver")

    # --- open and close -------------------------------------------------------------------------------------------

    async def open(self) -> Isolation:
        """The lower hub need not answer if it has before. Raises Unavailable, Refused for a circle, OSError."""
        await self._around.open()
        for key, passed in (await asyncio.to_thread(self._load)).items():
            self._passed[key] = passed
            if passed.status is None and not passed.order_id:
                self._talk(passed, self._insist(key, passed))
            elif passed.status is None and passed.cancel is not None:  # noted, and perhaps not said
                self._talk(passed, self._take_back(key, passed))
        await self._fresh_look()  # the lower hub knows this site before its first order there
        self._background.start(self._keep_looking())
        tier = supply.tier(list(self._around.offered.values()), self._settings)
        return Isolation(tier, f"orders at {self._around.ends.lower}, held by its sites, each of tier {tier} or more")

    def _load(self) -> dict[LeaseKey, Passed]:
        self._shelf.prepare()
        found = {}
        for key, record in self._shelf.all():
            order = record.order()
            if order is None:
                record.remove()
                continue
            passed = Passed(record, order, record.placed, record.cancel)
            if why := record.refused:
                passed.status = _refused(why)
            found[key] = passed
        return found

    async def close(self) -> None:
        """Orders below go on."""
        await self._background.close()
        self._lower.close()

    # --- supply -----------------------------------------------------------------------------------------------------

    async def discover(self) -> tuple[PoolReport, ...]:
        """The lower hub's pools, by their names. Raises Refused for a circle, Unavailable before any first answer."""
        return tuple([supply.nominal(one.report) for one in await self._around.now()])

    async def certify(self) -> tuple[PoolReport, ...]:
        """As the lower hub certified them, with its dates: it has measured them at its own sites."""
        return tuple([one.report for one in await self._around.certify()])

    async def foreign(self) -> tuple[PoolDigest, ...]:
        ours: dict[str, tuple[int, int]] = {}
        for passed in self._passed.values():
            if passed.status is None and passed.view is not None and passed.view.task.state in PLACED:
                milli, memory = ours.get(passed.order.pool, (0, 0))
                ours[passed.order.pool] = (milli + passed.order.milli, memory + passed.order.memory_bytes)
        return await self._around.foreign(ours)

    # --- submit and cancel ------------------------------------------------------------------------------------------

    async def submit(self, job: Job) -> None:
        """Without a clear answer the order is said again, under the same key, until there is one."""
        if job.key in self._passed:
            return
        if sum(1 for passed in self._passed.values() if passed.status is None) >= self._settings.max_open:
            raise SpawnFailed(f"this site passes down at most {self._settings.max_open} orders at once")
        lease, upper = job.lease, self._around.ends.upper
        pool = passing.check(job, self._around.offered.get(lease.pool), self._settings)
        try:
            spec = passing.order_of(job, pool, upper, self._settings)
        except YunheError as error:
            raise SpawnFailed(f"it cannot be passed down: {error}") from error
        order = Order(
            key=passing.key_of(passing.tag_of(upper, self._site_id), job.key),
            spec=spec.model_dump_json(exclude_none=True),
            pool=lease.pool,
            milli=lease.slots * lease.slot_milli,
            memory_bytes=lease.slots * lease.slot_memory_bytes,
            silence_ms=lease.disconnect_limit_ms,
            made_utc_ms=time.time_ns() // 1_000_000,
            secret=bool(job.secrets),
        )
        passed = self._passed[job.key] = Passed(self._shelf.of(job.key), order, spec=spec if order.secret else None)
        if time.monotonic() - self._looked > self._settings.look_valid_ms / 1000:
            await self._fresh_look()  # the lower hub may think that this site is gone, which had nothing to look at
        try:
            await asyncio.to_thread(passed.record.begin, order)
            self._crash_point("driver.prepared")
            await self._place(job.key, passed)
        except Unavailable as error:
            log.info("%s: the lower hub has not answered its order: %s", job.key, error)
            self._talk(passed, self._insist(job.key, passed))
        except (YunheError, OSError) as error:
            del self._passed[job.key]
            await asyncio.to_thread(passed.record.remove)
            raise SpawnFailed(f"the lower hub refuses it: {error}") from error

    async def _place(self, key: LeaseKey, passed: Passed) -> None:
        passed.order_id = await self._lower.submit(passed.spec or passed.order.message(), passed.order.key)
        passed.spec = None
        self._crash_point("driver.asked")
        await asyncio.to_thread(passed.record.note_placed, passed.order_id)
        self._crash_point("driver.launched")
        if passed.cancel is not None:  # it came meanwhile
            self._talk(passed, self._take_back(key, passed))

    def _talk(self, passed: Passed, work: Coroutine[object, object, None]) -> None:
        passed.talk = self._background.start(work)

    async def _insist(self, key: LeaseKey, passed: Passed) -> None:
        """Until the lower hub has said yes or no to an order that it may or may not have."""
        backoff = Backoff(self._settings.retry_first_ms, self._settings.retry_cap_ms)
        while not passed.order_id and passed.status is None:
            try:
                # An order that it has already is not judged anew: prices may have changed since.
                known = await self._lower.look([passed.order.key], self._follow())
                if view := known.get(passed.order.key):
                    passed.order_id = view.order.id
                    await asyncio.to_thread(passed.record.note_placed, passed.order_id)
                    if passed.cancel is not None:
                        self._talk(passed, self._take_back(key, passed))
                elif not passed.order.secret or passed.spec is not None:
                    await self._place(key, passed)
                elif time.monotonic() - passed.began > 2 * self._settings.request_timeout_ms / 1000:
                    await self._unsaid(key, passed)
                else:
                    await backoff.wait()
            except Unavailable:
                await backoff.wait()
            except YunheError as error:
                why = f"the lower hub refuses it: {error}"
                await asyncio.to_thread(passed.record.note_refused, why)
                passed.status = _refused(why)
                self._announce(key)

    async def _unsaid(self, key: LeaseKey, passed: Passed) -> None:
        """Its secrets were in the memory of a process that is gone. What that one sent has come to the lower hub by
        now, or never does: the lease was never submitted, unless it is cancelled anyway."""
        if passed.cancel is not None:
            passed.status = Status(Phase.ENDED, reason=passed.cancel, detail="stopped before it was passed down")
        else:
            # Its folder first: as soon as the lease is not known here it may be submitted again.
            await asyncio.to_thread(passed.record.remove)
            self._passed.pop(key, None)
            passed.status = Status(Phase.ABSENT)
        self._announce(key)

    async def cancel(self, key: LeaseKey, reason: EndReason) -> None:
        passed = self._passed.get(key)
        if passed is None or passed.status is not None or passed.cancel is not None:
            return
        passed.cancel = reason
        await asyncio.to_thread(passed.record.note_cancel, reason)
        if passed.order_id:
            self._talk(passed, self._take_back(key, passed))

    async def _take_back(self, key: LeaseKey, passed: Passed) -> None:
        """Say it until it was heard. What has ended already has its end told by the next look."""
        backoff = Backoff(self._settings.retry_first_ms, self._settings.retry_cap_ms)
        while passed.status is None:
            try:
                await self._lower.cancel(passed.order_id)
            except (Conflict, NotFound):
                pass
            except YunheError as error:
                log.info("%s: cannot be taken back yet: %s", key, error)
                await backoff.wait()
                continue
            self._announce(key)
            return

    # --- what became of them ----------------------------------------------------------------------------------------

    async def observe(self, keys: Sequence[LeaseKey]) -> dict[LeaseKey, Status]:
        """One look at all of them, at most every `look_interval_ms`; UNKNOWN while the lower hub does not answer."""
        if any((passed := self._passed.get(key)) and passed.status is None for key in keys):
            await self._fresh_look()
        return {key: self._status(key) for key in keys}

    def _status(self, key: LeaseKey) -> Status:
        passed = self._passed.get(key)
        if passed is None:
            return Status(Phase.ABSENT)
        if passed.status is not None:
            return passed.status
        now, valid_s = time.monotonic(), self._settings.look_valid_ms / 1000
        if now - self._looked > valid_s:
            return Status(Phase.UNKNOWN)
        if passed.missing is not None:
            return Status(Phase.ABSENT if now - passed.missing > valid_s else Phase.UNKNOWN)
        if passed.view is None:
            # Right after the submit the lower hub's yes is the newest word.
            return Status(Phase.ACCEPTED if passed.order_id else Phase.UNKNOWN)
        status, take_back = states.seen(passed.view, passed.cancel)
        if status.phase is Phase.ENDED:
            passed.status = status
        idle = passed.talk is None or passed.talk.done()
        if idle and (take_back or self._late(passed, status)):
            if not take_back:
                passed.cancel = EndReason.SPAWN_FAILED
            self._talk(passed, self._take_back(key, passed))
        return status

    def _late(self, passed: Passed, status: Status) -> bool:
        """Whether it waits below for longer than this site lets it wait."""
        waited_s = time.monotonic() - passed.began
        return (
            status.phase is Phase.ACCEPTED
            and status.moving is None  # its site has it, and fetches its inputs
            and passed.cancel is None
            and waited_s > self._settings.start_within_ms / 1000
        )

    async def _fresh_look(self) -> None:
        """Waits for the newest answer, but not for long."""
        due = time.monotonic() - self._asked >= max(self._settings.look_interval_ms / 1000, 2 * self._took)
        if due and (self._asking is None or self._asking.done()):
            self._asked = time.monotonic()
            self._asking = self._background.start(self._ask())
        if self._asking is not None:
            await asyncio.wait({self._asking}, timeout=LOOK_WAIT_S)

    async def _ask(self) -> None:
        asked = time.monotonic()
        open_ones = {p.order.key: (key, p) for key, p in self._passed.items() if p.status is None and p.order_id}
        try:
            found = await self._lower.look(list(open_ones), self._follow())
        except YunheError as error:
            if not self._away:
                log.warning("the lower hub cannot be asked: %s", error)
            self._away = True
            return
        if self._away:
            log.info("the lower hub answers again")
        self._away = False
        self._looked, self._took = asked, time.monotonic() - asked
        for text, (key, passed) in open_ones.items():
            view = found.get(text)
            before, passed.view = passed.view, view if view is not None and states.sound(view) else None
            if passed.view is None:
                passed.missing = passed.missing or asked
            else:
                passed.missing = None
                if states.differs(before, passed.view):
                    self._announce(key)

    def _follow(self) -> Follow:
        """What this site is to the lower hub: when it is gone for as long as the hub above waits for it, its orders
        there have to end, because they are placed anew."""
        limits = [passed.order.silence_ms for passed in self._passed.values() if passed.status is None]
        tag = passing.tag_of(self._around.ends.upper, self._site_id)
        return Follow(tag=tag, silence_ms=max(MIN_SILENCE_MS, min(limits, default=USUAL_SILENCE_MS)))

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(self._settings.look_interval_ms / 1000)
            if any(passed.status is None for passed in self._passed.values()):
                await self._fresh_look()

    def _announce(self, key: LeaseKey) -> None:
        self._news.add(key)
        self._bell.set()

    async def changed(self, timeout_ms: int) -> frozenset[LeaseKey]:
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                await self._bell.wait()
        except TimeoutError:
            return frozenset()
        self._bell.clear()
        news, self._news = frozenset(self._news), set()
        return news

    # --- what they leave --------------------------------------------------------------------------------------------

    async def logs(self, key: LeaseKey, offset: int, limit: int) -> bytes:
        passed = self._passed.get(key)
        attempt = states.shown_attempt(passed.view) if passed else 0
        if passed is None or not attempt:
            return b""
        return (await self._lower.log(passed.order_id, attempt, offset))[:limit]

    async def moved(self, key: LeaseKey) -> tuple[MovedFile, ...]:
        return delivery.moved(await self._lower.outputs(self._passed[key].order_id))

    async def outputs(self, key: LeaseKey, wanted: Sequence[str], cap_bytes: int) -> tuple[Output, ...]:
        passed = self._passed[key]
        passed.outputs = delivery.Outputs(self._lower, passed.order_id, passed.record.outputs)
        return await passed.outputs.fetch(wanted, cap_bytes)

    async def read_output(self, key: LeaseKey, path: str, offset: int, limit: int) -> bytes:
        outputs = self._passed[key].outputs
        if outputs is None:
            raise NotFound(f"no output {path!r} of {key} was fetched")
        return await asyncio.to_thread(outputs.read, path, offset, limit)

    async def known(self) -> frozenset[LeaseKey]:
        return frozenset(self._passed)

    async def forget(self, key: LeaseKey) -> None:
        """Below, the order stays: it is in that hub's books. One that goes on is taken back first: the lease was given
        up, and is placed elsewhere."""
        passed = self._passed.get(key)
        if passed is None:
            return
        if passed.status is None and passed.order_id:
            await self._take_back(key, passed)
        self._passed.pop(key, None)
        if passed.talk is not None:
            passed.talk.cancel()
        await asyncio.to_thread(passed.record.remove)


def _refused(why: str) -> Status:
    return Status(Phase.ENDED, reason=EndReason.SPAWN_FAILED, detail=why[: states.MAX_DETAIL])
