"""How the hub itself is, and what its rounds go by."""

import time
from dataclasses import dataclass

from nicegui import ui

from yunhe.console import panels, wording
from yunhe.console.orders import words
from yunhe.console.view import View
from yunhe.core.errors import YunheError
from yunhe.core.units import format_span
from yunhe.sdk.client import Client
from yunhe.wire.api import HubStats, RoundView

REFRESH_S = 5.0


@dataclass(frozen=True, slots=True)
class Health:
    """`ready_error`: why the hub is not ready, empty when it is."""

    hub_id: str
    ready_error: str
    stats: HubStats


def hub(view: View) -> None:
    asked_ms = ui.label().classes("yunhe-soft yunhe-digits")

    async def fetch() -> Health:
        began = time.monotonic()
        found = await view.ask(_health)
        asked_ms.text = view.say("health.took", span=format_span(round((time.monotonic() - began) * 1000)))
        return found

    view.part(fetch, lambda found: _draw(view, found), every_s=REFRESH_S)
    asked_ms.move(target_index=-1)


def _health(hub: Client) -> Health:
    problem = ""
    try:
        hub.ready()
    except YunheError as error:
        problem = f"{error.message} ({error.code})"
    return Health(hub.hub().id, problem, hub.stats())


def _draw(view: View, found: Health) -> None:
    stats = found.stats
    with panels.card(view.say("operator.health")):
        with ui.row().classes("items-center").props("role=status"):
            good = not found.ready_error
            ui.badge(view.say("health.ready" if good else "health.not_ready")).props(
                f"color={'green-8' if good else 'red-8'}"
            )
            ui.label(found.ready_error or found.hub_id).classes("yunhe-break")
        panels.facts(
            (
                (view.say("health.leader"), view.say("health.leads" if stats.leader else "health.follows")),
                (view.say("health.postings"), str(stats.postings)),
                (view.say("health.usage"), str(stats.usage_records)),
                (view.say("health.gaps"), str(stats.usage_gaps)),
                (view.say("health.duplicates"), str(stats.usage_duplicates)),
                (view.say("health.disputed"), str(stats.disputed)),
            )
        )
    with panels.card(view.say("health.orders")):
        if not stats.orders:
            ui.label(view.say("orders.none")).classes("yunhe-soft")
        panels.facts((words.state(view, name), str(count)) for name, count in sorted(stats.orders.items()))


def rounds(view: View) -> None:
    view.part(lambda: view.ask(Client.round), lambda found: _draw_rounds(view, found), every_s=REFRESH_S)


def _draw_rounds(view: View, found: RoundView) -> None:
    texts = wording.texts(view.session.language)
    with panels.card(view.say("round.latest")):
        panels.facts(
            (
                (view.say("health.leader"), view.say("health.leads" if found.leading else "health.follows")),
                (view.say("round.count"), str(found.rounds)),
                (view.say("round.took"), format_span(round(found.last_round_ms)) if found.rounds else panels.NONE),
                (view.say("round.seed"), str(found.seed)),
            )
        )
    with panels.card(view.say("round.policy")):
        ui.label(view.say("round.means")).classes("yunhe-soft")
        columns = [
            panels.column("name", view.say("round.name")),
            panels.column("value", view.say("round.value"), right=True),
            panels.column("key", view.say("round.key"), wide=True),
        ]
        rows = [
            {"id": name, "name": texts.get(f"policy.{name}", name), "value": _value(view, value), "key": name}
            for name, value in found.policy.items()
        ]
        panels.table(columns, rows)


def _value(view: View, value: int | bool) -> str:
    if isinstance(value, bool):
        return view.say("round.on" if value else "round.off")
    return f"{value:,}"
