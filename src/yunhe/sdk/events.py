"""What happens to orders, as it happens."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from yunhe.core import errors
from yunhe.sdk.orders import OUTAGE_S, Patience
from yunhe.sdk.transport import Transport
from yunhe.wire.api import EventPage, EventView

log = logging.getLogger(__name__)

BEGINNING = "0-0"  # behind this id lies everything
BEAT_S = 20.0  # the hub says something at least so often
MAX_BLOCK_BYTES = 1024 * 1024


class EventCalls:
    _transport: Transport

    def latest_events(self, limit: int = 100, cursor: str | None = None) -> EventPage:
        """What happened to anybody's orders, newest first: one page. For operators and auditors."""
        query: dict[str, str | int] = {"limit": limit}
        if cursor is not None:
            query["cursor"] = cursor
        return self._transport.get(EventPage, "/v1/events/latest", query)

    def events(
        self, after: str | None = None, order: str | None = None, *, outage: float = OUTAGE_S
    ) -> Iterator[EventView]:
        """What happens to one's orders (for providers: at one's sites), of all or of one `order`, without end.

        Begins behind the event of the id `after`, or now. Each event comes once and none is left out, also when the
        connection breaks or the hub is restarted; one that is away for `outage` seconds is an error, Unavailable.
        """
        place = after
        patience = Patience(outage)
        while True:
            given = {"after": place, "order": order}
            try:
                query = {name: value for name, value in given.items() if value is not None}
                with self._transport.stream("/v1/events", query, hold=BEAT_S) as chunks:
                    for block in _blocks(chunks):
                        patience.answered()
                        if block.data:
                            yield _view(block.data)
                        place = block.id or place
                raise errors.Unavailable("the hub ended the stream of events", hint="try again")
            except _NotUnderstood as error:  # it would come again as it is
                raise errors.Unavailable(str(error), hint="is this a hub, of a version near this one?") from error
            except errors.Unavailable as error:
                log.info("the stream of events broke off: %s", error.message)
                patience.outage(error)


class _NotUnderstood(Exception):
    """What came is no hub's, or a much newer one's."""


@dataclass(slots=True)
class _Block:
    """One of server-sent events, as far as a hub sends them: one line of each kind."""

    id: str = ""
    data: str = ""


def _blocks(chunks: Iterator[bytes]) -> Iterator[_Block]:
    """Those that came whole: what was cut off comes again."""
    rest = b""
    block = _Block()
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > MAX_BLOCK_BYTES:
            raise _NotUnderstood("the answer is not a hub's stream of events")
        for line in lines:
            name, _, value = line.rstrip(b"\r").decode("utf-8", errors="replace").partition(": ")
            if not name:
                yield block
                block = _Block()
            elif name == "id":
                block.id = value
            elif name == "data":
                block.data = value


def _view(data: str) -> EventView:
    try:
        return EventView.model_validate_json(data)
    except ValidationError as error:
        raise _NotUnderstood("an event of this hub is not understood") from error
