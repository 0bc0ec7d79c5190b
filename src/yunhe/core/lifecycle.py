"""The life of one task: `step(task, event, now_ms) -> Step`. Pure; the hub and the simulator both walk it.

A task is one array element (or the only one) of an order.  Its lease id is the task's id; every placement
gives the lease a new epoch, and events of an older epoch never change the task (they are fenced).

    pending -> leased -> running -> succeeded | failed | cancelled
       ^         |  ^       |  ^
       |         v  |       v  |
       |        unknown   unknown      the site is silent: disconnected is not failed
       +-------- lost <------+         only after the site itself must have stopped the job
       +------ preempted               others needed the units; what was kept goes along
    pending -> withdrawn               cancelled before it was ever placed
    pending -> booked -> leased        units are promised to it for later; lost where they are not there then: pending
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from yunhe.core.errors import Conflict
from yunhe.core.task_events import (
    Booked,
    BookingLost,
    CancelRequested,
    DeadlinePassed,
    Ended,
    EndReason,
    Event,
    GivenUp,
    Overdue,
    Placed,
    Reclaimed,
    SiteBack,
    SiteSilent,
    Started,
)

__all__ = [
    "Booked",
    "BookingLost",
    "CancelRequested",
    "DISPUTED",
    "DeadlinePassed",
    "ENDED",
    "EndReason",
    "Ended",
    "Event",
    "GivenUp",
    "Instruction",
    "InstructionKind",
    "MAX_PREEMPTED_DELAY_MS",
    "MAX_PREEMPTIONS",
    "MAX_SITE_FAULTS",
    "ORDER_ENDED",
    "OrderState",
    "Overdue",
    "PLACED",
    "Placed",
    "RETRY_DELAY_MS",
    "Reclaimed",
    "SAID_AFTER_START",
    "SAID_BEFORE_START",
    "SITE_FAULTS",
    "SiteBack",
    "SiteSilent",
    "Started",
    "Step",
    "Task",
    "TaskState",
    "WAITING",
    "order_state",
    "step",
]


class TaskState(StrEnum):
    PENDING = "pending"
    BOOKED = "booked"  # the place is known, and when it starts there
    LEASED = "leased"  # the start instruction is written
    RUNNING = "running"
    UNKNOWN = "unknown"  # its site is silent
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    WITHDRAWN = "withdrawn"


ENDED = frozenset({TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED, TaskState.WITHDRAWN})
WAITING = frozenset({TaskState.PENDING, TaskState.BOOKED})
PLACED = frozenset({TaskState.LEASED, TaskState.RUNNING, TaskState.UNKNOWN})


# Not the customer's doing: charged 0, disputed, and placed again without using up a retry of the customer.
SITE_FAULTS = frozenset(
    {
        EndReason.SPAWN_FAILED,
        EndReason.DISK_FULL,
        EndReason.DATA_UNREACHABLE,
        EndReason.SITE_REFUSED,
        EndReason.DISCONNECTED,
        EndReason.SUPERVISOR_LOST,
        EndReason.LOST,
    }
)
MAX_SITE_FAULTS = 5
RETRY_DELAY_MS = 1_000  # doubled with every fault, so that a broken site is not asked in a loop
# What a site may say of an attempt's end, before its start and after. A false word among these earns it nothing: before
# a start there is no charge; a failure that it makes up costs it the rest of the lease, and the hub's clock bounds what
# is paid. Any other word is taken for the site's fault: a success without a start, an exit without a code, a cancel
# that nobody asked for, an end that only the hub can know of.
SAID_BEFORE_START = SITE_FAULTS | {EndReason.DATA_IN_FAILED, EndReason.PREEMPTED}
SAID_AFTER_START = SITE_FAULTS | {
    EndReason.EXITED,
    EndReason.MEMORY_LIMIT,
    EndReason.TIME_LIMIT,
    EndReason.PREEMPTED,
}
# Only what the customer keeps of such an attempt is charged: of a site's fault nothing, of a preemption what was
# saved. The rest is recorded and disputed.
DISPUTED = SITE_FAULTS | {EndReason.PREEMPTED}
# Preemptions in a row of which nothing was kept. One that kept something starts the count again, and the time kept is
# bounded by the run limit; so a busy site ends no order that makes progress, and none goes round for ever.
MAX_PREEMPTIONS = 20
MAX_PREEMPTED_DELAY_MS = 60_000


@dataclass(frozen=True, slots=True)
class Task:
    lease_id: str
    state: TaskState = TaskState.PENDING
    epoch: int = 0  # of the latest lease; 0: never placed
    site_id: str | None = None
    pool_id: str | None = None
    retries_left: int = 0  # for exits other than 0, by the customer's wish
    site_faults: int = 0
    preemptions: int = 0  # in a row, without anything kept
    not_before_ms: int = 0  # pending: earliest next placement
    cancel_requested: bool = False
    stopping: bool = False  # in this epoch its site was told to stop it
    started: bool = False  # in this epoch
    exit_code: int | None = None
    reason: EndReason | None = None


# --- results --------------------------------------------------------------------------------------------------


class InstructionKind(StrEnum):
    START = "start"
    CANCEL = "cancel"


@dataclass(frozen=True, slots=True)
class Instruction:
    kind: InstructionKind
    lease_id: str
    epoch: int
    reason: EndReason | None = None  # of a cancel


@dataclass(frozen=True, slots=True)
class Step:
    """`facts` are (kind, detail) pairs for the append-only log; `released` frees the lease's units."""

    task: Task
    facts: tuple[tuple[str, str], ...] = ()
    instructions: tuple[Instruction, ...] = ()
    released: bool = False

    @property
    def changed(self) -> bool:
        return bool(self.facts or self.instructions or self.released)


