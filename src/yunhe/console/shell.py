"""The frame of every page: header, navigation by the user's role, language, light or dark, sign-in."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from nicegui import ui

from yunhe.console.view import View

PLACES = (  # path, wording, roles that see it (none: everybody)
    ("/", "shell.network", frozenset[str]()),
    ("/new", "shell.new", frozenset({"customer", "operator"})),
    ("/orders", "shell.orders", frozenset({"customer", "operator", "auditor"})),
    ("/provider", "shell.provider", frozenset({"provider", "operator", "auditor"})),
    ("/money", "shell.money", frozenset({"customer", "provider", "operator", "auditor"})),
    ("/operator", "shell.operator", frozenset({"operator", "auditor"})),
)


_HERE = re.compile(r"/(?!/)[A-Za-z0-9_/.?=&%+-]{0,300}")


def back_to(wanted: str) -> str:
    """A path of this console; the front page for anything that is none."""
    return wanted if _HERE.fullmatch(wanted) else "/"


@contextmanager
def shell(view: View, title: str, here: str) -> Iterator[None]:
    """Everything inside becomes the page's content. `title` is shown by the browser; `here` is the page's path."""
    session = view.session
    ui.page_title(f"{title} · {view.say('shell.name')}")
    ui.colors(primary="#0b5c7a", secondary="#2a7f62", accent="#b4541a")
    ui.dark_mode(session.dark)
    role = session.who.role if session.who else None
    ui.link(view.say("shell.skip"), "#content").classes("yunhe-skip")
    with ui.header().classes("items-center"):
        ui.link(view.say("shell.name"), "/").classes("yunhe-nav text-weight-bold")
        with ui.element("nav").classes("gt-sm").props('aria-label="main"'):
            _links(view, role, here)
        ui.space()
        _form(view, "/language", view.say("shell.language"))
        _form(view, "/dark", "◐", view.say("shell.dark"))
        if session.who is None:
            ui.link(view.say("shell.sign_in"), "/sign-in").classes("yunhe-nav")
        else:
            ui.label(f"{session.who.organisation}").classes("gt-xs")
            _form(view, "/sign-out", view.say("shell.sign_out"))
        with (
            ui.button(icon="menu")
            .props(f'flat color=white dense aria-label="{view.say("shell.menu")}"')
            .classes("lt-md")
        ):
            with ui.menu(), ui.element("nav").classes("column q-pa-sm"):
                _links(view, role, here)
    with ui.element("div").classes("yunhe-page column").props("id=content tabindex=-1"):
        yield


def _links(view: View, role: str | None, here: str) -> None:
    for path, wording, roles in PLACES:
        if not roles or role in roles:
            link = ui.link(view.say(wording), path).classes("yunhe-nav")
            if path == here:
                link.props("aria-current=page")


def _form(view: View, action: str, text: str, label: str = "") -> None:
    """A button that changes something: a form of its own, guarded by the session's token."""
    with ui.element("form").props(f'method=post action="{action}"'):
        hidden("token", view.session.token)
        ui.button(text).props(f'type=submit flat dense no-caps color=white aria-label="{label or text}"')


def hidden(name: str, value: str) -> None:
    ui.element("input").props(f'type=hidden name="{name}" value="{value}"')
