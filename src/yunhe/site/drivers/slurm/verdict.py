"""What Slurm's words say of a lease, for the verdict that all engines of nodes share (`nodes.verdict`)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from yunhe.core.lifecycle import EndReason
from yunhe.site.drivers.contract import Phase, Status
from yunhe.site.drivers.nodes import verdict
from yunhe.site.drivers.nodes.folder import Evidence
from yunhe.site.drivers.nodes.verdict import Act, Listed, Rules, Stage, Verdict
from yunhe.site.drivers.slurm.client import AccountLine, JobLine, Listing
from yunhe.site.drivers.slurm.states import OVER
from yunhe.site.drivers.slurm.supply import NOTHING, Held
from yunhe.site.settings import DriverSettings, SlurmSettings

PULSES = 3  # a step that missed so many writes of its use shows no sign of life


@dataclass(slots=True)
class Memory(verdict.Memory):
    ended_since: float | None = None
    slots: int = 0  # 0: not read yet, like the two below
    pool: str = ""
    held: Held = NOTHING

    def see(self, evidence: Evidence, now: float) -> None:
        verdict.Memory.see(self, evidence, now)
        if evidence.ended_for and self.ended_since is None:
            self.ended_since = now


def rules(slurm: SlurmSettings, driver: DriverSettings) -> Rules:
    return Rules(
        engine="Slurm",
        pulse=PULSES * driver.usage_write_ms / 1000,
        vanished=slurm.vanished_ms / 1000,
        start=slurm.start_ms / 1000,
        lost=slurm.lost_ms / 1000,
        cancel_hard=(driver.term_grace_ms + slurm.cancel_hard_ms) / 1000,
        tries=slurm.submit_tries,
    )


def judge(evidence: Evidence, memory: Memory, jobs: Sequence[JobLine] | None, now: float, limits: Rules) -> Verdict:
    """`jobs`: of the lease's name, oldest first. None: Slurm cannot be asked, or its list is older than the last
    submit. `memory` has seen `evidence`."""
    return verdict.judge(evidence, memory, None if jobs is None else _listed(jobs), now, limits)


def _listed(jobs: Sequence[JobLine]) -> Listed:
    """A job that is requeued, or was submitted again, has a past beside its present."""
    stages = {job.stage for job in jobs}
    for stage in (Stage.RUNNING, Stage.WAITING, Stage.UNCLEAR):
        if stage in stages:
            return Listed(stage)
    if not jobs:
        return Listed(Stage.MISSING)
    return Listed(Stage.OVER, word_on(jobs), OVER[jobs[-1].state])


def waits_for_word(evidence: Evidence, memory: Memory, listing: Listing | None, jobs: Sequence[JobLine]) -> bool:
    """An end that is not told yet: parts of a gang may still be running, or Slurm knows why it stopped the job."""
    if not (memory.slots > 1 or evidence.ended_for == EndReason.SUPERVISOR_LOST) or memory.ended_since is None:
        return False
    heard = listing is not None and listing.asked > memory.ended_since
    return not heard or any(job.stage is Stage.RUNNING for job in jobs)


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
