"""Sites of a provider: how they are, what they were measured at, what they earn; pause, resume, leave."""

from collections.abc import Callable

from nicegui import ui

from yunhe.console import panels
from yunhe.console.panels import address, word
from yunhe.console.shell import shell
from yunhe.console.sites import earning, terms, words
from yunhe.console.sites.pools import benchmarks, pools
from yunhe.console.view import View
from yunhe.core.supply import SiteState
from yunhe.core.units import format_carbon, format_money
from yunhe.sdk.client import Client
from yunhe.wire.api import SiteChargePage, SiteList, SiteView

PATH = "/provider"
ROWS = 25
REFRESH_S = 5.0
SLOW_REFRESH_S = 20.0


async def page(view: View) -> None:
    """The list: one's own sites; for operators and auditors everybody's, or one provider's."""
    who = view.session.who
    everybody = who is not None and who.role in ("operator", "auditor")
    of = word(view, "of") if everybody else who.organisation if who else ""
    cursor = word(view, "cursor")

    def draw(found: SiteList) -> None:
        if found.sites:
            _list(view, found.sites)
        elif cursor or (everybody and of):
            view.show_empty(view.say("provider.no_match"), view.say("provider.all"), PATH)
        else:
            view.show_empty(view.say("provider.none"))
        first = address(PATH, of=of if everybody else "") if cursor else None
        following = address(PATH, of=of if everybody else "", cursor=found.next_cursor) if found.next_cursor else None
        panels.pages(view, first=first, following=following)

    with shell(view, view.say("provider.title"), PATH):
        ui.label(view.say("provider.title")).classes("yunhe-title").props("role=heading aria-level=1")
        if everybody:
            panels.search(view, PATH, "of", of, view.say("provider.of"))
        view.part(
            lambda: view.ask(lambda hub: hub.sites_page(of or None, limit=ROWS, cursor=cursor or None)),
            draw,
            every_s=REFRESH_S,
        )


def _list(view: View, sites: tuple[SiteView, ...]) -> None:
    columns = [
        panels.column("name", view.say("provider.name")),
        panels.column("state", view.say("provider.state")),
        panels.column("heard", view.say("provider.agent"), wide=True),
        panels.column("provider", view.say("provider.provider"), wide=True),
        panels.column("capacity", view.say("provider.capacity"), right=True),
        panels.column("certified", view.say("provider.certified"), wide=True),
    ]
    rows = [
        {
            "id": site.id,
            "address": f"{PATH}/{site.id}",
            "name": site.name,
            "state": words.state(view, site),
            "colour": words.colour(site),
            "heard": words.heard(view, site),
            "provider": site.provider,
            "capacity": words.capacity(view, site.pools),
            "certified": view.moment(site.certified_utc_ms),
        }
        for site in sites
    ]
    panels.table(columns, rows, link="name", badge="state")


# --- one site -----------------------------------------------------------------------------------------------------


async def site(view: View) -> None:
    """Everything about one site."""
    with shell(view, view.say("provider.title"), PATH):
        ui.link(view.say("provider.back"), PATH).classes("yunhe-link")
        if not view.session.signed_in:
            view.part(lambda: view.ask(Client.whoami), lambda _: None)
            return
        SitePage(view, view.path["site_id"])


