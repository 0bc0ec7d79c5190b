"""Command about the lines of the network's sites."""

import typer

from yunhe.cli.connection import connect
from yunhe.cli.options import AsJson, example
from yunhe.cli.output import show_json, show_table
from yunhe.cli.wording import NONE
from yunhe.core.units import format_bandwidth, format_bytes, format_latency
from yunhe.wire.api import NetworkSiteView, NetworkView

app = typer.Typer()

COLUMNS = ("site", "to", ">latency, one way", ">width", ">transfers", ">still to move", ">load")


@app.command(epilog=example("yunhe lines"))
def lines(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List each site's line to its nearest place: latency, and what moves on it now."""
    with connect(ctx) as hub:
        found = hub.network()
    busiest = tuple(sorted(found.sites, key=lambda site: (-site.load_bps, -site.transfers, site.name)))
    if as_json:
        show_json(NetworkView(at_utc_ms=found.at_utc_ms, sites=busiest))
        return
    show_table(COLUMNS, [_row(site) for site in busiest])


def _row(site: NetworkSiteView) -> tuple[str, ...]:
    """The latency is computed, not measured."""
    return (
        site.name,
        site.place,
        format_latency(site.one_way_us, 3),
        format_bandwidth(site.bandwidth_bps),
        str(site.transfers),
        format_bytes(site.left_bytes, 1) if site.left_bytes else NONE,
        f"{100 * site.load_bps / site.bandwidth_bps:.1f} %" if site.bandwidth_bps else NONE,
    )
