"""Commands about what ran at a site and what it earned (providers)."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from yunhe.cli.connection import connect
from yunhe.cli.options import AsJson, SiteId, example
from yunhe.cli.output import moment, show_json, show_table
from yunhe.cli.wording import PRICE_COLUMNS, price_cells
from yunhe.core.units import format_energy, format_milli, format_money, format_span

app = typer.Typer()


@app.command(epilog=example("yunhe site charges zhangjiakou-1 --disputed"))
def charges(
    ctx: typer.Context,
    site_id: SiteId,
    disputed: Annotated[bool, typer.Option("--disputed", help="Only those in dispute.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 50,
    cursor: Annotated[
        str | None, typer.Option("--cursor", help="Where the page before says that the next one begins.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List what ran at a site and what it earned, newest first (its provider)."""
    with connect(ctx) as hub:
        found = hub.charges(site_id, disputed=disputed, limit=limit, cursor=cursor)
    if as_json:
        show_json(found)
        return
    rows = [
        (
            moment(c.at_utc_ms),
            c.lease_id,
            str(c.epoch),
            format_milli(c.units_milli),
            format_span(c.wall_ms),
            *price_cells(c.price),
            format_money(c.operator_fee_microcny),
            format_money(c.earned_microcny),
            format_energy(c.energy_mwh),
            "disputed" if c.disputed else "",
        )
        for c in found.charges
    ]
    columns = ("booked", "lease", ">attempt", ">units", ">run (measured)", *PRICE_COLUMNS)
    show_table((*columns, ">fee", ">earned", ">energy", "remark"), rows)
    if found.next_cursor is not None:
        print(f"more: --cursor {found.next_cursor}")


@app.command(epilog=example("yunhe site revenue zhangjiakou-1 2026-11"))
def revenue(
    ctx: typer.Context,
    site_id: SiteId,
    month: Annotated[
        str | None, typer.Argument(help="The month (UTC), as 2026-11; this one without.", metavar="[MONTH]")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a site earned in a month, day by day (its provider)."""
    with connect(ctx) as hub:
        found = hub.revenue(site_id, month or datetime.now(UTC).strftime("%Y-%m"))
    if as_json:
        show_json(found)
        return
    rows = [
        (
            d.day,
            str(d.charges),
            str(d.disputed),
            format_money(d.charged_microcny),
            format_money(d.operator_fee_microcny),
            format_money(d.earned_microcny),
            format_energy(d.energy_mwh),
        )
        for d in found.days
    ]
    columns = ("day", ">charges", ">disputed", ">charged", ">fee", ">earned", ">energy")
    show_table(columns, rows, f"Revenue {found.month} of {found.site_id}")
    print(f"earned {format_money(sum(d.earned_microcny for d in found.days))}")
