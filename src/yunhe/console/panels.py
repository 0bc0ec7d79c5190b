"""What pages are put together from: headings, tables, figures, months, questions before something is changed."""

import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TypeVar
from urllib.parse import urlencode

from nicegui import ui

from yunhe.console.view import View
from yunhe.core.errors import Unauthenticated, YunheError
from yunhe.sdk.client import Client

Answer = TypeVar("Answer")
Act = Callable[[], Awaitable[None]]
Done = Callable[[], None]

NONE = "–"
MAX_WORD_CHARS = 120  # of a parameter of an address
_WIDE = "gt-xs"  # not on a phone
# Text of a cell is escaped by the page's own template language.
_LINK = '<q-td :props="props"><a :href="props.row.address" class="yunhe-link">{{ props.value }}</a></q-td>'
_BADGE = '<q-td :props="props"><q-badge :color="props.row.colour" :label="props.value" v-if="props.value" /></q-td>'


def address(path: str, **query: str | None) -> str:
    """A path with those parameters that say something."""
    given = {name: value for name, value in query.items() if value}
    return f"{path}?{urlencode(given)}" if given else path


def word(view: View, name: str) -> str:
    """A parameter of the page's address, bounded."""
    return view.query.get(name, "")[:MAX_WORD_CHARS].replace("\0", "").strip()


@contextmanager
def card(title: str) -> Iterator[None]:
    with ui.card().classes("yunhe-card"):
        ui.label(title).classes("yunhe-sub").props("role=heading aria-level=2")
        yield


def figures(items: Iterable[tuple[str, str, str]]) -> None:
    """(what it is, figure, remark) side by side."""
    with ui.element("div").classes("yunhe-row"):
        for name, figure, remark in items:
            with ui.element("div").classes("yunhe-card"):
                ui.label(name).classes("yunhe-soft")
                ui.label(figure).classes("yunhe-figure yunhe-break")
                if remark:
                    ui.label(remark).classes("yunhe-soft")


def facts(items: Iterable[tuple[str, str]]) -> None:
    """What it is, and how it is: in columns."""
    with ui.element("dl").classes("yunhe-facts"):
        for name, value in items:
            with ui.element("div"):
                with ui.element("dt"):
                    ui.label(name)
                with ui.element("dd"):
                    ui.label(value or NONE)


def column(name: str, label: str, *, right: bool = False, wide: bool = False, whole: bool = False) -> dict[str, object]:
    """Of `table`; `wide`: left out on a phone; `whole`: words are not broken into lines."""
    made: dict[str, object] = {"name": name, "label": label, "field": name, "align": "right" if right else "left"}
    made |= {"style": "white-space: nowrap"} if whole else {}
    return made | ({"classes": _WIDE, "headerClasses": _WIDE} if wide else {})


def table(
    columns: Sequence[Mapping[str, object]],
    rows: Sequence[Mapping[str, object]],
    *,
    link: str = "",
    badge: str = "",
) -> ui.table:
    """Rows have an `id`. Column `link` leads to the row's `address`; column `badge` has its `colour`."""
    with ui.element("div").classes("yunhe-wide"):
        made = ui.table(columns=[*map(dict, columns)], rows=[*map(dict, rows)], row_key="id")
        made.classes("full-width").props("flat bordered dense wrap-cells")
    if link:
        made.add_slot(f"body-cell-{link}", _LINK)
    if badge:
        made.add_slot(f"body-cell-{badge}", _BADGE)
    return made


def tabs(label: str, items: Iterable[tuple[str, str, bool]]) -> None:
    """(text, address, whether it is where one is)."""
    with ui.element("nav").classes("yunhe-tabs").props(f'aria-label="{label}"'):
        for text, to, here in items:
            link = ui.link(text, to)
            if here:
                link.props("aria-current=true")


def search(view: View, path: str, name: str, value: str, label: str, kept: Mapping[str, str] | None = None) -> None:
    """A form whose one field becomes a parameter of the address; `kept`: the others."""
    with ui.element("form").props(f'method=get action="{path}" role=search').classes("row items-center no-wrap"):
        for other, said in (kept or {}).items():
            ui.element("input").props(f"type=hidden name={other}").props["value"] = said  # never parsed
        box = ui.input(label, value=value)
        box.props(f"name={name} type=search dense outlined maxlength={MAX_WORD_CHARS}")
        ui.button(icon="search").props(f'type=submit flat dense aria-label="{view.say("panels.find")}"')


def pages(view: View, *, first: str | None, following: str | None) -> None:
    """Ways to the first and the next page of a list."""
    if first or following:
        with ui.element("nav").classes("yunhe-pages").props(f'aria-label="{view.say("panels.pages")}"'):
            if first:
                ui.link(view.say("panels.first"), first)
            if following:
                ui.link(view.say("panels.next"), following)


