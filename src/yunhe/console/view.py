"""One open page: who looks, in which language, and parts that are loading, empty, failed or there."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from typing import Generic, TypeVar
from urllib.parse import urlencode

from nicegui import background_tasks, ui

from yunhe.console import moments, wording
from yunhe.console.asking import Asking
from yunhe.console.live import Live
from yunhe.console.sessions import Session
from yunhe.core.errors import Forbidden, Unauthenticated, YunheError
from yunhe.sdk.client import Client

LOOK_S = 3.0
ANYWAY_S = 30.0  # a part that is told of changes asks so often all the same
PAUSE_S = 0.5  # between two questions, however much happens

Answer = TypeVar("Answer")
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class View:
    """`path` and `query`: the parameters of the page's address; `zone`: of the viewer's clock."""

    session: Session
    asking: Asking
    live: Live
    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    zone: tzinfo = UTC

    def say(self, key: str, **holes: object) -> str:
        return wording.say(self.session.language, key, **holes)

    def moment(self, utc_ms: int | None) -> str:
        """A time as the viewer's clock has it, to the second, with its distance from UTC."""
        return moments.moment(utc_ms, self.zone)

    async def ask(self, call: Callable[[Client], Answer]) -> Answer:
        """The hub, with the signed-in user's rights. Raises errors of `core.errors`."""
        if self.session.over(time.monotonic()):
            raise Unauthenticated("the session has ended", hint="sign in again")
        return await self.asking.ask(self.session.client, call)

    async def ask_publicly(self, call: Callable[[Client], Answer]) -> Answer:
        """The hub, as a visitor who has no account."""
        return await self.asking.ask(self.asking.visitor, call)

    def part(
        self,
        fetch: Callable[[], Awaitable[Value]],
        draw: Callable[[Value], None],
        every_s: float | None = None,
        late: bool = False,
        stirred: bool = False,
    ) -> "Part[Value]":
        """A part of the page that fetches what it draws; it is there at once and shows that it is loading.

        `late`: it fetches when the page is shown, so that what it is drawn with holds up nothing before. `stirred`: it
        fetches again when something happened to the user's orders.
        """
        return Part(self, fetch, draw, every_s, late, stirred)

    def show_loading(self) -> None:
        with ui.row().classes("items-center").props("role=status"):
            ui.spinner()
            ui.label(self.say("state.loading"))

    def show_empty(self, text: str, next_text: str = "", path: str = "") -> None:
        """Nothing is here yet, and what to do next."""
        with ui.element("div").classes("yunhe-empty"):
            ui.label(text)
            if path:
                ui.link(next_text, path)

    def show_error(self, error: YunheError, again: Callable[[], None] | None = None) -> None:
        """What failed, its code, and the way out."""
        with ui.card().classes("yunhe-card").props("role=alert"):
            if isinstance(error, Unauthenticated):
                ui.label(self.say("state.expired" if self.session.signed_in else "state.signed_out"))
                asked = ui.context.client.request.url
                here = f"{asked.path}?{asked.query}" if asked.query else asked.path
                ui.link(self.say("shell.sign_in"), f"/sign-in?{urlencode({'back': here})}")
                return
            title = "state.forbidden" if isinstance(error, Forbidden) else "state.failed"
            ui.label(self.say(title)).classes("yunhe-sub")
            ui.label(error.message)
            if error.hint:
                ui.label(error.hint)
            ui.label(self.say("state.code", code=error.code)).classes("yunhe-soft")
            if again is not None:
                ui.button(self.say("state.again"), on_click=again).props("flat")


class Part(Generic[Value]):
    """Drawn again by `refresh` when something has changed: what did not change keeps the reader's place in it.

    A refresh that fails says so instead of leaving what is old as if it were new.
    """

    def __init__(
        self,
        view: View,
        fetch: Callable[[], Awaitable[Value]],
        draw: Callable[[Value], None],
        every_s: float | None,
        late: bool,
        stirred: bool,
    ) -> None:
        self._view, self._fetch, self._draw = view, fetch, draw
        self._box = ui.column().classes("full-width")
        self._busy = self._stirred = False
        self._asked_s = 0.0
        self._drawn: list[Value] = []  # what is shown; empty: something else is
        with self._box:
            view.show_loading()
        if late:
            ui.timer(0.1, self.refresh, once=True)
        else:
            self.refresh()
        if every_s is not None:
            ui.timer(every_s, self.refresh, immediate=False)
        if stirred:
            ui.context.client.on_delete(view.live.stirring.watch(view.session, self._stir))
            ui.timer(LOOK_S, self._look, immediate=False)

    def refresh(self) -> None:
        """Fetch and draw, once at a time."""
        if not self._busy:
            self._busy = True
            background_tasks.create(self._run(), name="a part of a page")

    def _stir(self) -> None:
        self._stirred = True
        self.refresh()

    def _look(self) -> None:
        """The hub is asked now and then only; that the session has ended is known here."""
        now_s = time.monotonic()
        if now_s - self._asked_s > ANYWAY_S or self._view.session.over(now_s):
            self.refresh()

    async def _run(self) -> None:
        self._stirred, self._asked_s = False, time.monotonic()
        try:
            value = await self._fetch()
        except YunheError as error:
            self._drawn = []
            self._box.clear()
            with self._box:
                self._view.show_error(error, self.refresh)
        else:
            if self._drawn == [value]:
                return
            self._drawn = [value]
            self._box.clear()
            with self._box:
                self._draw(value)
        finally:
            await asyncio.sleep(PAUSE_S if self._stirred else 0)
            self._busy = False
            if self._stirred:
                self.refresh()
