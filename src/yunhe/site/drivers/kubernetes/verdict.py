"""What is known of a lease, and what to do about it, from its Job and its pods. Pure.

| Job                     | pods                     | it is                                                        |
|-------------------------|--------------------------|--------------------------------------------------------------|
| (watch broken)          |                          | unknown                                                      |
| never seen, no answer   |                          | unknown; after `vanished_ms` made again, by the same name    |
|-------------------------|--------------------------|--------------------------------------------------------------|
| never seen, confirmed   |                          | accepted; after `vanished_ms` asked for by name              |
| gone                    | running                  | started, until they have ended                               |
| gone                    | over or none             | ended: as the pods say, as it was stopped, else lost         |
| there                   | none, or waiting         | accepted; given up after `start_ms`, `pull_ms`               |
| there                   | running                  | started; unknown while the node is silent                    |
| there                   | being taken away by others | started, and stopped: Kubernetes would make it anew          |
| there or gone           | preempted, or Job suspended | preempted; without a word of it events are asked first      |
| there                   | all over                 | ended, as the pods say                                       |
| failed for its deadline | over or none             | disconnected: the agent did not move the deadline on         |
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import StrEnum

from yunhe.core.lifecycle import EndReason
from yunhe.site.drivers.contract import Phase
from yunhe.site.drivers.kubernetes.record import Stop
from yunhe.site.drivers.kubernetes.views import NOT_RUN, JobView, PodView

NEVER = ("InvalidImageName", "ErrImageNeverPull")
IMAGE = (
    "ErrImagePull", "ImagePullBackOff", "ImageInspectError", "RegistryUnavailable",
    "CreateContainerConfigError", "CreateContainerError", "RunContainerError",
)  # fmt: skip
KILLED = 137


class Act(StrEnum):
    NOTHING = "nothing"
    PLACE = "place"  # make it again
    LOOK = "look"  # ask for the Job by its name
    STOP = "stop"  # for `reason`
    ASK = "ask"  # for the events of its pods: an older server says nowhere else why it took one away


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reason`, `exit_code` and `detail` belong to ENDED and to STOP."""

    phase: Phase
    act: Act = Act.NOTHING
    reason: EndReason = EndReason.SUPERVISOR_LOST
    exit_code: int | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Sight:
    """All that is known of a lease now. Ages in s since something has been so; None: it is not."""

    slots: int
    run_limit_s: float
    fresh: bool  # the watches are
    stop: Stop | None
    job: JobView | None
    job_was_there: bool
    placing: bool
    confirmed: bool  # the server has answered that it has the Job
    tries: int
    asked_age: float  # since the last word about placing it
    ours: bool  # this process has what it takes to make it again
    pods: tuple[PodView, ...]
    runs_age: float | None  # since the first container began
    idle_age: float | None  # no pod, none that has begun, or an image that does not come
    leaving_age: float | None  # the Job is gone or is being removed, and pods are still there
    preempted: str | None = ""  # what events say of who got its units; None: they have not been asked
    grace_s: float = 0.0  # its pods may take so long to end
    silent_nodes: Collection[str] = ()
    trouble: str = ""  # what events say of a pod that does not begin


@dataclass(frozen=True, slots=True)
class Rules:
    """Limits in seconds."""

    vanished: float
    tries: int
    pull: float
    start: float
    lost: float


def judge(sight: Sight, rules: Rules) -> Verdict:
    if not sight.fresh:
        return Verdict(Phase.UNKNOWN)
    if sight.job is None and not sight.job_was_there:
        return _not_seen(sight, rules)
    over = _over(sight, rules)
    if over is not None:
        return _with_cause(sight, over)
    if sight.job is None or sight.stop is not None:
        return Verdict(_running_phase(sight))
    return _held(sight, sight.job, rules)


