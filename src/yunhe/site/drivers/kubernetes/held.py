"""A lease in the agent's memory: what its watches have shown so far."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from yunhe.core.lifecycle import EndReason
from yunhe.site.drivers.contract import LeaseKey, Phase, Status
from yunhe.site.drivers.kubernetes.manifest import Objects
from yunhe.site.drivers.kubernetes.record import Intent, Record, Stop
from yunhe.site.drivers.kubernetes.supply import KubePool
from yunhe.site.drivers.kubernetes.verdict import IMAGE, NEVER, Sight, Verdict
from yunhe.site.drivers.kubernetes.views import JobView, PodView
from yunhe.wire.link import UsageTotals

SECOND_MS = 1000  # what a time of Kubernetes may be off: it has whole seconds


@dataclass(slots=True)
class Held:
    """Times ending in `_at` are monotonic s; None: it has not been so."""

    key: LeaseKey
    intent: Intent
    record: Record
    objects: Objects | None = None  # kept until the server has them; never on a disk: there may be secrets
    stop: Stop | None = None
    ending: Status | None = None  # its end, as it will be told for ever
    end: Status | None = None  # the same, once it is on the disk
    placed: bool = False  # the server has said that it has the Job
    was_there: bool = False
    placing: bool = False
    stopping: bool = False
    tries: int = 0
    asked_at: float = 0.0
    job: JobView | None = None
    pods: dict[str, PodView] = field(default_factory=dict)
    idle_at: float | None = None
    leaving_at: float | None = None
    began_at: float | None = None
    over_at: float | None = None
    live: bool = True  # both ends of the run were watched, not read afterwards
    use: tuple[int, int] | None = None  # CPU ms, most bytes of memory; None: not measured
    use_rounds: int = 0
    told_ms: int = 0  # wall time that was reported
    extend_at: float = 0.0
    trouble: str = ""
    asked_trouble: bool = False
    tenant: str = ""
    pools: Sequence[KubePool] = ()  # as they were when it was first placed: for the tenant's quota
    busy: bool = False  # something is being done for it
    adopted: bool = False  # its record was lost
    ran_before: bool = False  # an agent before this one saw it running
    use_before: tuple[int, int] | None = None  # what that agent measured
    preempted: str | None = None  # what events say of who got its units; None: they have not been asked
    cause_at: float | None = None  # since when they are asked
    bare: bool = False  # its secrets are no longer in the cluster

    # --- what is seen -----------------------------------------------------------------------------------------------

    def see_job(self, view: JobView, there: bool) -> None:
        self.job = view if there else None
        self.was_there = True

    def see_pod(self, view: PodView, there: bool, now: float, server_ms: int) -> None:
        before = self.pods.get(view.uid)
        pod = self.pods[view.uid] = view if there else replace(view, gone=True)
        if pod.started_ms:
            self._see_begin(before, pod, now, server_ms)
        if self.began_at is not None and self.over_at is None and all(one.over for one in self.pods.values()):
            self.over_at = now
            self.live = self.live and before is not None and bool(before.started_ms) and not before.over

    def _see_begin(self, before: PodView | None, pod: PodView, now: float, server_ms: int) -> None:
        if before is not None and before.started_ms:
            return
        live = before is not None and not pod.finished_ms
        begin = now if live else now - max(0, server_ms - pod.started_ms) / 1000
        if self.began_at is None:
            self.began_at, self.live = begin, live
        elif begin < self.began_at:
            self.began_at, self.live = begin, False

    def tick(self, now: float) -> None:
        """Notes since when something is so that only time makes worse."""
        pods = self.pods.values()
        begun = sum(1 for pod in pods if pod.started_ms)
        stuck = any(pod.waiting in NEVER + IMAGE for pod in pods)
        idle = self.job is not None and not self.job.suspended and (begun < self.intent.slots or stuck)
        self.idle_at = (self.idle_at or now) if idle else None
        left = any(not pod.over for pod in pods)
        leaving = left and (self.job is None or self.job.deleting) and self.was_there
        self.leaving_at = (self.leaving_at or now) if leaving else None

    def sight(self, now: float, fresh: bool, silent_nodes: Collection[str]) -> Sight:
        def age(since: float | None) -> float | None:
            return None if since is None else now - since

        return Sight(
            slots=self.intent.slots,
            run_limit_s=self.intent.run_limit_ms / 1000,
            fresh=fresh,
            stop=self.stop,
            job=self.job,
            job_was_there=self.was_there,
            placing=self.placing,
            confirmed=self.placed,
            tries=self.tries,
            asked_age=now - self.asked_at,
            ours=self.objects is not None,
            pods=tuple(self.pods.values()),
            runs_age=age(self.began_at),
            idle_age=age(self.idle_at),
            leaving_age=age(self.leaving_at),
            preempted=self.preempted,
            grace_s=self.intent.grace_ms / 1000,
            silent_nodes=silent_nodes,
            trouble=self.trouble,
        )

    # --- what is told -----------------------------------------------------------------------------------------------

    @property
    def started(self) -> bool:
        return self.began_at is not None

    @property
    def all_started(self) -> bool:
        return sum(1 for pod in self.pods.values() if pod.started_ms) >= self.intent.slots

    @property
    def started_utc_ms(self) -> int:
        return min((pod.started_ms for pod in self.pods.values() if pod.started_ms), default=0)

    def add_use(self, cpu_ms: int, peak_bytes: int) -> tuple[int, int]:
        """What this agent has measured, on top of what one before it had."""
        cpu_before, peak_before = self.use_before or (0, 0)
        self.use = cpu_before + cpu_ms, max(peak_before, peak_bytes)
        return self.use

    def status(self, verdict: Verdict, now: float) -> Status:
        if verdict.phase is Phase.ENDED:
            ran = self.started or self.ran_before
            # What never ran has no usage, and no limit was used up.
            reason = verdict.reason
            if reason is EndReason.TIME_LIMIT and not ran:
                reason = EndReason.SPAWN_FAILED
            totals = self.totals(now) if ran else None
            return Status(
                Phase.ENDED, ran, self.started_utc_ms, totals, reason, verdict.exit_code, verdict.detail[:400]
            )
        if verdict.phase is Phase.STARTED:
            return Status(Phase.STARTED, True, self.started_utc_ms, self.totals(now))
        return Status(verdict.phase, started=self.started)

    def totals(self, now: float) -> UsageTotals:
        """Wall time by the containers' own times, which have whole seconds, and between these by the watch.

        CPU time from the metrics API; without it what was reserved. Both are no counters of the kernel: `sampled`.
        """
        self.told_ms = wall_ms = max(self.told_ms, self._wall_ms(now))
        reserved = wall_ms * self.intent.cpu_milli * self.intent.slots // 1000
        cpu_ms, peak = self.use or (reserved, 0)
        return UsageTotals(wall_ms=wall_ms, cpu_ms=cpu_ms, peak_memory_bytes=peak, sampled=True)

    def _wall_ms(self, now: float) -> int:
        if self.began_at is None:
            return 0
        ran = [pod for pod in self.pods.values() if pod.started_ms]
        seen = round(((now if self.over_at is None else self.over_at) - self.began_at) * 1000)
        if self.over_at is None or not all(pod.finished_ms for pod in ran):
            return max(0, seen)
        said = max(pod.finished_ms for pod in ran) - min(pod.started_ms for pod in ran)
        if not self.live:
            return max(0, said)
        return max(0, min(max(seen, said - SECOND_MS + 1), said + SECOND_MS - 1))
