"""What orders are made of, in the viewer's language. A newer hub may say what this console has no word for."""

import re
from functools import cache

from yunhe.console import wording
from yunhe.console.view import View
from yunhe.core.lifecycle import EndReason, OrderState
from yunhe.wire.api import OrderView, TaskView

COLOURS = {
    "booked": "purple-8",
    "open": "orange-9",
    "running": "blue-8",
    "succeeded": "green-8",
    "failed": "red-8",
    "unknown": "orange-9",
}
OTHER_COLOUR = "grey-7"
NONE = "–"


def word(view: View, table: str, name: str) -> str:
    """Of a table of the texts; the name itself where there is none."""
    return wording.texts(view.session.language).get(f"{table}.{name}", name)


def phrases(view: View, text: str) -> str:
    """What the hub says of a need or of what there is, with the phrases of it that are known in the viewer's words."""
    known, pattern = _phrases(view.session.language)
    return pattern.sub(lambda found: known[found[0]], text)


@cache
def _phrases(language: str) -> tuple[dict[str, str], re.Pattern[str]]:
    table = "phrases."
    texts = wording.texts(language).items()
    known = {key.removeprefix(table): text for key, text in texts if key.startswith(table)}
    longest_first = sorted(known, key=len, reverse=True)
    return known, re.compile(r"(?<![\w.:-])(?:" + "|".join(map(re.escape, longest_first)) + r")(?![\w.:-])")


def state(view: View, name: str) -> str:
    return word(view, "states", name)


def colour(name: str) -> str:
    return COLOURS.get(name, OTHER_COLOUR)


def counts(view: View, order: OrderView) -> str:
    """`3 succeeded, 17 running`."""
    undelivered = {"undelivered": order.undelivered}
    return ", ".join(f"{n} {state(view, name)}" for name, n in (order.tasks | undelivered).items() if n)


def end_of(view: View, task: TaskView) -> str:
    """Why a task's latest attempt ended; a dash while it goes on."""
    if task.reason is None:
        return NONE
    text = word(view, "ends", task.reason)
    if task.reason == EndReason.EXITED and task.exit_code is not None:
        text = f"{text} {task.exit_code}"
    return f"{text}: {task.detail}" if task.detail else text


STATES = tuple(state.value for state in OrderState)
