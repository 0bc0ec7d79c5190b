"""Organisations, their quotas, money that came in, and keys."""

from collections.abc import Callable
from typing import get_args

from nicegui import ui

from yunhe.console import panels, wording
from yunhe.console.panels import address, word
from yunhe.console.view import View
from yunhe.core.units import format_milli, format_money
from yunhe.sdk.checked import checked
from yunhe.wire.api import KeyView, OrganisationChange, OrganisationRequest, OrganisationView, Role

PATH = "/operator"
ROWS = 25
REFRESH_S = 10.0
ROLES: tuple[str, ...] = get_args(Role)


def organisations(view: View, changes: bool) -> None:
    """All of them, page by page; and the forms that make one and book what it paid in."""
    text, at = word(view, "text"), _place(view)

    def draw(found: tuple[OrganisationView, ...]) -> None:
        chosen = [item for item in found if text.lower() in f"{item.id} {item.name}".lower()]
        if not chosen:
            view.show_empty(view.say("account.no_match"))
        else:
            _organisations(view, chosen[at : at + ROWS])
        _pages(view, "accounts", text, at, len(chosen))

    with panels.card(view.say("operator.accounts")):
        panels.search(view, PATH, "text", text, view.say("account.text"), {"show": "accounts"})
        part = view.part(lambda: view.ask(lambda hub: hub.organisations()), draw, every_s=REFRESH_S)
    if changes:
        with ui.element("div").classes("yunhe-row"):
            with panels.card(view.say("account.new")):
                _new(view, part.refresh)
            with panels.card(view.say("account.change")):
                _change(view, part.refresh)
            with panels.card(view.say("account.deposit")):
                _deposit(view)


def _organisations(view: View, found: list[OrganisationView]) -> None:
    columns = [
        panels.column("id", view.say("account.id")),
        panels.column("name", view.say("account.name"), wide=True),
        panels.column("credit", view.say("account.credit"), right=True, wide=True),
        panels.column("used", view.say("account.used"), right=True),
        panels.column("quota", view.say("account.quota"), right=True),
        panels.column("weight", view.say("account.weight"), right=True, wide=True),
    ]
    rows = [
        {
            "id": item.id,
            "address": address("/money", of=item.id),
            "name": item.name,
            "credit": format_money(item.credit_limit_microcny),
            "used": format_milli(item.used_milli),
            "quota": view.say("account.no_quota") if item.quota_milli is None else format_milli(item.quota_milli),
            "weight": str(item.weight),
        }
        for item in found
    ]
    panels.table(columns, rows, link="id")


def _new(view: View, done: Callable[[], None]) -> None:
    boxes = {
        "id": panels.field(view.say("account.id"), view.say("account.id_hint")),
        "name": panels.field(view.say("account.name")),
        "credit_limit": panels.field(view.say("account.credit"), view.say("account.money_hint")),
        "quota_cores": panels.field(view.say("account.quota"), view.say("account.quota_hint")),
        "weight": panels.field(view.say("account.weight"), view.say("account.weight_hint")),
    }

    async def make() -> None:
        values = panels.filled(boxes)
        made = await panels.act(
            view,
            lambda hub: hub.create_organisation(checked(OrganisationRequest, values)),
            view.say("account.made", id=values.get("id", "")),
        )
        if made is not None:
            panels.clear(boxes)
            done()

    ui.button(view.say("account.new_go"), on_click=make).props("no-caps")


def _change(view: View, done: Callable[[], None]) -> None:
    """What is left empty stays."""
    named = panels.field(view.say("account.id"))
    boxes = {
        "quota_cores": panels.field(view.say("account.quota"), view.say("account.change_quota_hint")),
        "weight": panels.field(view.say("account.weight"), view.say("account.change_hint")),
        "credit_limit": panels.field(view.say("account.credit"), view.say("account.money_hint")),
    }

    async def change() -> None:
        values = panels.filled(boxes)
        found = await panels.act(
            view,
            lambda hub: hub.change_organisation((named.value or "").strip(), checked(OrganisationChange, values)),
            "",
        )
        if found is not None:
            over = found.quota_milli is not None and found.used_milli > found.quota_milli
            told = view.say("account.changed_over" if over else "account.changed", id=found.id)
            ui.notify(told, type="warning" if over else "positive")
            panels.clear({**boxes, "id": named})
            done()

    ui.button(view.say("account.change_go"), on_click=change).props("no-caps")