# --- months -------------------------------------------------------------------------------------------------------


def month_of(view: View) -> str:
    """The month of the page's address, this one (UTC) otherwise: "2026-11"."""
    asked = word(view, "month")
    return asked if re.fullmatch(r"2\d{3}-(0[1-9]|1[0-2])", asked, re.ASCII) else f"{datetime.now(UTC):%Y-%m}"


def beside(month: str, step: int) -> str:
    """The month `step` months away."""
    year, number = divmod(int(month[:4]) * 12 + int(month[5:]) - 1 + step, 12)
    return f"{year}-{number + 1:02d}"


def months(view: View, month: str, to: Callable[[str], str]) -> None:
    """This month, and ways to the one before and the one after; `to` makes an address of a month."""
    with ui.row().classes("items-center"):
        ui.link("‹", to(beside(month, -1))).classes("yunhe-month").props(
            f'aria-label="{view.say("panels.month_before")}"'
        )
        ui.label(view.say("panels.month", month=month)).classes("yunhe-digits text-weight-bold")
        if month < f"{datetime.now(UTC):%Y-%m}":
            ui.link("›", to(beside(month, 1))).classes("yunhe-month").props(
                f'aria-label="{view.say("panels.month_after")}"'
            )


# --- changing something -------------------------------------------------------------------------------------------


def field(label: str, hint: str = "") -> ui.input:
    """One line of a form."""
    box = ui.input(label).props(f"outlined dense maxlength={MAX_WORD_CHARS} autocomplete=off")
    if hint:
        box.props["hint"] = hint
    return box


def filled(boxes: Mapping[str, ui.input]) -> dict[str, str]:
    """What was written into the fields of a form; those left empty are left out."""
    return {name: box.value.strip() for name, box in boxes.items() if box.value and box.value.strip()}


def clear(boxes: Mapping[str, ui.input]) -> None:
    for box in boxes.values():
        box.value = ""


async def act(view: View, call: Callable[[Client], Answer], done: str) -> Answer | None:
    """Ask the hub to change something and tell how it went; None when it did not."""
    try:
        answer = await view.ask(call)
    except YunheError as error:
        ui.notify(told(view, error), type="negative", timeout=0, close_button=view.say("panels.close"))
        return None
    if done:
        ui.notify(done, type="positive")
    return answer


def told(view: View, error: YunheError) -> str:
    """What went wrong, the way out, and the code, in one text."""
    if isinstance(error, Unauthenticated):
        return f"{view.say('state.expired')} ({error.code})"
    where = f"{error.field}: " if error.field else ""
    return f"{where}{error.message}. {error.hint}".strip() + f" ({error.code})"


@contextmanager
def dialog(*, persistent: bool = False) -> Iterator[ui.dialog]:
    """An open dialog of the page itself: a part that is drawn again does not take it away. It is gone once closed."""
    with ui.context.client.content, ui.dialog(value=True) as opened:
        opened.on("hide", opened.delete)
        if persistent:
            opened.props("persistent")
        with ui.card().classes("yunhe-form").props("role=alertdialog"):
            yield opened


def confirm(view: View, title: str, means: str, yes: str, action: Act, typed: str = "") -> None:
    """Ask before something is done; with `typed` that has to be written first."""
    with dialog() as opened:
        ui.label(title).classes("yunhe-sub")
        ui.label(means)
        box = ui.input(view.say("panels.type_it", name=typed)).props("autofocus outlined dense") if typed else None
        if box is not None:
            box.classes("full-width")
        with ui.row().classes("full-width justify-end"):
            keep = ui.button(view.say("panels.cancel"), on_click=opened.close).props("flat no-caps")

            async def go() -> None:
                if box is not None and box.value.strip() != typed:
                    return
                opened.close()
                await action()

            sure = ui.button(yes, on_click=go).props("no-caps color=negative")
        if box is None:
            keep.props("autofocus")
        else:
            sure.bind_enabled_from(box, "value", backward=lambda value: (value or "").strip() == typed)


def show_once(view: View, title: str, secret: str, remark: str) -> None:
    """A secret that is shown this once: it is in this dialog and nowhere else."""
    with dialog(persistent=True) as opened:
        ui.label(title).classes("yunhe-sub")
        ui.label(secret).classes("yunhe-mono yunhe-secret")
        ui.label(remark)
        with ui.row().classes("full-width justify-end"):
            ui.button(view.say("panels.copy"), on_click=lambda: _copy(view, secret)).props("flat no-caps autofocus")
            ui.button(view.say("panels.have_it"), on_click=opened.close).props("no-caps")


def _copy(view: View, text: str) -> None:
    ui.clipboard.write(text)
    ui.notify(view.say("panels.copied"), type="positive")
