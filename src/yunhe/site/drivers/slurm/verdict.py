"""What is known of a lease, and what to do about it, from its folder and from Slurm's list. Pure.

| folder                      | Slurm lists it      | it is                                                       |
|-----------------------------|---------------------|-------------------------------------------------------------|
| exit record                 |                     | ended, as the record says                                   |
| claim, signs of life        |                     | started, also where the controller is away or has lost it   |
| claim, silent               | running             | started (accepted before the first record)                  |
| claim, silent               | over or not at all  | unknown; after `lost_ms` lost, never a success              |
| claim, silent               | cannot be asked     | unknown                                                     |
| no claim                    | waiting             | accepted                                                    |
| no claim                    | running             | accepted; after `start_ms` sealed: it could not be started  |
| no claim                    | over                | sealed, so that it never starts; it could not be started    |
| no claim                    | not at all          | unknown; after `vanished_ms` submitted again                |
| no claim                    | cannot be asked     | unknown                                                     |
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from yunhe.core.lifecycle import EndReason
from yunhe.site.drivers.contract import Phase, Status
from yunhe.site.drivers.nodes.folder import Evidence
from yunhe.site.drivers.slurm.client import AccountLine, JobLine, Listing
from yunhe.site.drivers.slurm.states import OVER, Stage
from yunhe.site.drivers.slurm.supply import NOTHING, Held
from yunhe.site.settings import DriverSettings, SlurmSettings

PULSES = 3  # a step that missed so many writes of its use shows no sign of life


class Act(StrEnum):
    NOTHING = "nothing"
    PLACE = "place"  # submit it again
    SEAL = "seal"  # see to it that it never starts, and record the end
    LOSE = "lose"  # record the end in the name of its step
    STOP = "stop"  # Slurm's own cancel: the step does not follow


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reason` and `detail` belong to SEAL and LOSE."""

    phase: Phase
    act: Act = Act.NOTHING
    reason: EndReason = EndReason.SUPERVISOR_LOST
    detail: str = ""
    unexplained: bool = False  # neither a record nor Slurm's list says why it ended


@dataclass(slots=True)
class Memory:
    """What this agent has seen of a lease; monotonic s. An agent that was restarted begins anew, and waits longer."""

    placed: float | None = None  # sbatch was last over, with or without an answer
    placing: bool = False
    tries: int = 0
    pulse: tuple[int, ...] = ()
    pulse_at: float = 0.0
    missed_since: float | None = None  # Slurm does not list it
    running_since: float | None = None  # Slurm calls it running, and no step has begun
    cancelled_since: float | None = None
    notice: float = 0.0  # s that the job has to save its work before it is stopped
    ended_since: float | None = None
    acknowledged: bool = False
    slots: int = 0  # 0: not read yet, like the two below
    pool: str = ""
    held: Held = NOTHING
    status: Status | None = None  # while it runs, as read at `status_pulse`
    status_pulse: tuple[int, ...] = ()

    def see(self, evidence: Evidence, now: float) -> None:
        if evidence.pulse != self.pulse:
            self.pulse, self.pulse_at = evidence.pulse, now
        if evidence.cancel and self.cancelled_since is None:
            self.cancelled_since = now
        if evidence.ended_for and self.ended_since is None:
            self.ended_since = now


@dataclass(frozen=True, slots=True)
class Rules:
    """Limits in seconds."""

    pulse: float
    vanished: float
    start: float
    lost: float
    end_word: float
    cancel_hard: float
    tries: int

    @classmethod
    def of(cls, slurm: SlurmSettings, driver: DriverSettings) -> "Rules":
        return cls(
            pulse=PULSES * driver.usage_write_ms / 1000,
            vanished=slurm.vanished_ms / 1000,
            start=slurm.start_ms / 1000,
            lost=slurm.lost_ms / 1000,
            end_word=slurm.end_word_ms / 1000,
            cancel_hard=(driver.term_grace_ms + slurm.cancel_hard_ms) / 1000,
            tries=slurm.submit_tries,
        )


def judge(evidence: Evidence, memory: Memory, jobs: Sequence[JobLine] | None, now: float, rules: Rules) -> Verdict:
    """`jobs` None: Slurm cannot be asked, or its list is older than the last submit. `memory` has seen `evidence`."""
    if not evidence.prepared:
        return Verdict(Phase.ABSENT)
    if evidence.ended_for:
        return Verdict(Phase.ENDED)
    if evidence.claimed:
        return _claimed(evidence, memory, jobs, now, rules)
    return _unclaimed(memory, jobs, now, rules)


def waits_for_word(evidence: Evidence, memory: Memory, listing: Listing | None, jobs: Sequence[JobLine]) -> bool:
    """An end that is not told yet: parts of a gang may still be running, or Slurm knows why it stopped the job."""
    if not (memory.slots > 1 or evidence.ended_for == EndReason.SUPERVISOR_LOST) or memory.ended_since is None:
        return False
    heard = listing is not None and listing.asked > memory.ended_since
    return not heard or any(job.stage is Stage.RUNNING for job in jobs)


