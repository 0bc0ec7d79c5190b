"""What happened to anybody's orders, as a table."""

from collections.abc import Sequence

from yunhe.console import panels
from yunhe.console.orders import words
from yunhe.console.orders.way import detail_of
from yunhe.console.view import View
from yunhe.wire.api import EventView, FactView


def trail(view: View, found: Sequence[EventView]) -> None:
    columns = [
        panels.column("at", view.say("audit.at")),
        panels.column("kind", view.say("audit.kind")),
        panels.column("order", view.say("audit.order")),
        panels.column("site", view.say("audit.site"), wide=True),
        panels.column("detail", view.say("audit.detail"), wide=True),
    ]
    rows = [
        {
            "id": event.id,
            "at": view.moment(event.at_utc_ms),
            "kind": words.word(view, "facts", event.kind),
            "address": f"/orders/{event.order_id}",
            "order": event.lease_id or event.order_id,
            "site": event.site_id or panels.NONE,
            "detail": detail_of(view, _fact(event)),
        }
        for event in found
    ]
    panels.table(columns, rows, link="order")


def _fact(event: EventView) -> FactView:
    return FactView(
        utc_ms=event.at_utc_ms, lease_id=event.lease_id, epoch=event.epoch, kind=event.kind, detail=event.detail
    )