def _not_seen(sight: Sight, rules: Rules) -> Verdict:
    if sight.placing:
        return Verdict(Phase.UNKNOWN)
    late = sight.asked_age > rules.vanished
    if sight.stop is not None:
        # What was asked for may still arrive; after that time the server has dropped it.
        return _stopped(sight.stop) if late else Verdict(Phase.UNKNOWN)
    if sight.confirmed:
        return Verdict(Phase.ACCEPTED, Act.LOOK if late else Act.NOTHING)
    if not sight.ours:
        return Verdict(Phase.ABSENT)  # another process asked for it, perhaps, and it never came
    if not late:
        return Verdict(Phase.UNKNOWN)
    if sight.tries < rules.tries:
        return Verdict(Phase.UNKNOWN, Act.PLACE)
    detail = f"Kubernetes gave no clear answer {sight.tries} times"
    return Verdict(Phase.UNKNOWN, Act.STOP, EndReason.SPAWN_FAILED, detail=detail)


# What a preemption looks like from within: a rank may fail because another one was taken away.
TAKEN = (EndReason.SUPERVISOR_LOST, EndReason.SPAWN_FAILED, EndReason.EXITED)


def _preempted(sight: Sight) -> str:
    """Who says that its units went to others; empty: nobody, as far as is known."""
    job = sight.job
    word = next((pod.disrupted or pod.reason for pod in sight.pods if pod.preempted), "")
    if word:
        return f"Kubernetes says {word}"
    had = any(pod.started_ms or pod.deleting or pod.gone for pod in sight.pods)
    if job is not None and job.suspended and not job.failed and had:
        return "its Job was suspended, as Kueue does when others come first"
    return sight.preempted or ""


def _with_cause(sight: Sight, over: Verdict) -> Verdict:
    """An end by the cluster's doing is a preemption where others got the units."""
    ours = sight.stop is not None and sight.stop.reason is not EndReason.SUPERVISOR_LOST
    if ours or over.reason not in TAKEN or (over.reason is EndReason.EXITED and not over.exit_code):
        return over
    if cause := _preempted(sight):
        return replace(over, reason=EndReason.PREEMPTED, detail=cause)
    if sight.preempted is None and over.reason is EndReason.SUPERVISOR_LOST:
        return Verdict(_running_phase(sight), Act.ASK)
    return over


def _stopped(stop: Stop, exit_code: int | None = None) -> Verdict:
    return Verdict(Phase.ENDED, reason=stop.reason, exit_code=exit_code, detail=stop.detail)


def _over(sight: Sight, rules: Rules) -> Verdict | None:
    """Its end, where it has come."""
    left = [pod for pod in sight.pods if not pod.over]
    ended = [pod for pod in sight.pods if pod.over]
    failed = [pod for pod in ended if pod.phase != "Succeeded"]
    lost = sight.leaving_age is not None and sight.leaving_age > rules.lost + sight.grace_s
    if left and not lost:
        return None
    all_ended = len(ended) >= sight.slots and not left
    if sight.stop is not None:
        if failed or all_ended or lost or sight.job is None:
            return _stopped(sight.stop, _code(ended))
        return None
    if all_ended and not failed:
        return Verdict(Phase.ENDED, reason=EndReason.EXITED, exit_code=0)
    if sight.job is not None and not sight.job.failed and not failed and not lost:
        return None  # not all of its pods are there yet
    if left:
        nodes = ", ".join(sorted({pod.node for pod in left}))[:100]
        return Verdict(Phase.ENDED, detail=f"its node was lost: {nodes}")
    if sight.job is not None and sight.job.failed == "DeadlineExceeded":
        detail = "no word of the agent for the disconnect limit: Kubernetes ended it"
        return Verdict(Phase.ENDED, reason=EndReason.DISCONNECTED, exit_code=_code(failed), detail=detail)
    if failed:
        return _first_failure(failed)
    if sight.job is None:
        return Verdict(Phase.ENDED, detail="its Job was deleted by others")
    return Verdict(Phase.ENDED, detail=f"Kubernetes says {sight.job.failed}: {sight.job.message}"[:400])


def _code(pods: list[PodView]) -> int | None:
    """Of several the first that is not 0."""
    codes = [pod.exit_code for pod in pods if pod.exit_code is not None]
    return next((code for code in codes if code), codes[0] if codes else None)


