"""The leases that this agent holds in the cluster: what is seen of them, and what time asks to be done."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from pathlib import Path

from yunhe.core.errors import Unavailable
from yunhe.core.lifecycle import EndReason
from yunhe.site.drivers.contract import LeaseKey, Phase, Status
from yunhe.site.drivers.kubernetes.client import Refusal
from yunhe.site.drivers.kubernetes.engine import Engine
from yunhe.site.drivers.kubernetes.held import Held
from yunhe.site.drivers.kubernetes.record import Intent, Record, Stop, all_keys
from yunhe.site.drivers.kubernetes.supply import KubePool
from yunhe.site.drivers.kubernetes.verdict import Act, Rules, Verdict, judge
from yunhe.site.drivers.kubernetes.views import JobView, PodView
from yunhe.site.settings import KubernetesSettings

log = logging.getLogger(__name__)
EXTEND_SHARE = 4  # the deadline is moved on when this part of the disconnect limit has passed
TROUBLE_SHARE = 2  # events are asked for at this part of the longest wait
CAUSE_S = 2.0  # an event may come so long after the deletion that it tells of
OTHERS_FIRST = "Kubernetes gave its units to what comes first there"
ADOPTED_MS = 60_000  # disconnect limit of a Job whose lease nobody here knows: it is only there to be removed


class Keeper:
    """`silent_ms(contact_ms)`: for how long the hub may not have heard of a lease that came at `contact_ms`.
    `on_begin`: writes down that a lease runs, before that is told; may wait for the disk."""

    def __init__(
        self,
        settings: KubernetesSettings,
        tag: str,
        leases: Path,
        grace_ms: int,
        silent_ms: Callable[[int], int],
        on_begin: Callable[[Held], None],
    ) -> None:
        self.engine = Engine(settings, tag, self._on_job, self._on_pod)
        self._settings = settings
        self._leases = leases
        self._grace_ms = grace_ms
        self._silent_ms = silent_ms
        self._on_begin = on_begin
        self._rules = Rules(
            vanished=settings.vanished_ms / 1000,
            tries=settings.submit_tries,
            pull=settings.pull_ms / 1000,
            start=settings.start_ms / 1000,
            lost=settings.lost_ms / 1000,
        )
        self.held: dict[LeaseKey, Held] = {}
        self._names: dict[str, LeaseKey] = {}
        self._leaving: dict[str, Held] = {}  # by the Job's name: forgotten, and perhaps still in the cluster
        self.news: set[LeaseKey] = set()
        self.bell = asyncio.Event()

    # --- taking up ------------------------------------------------------------------------------------------------

    def restore(self) -> None:
        """What an agent before this one left. Waits for the disk."""
        self._leases.mkdir(mode=0o700, parents=True, exist_ok=True)
        for key in all_keys(self._leases):
            record = Record(self._leases, key)
            intent = record.intent()
            if intent is None:
                record.remove()
                continue
            held = Held(key, intent, record, stop=record.stop())
            held.end = held.ending = record.end()
            held.use = held.use_before = record.use()
            # What the server had acknowledged and is not there any more has been taken away by somebody.
            held.was_there = held.placed = record.marked("placed")
            held.ran_before = record.marked("started")
            self.hold(held)

    def hold(self, held: Held) -> Held:
        self.held[held.key] = held
        self._names[held.intent.name] = held.key
        return held

    async def drop(self, held: Held) -> None:
        """As if it had never been here; what of it is in the cluster is removed, also later."""
        self.held.pop(held.key, None)
        self.engine.logs.forget(held.key)
        self.engine.metrics.uses.pop(held.intent.name, None)
        self._leaving[held.intent.name] = held
        await asyncio.to_thread(held.record.remove)
        await self._remove(held)

    async def _remove(self, held: Held) -> None:
        try:
            there = await self.engine.remove_job(held)
            await self.engine.remove_rest(held)
        except (Unavailable, Refusal) as error:
            # Rights end with a namespace that somebody has removed, and so does everything in it.
            if isinstance(error, Unavailable) or held.job is not None:
                log.warning("%s: what is left of it cannot be removed yet: %s", held.key, error)
                return
            there = False
        if not there and (held.job is None or not held.was_there):
            self._gone(held)

    def _gone(self, held: Held) -> None:
        self._leaving.pop(held.intent.name, None)
        if held.key not in self.held:
            self._names.pop(held.intent.name, None)

    # --- what is seen -----------------------------------------------------------------------------------------------

    def _on_job(self, view: JobView, there: bool) -> None:
        held = self._of(view.name)
        if held is None and there and view.key is not None:
            held = self._adopt(view, view.key)
        if held is None:
            return
        held.see_job(view, there)
        if not there and view.name in self._leaving:
            self._gone(held)
        self._tell(held)

    def _on_pod(self, view: PodView, there: bool) -> None:
        held = self._of(view.lease)
        if held is not None:
            held.see_pod(view, there, time.monotonic(), self.engine.client.clock_ms)
            self._tell(held)

    def _of(self, name: str) -> Held | None:
        key = self._names.get(name)
        return self._leaving.get(name) or (self.held.get(key) if key else None)

    def _adopt(self, view: JobView, key: LeaseKey) -> Held:
        """A Job of this site that has no record here: the folder was lost. It shows in `known`, and is cleared."""
        log.warning("%s: found in Kubernetes, and not known here", key)
        intent = Intent(view.namespace, view.name, 1, 0, 0, ADOPTED_MS, 0, 0, secret=True, secrets=True)
        held = Held(key, intent, Record(self._leases, key), adopted=True)
        held.record.prepare(intent)
        return self.hold(held)

    def _tell(self, held: Held) -> None:
        if held.key in self.held:
            self.news.add(held.key)
            self.bell.set()

    # --- what is known ----------------------------------------------------------------------------------------------

    def judge(self, held: Held, now: float) -> Verdict:
        held.tick(now)
        return judge(held.sight(now, self.engine.fresh(now), self.engine.silent_nodes), self._rules)

    async def look(self, keys: Iterable[LeaseKey]) -> dict[LeaseKey, Status]:
        """From memory, but for a begin and an end: these are written down before they are told."""
        now = time.monotonic()
        found = {key: self._look_at(key, now) for key in keys}
        running = [self.held[key] for key, status in found.items() if status.phase is Phase.STARTED]
        for one in running:
            if not one.ran_before:
                try:
                    await asyncio.to_thread(self._on_begin, one)
                    one.ran_before = True
                except OSError as error:  # of the shared folder, too: less counts as kept, and nothing else is wrong
                    log.warning("%s: that it runs cannot be written down yet: %s", one.key, error)
        ended = [key for key, status in found.items() if status.phase is Phase.ENDED and self.held[key].end is None]
        for key in ended:
            await asyncio.to_thread(self.held[key].record.write_end, found[key])
            self.held[key].end = found[key]
        for key, status in found.items():
            if status.phase is Phase.ABSENT and (held := self.held.pop(key, None)) is not None:
                await asyncio.to_thread(held.record.remove)
        return found

    def _look_at(self, key: LeaseKey, now: float) -> Status:
        held = self.held.get(key)
        if held is None:
            return Status(Phase.ABSENT)
        if held.ending is None:
            status = held.status(self.judge(held, now), now)
            if status.phase is not Phase.ENDED:
                return status
            held.ending = status
        return held.ending

    # --- what time asks for -----------------------------------------------------------------------------------------

    async def tend(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(self._settings.tend_ms / 1000)
            now = time.monotonic()
            for held in list(self.held.values()):
                if held.ending is None and not held.busy:
                    self._tend(held, now)
            for held in list(self._leaving.values()):
                if not held.busy and now - held.asked_at > self._rules.vanished:
                    self._run(held, self._remove_again(held))

    def _tend(self, held: Held, now: float) -> None:
        verdict = self.judge(held, now)
        if verdict.phase is Phase.ENDED:
            self._tell(held)
        elif verdict.act is Act.STOP:
            self._run(held, self.stop(held, verdict.reason, verdict.detail))
        elif verdict.act is Act.PLACE:
            self._run(held, self._place_again(held))
        elif verdict.act is Act.LOOK:
            self._run(held, self._look_for(held))
        elif verdict.act is Act.ASK:
            self._run(held, self._ask_cause(held))
        elif held.stop is not None and held.job is not None and not held.job.deleting:
            self._run(held, self._remove_now(held))
        elif held.job is not None and not held.adopted:
            self._tend_running(held, now)

    def _tend_running(self, held: Held, now: float) -> None:
        use = self.engine.metrics.uses.get(held.intent.name)
        if use is not None and use.rounds != held.use_rounds:
            held.use_rounds = use.rounds
            self._run(held, asyncio.to_thread(held.record.write_use, *held.add_use(round(use.cpu_ms), use.peak_bytes)))
            return
        if held.intent.secrets and held.all_started and not held.bare:
            self._run(held, self._bare(held))
        elif now >= held.extend_at and held.stop is None:
            held.extend_at = now + held.intent.disconnect_limit_ms / 1000 / EXTEND_SHARE
            self._run(held, self._extend(held))
        elif held.idle_at is not None and not held.asked_trouble:
            if now - held.idle_at > self._rules.start / TROUBLE_SHARE:
                held.asked_trouble = True
                self._run(held, self._ask_trouble(held))

    def _run(self, held: Held, work: Coroutine[object, object, None]) -> None:
        """One thing at a time for each lease; a server that is away is asked again at the next round."""
        held.busy = True

        async def bounded() -> None:
            try:
                await work
            except (Unavailable, Refusal) as error:
                log.info("%s: %s", held.key, error)
            finally:
                held.busy = False

        self.engine.background.start(bounded())

    async def place(self, held: Held, pools: Sequence[KubePool]) -> str:
        """Why it is refused, or nothing; without a clear answer it is looked for and made again."""
        held.placing, held.pools = True, pools
        held.tries += 1
        tenants = self.engine.tenants
        try:
            known = await tenants.ensure(held.tenant, pools, self.engine.kueue)
            try:
                await self.engine.place(held)
            except Refusal as refusal:
                if refusal.status not in (403, 404) or not known:
                    raise
                # Somebody may have removed the tenant's namespace, and the rights in it, since it was made.
                tenants.forget(held.tenant)
                await tenants.ensure(held.tenant, pools, self.engine.kueue)
                await self.engine.place(held)
            await asyncio.to_thread(held.record.mark, "placed")
            held.placed, held.objects = True, None
        except Refusal as refusal:
            return refusal.message
        except Unavailable as error:
            log.warning("%s: %s", held.key, error)
        finally:
            held.placing, held.asked_at = False, time.monotonic()
        return ""

    async def _place_again(self, held: Held) -> None:
        refusal = await self.place(held, held.pools)
        if refusal:
            await self.stop(held, EndReason.SPAWN_FAILED, f"Kubernetes refuses it: {refusal}")

    async def _look_for(self, held: Held) -> None:
        """The server had it, and no watch has shown it: it may have been deleted at once."""
        held.asked_at = time.monotonic()
        if not await self.engine.look(held):
            held.was_there = True
            self._tell(held)

    async def stop(self, held: Held, reason: EndReason, detail: str = "") -> None:
        """Once for ever; the reason is on the disk before Kubernetes is asked."""
        if held.stop is not None or held.ending is not None:
            return
        stop = Stop(reason, detail[:400])
        await asyncio.to_thread(held.record.write_stop, stop)
        if held.stop is None and held.ending is None:
            held.stop = stop
            self._tell(held)
            await self._remove_now(held)

    async def _remove_now(self, held: Held) -> None:
        """Its log first: it goes with its pods."""
        try:
            await self.take_log(held, at_once=True)
        except Unavailable as error:
            log.info("%s: its log before the end: %s", held.key, error)
        await self.engine.remove_job(held)

    async def _remove_again(self, held: Held) -> None:
        held.asked_at = time.monotonic()
        await self._remove(held)

    async def _bare(self, held: Held) -> None:
        await self.engine.remove_secrets(held)
        held.bare = True

    async def _ask_trouble(self, held: Held) -> None:
        held.trouble = await self.engine.trouble(held)

    async def _ask_cause(self, held: Held) -> None:
        """Whether others got its units; not for longer than `CAUSE_S`."""
        held.cause_at = held.cause_at or time.monotonic()
        try:
            said = await self.engine.preempted(held)
            sure = said or time.monotonic() - held.cause_at > CAUSE_S
        except Refusal:  # its namespace is gone, and so are the events
            said, sure = False, True
        if sure:
            held.preempted = OTHERS_FIRST if said else ""
            self._tell(held)

    async def _extend(self, held: Held) -> None:
        """Kubernetes ends the Job by itself when the agent does not come again in time."""
        job, limit_ms = held.job, held.intent.disconnect_limit_ms
        left_ms = limit_ms - self._silent_ms(held.intent.contact_ms) - max(self._grace_ms, held.intent.grace_ms)
        if job is None or not job.start_ms or job.failed or left_ms <= 0:
            return
        seconds = max(1, (self.engine.client.clock_ms - job.start_ms + left_ms) // 1000)
        if seconds > (job.deadline_s or 0):
            await self.engine.move_deadline(held, seconds)

    async def take_log(self, held: Held, *, at_once: bool) -> None:
        """Raises Unavailable when the server does not give it now."""
        pods = [pod for pod in held.pods.values() if pod.started_ms]
        if pods:
            await self.engine.logs.take(held.key, held.record, held.intent, pods, at_once)
