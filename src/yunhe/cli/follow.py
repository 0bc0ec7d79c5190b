"""Watching an order until it is over, and copying its log."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console

from yunhe.cli.failure import FAILED, OK, TIMED_OUT, remark
from yunhe.cli.output import clean
from yunhe.cli.wording import counts, end_of
from yunhe.core.lifecycle import ORDER_ENDED, OrderState, TaskState
from yunhe.core.units import format_money, format_span
from yunhe.sdk.client import Client
from yunhe.sdk.orders import done
from yunhe.wire.api import OrderView

Tell = Callable[[str], None]

MOST_FAILURES = 5


def settle(hub: Client, order_ids: Sequence[str], timeout_s: float | None) -> list[OrderView]:
    """Watch orders until all are over or the time is; progress goes to stderr. The last view of each."""
    end = None if timeout_s is None else time.monotonic() + timeout_s
    views = []
    for order_id in order_ids:
        left = None if end is None else max(0.0, end - time.monotonic())
        with _interruptible(order_id):
            views.append(_watch(hub, order_id, left))
    return views


def verdict(views: Sequence[OrderView]) -> int:
    """The exit code for orders that were waited for."""
    if not all(done(view) for view in views):
        return TIMED_OUT
    return OK if all(view.state is OrderState.SUCCEEDED for view in views) else FAILED


def tell_end(hub: Client, view: OrderView, tell: Tell = print) -> None:
    """One line on how an order ended and what it cost; for failed tasks why, and where to look."""
    if not done(view):
        remark(f"{view.id} is still {view.state}; it goes on: yunhe wait {view.id}")
        return
    took = format_span((view.ended_utc_ms or view.submitted_utc_ms) - view.submitted_utc_ms)
    tell(f"{view.id} {view.state} after {took}, charged {format_money(view.charged_microcny)}")
    if view.state is not OrderState.FAILED:
        return
    failed = [task for task in hub.order(view.id).task_list if task.state is TaskState.FAILED]
    for task in failed[:MOST_FAILURES]:
        at = f" at {task.site_id}" if task.site_id else ""
        remark(f"  task {task.index}{at}: {clean(end_of(task))}; its log: yunhe logs {view.id} --task {task.index}")
    if len(failed) > MOST_FAILURES:
        remark(f"  and {len(failed) - MOST_FAILURES} more tasks: yunhe show {view.id}")


def copy_log(hub: Client, order_id: str, task: int, follow: bool, attempt: int | None = None) -> None:
    """The log's bytes to stdout as they are: a program's output is not ours to change."""
    sys.stdout.flush()
    empty = True
    with _interruptible(order_id):
        for chunk in hub.log_chunks(order_id, task=task, follow=follow, attempt=attempt):
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
            empty = False
    if empty:
        remark(f"nothing in the log of task {task}; where the order is: yunhe why {order_id}")


@contextmanager
def _interruptible(order_id: str) -> Iterator[None]:
    """Ctrl-C ends the looking on, not the order: say so."""
    try:
        yield
    except KeyboardInterrupt:
        remark(f"\nno longer looking at {order_id}, which goes on; to stop it: yunhe cancel {order_id}")
        raise


def _watch(hub: Client, order_id: str, timeout_s: float | None) -> OrderView:
    """Show each change: in place on a terminal, else one line per change of state."""
    views = hub.watch(order_id, timeout_s)
    if sys.stderr.isatty():
        with Console(stderr=True).status(f"{order_id}") as status:
            for view in views:
                latest = view
                status.update(f"{order_id} {_progress(view)}")
        return latest
    state: OrderState | None = None
    for view in views:
        latest = view
        if view.state is not state and view.state not in ORDER_ENDED:  # its end is told by who waits
            remark(f"{order_id} {_progress(view)}")
            state = view.state
    return latest


def _progress(view: OrderView) -> str:
    return view.state if view.array == 1 else f"{view.state}: {counts(view)}"