def step(task: Task, event: Event, now_ms: int) -> Step:
    """Apply one event. Events that are late, doubled or fenced return the task as it is.

    Raises Conflict only for `Placed` and `Booked` on a task that does not wait: that is a bug of the caller, not luck.
    """
    match event:
        case Placed(site_id, pool_id):
            return _placed(task, site_id, pool_id)
        case Booked():
            return _booked(task, event)
        case BookingLost(detail):
            if task.state is TaskState.BOOKED:
                return Step(_unbooked(task), (("booking_lost", detail),))
        case Started(epoch):
            return _started(task, epoch)
        case Ended():
            return _ended(task, event, now_ms)
        case CancelRequested():
            return _cancel_requested(task)
        case Reclaimed(epoch):
            return _reclaimed(task, epoch)
        case SiteSilent():
            if task.state in (TaskState.LEASED, TaskState.RUNNING):
                return Step(replace(task, state=TaskState.UNKNOWN), (("unknown", "site silent"),))
        case SiteBack():
            if task.state is TaskState.UNKNOWN:
                back = TaskState.RUNNING if task.started else TaskState.LEASED
                return Step(replace(task, state=back), (("reconnected", ""),))
        case GivenUp():
            if task.state is TaskState.UNKNOWN:  # a site that has spoken since is not given up
                return _fenced(task, now_ms)
        case Overdue():
            return _overdue(task, now_ms)
        case DeadlinePassed():
            if task.state in WAITING:
                return _over(_unbooked(task), TaskState.FAILED, EndReason.DEADLINE_MISSED, None)
    return Step(task)


def _placed(task: Task, site_id: str, pool_id: str) -> Step:
    if task.state not in WAITING:
        raise Conflict(f"task {task.lease_id} is {task.state}, not pending")
    leased = replace(
        task,
        state=TaskState.LEASED,
        epoch=task.epoch + 1,
        site_id=site_id,
        pool_id=pool_id,
        stopping=False,
        started=False,
        exit_code=None,
        reason=None,
    )
    start = Instruction(InstructionKind.START, task.lease_id, leased.epoch)
    return Step(leased, (("leased", pool_id),), (start,))


