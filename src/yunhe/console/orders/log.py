"""A task's log as it is written: fetched in pieces, bounded on the page, going on with the next attempt."""

import codecs
import re

from nicegui import background_tasks, ui

from yunhe.console.view import View
from yunhe.core.errors import YunheError
from yunhe.sdk.orders import LogHead

EVERY_S = 1.0
MAX_SHOWN_CHARS = 128 * 1024  # on the page; what is older goes from it
TAIL_BYTES = 64 * 1024  # of a log that is longer when the page opens
_STEERING = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[@-_]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def plain(text: str) -> str:
    """Without what steers a terminal; a line that is written over becomes lines of its own."""
    return _STEERING.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


class LogBox:
    """Drawn where it is made. Asks once a second until nothing more will come."""

    def __init__(self, view: View, order_id: str, array: int) -> None:
        self._view, self._order_id = view, order_id
        self._task = 0
        self._busy = self._over = False
        with ui.row().classes("items-center full-width"):
            ui.label(view.say("order.log")).classes("yunhe-sub").props("role=heading aria-level=2")
            ui.space()
            if array > 1:
                box = ui.number(view.say("order.task"), value=0, min=0, max=array - 1, precision=0)
                box.props("dense outlined debounce=300").classes("yunhe-short").on_value_change(
                    lambda event: self._show_task(event.value)
                )
            self._link = ui.link(view.say("order.whole_log"), self._address())
        self._note = ui.label("").classes("yunhe-soft").props("role=status")
        with ui.element("div").classes("yunhe-log").props(f'tabindex=0 role=log aria-label="{view.say("order.log")}"'):
            self._box = ui.element("div")
        self._reset()
        self._timer = ui.timer(EVERY_S, self.refresh)

    def refresh(self) -> None:
        if not self._busy and not self._over:
            self._busy = True
            background_tasks.create(self._more(), name="a piece of a log")

    def _address(self) -> str:
        return f"/orders/{self._order_id}/log?task={self._task}"

    def _show_task(self, value: float | None) -> None:
        if value is not None and int(value) != self._task:
            self._task = int(value)
            self._link.props(f'href="{self._address()}"')
            self._reset()

    def _reset(self) -> None:
        self._box.clear()
        self._pieces: list[tuple[ui.label, int]] = []
        self._shown_chars = 0
        self._attempt, self._offset = 0, 0
        self._over, self._busy = False, False
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._note.set_text(self._view.say("state.loading"))

    async def _more(self) -> None:
        task, attempt, offset = self._task, self._attempt, self._offset
        try:
            head, raw = await self._view.ask(
                lambda hub: hub.log_part(self._order_id, task=task, attempt=attempt or None, offset=offset)
            )
        except YunheError as error:
            self._note.set_text(self._view.say("order.log_waits", why=error.message))
            self._over = not error.retryable
        else:
            if task == self._task:
                self._take(head, raw)
        finally:
            self._busy = False

    def _take(self, head: LogHead, raw: bytes) -> None:
        if self._offset == 0 and head.size > TAIL_BYTES + len(raw):
            self._attempt, self._offset = head.attempt, head.size - TAIL_BYTES
            self._append(self._view.say("order.log_cut", count=head.size - TAIL_BYTES) + "\n")
            return
        self._attempt, self._offset = head.attempt, head.next_offset
        if raw:
            self._append(plain(self._decoder.decode(raw)))
        if head.complete and head.attempt < head.latest_attempt:
            self._attempt, self._offset = head.attempt + 1, 0
            self._append("\n" + self._view.say("order.attempt_n", n=self._attempt) + "\n")
        elif head.complete:
            self._over = True
        self._note.set_text(self._view.say(self._state(head)))

    def _state(self, head: LogHead) -> str:
        if self._over:
            return "order.log_over" if self._shown_chars else "order.log_none"
        return "order.log_live" if head.attempt else "order.log_not_yet"

    def _append(self, text: str) -> None:
        if not text:
            return
        with self._box:
            self._pieces.append((ui.label(text), len(text)))
        self._shown_chars += len(text)
        while self._shown_chars > MAX_SHOWN_CHARS and len(self._pieces) > 1:
            label, size = self._pieces.pop(0)
            label.delete()
            self._shown_chars -= size
