"""An order's way: its facts as a timeline, its tasks, and why it is where it is."""

from nicegui import ui

from yunhe.console.orders import words
from yunhe.console.orders.candidates import placings
from yunhe.console.orders.reasons import reasons
from yunhe.console.view import View
from yunhe.core.lifecycle import ORDER_ENDED, EndReason, OrderState
from yunhe.core.units import format_bytes, format_span
from yunhe.wire.api import FactView, OrderDetail, TaskView, WhyView

MAX_FACTS = 60
MAX_TASKS = 200
_TASK_PAGE = 10


def timeline(view: View, order: OrderDetail) -> None:
    """The newest facts, oldest of them first; each says how long after the one before it came."""
    shown = order.facts[-MAX_FACTS:]
    if len(order.facts) > len(shown):
        ui.label(view.say("order.earlier", count=len(order.facts) - len(shown))).classes("yunhe-soft")
    before_ms = None
    with ui.element("ol").classes("yunhe-way"):
        for fact in shown:
            with ui.element("li"):
                with ui.row().classes("items-baseline full-width no-wrap"):
                    ui.label(words.word(view, "facts", fact.kind)).classes("text-weight-bold")
                    ui.label(_whose(view, order, fact)).classes("yunhe-soft")
                    ui.space()
                    if before_ms is not None:
                        ui.label(f"+{format_span(max(0, fact.utc_ms - before_ms))}").classes("yunhe-soft")
                    before_ms = fact.utc_ms
                ui.label(view.moment(fact.utc_ms)).classes("yunhe-soft yunhe-digits")
                if fact.detail:
                    ui.label(detail_of(view, fact)).classes("yunhe-break")


def detail_of(view: View, fact: FactView) -> str:
    """Reasons of an end in words; all else as the hub says it."""
    reason, _, rest = fact.detail.partition(" ")
    if reason in list(EndReason):
        return f"{words.word(view, 'ends', reason)} {rest}".strip()
    if fact.kind == "unknown" and fact.detail == "site silent":
        return view.say("order.silent")
    return words.phrases(view, fact.detail) if fact.kind in ("settled", "preempted") else fact.detail


def _whose(view: View, order: OrderDetail, fact: FactView) -> str:
    if fact.lease_id is None:
        return ""
    said = [view.say("order.task_n", n=index_of(fact.lease_id))] if order.array > 1 else []
    if fact.epoch and fact.epoch > 1:
        said.append(view.say("order.attempt_n", n=fact.epoch))
    return ", ".join(said)


def index_of(lease_id: str) -> str:
    """The number of a task, which its lease's id ends with."""
    return lease_id.rpartition(".")[2]


def tasks(view: View, order: OrderDetail) -> None:
    names = ("task", "state", "site", "attempt", "ran", "ended", "started")
    columns = [{"name": n, "label": view.say(f"order.{n}"), "field": n, "align": "left"} for n in names]
    rows = [_task_row(view, task) for task in order.task_list[:MAX_TASKS]]
    more = order.array - len(rows)
    with ui.element("div").classes("yunhe-wide"):
        table = ui.table(columns=columns, rows=rows, row_key="task", pagination=_TASK_PAGE if len(rows) > 10 else None)
        table.classes("full-width").props("flat bordered dense")
    if more > 0:
        ui.label(view.say("order.more_tasks", count=more, id=order.id)).classes("yunhe-soft")


def _task_row(view: View, task: TaskView) -> dict[str, object]:
    ran = words.NONE
    if task.started_utc_ms is not None and task.ended_utc_ms is not None:
        ran = format_span(max(0, task.ended_utc_ms - task.started_utc_ms))
    return {
        "task": task.index,
        "state": _state(view, task),
        "site": task.pool_id or words.NONE,
        "attempt": task.epoch,
        "started": view.moment(task.started_utc_ms),
        "ran": ran,
        "ended": words.end_of(view, task),
    }


def _state(view: View, task: TaskView) -> str:
    """The task's state, and how far its data is while that moves."""
    moving = task.staging
    if moving is None:
        said = [words.state(view, task.state)]
        return ", ".join([*said, words.state(view, task.delivery)] if task.delivery else said)
    of = f" / {format_bytes(moving.total_bytes, 1)}" if moving.total_bytes is not None else ""
    what = view.say("order.moving_in" if moving.phase == "in" else "order.moving_out")
    done = f"{what} {format_bytes(moving.done_bytes, 1)}{of}"
    return f"{done} ({moving.problem})" if moving.problem else done


# --- why -----------------------------------------------------------------------------------------------------------


def why(view: View, order: OrderDetail, found: WhyView) -> None:
    ui.label(summary(view, order, found)).props("role=status")
    placings(view, found.placings)
    if found.sites:
        reasons(view, found.sites)


def summary(view: View, order: OrderDetail, found: WhyView) -> str:
    """What the hub's own summary says, in the viewer's language."""
    places = ", ".join(sorted({task.pool_id for task in order.task_list if task.pool_id is not None})) or words.NONE
    if found.state in ORDER_ENDED:
        ends = "; ".join(sorted({words.end_of(view, task) for task in order.task_list if task.reason}))
        return view.say("why.over", state=words.state(view, found.state), places=places, ends=ends or words.NONE)
    if not found.sites:
        return view.say("why.no_site" if found.state is OrderState.OPEN else "why.placed", places=places)
    if any(not site.reasons for site in found.sites):
        return view.say("why.next_round")
    busy = sum(all(not reason.lasting for reason in site.reasons) for site in found.sites)
    return view.say("why.busy", busy=busy, pools=len(found.sites)) if busy else view.say("why.never")