def _booked(task: Task, event: Booked) -> Step:
    if task.state is not TaskState.PENDING:
        raise Conflict(f"task {task.lease_id} is {task.state}, not pending")
    booked = replace(task, state=TaskState.BOOKED, site_id=event.site_id, pool_id=event.pool_id)
    return Step(booked, (("booked", event.detail),))


def _unbooked(task: Task) -> Task:
    """Without the place that was promised, if there was one."""
    if task.state is not TaskState.BOOKED:
        return task
    return replace(task, state=TaskState.PENDING, site_id=None, pool_id=None)


def _started(task: Task, epoch: int) -> Step:
    if epoch != task.epoch or task.started or task.state not in PLACED:
        return Step(task)
    return Step(replace(task, state=TaskState.RUNNING, started=True), (("started", ""),))


def _ended(task: Task, event: Ended, now_ms: int) -> Step:
    if event.epoch != task.epoch or task.state not in PLACED:
        return Step(task)
    if not _believed(task, event):
        reason = EndReason.SUPERVISOR_LOST if task.started else EndReason.SPAWN_FAILED
        doubt = "disbelieved", _describe(event.reason, event.exit_code)
        end = _attempt_over(task, reason, None, now_ms)
        return replace(end, facts=(doubt, *end.facts))
    if event.reason is EndReason.PREEMPTED:
        return _preempted(task, event if task.started else replace(event, kept_ms=0), now_ms)
    return _attempt_over(task, event.reason, event.exit_code, now_ms)


def _believed(task: Task, event: Ended) -> bool:
    if event.reason is EndReason.CANCELLED:
        return task.cancel_requested
    if event.reason is EndReason.EXITED and event.exit_code is None:
        return False
    return event.reason in (SAID_AFTER_START if task.started else SAID_BEFORE_START)


def _overdue(task: Task, now_ms: int) -> Step:
    """Told to stop first; who was told and is still there is given up. Of a silent site nobody knows: see `GivenUp`."""
    if task.state not in PLACED:
        return Step(task)
    if task.stopping:
        return Step(task) if task.state is TaskState.UNKNOWN else _fenced(task, now_ms)
    # Not started as far as is known: then no limit was used up, and the site is to blame.
    reason = EndReason.TIME_LIMIT if task.started else EndReason.SPAWN_FAILED
    text = "run limit passed without a report" if task.started else "waited too long to be started"
    stop = Instruction(InstructionKind.CANCEL, task.lease_id, task.epoch, reason)
    return Step(replace(task, stopping=True), (("overdue", text),), (stop,))


def _fenced(task: Task, now_ms: int) -> Step:
    """The hub counts on this epoch no more."""
    # The cancel also reaches a site that never got the start: a start then a cancel runs nothing.
    fence = Instruction(InstructionKind.CANCEL, task.lease_id, task.epoch, EndReason.LOST)
    end = _attempt_over(task, EndReason.LOST, None, now_ms)
    return replace(end, instructions=(fence, *end.instructions))


def _preempted(task: Task, event: Ended, now_ms: int) -> Step:
    """Placed again, later each time that nothing was kept; the exit code says only how the job took the signal."""
    if task.cancel_requested:
        return _over(task, TaskState.CANCELLED, event.reason, event.exit_code)
    count = 0 if event.kept_ms else task.preemptions + 1
    if count > MAX_PREEMPTIONS:
        return _over(task, TaskState.FAILED, event.reason, event.exit_code)
    pending = replace(
        task,
        state=TaskState.PENDING,
        preemptions=count,
        not_before_ms=now_ms + min(MAX_PREEMPTED_DELAY_MS, RETRY_DELAY_MS * 2 ** max(0, count - 1)),
        exit_code=event.exit_code,
        reason=event.reason,
    )
    return Step(pending, (("preempted", f"kept {event.kept_ms} ms"),), (), released=True)


