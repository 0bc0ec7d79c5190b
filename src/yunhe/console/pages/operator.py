"""What an operator does: let sites in, organisations and keys, money that came in; and how the hub itself is."""

from nicegui import ui

from yunhe.console import panels
from yunhe.console.operating import accounts, audit, health, rounds
from yunhe.console.panels import address, word
from yunhe.console.shell import shell
from yunhe.console.sites import terms, words
from yunhe.console.view import View
from yunhe.core.supply import SiteState
from yunhe.sdk.client import Client
from yunhe.wire.api import AuditPage, EnrolmentToken, EventPage, SiteList, SiteView

PATH = "/operator"
ROWS = 25
REFRESH_S = 5.0
PLACES = ("sites", "accounts", "keys", "audit", "round", "health")


async def page(view: View) -> None:
    """Auditors see the same and change nothing."""
    with shell(view, view.say("operator.title"), PATH):
        ui.label(view.say("operator.title")).classes("yunhe-title").props("role=heading aria-level=1")
        who = view.session.who
        if who is None or who.role not in ("operator", "auditor"):
            view.part(lambda: view.ask(Client.stats), lambda _: None)  # says why there is nothing to see
            return
        asked = word(view, "show")
        here = asked if asked in PLACES else PLACES[0]
        items = [(view.say(f"operator.{place}"), address(PATH, show=place), place == here) for place in PLACES]
        panels.tabs(view.say("operator.title"), items)
        changes = who.role == "operator"
        match here:
            case "sites":
                _sites(view, changes)
            case "accounts":
                accounts.organisations(view, changes)
            case "keys":
                accounts.keys(view, changes)
            case "audit":
                _audit(view)
            case "round":
                rounds.rounds(view)
            case _:
                health.hub(view)


def _audit(view: View) -> None:
    """What people changed, and every fact about orders, newest first; money's moves have a page of their own."""
    cursor = word(view, "cursor")

    def draw(found: EventPage) -> None:
        if found.events:
            audit.trail(view, found.events)
        else:
            view.show_empty(view.say("audit.none"))
        following = address(PATH, show="audit", cursor=found.next_cursor) if found.next_cursor else None
        panels.pages(view, first=address(PATH, show="audit") if cursor else None, following=following)

    changed = word(view, "changes")

    def draw_changes(found: AuditPage) -> None:
        if found.entries:
            audit.changes(view, found.entries)
        else:
            view.show_empty(view.say("audit.no_change"))
        following = address(PATH, show="audit", changes=found.next_cursor) if found.next_cursor else None
        panels.pages(view, first=address(PATH, show="audit") if changed else None, following=following)

    with panels.card(view.say("audit.changes")):
        view.part(
            lambda: view.ask(lambda hub: hub.audit(limit=ROWS, cursor=changed or None)),
            draw_changes,
            every_s=None if changed else REFRESH_S,
        )
    with panels.card(view.say("audit.events")):
        ui.link(view.say("audit.money"), "/money").classes("yunhe-link")
        view.part(
            lambda: view.ask(lambda hub: hub.latest_events(ROWS, cursor or None)),
            draw,
            every_s=None if cursor else REFRESH_S,
        )


# --- enrolments ---------------------------------------------------------------------------------------------------


def _sites(view: View, changes: bool) -> None:
    cursor = word(view, "cursor")

    def draw(found: SiteList) -> None:
        if not found.sites:
            view.show_empty(view.say("operator.no_pending"), view.say("operator.to_sites"), "/provider")
        for site in found.sites:
            _pending(view, site, changes, part.refresh)
        following = address(PATH, show="sites", cursor=found.next_cursor) if found.next_cursor else None
        panels.pages(view, first=address(PATH, show="sites") if cursor else None, following=following)

    with panels.card(view.say("operator.pending")):
        part = view.part(
            lambda: view.ask(lambda hub: hub.sites_page(state=SiteState.PENDING, limit=ROWS, cursor=cursor or None)),
            draw,
            every_s=REFRESH_S,
        )
    if changes:
        with panels.card(view.say("operator.token")):
            _token(view)


def _pending(view: View, site: SiteView, changes: bool, done: panels.Done) -> None:
    with ui.element("div").classes("yunhe-card"):
        with ui.row().classes("items-center full-width"):
            ui.link(site.name, f"/provider/{site.id}").classes("yunhe-link text-weight-bold yunhe-break")
            ui.badge(words.state(view, site)).props(f"color={words.colour(site)}")
            ui.space()
            if changes:
                ui.button(view.say("terms.approve_go"), on_click=lambda: terms.ask(view, site, done)).props("no-caps")
                refuse = ui.button(view.say("operator.refuse"), on_click=lambda: _refuse(view, site, done))
                refuse.props("outline no-caps color=negative")
        panels.facts(
            (
                (view.say("provider.provider"), site.provider),
                (view.say("provider.region"), " · ".join(filter(None, (site.region, site.cluster)))),
                (view.say("operator.place"), f"{site.lat:.3f}, {site.lon:.3f}"),
                (view.say("provider.assumed"), ", ".join(words.figure(view, name) for name in site.assumed)),
            )
        )


def _refuse(view: View, site: SiteView, done: panels.Done) -> None:
    async def go() -> None:
        await panels.act(view, lambda hub: hub.leave(site.id), view.say("operator.refused", name=site.name))
        done()

    title = view.say("operator.refuse_sure", name=site.name)
    panels.confirm(view, title, view.say("operator.refuse_means"), view.say("operator.refuse"), go)


def _token(view: View) -> None:
    ui.label(view.say("operator.token_means")).classes("yunhe-soft")
    with ui.row().classes("items-end"):
        provider = panels.field(view.say("operator.token_for"))

        async def make() -> None:
            made: EnrolmentToken | None = await panels.act(
                view, lambda hub: hub.enrolment_token(provider.value.strip()), ""
            )
            if made is not None:
                until = view.say("operator.token_until", moment=view.moment(made.expires_utc_ms))
                panels.show_once(view, view.say("operator.token_made"), made.token, until)

        provider.on("keydown.enter", make)
        ui.button(view.say("operator.token_make"), on_click=make).props("no-caps")