def _first_failure(failed: list[PodView]) -> Verdict:
    """The rank that the cluster took away, else the one that failed first: the others were ended, or failed, for it."""
    by_time = sorted(
        failed,
        key=lambda pod: (not pod.taken, pod.exit_code is None, pod.deleting, pod.finished_ms or 1 << 60, pod.rank),
    )
    reason, code, detail = _why(by_time[0])
    if reason is EndReason.SUPERVISOR_LOST and not by_time[0].started_ms and not any(p.started_ms for p in failed):
        reason = EndReason.SPAWN_FAILED
    return Verdict(Phase.ENDED, reason=reason, exit_code=code, detail=detail[:400])


def _why(pod: PodView) -> tuple[EndReason, int | None, str]:
    """What a failed pod says of itself."""
    said = ": ".join(text for text in (pod.reason or pod.ended_for, pod.message) if text)
    if pod.ended_for == "OOMKilled" or pod.reason == "OOMKilled":
        return EndReason.MEMORY_LIMIT, pod.exit_code, "killed by the kernel: over its memory limit"
    if pod.reason == "DeadlineExceeded":
        return EndReason.TIME_LIMIT, pod.exit_code, "ended by its node: over its run limit"
    if pod.reason == "Evicted" and ("ephemeral" in pod.message or "EmptyDir" in pod.message):
        return EndReason.EXITED, KILLED, f"killed: over its disk space; {pod.message}"
    if pod.disrupted or pod.reason or pod.ended_for == "ContainerStatusUnknown":
        return EndReason.SUPERVISOR_LOST, pod.exit_code, f"Kubernetes says {pod.disrupted or said}"
    if pod.ended_for in NOT_RUN:
        return EndReason.EXITED, pod.exit_code, said
    if pod.gone and pod.exit_code is None:
        return EndReason.SUPERVISOR_LOST, None, "its pod is gone, and left no word of its end"
    if pod.deleting:
        return EndReason.SUPERVISOR_LOST, pod.exit_code, "its pod was deleted by others"
    return EndReason.EXITED, pod.exit_code, ""


def _running_phase(sight: Sight) -> Phase:
    on = {pod.node for pod in sight.pods if not pod.over and pod.node}
    if on & set(sight.silent_nodes):
        return Phase.UNKNOWN
    return Phase.STARTED if sight.runs_age is not None else Phase.ACCEPTED


def _held(sight: Sight, job: JobView, rules: Rules) -> Verdict:
    """It is there and nobody has stopped it; time may."""
    phase = _running_phase(sight)
    if sight.runs_age is not None and sight.runs_age >= sight.run_limit_s:
        return Verdict(phase, Act.STOP, EndReason.TIME_LIMIT, detail=f"longer than {sight.run_limit_s:g} s")
    if job.deleting and not job.failed:
        return Verdict(phase, Act.STOP, detail="its Job was deleted by others")
    if (cause := _preempted(sight)) and any(not pod.over for pod in sight.pods):
        return Verdict(phase, Act.STOP, EndReason.PREEMPTED, detail=cause)
    if any(pod.deleting and not pod.over for pod in sight.pods) and not job.failed:
        why = next((pod.disrupted for pod in sight.pods if pod.disrupted), "")
        detail = f"Kubernetes says {why}" if why else "its pod was deleted by others"
        return Verdict(phase, Act.STOP, detail="its node was lost" if phase is Phase.UNKNOWN else detail)
    if len(sight.pods) > sight.slots:
        return Verdict(phase, Act.STOP, detail="Kubernetes made its pod anew")
    if any(pod.over and pod.phase != "Succeeded" for pod in sight.pods):
        return Verdict(phase)  # the Job ends the rest of the gang
    if job.suspended or sight.idle_age is None:
        return Verdict(phase)
    stuck = [pod for pod in sight.pods if pod.waiting in NEVER + IMAGE]
    if stuck and (sight.idle_age > rules.pull or stuck[0].waiting in NEVER):
        said = f"{stuck[0].waiting}: {stuck[0].waiting_message}"[:400]
        return Verdict(phase, Act.STOP, EndReason.SPAWN_FAILED, detail=said)
    if sight.idle_age > rules.start:
        said = sight.trouble or (f"{len(sight.pods)} of {sight.slots} pods, none has begun")
        return Verdict(phase, Act.STOP, EndReason.SPAWN_FAILED, detail=f"Kubernetes does not start it: {said}"[:400])
    return Verdict(phase)
