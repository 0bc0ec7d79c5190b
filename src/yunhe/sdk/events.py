"""What happens to orders, as it happens."""

import logging
from collections.abc import Iterator

from yunhe.core import errors
from yunhe.sdk.orders import OUTAGE_S, Patience
from yunhe.sdk.streams import BEAT_S, HINT, NotUnderstood, blocks, understood
from yunhe.sdk.transport import Transport
from yunhe.wire.api import EventPage, EventView

log = logging.getLogger(__name__)

BEGINNING = "0-0"  # behind this id lies everything
MAX_BLOCK_BYTES = 1024 * 1024


class EventCalls:
    _transport: Transport

    def latest_events(self, limit: int = 100, cursor: str | None = None) -> EventPage:
        """What happened to anybody's orders, newest first: one page. For operators and auditors."""
        query: dict[str, str | int] = {"limit": limit}
        if cursor is not None:
            query["cursor"] = cursor
        return self._transport.get(EventPage, "/v1/events/latest", query)

    def stirs(self) -> Iterator[bool]:
        """True when something happened to one's orders (for providers: at one's sites), False now and then.

        Raises Unavailable when the stream breaks off or the hub ends it, and what a call without rights raises.
        """
        try:
            with self._transport.stream("/v1/events", hold=BEAT_S) as chunks:
                for block in blocks(chunks, MAX_BLOCK_BYTES):
                    yield bool(block.data)
        except NotUnderstood as error:
            raise errors.Unavailable(str(error), hint=HINT) from error
        raise errors.Unavailable("the hub ended the stream of events", hint="try again")

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
                    for block in blocks(chunks, MAX_BLOCK_BYTES):
                        patience.answered()
                        if block.data:
                            yield understood(EventView, block.data)
                        place = block.id or place
                raise errors.Unavailable("the hub ended the stream of events", hint="try again")
            except NotUnderstood as error:
                raise errors.Unavailable(str(error), hint=HINT) from error
            except errors.Unavailable as error:
                log.info("the stream of events broke off: %s", error.message)
                patience.outage(error)
