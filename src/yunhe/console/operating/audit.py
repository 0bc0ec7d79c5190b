"""What people changed, and what happened to anybody's orders, as tables."""

from collections.abc import Iterator, Sequence

from yunhe.console import panels
from yunhe.console.orders import words
from yunhe.console.orders.way import detail_of
from yunhe.console.view import View
from yunhe.core.units import format_milli, format_money
from yunhe.wire.api import AuditView, EventView, FactView


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


def changes(view: View, found: Sequence[AuditView]) -> None:
    columns = [
        panels.column("at", view.say("audit.at")),
        panels.column("who", view.say("audit.who")),
        panels.column("action", view.say("audit.kind"), whole=True),
        panels.column("subject", view.say("audit.subject")),
        panels.column("values", view.say("audit.values"), wide=True),
        panels.column("key", view.say("audit.key"), wide=True),
    ]
    rows = [
        {
            "id": entry.id,
            "at": view.moment(entry.at_utc_ms),
            "who": f"{entry.organisation} · {entry.member}",
            "action": words.word(view, "actions", entry.action.replace(".", "_")),
            "subject": entry.subject,
            "values": "; ".join(_changed(view, entry)),
            "key": entry.key_id,
        }
        for entry in found
    ]
    panels.table(columns, rows)


def _changed(view: View, entry: AuditView) -> Iterator[str]:
    """`State: active → paused`; of what is new, its values alone."""
    for name in dict.fromkeys((*entry.before, *entry.after)):
        before, after = (_value(view, name, values.get(name)) for values in (entry.before, entry.after))
        label = words.word(view, "changed", name)
        yield f"{label}: {before} → {after}" if name in entry.before else f"{label}: {after}"


def _value(view: View, name: str, value: str | int | bool | None) -> str:
    if value is None:
        return view.say("account.no_quota") if name == "quota_milli" else panels.NONE
    if isinstance(value, bool):
        return view.say("audit.yes" if value else "audit.no")
    if isinstance(value, int):
        if "_microcny" in name:
            return format_money(value)
        if name.endswith("_milli"):
            return format_milli(value)
        if name.endswith("_ms"):
            return view.moment(value)
    return words.word(view, "site", str(value)) if name == "state" else str(value)


def _fact(event: EventView) -> FactView:
    return FactView(
        utc_ms=event.at_utc_ms, lease_id=event.lease_id, epoch=event.epoch, kind=event.kind, detail=event.detail
    )
