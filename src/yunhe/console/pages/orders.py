"""The user's orders, newest first: filters and place in the list are the page's address, pages come from the hub."""

from urllib.parse import urlencode

from nicegui import ui

from yunhe.console.orders import words
from yunhe.console.shell import hidden, shell
from yunhe.console.view import View
from yunhe.core.units import format_money
from yunhe.wire.api import OrderPage, OrderView

ROWS = 25
MAX_TEXT_CHARS = 80
_WIDE = "gt-xs"  # not on a phone

# Text of a cell is escaped by the page's own template language.
_NAME = '<q-td :props="props"><a :href="props.row.address" class="yunhe-link">{{ props.value }}</a></q-td>'
_STATE = '<q-td :props="props"><q-badge :color="props.row.colour" :label="props.value" /></q-td>'


async def page(view: View) -> None:
    state = view.query.get("state", "")
    state = state if state in words.STATES else ""
    text = view.query.get("text", "")[:MAX_TEXT_CHARS].replace("\0", "")
    cursor = view.query.get("cursor", "")[:MAX_TEXT_CHARS] or None

    def draw(found: OrderPage) -> None:
        if found.orders:
            _table(view, found.orders)
        elif state or text or cursor:
            view.show_empty(view.say("orders.no_match"), view.say("orders.all"), "/orders")
        else:
            view.show_empty(view.say("orders.none"), view.say("orders.first"), "/new")
        with ui.element("nav").classes("yunhe-pages").props(f'aria-label="{view.say("orders.pages")}"'):
            if cursor:
                ui.link(view.say("orders.newest"), address(state, text))
            if found.next_cursor:
                ui.link(view.say("orders.older"), address(state, text, found.next_cursor))

    with shell(view, view.say("orders.title"), "/orders"):
        with ui.row().classes("items-center full-width"):
            ui.label(view.say("orders.title")).classes("yunhe-title").props("role=heading aria-level=1")
            ui.space()
            ui.link(view.say("shell.new"), "/new")
        if view.session.signed_in:
            _filters(view, state, text)
        view.part(
            lambda: view.ask(lambda hub: hub.orders_page(state or None, text, limit=ROWS, cursor=cursor)),
            draw,
            stirred=True,
        )


def address(state: str = "", text: str = "", cursor: str = "") -> str:
    """Of the list with these filters."""
    given = {name: value for name, value in (("state", state), ("text", text), ("cursor", cursor)) if value}
    return f"/orders?{urlencode(given)}" if given else "/orders"


def _filters(view: View, state: str, text: str) -> None:
    with ui.row().classes("items-center full-width"):
        with ui.element("nav").classes("yunhe-tabs").props(f'aria-label="{view.say("orders.state")}"'):
            for name in ("", *words.STATES):
                shown = words.state(view, name) if name else view.say("orders.all")
                link = ui.link(shown, address(name, text))
                if name == state:
                    link.props("aria-current=true")
        ui.space()
        with ui.element("form").props('method=get action="/orders" role=search').classes("row items-center no-wrap"):
            if state:
                hidden("state", state)
            box = ui.input(view.say("orders.text"), value=text)
            box.props(f"name=text type=search dense outlined maxlength={MAX_TEXT_CHARS}")
            ui.button(icon="search").props(f'type=submit flat dense aria-label="{view.say("orders.find")}"')


def _table(view: View, orders: tuple[OrderView, ...]) -> None:
    columns: list[dict[str, object]] = [
        {"name": name, "label": view.say(f"orders.{name}"), "field": name, "align": align} | _only(wide)
        for name, align, wide in (
            ("name", "left", False),
            ("state", "left", False),
            ("tasks", "left", True),
            ("submitted", "left", True),
            ("held", "right", True),
            ("cost", "right", False),
        )
    ]
    rows = [
        {
            "id": order.id,
            "address": f"/orders/{order.id}",
            "name": order.name or order.id,
            "state": words.state(view, order.state),
            "colour": words.colour(order.state),
            "tasks": words.counts(view, order),
            "submitted": view.moment(order.submitted_utc_ms),
            "held": format_money(order.hold_microcny),
            "cost": format_money(order.charged_microcny),
        }
        for order in orders
    ]
    table = ui.table(columns=columns, rows=rows, row_key="id").classes("full-width").props("flat bordered wrap-cells")
    table.add_slot("body-cell-name", _NAME)
    table.add_slot("body-cell-state", _STATE)


def _only(wide: bool) -> dict[str, object]:
    return {"classes": _WIDE, "headerClasses": _WIDE} if wide else {}
