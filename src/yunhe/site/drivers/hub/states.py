"""What the lower hub says of an order, as the state of the lease that it stands for. Pure.

One attempt of the lease above is at most one attempt below that began. Before a begin the lower hub may try as many
places as it likes. After one it may not start again unseen: the time that the customer was told as used, and the run
limit, belong to one run. So an attempt that began and that its site below did not bring to an end is the end of the
lease, for the same reason; both hubs charge nothing for it, and the hub above places the task anew.
"""

from typing import NamedTuple

from yunhe.core.lifecycle import DISPUTED, ORDER_ENDED, EndReason, TaskState
from yunhe.site.drivers.contract import Moving, Phase, Status
from yunhe.wire.api import AttemptView, LookView
from yunhe.wire.link import LeaseStaging, UsageTotals

MAX_DETAIL = 300
# A run that was stopped from outside: by this site, or by somebody at the lower hub.
STOPPED = (EndReason.CANCELLED, EndReason.WITHDRAWN)


class Seen(NamedTuple):
    """`take_back`: the order below has to be cancelled before the lease is over."""

    status: Status
    take_back: bool = False


def seen(view: LookView, asked: EndReason | None) -> Seen:
    """`asked`: why this site cancels it, None when it does not."""
    began = next((attempt for attempt in view.attempts if attempt.started or attempt.wall_ms), None)
    over = view.order.state in ORDER_ENDED
    if began is not None and began.end_reason is not None and EndReason(began.end_reason) in DISPUTED:
        reason = EndReason(began.end_reason)
        if not over:
            return Seen(Status(Phase.UNKNOWN, started=True), take_back=True)
        return Seen(_ended(view, began, reason, view.task.detail or "the site below gave it up"))
    if over:
        reason, detail = _reason(view, asked)
        return Seen(_ended(view, began, reason, detail))
    if view.task.state is TaskState.UNKNOWN:
        return Seen(Status(Phase.UNKNOWN, started=began is not None))
    if view.task.state is TaskState.RUNNING and began is not None:
        totals = _totals(began)
        return Seen(Status(Phase.STARTED, True, view.task.started_utc_ms or 0, totals, moving=_moving(view)))
    return Seen(Status(Phase.ACCEPTED, moving=_moving(view)))


def _moving(view: LookView) -> Moving | None:
    """How far its data is below. Raises ValueError for what no hub says."""
    staging = view.task.staging
    if staging is None:
        return None
    told = LeaseStaging(seq=0, lease_id="x", epoch=0, **{**staging.model_dump(), "problem": staging.problem[:300]})
    return Moving(told.phase, told.done_bytes, told.total_bytes, told.problem)


def sound(view: LookView) -> bool:
    """Whether it can be the state of a lease: names and numbers of another version of the hub, or of none, cannot."""
    try:
        seen(view, None)
    except ValueError:
        return False
    return abs(view.task.exit_code or 0) < 2**31 and 0 <= (view.task.started_utc_ms or 0) < 2**53


def _reason(view: LookView, asked: EndReason | None) -> tuple[EndReason, str]:
    task = view.task
    reason = EndReason(task.reason) if task.reason else EndReason.SUPERVISOR_LOST
    if reason in STOPPED:
        # Nobody above asked for it: then it is not the customer's cancel, and not for the customer to pay.
        return (
            (asked, task.detail)
            if asked
            else (EndReason.SITE_REFUSED, "cancelled at the lower hub, by others or because this site was silent")
        )
    if reason is EndReason.DEADLINE_MISSED:
        return asked or EndReason.SPAWN_FAILED, "the lower hub had no room for it in time"
    return reason, task.detail


def _ended(view: LookView, began: AttemptView | None, reason: EndReason, detail: str) -> Status:
    return Status(
        Phase.ENDED,
        started=began is not None,
        started_utc_ms=(view.task.started_utc_ms or 0) if began else 0,
        totals=_totals(began) if began else None,
        reason=reason,
        exit_code=view.task.exit_code,
        detail=detail[:MAX_DETAIL],
    )


def _totals(attempt: AttemptView) -> UsageTotals:
    return UsageTotals(
        wall_ms=attempt.wall_ms,
        cpu_ms=attempt.cpu_ms,
        peak_memory_bytes=attempt.peak_memory_bytes,
        sampled=attempt.sampled,
    )


def differs(before: LookView | None, now: LookView) -> bool:
    """Whether the state changed, or data moved on; what a running attempt has used is no news."""
    if before is None:
        return True
    if before.task.staging != now.task.staging:
        return True
    return (before.task.state, before.task.epoch) != (now.task.state, now.task.epoch) or (
        before.order.state != now.order.state and now.order.state in ORDER_ENDED
    )


def shown_attempt(view: LookView | None) -> int:
    """The attempt whose log is the lease's: the one that began, else the newest."""
    if view is None or not view.attempts:
        return 0
    return next((attempt.epoch for attempt in view.attempts if attempt.started), view.attempts[-1].epoch)
