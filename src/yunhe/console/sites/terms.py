"""The operator's terms for a site: prices, whether asking prices are taken, and approval."""

from collections.abc import Callable

from nicegui import ui

from yunhe.console import panels
from yunhe.console.view import View
from yunhe.core.errors import YunheError
from yunhe.core.supply import SiteState
from yunhe.core.units import format_money
from yunhe.sdk.checked import checked
from yunhe.sdk.client import Client
from yunhe.wire.api import SiteTerms, SiteView

PRICES = ("price_per_core_hour", "price_per_card_hour", "power_price_per_kwh")
MAX_PRICE_CHARS = 60


def ask(view: View, site: SiteView, done: Callable[[], None]) -> None:
    """A dialog that approves a pending site, or changes the terms of another; `done` when the hub has said yes."""
    waits = site.state == SiteState.PENDING
    with panels.dialog() as opened:
        ui.label(view.say("terms.approve" if waits else "terms.change", name=site.name)).classes("yunhe-sub")
        ui.label(view.say("terms.means"))
        boxes = {name: _box(view, site, name) for name in PRICES}
        asking = ui.checkbox(view.say("terms.accept_asking"), value=site.accept_asking)
        problem = ui.label().classes("text-negative").props("role=alert")

        async def go() -> None:
            values: dict[str, object] = {name: box.value.strip() for name, box in boxes.items() if box.value.strip()}
            values["accept_asking"] = bool(asking.value)
            try:
                terms = checked(SiteTerms, values)
                await view.ask(lambda hub: _send(hub, site.id, terms, waits))
            except YunheError as error:
                problem.text = panels.told(view, error)
                return
            opened.close()
            ui.notify(view.say("terms.approved" if waits else "terms.changed", name=site.name), type="positive")
            done()

        with ui.row().classes("full-width justify-end"):
            ui.button(view.say("panels.cancel"), on_click=opened.close).props("flat no-caps")
            ui.button(view.say("terms.approve_go" if waits else "terms.change_go"), on_click=go).props("no-caps")


def _box(view: View, site: SiteView, name: str) -> ui.input:
    hint = view.say("terms.hint")
    if name == "power_price_per_kwh":
        hint = view.say("terms.now", price=format_money(site.power_price_microcny_per_kwh))
    box = ui.input(view.say(f"terms.{name}")).classes("full-width")
    return box.props(f'outlined dense hint="{hint}" maxlength={MAX_PRICE_CHARS} autocomplete=off')


def _send(hub: Client, site_id: str, terms: SiteTerms, waits: bool) -> SiteView:
    return hub.approve(site_id, terms) if waits else hub.set_terms(site_id, terms)
