"""What is said of a lease that has ended, from what the engine says."""

from yunhe.core.lifecycle import EndReason
from yunhe.site.drivers.contract import LeaseKey, Phase, Status
from yunhe.site.spool import Event, Started, Used
from yunhe.wire.link import UsageTotals

NOTHING = UsageTotals(wall_ms=0, cpu_ms=0, peak_memory_bytes=0, sampled=True)


def lost(started: bool, totals: UsageTotals | None) -> Status:
    """Of a lease of which the engine has no trace. `totals`: as they were last known."""
    return Status(
        Phase.ENDED,
        started=started,
        totals=totals or NOTHING,
        reason=EndReason.SUPERVISOR_LOST,
        detail="the engine has no trace of it; the host may have been restarted",
    )


def usage(key: LeaseKey, status: Status) -> list[Event]:
    """The last word on what an ended job used; nothing when it never ran."""
    if not status.started:
        return []
    return [Started(key, status.started_utc_ms), Used(key, status.totals or NOTHING, final=True)]