def _claimed(evidence: Evidence, memory: Memory, jobs: Sequence[JobLine] | None, now: float, rules: Rules) -> Verdict:
    silent = now - memory.pulse_at
    running = Phase.STARTED if evidence.started else Phase.ACCEPTED
    alive = running if silent <= rules.pulse else Phase.UNKNOWN
    if jobs is None:
        memory.missed_since = None
        return Verdict(alive)
    if any(job.stage is Stage.RUNNING for job in jobs):
        memory.missed_since = None
        late = memory.cancelled_since is not None and now - memory.cancelled_since > rules.cancel_hard + memory.notice
        return Verdict(running, Act.STOP if late else Act.NOTHING)
    if memory.missed_since is None:
        memory.missed_since = now
    if silent > rules.pulse and min(silent, now - memory.missed_since) >= rules.lost:
        reason, detail = _why(jobs)
        reason = EndReason(evidence.cancel) if evidence.cancel else reason
        return Verdict(Phase.UNKNOWN, Act.LOSE, reason, detail, unexplained=not jobs and not evidence.cancel)
    return Verdict(alive)


def _unclaimed(memory: Memory, jobs: Sequence[JobLine] | None, now: float, rules: Rules) -> Verdict:
    if jobs is None or memory.placing:
        memory.missed_since = None
        return Verdict(Phase.UNKNOWN)
    if any(job.stage in (Stage.WAITING, Stage.RUNNING) for job in jobs):
        memory.missed_since = None
        return _to_begin(memory, jobs, now, rules)
    memory.running_since = None
    if any(job.stage is Stage.UNCLEAR for job in jobs):
        return Verdict(Phase.UNKNOWN)
    if jobs:
        reason, detail = _why(jobs)
        return Verdict(Phase.UNKNOWN, Act.SEAL, EndReason.SPAWN_FAILED, f"it did not start: {detail}")
    if memory.missed_since is None:
        memory.missed_since = now
    if now - memory.missed_since < rules.vanished:
        return Verdict(Phase.UNKNOWN)
    if memory.tries < rules.tries:
        return Verdict(Phase.UNKNOWN, Act.PLACE)
    detail = f"Slurm lost it {memory.tries} times"
    return Verdict(Phase.UNKNOWN, Act.SEAL, EndReason.SPAWN_FAILED, detail)


def _to_begin(memory: Memory, jobs: Sequence[JobLine], now: float, rules: Rules) -> Verdict:
    """A node can refuse the step, for a number that it has seen before, while Slurm calls the job running."""
    if all(job.stage is not Stage.RUNNING for job in jobs):
        memory.running_since = None
    elif memory.running_since is None:
        memory.running_since = now
    elif now - memory.running_since > rules.start:
        detail = f"Slurm calls it running for {rules.start:g} s, and its step has not begun"
        return Verdict(Phase.ACCEPTED, Act.SEAL, EndReason.SPAWN_FAILED, detail)
    return Verdict(Phase.ACCEPTED)


def _why(jobs: Sequence[JobLine]) -> tuple[EndReason, str]:
    """From the newest job of that name that is over."""
    over = [job for job in jobs if job.stage is Stage.OVER]
    if not over:
        return EndReason.SUPERVISOR_LOST, "Slurm does not know it any more, and its step left no record"
    return OVER[over[-1].state], word_on(over)


def explained(job: AccountLine) -> Verdict:
    """By Slurm's accounting; COMPLETED without a record is a job whose end nobody saw, here too."""
    energy = f", and measured {job.energy_joules} J of energy" if job.energy_joules is not None else ""
    detail = f"Slurm's accounting says {job.state} of its job {job.id} after {job.ran_s} s{energy}"
    return Verdict(Phase.UNKNOWN, Act.LOSE, OVER[job.state], detail)


def with_word(status: Status, jobs: Sequence[JobLine]) -> Status:
    """A recorded end with Slurm's word on it, where it was Slurm that made the end.

    A step can only record that Slurm stopped it, and a job that saves its work on Slurm's signal may end with 0.
    """
    reason, states = status.reason, {job.state for job in jobs}
    if "PREEMPTED" in states and reason in (EndReason.SUPERVISOR_LOST, EndReason.EXITED):
        reason = EndReason.PREEMPTED
    elif "OUT_OF_MEMORY" in states and reason is EndReason.EXITED and status.exit_code:
        reason = EndReason.MEMORY_LIMIT
    elif reason is not EndReason.SUPERVISOR_LOST:
        return status
    word = word_on(jobs)
    said = (status.detail, "" if word in status.detail else word)
    return replace(status, reason=reason, detail="; ".join(text for text in said if text)[:400])


def word_on(jobs: Sequence[JobLine]) -> str:
    """Slurm's word on how it ended; empty when it has none."""
    over = [job for job in jobs if job.stage is Stage.OVER]
    return f"Slurm says {over[-1].state} of its job {over[-1].id}" if over else ""
