"""A new order: the requirement as a form; offers, the same order as YAML and as a command as it changes; submit."""

import asyncio
from dataclasses import dataclass

from nicegui import background_tasks, ui

from yunhe.console.orders.entry import CPU, Entry, Program, entry_of
from yunhe.console.orders.form import Choices, Form, named
from yunhe.console.orders.offers import most, offers
from yunhe.console.orders.spoken import command_line
from yunhe.console.shell import shell
from yunhe.console.view import View
from yunhe.core.errors import YunheError
from yunhe.core.units import format_money
from yunhe.sdk.client import Client
from yunhe.sdk.orderfile import dump_order
from yunhe.sdk.orders import new_key
from yunhe.wire.api import OrderSpec, QuoteView

SETTLE_S = 0.1  # beside the delay in the browser: several fields may change at once
MAX_ID_CHARS = 80


@dataclass(frozen=True, slots=True)
class Start:
    """What the form begins with."""

    choices: Choices
    entry: Entry


async def page(view: View) -> None:
    like = view.query.get("like", "")[:MAX_ID_CHARS]

    async def fetch() -> Start:
        def ask(hub: Client) -> Start:
            return Start(_choices(hub, view.session.language), entry_of(hub.order(like).spec) if like else _first())

        return await view.ask(ask)

    with shell(view, view.say("new.title"), "/new"):
        ui.label(view.say("new.title")).classes("yunhe-title").props("role=heading aria-level=1")
        view.part(fetch, lambda start: NewOrder(view, start).begin())


def _first() -> Entry:
    return Entry(texts={"size_by": "cores", "size": "0.1"}, programs=[Program(CPU, "python3 -c 'print(6 * 7)'")])


def _choices(hub: Client, language: str) -> Choices:
    places, chips = hub.places().rows, hub.chips().rows
    regions = {str(row["region"]): str(row["region"]) for row in places}
    if language == "zh":
        chinese = named(hub.factors().rows, "name_en", "name_zh")
        regions = {region: chinese.get(region, region) for region in regions}
    return Choices(
        named(places, "place_id", "name_zh" if language == "zh" else "name_en"),
        dict(sorted(regions.items())),
        named(chips, "chip_id", "name"),
    )


class NewOrder:
    """The form on one side; on the other what the network says to it."""

    def __init__(self, view: View, start: Start) -> None:
        self._view = view
        self._turn = 0  # of the newest change: older answers are dropped
        self._spec: OrderSpec | None = None
        self._quote: QuoteView | None = None
        if start.entry.left_out:
            ui.label(view.say("new.left_out")).props("role=note")
        with ui.element("div").classes("yunhe-row"):
            with ui.column():
                self._form = Form(view, start.entry, start.choices, self._changed)
            with ui.column().classes("yunhe-beside"):
                self._draw_side()

    def begin(self) -> None:
        self._changed()

    def _draw_side(self) -> None:
        view = self._view
        with ui.card().classes("yunhe-card"):
            with ui.row().classes("items-center full-width"):
                ui.label(view.say("new.offers")).classes("yunhe-sub").props("role=heading aria-level=2")
                self._busy = ui.spinner(size="sm")
                ui.space()
                self._submit = ui.button(view.say("new.submit"), on_click=self._ask_hold).props("no-caps")
            self._box = ui.column().classes("full-width").props("aria-live=polite")
        self._dialog = ui.dialog()
        self._yaml = self._said("new.as_yaml")
        self._command = self._said("new.as_command")

    def _said(self, key: str) -> ui.label:
        with ui.expansion(self._view.say(key)).classes("yunhe-card"):
            text = ui.label("").classes("yunhe-mono yunhe-said")
            copy = ui.button(self._view.say("new.copy"), icon="content_copy", on_click=lambda: self._copy(text.text))
            copy.props("flat dense no-caps")
        return text

    def _copy(self, text: str) -> None:
        ui.clipboard.write(text)
        ui.notify(self._view.say("new.copied"))

    def _changed(self) -> None:
        self._turn += 1
        background_tasks.create(self._ask(self._turn), name="offers for a form")

    async def _ask(self, turn: int) -> None:
        """Offers for the form as it stands."""
        await asyncio.sleep(SETTLE_S)
        if turn != self._turn:
            return
        self._busy.set_visibility(True)
        self._submit.disable()
        try:
            spec = self._form.spec()
            found = await self._view.ask(lambda hub: hub.quote(spec))
        except YunheError as error:
            if turn == self._turn:
                self._show_refused(error)
            return
        if turn == self._turn:
            self._show(spec, found)

    def _show(self, spec: OrderSpec, found: QuoteView) -> None:
        self._spec, self._quote = spec, found
        self._form.mark(None)
        self._busy.set_visibility(False)
        self._submit.enable()
        self._yaml.set_text(dump_order(spec))
        self._command.set_text(command_line(spec))
        self._box.clear()
        with self._box:
            offers(self._view, found)

    def _show_refused(self, error: YunheError) -> None:
        """At its field; here too, so that it is seen wherever the reader is."""
        self._busy.set_visibility(False)
        label = self._form.mark(error)
        self._box.clear()
        with self._box:
            if label:
                ui.label(self._view.say("new.see_field", field=label)).classes("text-negative")
                ui.label(error.message)
            else:
                self._view.show_error(error, self._changed)

    async def _ask_hold(self) -> None:
        """What will be held, and what there is to hold it from; only then is the order placed."""
        spec, found = self._spec, self._quote
        if spec is None or found is None:
            return
        try:
            balance = await self._view.ask(Client.balance)
        except YunheError as error:
            ui.notify(str(error), type="negative")
            return
        view, held = self._view, most(found)
        free = format_money(balance.available_microcny + balance.credit_limit_microcny)
        self._dialog.clear()
        with self._dialog, ui.card():
            ui.label(view.say("new.sure")).classes("yunhe-sub")
            if held is not None:
                ui.label(view.say("new.hold", amount=format_money(held))).classes("text-weight-bold")
            else:
                ui.label(view.say("new.waits_budget" if spec.budget else "new.waits", budget=spec.budget or ""))
            ui.label(view.say("new.hold_means"))
            ui.label(view.say("new.available", amount=free)).classes("yunhe-soft")
            key = new_key()  # a second press places no second order
            with ui.row().classes("full-width justify-end"):
                ui.button(view.say("new.not_yet"), on_click=self._dialog.close).props("flat no-caps")
                place = ui.button(view.say("new.place_it")).props("no-caps autofocus")
                place.set_enabled(held is not None or spec.budget is not None)
                place.on_click(lambda: self._place(spec, key, place))
        self._dialog.open()

    async def _place(self, spec: OrderSpec, key: str, button: ui.button) -> None:
        button.disable()
        try:
            order = await self._view.ask(lambda hub: hub.submit(spec, key))
        except YunheError as error:
            self._dialog.close()
            self._show_refused(error)
        else:
            ui.navigate.to(f"/orders/{order.id}")
