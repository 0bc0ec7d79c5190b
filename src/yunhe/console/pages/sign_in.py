"""Sign in through a provider, or with an API key."""

from nicegui import ui

from yunhe.console import wording
from yunhe.console.shell import back_to, hidden, shell
from yunhe.console.view import View
from yunhe.core.errors import YunheError
from yunhe.wire.api import SignInProvider


async def page(view: View) -> None:
    back = back_to(view.query.get("back", ""))
    with shell(view, view.say("signin.title"), "/sign-in"):
        with ui.card().classes("yunhe-card"):
            ui.label(view.say("signin.title")).classes("yunhe-title").props("role=heading aria-level=1")
            why = ui.context.client.request.query_params.get("why", "")
            if why in ("wrong", "unreachable"):
                ui.label(view.say(f"signin.{why}")).classes("text-negative").props("role=alert")
            elif view.session.failure is not None:
                _failed(view, view.session.failure)
            view.part(
                lambda: view.ask_publicly(lambda hub: hub.sign_in_providers()),
                lambda found: _providers(view, found, back),
            )
            with ui.element("form").props('method=post action="/sign-in"').classes("full-width"):
                hidden("token", view.session.token)
                hidden("back", back)
                ui.input(view.say("signin.key")).props("type=password name=key autocomplete=current-password autofocus")
                ui.label(view.say("signin.hint")).classes("yunhe-soft")
                ui.button(view.say("signin.go")).props("type=submit no-caps")


def _providers(view: View, found: tuple[SignInProvider, ...], back: str) -> None:
    """A button for each; without any the API key is the way."""
    if not found:
        return
    for each in found:
        with ui.element("form").props(f'method=post action="/sign-in/with/{each.id}"').classes("full-width"):
            hidden("token", view.session.token)
            hidden("back", back)
            ui.button(view.say("signin.with", name=each.name)).props("type=submit no-caps").classes("full-width")
    ui.label(view.say("signin.or_key")).classes("yunhe-sub")


def _failed(view: View, error: YunheError) -> None:
    """What came of the latest try."""
    title = f"signin.failed_{error.code}"
    known = title in wording.texts(view.session.language)
    with ui.column().classes("yunhe-tight").props("role=alert"):
        ui.label(view.say(title if known else "signin.failed")).classes("text-negative")
        ui.label(error.message).classes("yunhe-break")
        if error.hint:
            ui.label(error.hint)
        ui.label(view.say("state.code", code=error.code)).classes("yunhe-soft")
