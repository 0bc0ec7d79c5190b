"""What to do with the hub's instructions: worked out for a whole batch before anything is done."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from yunhe.core.lifecycle import EndReason
from yunhe.site.drivers.contract import LeaseKey
from yunhe.site.spool import Applied, Ended, HeldLease, LeaseState
from yunhe.wire.link import CancelLease, CertifyNow, ProveNow, SiteInstruction, StartLease


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the site stands when the batch comes. Times are CLOCK_BOOTTIME ms."""

    applied_seq: int
    held: Mapping[LeaseKey, LeaseState]
    boot: str
    sent_ms: int  # when the poll was sent that this batch answers
    now_ms: int
    refusing: str = ""  # why the site takes nothing new; empty: it does
    programs: Sequence[str] = ()
    longest_ms: int | None = None  # run limit that the site takes


@dataclass(slots=True)
class _Batch:
    accepted: dict[LeaseKey, HeldLease] = field(default_factory=dict)
    cancelled: dict[LeaseKey, EndReason] = field(default_factory=dict)
    ended: dict[LeaseKey, Ended] = field(default_factory=dict)
    certify_seq: int = 0
    prove: ProveNow | None = None


def decide(instructions: Sequence[SiteInstruction], standing: Standing) -> Applied | None:
    """The net effect of the instructions that are new; None when there are none.

    A start that a cancel of the same batch follows never runs, and still ends in one report.
    """
    fresh = sorted((i for i in instructions if i.seq > standing.applied_seq), key=lambda i: i.seq)
    if not fresh:
        return None
    batch = _Batch()
    for instruction in fresh:
        match instruction:
            case StartLease():
                _start(batch, instruction, standing)
            case CancelLease():
                _cancel(batch, instruction, standing)
            case CertifyNow():
                batch.certify_seq = instruction.seq
            case ProveNow():
                batch.prove = instruction
    return Applied(
        seq=fresh[-1].seq,
        accepted=tuple(batch.accepted.values()),
        cancelled=tuple(batch.cancelled.items()),
        certify_seq=batch.certify_seq,
        prove=batch.prove,
        ended=tuple(batch.ended.values()),
    )


def _start(batch: _Batch, start: StartLease, standing: Standing) -> None:
    key = LeaseKey(start.lease_id, start.epoch)
    if key in standing.held or key in batch.accepted or key in batch.ended:
        return
    if standing.now_ms - standing.sent_ms >= start.disconnect_limit_ms:
        late = "the instruction took longer than the disconnect limit to arrive"
        batch.ended[key] = Ended(key, EndReason.DISCONNECTED, detail=late)
    elif standing.refusing:
        batch.ended[key] = Ended(key, EndReason.SITE_REFUSED, detail=standing.refusing)
    elif standing.programs and not any(fnmatchcase(start.command[0], pattern) for pattern in standing.programs):
        refusal = f"this site does not run {start.command[0]!r}"
        batch.ended[key] = Ended(key, EndReason.SITE_REFUSED, detail=refusal)
    elif standing.longest_ms is not None and start.run_limit_ms > standing.longest_ms:
        refusal = f"this site takes no runs of more than {standing.longest_ms} ms now"
        batch.ended[key] = Ended(key, EndReason.SITE_REFUSED, detail=refusal)
    else:
        batch.accepted[key] = HeldLease(start, LeaseState.ACCEPTED, standing.sent_ms, standing.boot)


def _cancel(batch: _Batch, cancel: CancelLease, standing: Standing) -> None:
    key = LeaseKey(cancel.lease_id, cancel.epoch)
    if key in batch.accepted:
        del batch.accepted[key]
        batch.ended[key] = Ended(key, cancel.reason, detail="cancelled before it was started")
    elif key in standing.held:
        if standing.held[key] is not LeaseState.ENDED:
            batch.cancelled.setdefault(key, cancel.reason)
    elif key not in batch.ended and cancel.reason is EndReason.LOST:
        # The hub counts on a lease that this spool has never seen, and wants to hear that nothing of it runs.
        batch.ended[key] = Ended(key, EndReason.LOST, detail="not held here")
