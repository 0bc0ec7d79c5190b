"""Lines of an invoice, moves of the book, and the book's proof, as tables."""

from collections.abc import Sequence

from nicegui import ui

from yunhe.console import panels, wording
from yunhe.console.view import View
from yunhe.core.posting import CNY
from yunhe.core.units import format_money
from yunhe.wire.api import InvoiceView, PostingView, TrialBalance

OWN = ("available", "held", "earned")  # accounts of an organisation in the book
MAX_BALANCES = 50


def amount(value: int, unit: str) -> str:
    """Money as money, other units as the plain count with the unit behind it."""
    return format_money(value) if unit == CNY else f"{value} {unit}"


def lines(view: View, found: InvoiceView) -> None:
    columns = [
        panels.column("order", view.say("money.order")),
        panels.column("lease", view.say("money.lease"), wide=True),
        panels.column("site", view.say("money.site"), wide=True),
        panels.column("compute", view.say("money.compute"), right=True, wide=True),
        panels.column("energy", view.say("money.energy"), right=True, wide=True),
        panels.column("other", view.say("money.other"), right=True, wide=True),
        panels.column("total", view.say("money.line_total"), right=True),
    ]
    rows = [
        {
            "id": f"{line.lease_id}:{line.epoch}",
            "address": f"/orders/{line.order_id}",
            "order": line.order_name or line.order_id,
            "lease": f"{line.lease_id}:{line.epoch}",
            "site": line.site_id,
            "compute": format_money(line.price.compute_microcny),
            "energy": format_money(line.price.energy_microcny),
            "other": format_money(line.price.transfer_microcny + line.price.line_microcny),
            "total": format_money(line.price.total_microcny),
        }
        for line in found.lines
    ]
    panels.table(columns, rows, link="order")


def moves(view: View, found: Sequence[PostingView]) -> None:
    columns = [
        panels.column("at", view.say("money.at")),
        panels.column("kind", view.say("money.kind"), whole=True),
        panels.column("source", view.say("money.source"), wide=True),
        panels.column("destination", view.say("money.destination"), wide=True),
        panels.column("ref", view.say("money.ref"), wide=True),
        panels.column("amount", view.say("money.amount"), right=True),
    ]
    texts = wording.texts(view.session.language)
    rows = [
        {
            "id": f"{move.set_ref}#{move.n}",
            "at": view.moment(move.utc_ms),
            "kind": texts.get(f"posting.{move.kind}", move.kind),
            "source": move.source,
            "destination": move.destination,
            "ref": move.set_ref,
            "amount": amount(move.amount, move.unit),
        }
        for move in found
    ]
    panels.table(columns, rows)


def proof(view: View, found: TrialBalance) -> None:
    good = "balanced" if found.balanced else "not_balanced"
    with ui.row().classes("items-center").props("role=status"):
        ui.badge(view.say(f"money.{good}")).props(f"color={'green-8' if found.balanced else 'red-8'}")
        ui.label(view.say("money.of_postings", count=found.postings))
    panels.facts((view.say("money.sum", unit=unit), amount(total, unit)) for unit, total in found.sum_by_unit.items())
    columns = [
        panels.column("account", view.say("money.account")),
        panels.column("amount", view.say("money.amount"), right=True),
    ]
    largest = sorted(found.rows, key=lambda row: -abs(row.amount))
    rows = [
        {"id": f"{row.account} {row.unit}", "account": row.account, "amount": amount(row.amount, row.unit)}
        for row in largest[:MAX_BALANCES]
    ]
    panels.table(columns, rows)
    if len(largest) > MAX_BALANCES:
        ui.label(view.say("money.more_accounts", count=len(largest) - MAX_BALANCES)).classes("yunhe-soft")