class SitePage:
    """What changes from poll to poll stands apart from what stays: that keeps the reader's place."""

    def __init__(self, view: View, site_id: str) -> None:
        self._view, self._id = view, site_id
        self._month, self._cursor = panels.month_of(view), word(view, "cursor")
        self._disputed = word(view, "show") == "disputed"
        self._head = view.part(lambda: view.ask(lambda hub: hub.site(site_id)), self._draw_head, every_s=REFRESH_S)
        view.part(self._fetch_pools, self._draw_pools, every_s=REFRESH_S)
        with panels.card(view.say("earning.revenue")):
            panels.months(view, self._month, lambda month: self._address(month=month))
            view.part(
                lambda: view.ask(lambda hub: hub.revenue(site_id, self._month)),
                lambda found: earning.revenue(view, found),
                every_s=SLOW_REFRESH_S,
            )
        with panels.card(view.say("earning.ran")):
            shown = (("all", ""), ("disputed", "disputed"))
            panels.tabs(
                view.say("earning.ran"),
                [
                    (view.say(f"earning.show_{name}"), self._address(show=show), self._disputed == bool(show))
                    for name, show in shown
                ],
            )
            view.part(self._fetch_charges, self._draw_charges, every_s=SLOW_REFRESH_S)

    def _address(self, *, month: str = "", show: str | None = None, cursor: str = "") -> str:
        kept = "disputed" if self._disputed else ""
        return address(
            f"{PATH}/{self._id}", month=month or self._month, show=kept if show is None else show, cursor=cursor
        )

    async def _fetch_pools(self) -> SiteView:
        found = await self._view.ask(lambda hub: hub.site(self._id))
        return found.model_copy(update={"last_contact_utc_ms": None})

    def _draw_pools(self, found: SiteView) -> None:
        pools(self._view, found)
        if found.network:
            with panels.card(self._view.say("pool.network")):
                benchmarks(self._view, found.network)

    async def _fetch_charges(self) -> SiteChargePage:
        cursor = self._cursor or None
        return await self._view.ask(
            lambda hub: hub.charges(self._id, disputed=self._disputed, limit=ROWS, cursor=cursor)
        )

    def _draw_charges(self, found: SiteChargePage) -> None:
        view = self._view
        if found.charges:
            earning.charges(view, found)
        else:
            view.show_empty(view.say("earning.no_disputes" if self._disputed else "earning.nothing_ran"))
        first = self._address() if self._cursor else None
        following = self._address(cursor=found.next_cursor) if found.next_cursor else None
        panels.pages(view, first=first, following=following)

    # --- the head -------------------------------------------------------------------------------------------------

    def _draw_head(self, found: SiteView) -> None:
        view = self._view
        with ui.row().classes("items-center full-width"):
            ui.label(found.name).classes("yunhe-title yunhe-break").props("role=heading aria-level=1")
            ui.badge(words.state(view, found)).props(f"color={words.colour(found)}")
            ui.badge(words.heard(view, found)).props(f"color={'green-8' if found.connected else 'red-8'}")
            ui.space()
            self._buttons(found)
        if found.state == SiteState.ACTIVE and not found.accepting:
            ui.label(view.say("provider.own_pause")).props("role=status")
        with panels.card(view.say("provider.site")):
            panels.facts(
                (
                    (view.say("provider.id"), found.id),
                    (view.say("provider.provider"), found.provider),
                    (view.say("provider.region"), " · ".join(filter(None, (found.region, found.cluster)))),
                    (view.say("provider.contact"), view.moment(found.last_contact_utc_ms)),
                    (view.say("provider.certified"), view.moment(found.certified_utc_ms)),
                    (view.say("provider.retest"), view.moment(found.retest_utc_ms)),
                    (view.say("provider.tier"), f"{found.tier} {found.isolation}".strip()),
                    (view.say("provider.software"), found.software),
                    (view.say("provider.pue"), f"{found.pue_milli / 1000:.2f}"),
                    (view.say("provider.carbon"), format_carbon(found.carbon_g_per_kwh)),
                    (view.say("provider.power"), format_money(found.power_price_microcny_per_kwh)),
                    (view.say("provider.assumed"), ", ".join(words.figure(view, name) for name in found.assumed)),
                )
            )

    def _buttons(self, found: SiteView) -> None:
        view, who = self._view, self._view.session.who
        if who is None or who.role not in ("provider", "operator") or found.state == SiteState.LEFT:
            return
        if who.role == "operator":
            waits = found.state == SiteState.PENDING
            label = view.say("terms.approve_go" if waits else "terms.open")
            _button(label, lambda: terms.ask(view, found, self._head.refresh))
            if not waits:
                _button(view.say("provider.certify"), lambda: self._sure("certify", lambda hub: hub.certify(self._id)))
        if found.state == SiteState.PAUSED:
            _button(view.say("provider.resume"), lambda: self._sure("resume", lambda hub: hub.resume(self._id)))
        elif found.state != SiteState.PENDING:
            _button(view.say("provider.pause"), lambda: self._sure("pause", lambda hub: hub.pause(self._id)))
        leave = _button(
            view.say("provider.leave"), lambda: self._sure("leave", lambda hub: hub.leave(self._id), typed=self._id)
        )
        leave.props("color=negative")

    def _sure(self, name: str, call: Callable[[Client], SiteView], typed: str = "") -> None:
        view = self._view

        async def go() -> None:
            await panels.act(view, call, view.say(f"provider.{name}_done"))
            self._head.refresh()

        title = view.say(f"provider.{name}_sure", name=self._id)
        panels.confirm(view, title, view.say(f"provider.{name}_means"), view.say(f"provider.{name}"), go, typed)


def _button(text: str, on_click: Callable[[], None]) -> ui.button:
    return ui.button(text, on_click=on_click).props("outline no-caps dense padding='4px 12px'")