def _cancel_requested(task: Task) -> Step:
    if task.state in WAITING:
        if task.epoch == 0:
            return _over(_unbooked(task), TaskState.WITHDRAWN, EndReason.WITHDRAWN, None)
        return _over(_unbooked(task), TaskState.CANCELLED, EndReason.CANCELLED, None)
    if task.state in PLACED and not task.cancel_requested:
        stop = Instruction(InstructionKind.CANCEL, task.lease_id, task.epoch, EndReason.CANCELLED)
        return Step(replace(task, cancel_requested=True, stopping=True), (("cancel_requested", ""),), (stop,))
    return Step(task)


def _reclaimed(task: Task, epoch: int) -> Step:
    """The site ends it as if its own users needed the units: a notice, a checkpoint, and `Ended` as preempted."""
    if epoch != task.epoch or task.stopping or task.state not in (TaskState.LEASED, TaskState.RUNNING):
        return Step(task)
    stop = Instruction(InstructionKind.CANCEL, task.lease_id, task.epoch, EndReason.PREEMPTED)
    return Step(replace(task, stopping=True), (("reclaimed", "for an order that is not spot"),), (stop,))


def _attempt_over(task: Task, reason: EndReason, exit_code: int | None, now_ms: int) -> Step:
    """One lease epoch is over: end the task, or make it pending again."""
    if reason is EndReason.EXITED and exit_code == 0:
        return _over(task, TaskState.SUCCEEDED, reason, exit_code)
    if task.cancel_requested or reason is EndReason.CANCELLED:
        return _over(task, TaskState.CANCELLED, reason, exit_code)
    fault = reason in SITE_FAULTS
    again = task.site_faults < MAX_SITE_FAULTS if fault else (reason is EndReason.EXITED and task.retries_left > 0)
    if not again:
        return _over(task, TaskState.FAILED, reason, exit_code)
    delay = RETRY_DELAY_MS * 2**task.site_faults if fault else RETRY_DELAY_MS
    pending = replace(
        task,
        state=TaskState.PENDING,
        retries_left=task.retries_left - (0 if fault else 1),
        site_faults=task.site_faults + (1 if fault else 0),
        not_before_ms=now_ms + delay,
        exit_code=exit_code,
        reason=reason,
    )
    return Step(pending, (("retry", _describe(reason, exit_code)),), (), released=True)


def _over(task: Task, state: TaskState, reason: EndReason, exit_code: int | None) -> Step:
    ended = replace(task, state=state, reason=reason, exit_code=exit_code)
    return Step(ended, ((state.value, _describe(reason, exit_code)),), (), released=task.state in PLACED)


def _describe(reason: EndReason, exit_code: int | None) -> str:
    return f"{reason.value} {exit_code}" if exit_code is not None else reason.value


# --- the order above its tasks --------------------------------------------------------------------------------


class OrderState(StrEnum):
    OPEN = "open"  # every task waits for a place, the first time or again
    RUNNING = "running"  # a task is placed or has ended, and not all have ended
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    WITHDRAWN = "withdrawn"


ORDER_ENDED = frozenset({OrderState.SUCCEEDED, OrderState.FAILED, OrderState.CANCELLED, OrderState.WITHDRAWN})


def order_state(counts: dict[TaskState, int]) -> OrderState:
    """The state of an order from how many of its tasks are in each state."""
    alive = sum(n for state, n in counts.items() if state not in ENDED)
    if alive:
        touched = any(n for state, n in counts.items() if n and state not in WAITING)
        return OrderState.RUNNING if touched else OrderState.OPEN
    if counts.get(TaskState.FAILED):
        return OrderState.FAILED
    # Withdrawn tasks beside finished ones: the order was cancelled midway.
    if counts.get(TaskState.CANCELLED) or (counts.get(TaskState.SUCCEEDED) and counts.get(TaskState.WITHDRAWN)):
        return OrderState.CANCELLED
    return OrderState.SUCCEEDED if counts.get(TaskState.SUCCEEDED) else OrderState.WITHDRAWN