def _deposit(view: View) -> None:
    boxes = {
        "organisation": panels.field(view.say("account.id")),
        "amount": panels.field(view.say("account.amount"), view.say("account.money_hint")),
        "reference": panels.field(view.say("account.reference"), view.say("account.reference_hint")),
    }

    async def book() -> None:
        values = {**dict.fromkeys(boxes, ""), **panels.filled(boxes)}
        found = await panels.act(
            view, lambda hub: hub.deposit(values["organisation"], values["amount"], values["reference"]), ""
        )
        if found is not None:
            told = view.say("account.booked", id=found.account, amount=format_money(found.available_microcny))
            ui.notify(told, type="positive")
            panels.clear(boxes)

    ui.button(view.say("account.deposit_go"), on_click=book).props("no-caps")


# --- keys ---------------------------------------------------------------------------------------------------------


def keys(view: View, changes: bool) -> None:
    """Newest first: when each was made and revoked; a form for a new one."""
    text, at = word(view, "text"), _place(view)

    def draw(found: tuple[KeyView, ...]) -> None:
        chosen = [key for key in reversed(found) if text.lower() in f"{key.id} {key.organisation} {key.member}".lower()]
        if not chosen:
            view.show_empty(view.say("account.no_key"))
        else:
            with ui.element("ul").classes("yunhe-list"):
                for key in chosen[at : at + ROWS]:
                    with ui.element("li"):
                        _key(view, key, changes, part.refresh)
        _pages(view, "keys", text, at, len(chosen))

    if changes:
        with panels.card(view.say("account.new_key")):
            _new_key(view, lambda: part.refresh())
    with panels.card(view.say("operator.keys")):
        panels.search(view, PATH, "text", text, view.say("account.text"), {"show": "keys"})
        part = view.part(lambda: view.ask(lambda hub: hub.keys()), draw, every_s=REFRESH_S)


def _key(view: View, key: KeyView, changes: bool, done: Callable[[], None]) -> None:
    with ui.row().classes("items-center full-width"):
        with ui.column().classes("yunhe-tight"):
            ui.label(f"{key.organisation} · {key.member}").classes("text-weight-bold yunhe-break")
            dates = view.say("account.key_made", role=_role(view, key.role), moment=view.moment(key.created_utc_ms))
            ui.label(f"{key.id} · {dates}").classes("yunhe-soft yunhe-break")
        ui.space()
        if key.revoked_utc_ms is not None:
            ui.label(view.say("account.key_revoked", moment=view.moment(key.revoked_utc_ms))).classes("yunhe-soft")
        elif changes:
            button = ui.button(view.say("account.revoke"), on_click=lambda: _revoke(view, key, done))
            button.props("outline no-caps dense color=negative padding='4px 12px'")


def _revoke(view: View, key: KeyView, done: Callable[[], None]) -> None:
    async def go() -> None:
        await panels.act(view, lambda hub: hub.revoke_key(key.id), view.say("account.revoked", id=key.id))
        done()

    title = view.say("account.revoke_sure", id=key.id, organisation=key.organisation, member=key.member)
    panels.confirm(view, title, view.say("account.revoke_means"), view.say("account.revoke"), go)


def _new_key(view: View, done: Callable[[], None]) -> None:
    with ui.row().classes("items-start"):
        boxes = {
            "organisation": panels.field(view.say("account.id")),
            "member": panels.field(view.say("account.member"), view.say("account.member_hint")),
        }
        role = ui.select({name: _role(view, name) for name in ROLES}, value=ROLES[0], label=view.say("account.role"))
        role.props("outlined dense options-dense").classes("yunhe-short")

    async def make() -> None:
        values = {**dict.fromkeys(boxes, ""), **panels.filled(boxes)}
        made = await panels.act(
            view, lambda hub: hub.create_key(values["organisation"], values["member"], str(role.value)), ""
        )
        if made is not None:
            panels.clear(boxes)
            panels.show_once(view, view.say("account.key_is", id=made.id), made.key, view.say("account.key_once"))
            done()

    ui.button(view.say("account.new_key_go"), on_click=make).props("no-caps")


def _role(view: View, name: str) -> str:
    return wording.texts(view.session.language).get(f"role.{name}", name)


def _place(view: View) -> int:
    asked = word(view, "at")
    return int(asked) if asked.isdecimal() and len(asked) < 9 else 0


def _pages(view: View, show: str, text: str, at: int, count: int) -> None:
    following = address(PATH, show=show, text=text, at=str(at + ROWS)) if at + ROWS < count else None
    panels.pages(view, first=address(PATH, show=show, text=text) if at else None, following=following)
