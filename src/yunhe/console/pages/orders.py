"""The user's orders, newest first."""

from nicegui import ui

from yunhe.console.shell import shell
from yunhe.console.view import View
from yunhe.wire.api import OrderView


async def page(view: View) -> None:
    def draw(found: list[OrderView]) -> None:
        if not found:
            view.show_empty(view.say("orders.none"), view.say("orders.first"), "/new")
            return
        columns = [
            {"name": name, "label": view.say(f"orders.{name}"), "field": name, "align": "left"}
            for name in ("name", "state", "submitted", "tasks")
        ]
        rows = [
            {
                "id": order.id,
                "name": order.name or order.id,
                "state": order.state,
                "submitted": order.submitted_utc_ms,
                "tasks": ", ".join(f"{count} {state}" for state, count in order.tasks.items()),
            }
            for order in found
        ]
        ui.table(columns=columns, rows=rows, row_key="id").classes("full-width")

    with shell(view, view.say("orders.title"), "/orders"):
        ui.label(view.say("orders.title")).classes("yunhe-title").props("role=heading aria-level=1")
        view.part(lambda: view.ask(lambda hub: list(hub.orders(limit=50))), draw, every_s=5.0)
