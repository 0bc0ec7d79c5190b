"""One order: its way, why it is where it is, its log, what it used and cost, what it left."""

from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlencode

from nicegui import ui

from yunhe.console.orders import chart, words
from yunhe.console.orders.charges import charges, records
from yunhe.console.orders.log import LogBox
from yunhe.console.orders.way import tasks, timeline, why
from yunhe.console.shell import shell
from yunhe.console.view import Part, View
from yunhe.core.errors import YunheError
from yunhe.core.lifecycle import ORDER_ENDED
from yunhe.core.units import format_bytes, format_money
from yunhe.sdk.client import Client
from yunhe.sdk.orders import done
from yunhe.wire.api import OrderDetail, OutputView, UsageList, WhyView

REFRESH_S = 2.0
SLOW_REFRESH_S = 6.0
MAX_OUTPUTS = 100
_SHORT_SHA = 12

Value = TypeVar("Value")


async def page(view: View) -> None:
    with shell(view, view.say("order.title"), "/orders"):
        ui.link(view.say("order.back"), "/orders").classes("yunhe-link")
        if not view.session.signed_in:
            view.part(lambda: view.ask(Client.whoami), lambda _: None)
            return
        OrderPage(view, view.path["order_id"])


class OrderPage:
    """Everything about one order. It is asked for every 2 s while it goes on; what hangs on it follows its changes."""

    def __init__(self, view: View, order_id: str) -> None:
        self._view, self._id = view, order_id
        self._order: OrderDetail | None = None
        self._following: list[Part[object]] = []
        self._head = view.part(self._fetch, self._draw, every_s=REFRESH_S)
        self._below = ui.column().classes("full-width")
        self._dialog = self._cancel_dialog()

    async def _fetch(self) -> OrderDetail:
        if self._order is None or not done(self._order):
            self._order = await self._view.ask(lambda hub: hub.order(self._id))
        return self._order

    def _draw(self, order: OrderDetail) -> None:
        view = self._view
        with ui.row().classes("items-center full-width"):
            ui.label(order.name or order.id).classes("yunhe-title yunhe-break").props("role=heading aria-level=1")
            ui.badge(words.state(view, order.state)).props(f"color={words.colour(order.state)}")
            ui.space()
            if order.state not in ORDER_ENDED:
                cancel = ui.button(view.say("order.cancel"), on_click=self._dialog.open)
                cancel.props("outline no-caps color=negative")
            repeat = f"/new?{urlencode({'like': order.id})}"
            ui.button(view.say("order.repeat"), on_click=lambda: ui.navigate.to(repeat)).props("outline no-caps")
        _facts_of(view, order)
        with ui.element("div").classes("yunhe-row"):
            with ui.card().classes("yunhe-card"):
                _heading(view, "order.way")
                timeline(view, order)
            with ui.card().classes("yunhe-card"):
                _heading(view, "order.tasks")
                tasks(view, order)
        if not self._following:
            with self._below:
                self._draw_below(order)
        for part in self._following:
            part.refresh()

    def _draw_below(self, order: OrderDetail) -> None:
        """Once: what stands below keeps its place while the order goes on."""
        with self._card("order.why"):
            self._follow(lambda hub: (hub.why(self._id), hub.order(self._id)), self._draw_why)
        with ui.card().classes("yunhe-card"):
            LogBox(self._view, self._id, order.array)
        with self._card("order.outputs"):
            self._follow(lambda hub: hub.outputs(self._id), self._draw_outputs)
        with self._card("order.usage"):
            self._follow(lambda hub: hub.usage(self._id), self._draw_usage)

    def _card(self, key: str) -> ui.card:
        card = ui.card().classes("yunhe-card")
        with card:
            _heading(self._view, key)
        return card

    def _follow(self, call: Callable[[Client], Value], draw: Callable[[Value], None]) -> None:
        """A part that is asked for again when the order changes, and now and then while it goes on."""
        last: list[Value] = []
        settled = False

        async def fetch() -> Value:
            nonlocal settled
            if not (settled and last):
                was_done = self._order is not None and done(self._order)
                last[:] = [await self._view.ask(call)]
                settled = was_done
            return last[0]

        part = self._view.part(fetch, draw, every_s=SLOW_REFRESH_S)
        self._following.append(part)  # type: ignore[arg-type]

    def _draw_why(self, found: tuple[WhyView, OrderDetail]) -> None:
        why(self._view, found[1], found[0])

    def _draw_usage(self, found: UsageList) -> None:
        view = self._view
        if not found.usage:
            ui.label(view.say("usage.none")).classes("yunhe-soft")
        else:
            labels = {name: view.say(f"usage.{name}") for name in ("busy", "memory", "time", "series")}
            ui.echart(chart.options(found.usage, labels)).classes("yunhe-chart")
            records(view, found)
        _heading(view, "charge.heading")
        charges(view, found)

    def _draw_outputs(self, found: tuple[OutputView, ...]) -> None:
        view = self._view
        if not found:
            ui.label(view.say("order.no_outputs")).classes("yunhe-soft")
        with ui.element("ul").classes("yunhe-list"):
            for output in found[:MAX_OUTPUTS]:
                with ui.element("li"):
                    _output(view, self._id, output)
        if len(found) > MAX_OUTPUTS:
            ui.label(view.say("order.more_outputs", count=len(found) - MAX_OUTPUTS, id=self._id)).classes("yunhe-soft")

    def _cancel_dialog(self) -> ui.dialog:
        view = self._view
        with ui.dialog() as dialog, ui.card():
            ui.label(view.say("order.cancel_sure")).classes("yunhe-sub")
            ui.label(view.say("order.cancel_means"))
            with ui.row().classes("full-width justify-end"):
                ui.button(view.say("order.keep"), on_click=dialog.close).props("flat no-caps autofocus")
                ui.button(view.say("order.cancel"), on_click=self._cancel).props("no-caps color=negative")
        return dialog

    async def _cancel(self) -> None:
        self._dialog.close()
        try:
            await self._view.ask(lambda hub: hub.cancel(self._id))
        except YunheError as error:
            ui.notify(str(error), type="negative")
        else:
            ui.notify(self._view.say("order.cancel_asked"))
        self._head.refresh()


