"""Values as people read them."""

from yunhe.core.demand import Precision, Work
from yunhe.core.units import format_bytes, format_money, format_work
from yunhe.wire.api import OrderView, OutputView, PriceView, ReasonView, TaskView
from yunhe.wire.ends import end_words
from yunhe.wire.urls import shown

NONE = "-"

PRICE_COLUMNS = (">compute", ">energy", ">transfer", ">line", ">total")


def price_cells(price: PriceView) -> tuple[str, ...]:
    amounts = (
        price.compute_microcny,
        price.energy_microcny,
        price.transfer_microcny,
        price.line_microcny,
        price.total_microcny,
    )
    return tuple(format_money(amount) for amount in amounts)


def price_sentence(price: PriceView) -> str:
    """`0.05CNY (compute 0.04CNY, energy 0.01CNY)`; parts of nothing are left out."""
    compute, energy, transfer, line, total = price_cells(price)
    parts = {
        f"compute {compute}": price.compute_microcny,
        f"energy {energy}": price.energy_microcny,
        f"transfer {transfer}": price.transfer_microcny,
        f"line {line}": price.line_microcny,
    }
    split = ", ".join(text for text, amount in parts.items() if amount)
    return f"{total} ({split})" if split else total


def end_of(task: TaskView) -> str:
    """Why a task's latest attempt ended, in words."""
    if task.reason is None:
        return NONE
    return end_words(task.reason, task.exit_code, task.detail)


def counts(view: OrderView) -> str:
    """`3 succeeded, 17 running`, or the one task's state."""
    undelivered = {"undelivered": view.undelivered}
    return ", ".join(f"{n} {state}" for state, n in (view.tasks | undelivered).items() if n)


def state_of(task: TaskView) -> str:
    """The task's state, and how far its data is while that moves."""
    moving = task.staging
    if moving is None:
        return f"{task.state}, {task.delivery}" if task.delivery else task.state
    of = f" of {format_bytes(moving.total_bytes, 1)}" if moving.total_bytes is not None else ""
    what = "staging" if moving.phase == "in" else "delivering"
    trouble = f" ({moving.problem})" if moving.problem else ""
    return f"{what}, {format_bytes(moving.done_bytes, 1)}{of}{trouble}"


def place_of(output: OutputView) -> str:
    """Where an output is: at the hub, at its URL, or at neither and why."""
    places = ["hub"] if output.stored else []
    if output.url and not output.problem:
        places.append(shown(output.url))
    return ", ".join([*places, *([f"not delivered: {output.problem}"] if output.problem else [])])


def reason(view: ReasonView) -> str:
    """`latency: needs <= 20ms rtt to shanghai, has 27.1ms`."""
    later = "" if view.lasting else " (may pass)"
    return f"{view.code}: needs {view.need}, has {view.have}{later}"


def delivered(flop_by_precision: dict[str, int]) -> str:
    """Compute that was delivered, each precision by itself: they are never added."""
    known = set(Precision)
    parts = [format_work(Work(n, Precision(p)), 3) for p, n in flop_by_precision.items() if p in known and n]
    return ", ".join(parts) or NONE
