"""Commands about money."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Annotated

import typer

from yunhe.apps.tables import without
from yunhe.cli.connection import connect
from yunhe.cli.options import AsJson, example
from yunhe.cli.output import moment, show_json, show_pairs, show_table
from yunhe.cli.wording import PRICE_COLUMNS, price_cells
from yunhe.core.posting import CNY
from yunhe.core.units import format_money
from yunhe.wire.api import InvoiceLine, PostingPage, PriceView

app = typer.Typer()

Organisation = Annotated[
    str | None, typer.Option("--organisation", help="Another organisation (operators and auditors).")
]


@app.command(epilog=example("yunhe balance --json"))
def balance(ctx: typer.Context, organisation: Organisation = None, as_json: AsJson = False) -> None:
    """Show your organisation's balance."""
    with connect(ctx) as hub:
        view = hub.balance(organisation)
    if as_json:
        show_json(view)
        return
    show_pairs(
        (
            ("account", view.account),
            ("available", format_money(view.available_microcny)),
            ("held for orders", format_money(view.held_microcny)),
            ("credit limit", format_money(view.credit_limit_microcny)),
            ("earned", format_money(view.earned_microcny)),
        )
    )


@app.command(epilog=example("yunhe invoice 2026-11"))
def invoice(
    ctx: typer.Context,
    month: Annotated[
        str | None, typer.Argument(help="The month (UTC), as 2026-11; this one without.", metavar="[MONTH]")
    ] = None,
    organisation: Organisation = None,
    detail: Annotated[bool, typer.Option("--detail", help="One line per task and attempt.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the invoice of a month."""
    with connect(ctx) as hub:
        view = hub.invoice(month or datetime.now(UTC).strftime("%Y-%m"), organisation)
    if as_json:
        show_json(view)
        return
    if detail:
        columns: tuple[str, ...] = ("lease", ">attempt", "~name", "site", *PRICE_COLUMNS)
        rows = [(i.lease_id, str(i.epoch), i.order_name, i.site_id, *price_cells(i.price)) for i in view.lines]
    else:
        columns = ("order", "~name", ">tasks", "~site", *PRICE_COLUMNS)
        rows = list(_by_order(view.lines))
    nothing = [name for name in ("transfer", "line") if not any(_amount_of(i.price, name) for i in view.lines)]
    show_table(*without(columns, rows, nothing), f"Invoice {view.month} of {view.account}")
    print(f"total {format_money(view.total_microcny)}")


@app.command(epilog=example("yunhe deposit acme 100CNY --reference transfer-2026-118"))
def deposit(
    ctx: typer.Context,
    organisation: Annotated[str, typer.Argument(help="Who paid (organisation id).")],
    amount: Annotated[str, typer.Argument(help="How much, as 100CNY.")],
    reference: Annotated[str, typer.Option("--reference", help="The payment's own number: it is booked once.")],
    as_json: AsJson = False,
) -> None:
    """Book money that an organisation has paid (operators)."""
    with connect(ctx) as hub:
        view = hub.deposit(organisation, amount, reference)
    if as_json:
        show_json(view)
        return
    print(f"{view.account} has {format_money(view.available_microcny)} available")


@app.command("trial-balance", epilog=example("yunhe ledger trial-balance"))
def trial_balance(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Show every account's balance; each unit sums to zero."""
    with connect(ctx) as hub:
        view = hub.trial_balance()
    if as_json:
        show_json(view)
    else:
        show_table(("account", ">amount"), ((r.account, _amount(r.amount, r.unit)) for r in view.rows))
        for unit, total in view.sum_by_unit.items():
            print(f"sum of {unit.partition('/')[0]}: {_amount(total, unit)}")
        print(f"{view.postings} postings, {'balanced' if view.balanced else 'NOT BALANCED'}")
    if not view.balanced:
        raise typer.Exit(1)


@app.command(epilog=example("yunhe ledger postings --json"))
def postings(
    ctx: typer.Context,
    account: Annotated[str | None, typer.Option(help="Only of this account (yunhe ledger trial-balance).")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List moves of money, newest first."""
    with connect(ctx) as hub:
        found = tuple(hub.postings(account, limit))
    if as_json:
        show_json(PostingPage(postings=found))
        return
    rows = ((moment(p.utc_ms), p.kind, p.set_ref, p.source, p.destination, _amount(p.amount, p.unit)) for p in found)
    show_table(("time", "kind", "set", "from", "to", ">amount"), rows)


def _by_order(lines: Iterable[InvoiceLine]) -> Iterator[tuple[str, ...]]:
    """One row per order, in the order of the invoice."""
    found: dict[str, list[InvoiceLine]] = {}
    for line in lines:
        found.setdefault(line.order_id, []).append(line)
    for order_id, of_it in found.items():
        total = PriceView(
            compute_microcny=sum(line.price.compute_microcny for line in of_it),
            energy_microcny=sum(line.price.energy_microcny for line in of_it),
            transfer_microcny=sum(line.price.transfer_microcny for line in of_it),
            line_microcny=sum(line.price.line_microcny for line in of_it),
            total_microcny=sum(line.price.total_microcny for line in of_it),
        )
        sites = ", ".join(sorted({line.site_id for line in of_it}))
        leases = len({line.lease_id for line in of_it})
        yield order_id, of_it[0].order_name, str(leases), sites, *price_cells(total)


def _amount_of(price: PriceView, part: str) -> int:
    return price.transfer_microcny if part == "transfer" else price.line_microcny


def _amount(amount: int, unit: str) -> str:
    return format_money(amount) if unit == CNY else f"{amount} {unit}"