def _heading(view: View, key: str) -> None:
    ui.label(view.say(key)).classes("yunhe-sub").props("role=heading aria-level=2")


def _facts_of(view: View, order: OrderDetail) -> None:
    settled = f" ({view.say('order.settled')})" if order.settled else ""
    shown = (
        ("order.id", order.id),
        ("orders.submitted", view.moment(order.submitted_utc_ms)),
        ("order.ended_at", view.moment(order.ended_utc_ms)),
        ("orders.tasks", words.counts(view, order)),
        ("orders.held", format_money(order.hold_microcny)),
        ("orders.cost", format_money(order.charged_microcny) + settled),
    )
    with ui.element("dl").classes("yunhe-facts"):
        for key, text in shown:
            with ui.element("div"):
                with ui.element("dt"):
                    ui.label(view.say(key))
                with ui.element("dd"):
                    ui.label(text)


def _output(view: View, order_id: str, output: OutputView) -> None:
    if output.stored:
        where = urlencode({"lease_id": output.lease_id, "path": output.path})
        ui.link(output.path, f"/orders/{order_id}/output?{where}").classes("yunhe-link").props("download")
    else:
        ui.label(output.path)
    said = [format_bytes(output.size_bytes, 1), f"SHA-256 {output.sha256[:_SHORT_SHA]}"]
    said += [view.say("order.not_delivered", why=output.problem)] if output.problem else []
    said += [view.say("order.elsewhere")] if not output.stored else []
    ui.label(" · ".join(said)).classes("yunhe-soft yunhe-break")
