"""Sign in with an API key."""

from nicegui import ui

from yunhe.console.shell import back_to, hidden, shell
from yunhe.console.view import View


async def page(view: View) -> None:
    with shell(view, view.say("signin.title"), "/sign-in"):
        with ui.card().classes("yunhe-card"):
            ui.label(view.say("signin.title")).classes("yunhe-title").props("role=heading aria-level=1")
            why = ui.context.client.request.query_params.get("why", "")
            if why in ("wrong", "unreachable"):
                ui.label(view.say(f"signin.{why}")).classes("text-negative").props("role=alert")
            with ui.element("form").props('method=post action="/sign-in"').classes("full-width"):
                hidden("token", view.session.token)
                hidden("back", back_to(view.query.get("back", "")))
                ui.input(view.say("signin.key")).props("type=password name=key autocomplete=current-password autofocus")
                ui.label(view.say("signin.hint")).classes("yunhe-soft")
                ui.button(view.say("signin.go")).props("type=submit no-caps")
