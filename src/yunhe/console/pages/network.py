"""The front page: the network as anybody may see it."""

from nicegui import ui

from yunhe.console.shell import shell
from yunhe.console.view import View


async def page(view: View) -> None:
    with shell(view, view.say("shell.network"), "/"):
        ui.label(view.say("shell.network")).classes("yunhe-title").props("role=heading aria-level=1")
