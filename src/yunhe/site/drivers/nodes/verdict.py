"""What is known of a lease, and what to do about it, from its folder and from the engine's list. Pure.

| folder                      | the engine lists it | it is                                                       |
|-----------------------------|---------------------|-------------------------------------------------------------|
| exit record                 |                     | ended, as the record says                                   |
| claim, signs of life        |                     | started, also where the engine is away or has forgotten it  |
| claim, silent               | running             | started (accepted before the first record)                  |
| claim, silent               | waiting, over, not  | unknown; after `lost` lost, never a success                 |
| claim, silent               | cannot be asked     | unknown                                                     |
| no claim                    | waiting             | accepted                                                    |
| no claim                    | running             | accepted; after `start` sealed: it could not be started     |
| no claim                    | over                | sealed, so that it never starts; it could not be started    |
| no claim                    | not at all          | unknown; after `vanished` submitted again                   |
| no claim                    | cannot be asked     | unknown                                                     |
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from yunhe.core.lifecycle import EndReason
from yunhe.site.drivers.contract import Phase, Status
from yunhe.site.drivers.nodes.folder import Evidence


class Stage(StrEnum):
    """Where a job stands in its engine. How it ended says the record of its supervisor, never the stage."""

    WAITING = "waiting"
    RUNNING = "running"  # or winding up: its processes may still be there
    OVER = "over"
    UNCLEAR = "unclear"  # a state that is newer than the driver's table
    MISSING = "missing"  # not listed


class Listed(NamedTuple):
    """The engine's word on a lease. `reason`: for one that had started, is over, and left no record of its end."""

    stage: Stage
    words: str = ""
    reason: EndReason = EndReason.SUPERVISOR_LOST


class Act(StrEnum):
    NOTHING = "nothing"
    PLACE = "place"  # submit it again
    SEAL = "seal"  # see to it that it never starts, and record the end
    LOSE = "lose"  # record the end in the name of its supervisor
    STOP = "stop"  # the engine's own cancel: the supervisor does not follow


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reason` and `detail` belong to SEAL and LOSE."""

    phase: Phase
    act: Act = Act.NOTHING
    reason: EndReason = EndReason.SUPERVISOR_LOST
    detail: str = ""
    unexplained: bool = False  # neither a record nor the engine's list says why it ended


@dataclass(slots=True)
class Memory:
    """What this agent has seen of a lease; monotonic s. An agent that was restarted begins anew, and waits longer."""

    placed: float | None = None  # the engine was last asked, with or without an answer
    placing: bool = False
    tries: int = 0
    pulse: tuple[int, ...] = ()
    pulse_at: float = 0.0
    missed_since: float | None = None  # the engine does not list it
    running_since: float | None = None  # the engine calls it running, and no supervisor has begun
    cancelled_since: float | None = None
    notice: float = 0.0  # s that the job has to save its work before it is stopped
    acknowledged: bool = False
    status: Status | None = None  # while it runs, as read at `status_pulse`
    status_pulse: tuple[int, ...] = ()

    def see(self, evidence: Evidence, now: float) -> None:
        if evidence.pulse != self.pulse:
            self.pulse, self.pulse_at = evidence.pulse, now
        if evidence.cancel and self.cancelled_since is None:
            self.cancelled_since = now


@dataclass(frozen=True, slots=True)
class Rules:
    """Limits in seconds. `engine` is its name for people."""

    engine: str
    pulse: float  # a supervisor that wrote nothing for so long shows no sign of life
    vanished: float
    start: float
    lost: float
    cancel_hard: float
    tries: int


def judge(evidence: Evidence, memory: Memory, listed: Listed | None, now: float, rules: Rules) -> Verdict:
    """`listed` None: the engine cannot be asked, or its list is older than the last submit. `memory` has seen
    `evidence`."""
    if not evidence.prepared:
        return Verdict(Phase.ABSENT)
    if evidence.ended_for:
        return Verdict(Phase.ENDED)
    if evidence.claimed:
        return _claimed(evidence, memory, listed, now, rules)
    return _unclaimed(memory, listed, now, rules)


def _claimed(evidence: Evidence, memory: Memory, listed: Listed | None, now: float, rules: Rules) -> Verdict:
    silent = now - memory.pulse_at
    running = Phase.STARTED if evidence.started else Phase.ACCEPTED
    alive = running if silent <= rules.pulse else Phase.UNKNOWN
    if listed is None or listed.stage is Stage.UNCLEAR:
        memory.missed_since = None
        return Verdict(alive)
    if listed.stage is Stage.RUNNING:
        memory.missed_since = None
        late = memory.cancelled_since is not None and now - memory.cancelled_since > rules.cancel_hard + memory.notice
        return Verdict(running, Act.STOP if late else Act.NOTHING)
    if memory.missed_since is None:
        memory.missed_since = now
    if silent > rules.pulse and min(silent, now - memory.missed_since) >= rules.lost:
        reason = EndReason(evidence.cancel) if evidence.cancel else listed.reason
        unexplained = listed.stage is Stage.MISSING and not evidence.cancel
        words = listed.words or f"{rules.engine} does not know it any more"
        return Verdict(Phase.UNKNOWN, Act.LOSE, reason, words, unexplained)
    return Verdict(alive)


def _unclaimed(memory: Memory, listed: Listed | None, now: float, rules: Rules) -> Verdict:
    if listed is None or memory.placing:
        memory.missed_since = None
        return Verdict(Phase.UNKNOWN)
    if listed.stage in (Stage.WAITING, Stage.RUNNING):
        memory.missed_since = None
        return _to_begin(memory, listed.stage, now, rules)
    memory.running_since = None
    if listed.stage is Stage.UNCLEAR:
        return Verdict(Phase.UNKNOWN)
    if listed.stage is Stage.OVER:
        return Verdict(Phase.UNKNOWN, Act.SEAL, EndReason.SPAWN_FAILED, f"it did not start: {listed.words}")
    if memory.missed_since is None:
        memory.missed_since = now
    if now - memory.missed_since < rules.vanished:
        return Verdict(Phase.UNKNOWN)
    if memory.tries < rules.tries:
        return Verdict(Phase.UNKNOWN, Act.PLACE)
    return Verdict(Phase.UNKNOWN, Act.SEAL, EndReason.SPAWN_FAILED, f"{rules.engine} lost it {memory.tries} times")


def _to_begin(memory: Memory, stage: Stage, now: float, rules: Rules) -> Verdict:
    """The engine calls it running, and nothing happens: the node cannot start it."""
    if stage is Stage.WAITING:
        memory.running_since = None
    elif memory.running_since is None:
        memory.running_since = now
    elif now - memory.running_since > rules.start:
        detail = f"{rules.engine} calls it running for {rules.start:g} s, and nothing has begun"
        return Verdict(Phase.ACCEPTED, Act.SEAL, EndReason.SPAWN_FAILED, detail)
    return Verdict(Phase.ACCEPTED)
