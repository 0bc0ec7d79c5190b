"""Looking on at what happens: `yunhe watch`."""

from collections.abc import Iterator
from typing import Annotated

import typer

from yunhe.cli.completion import complete_order
from yunhe.cli.connection import connect, order_named
from yunhe.cli.failure import remark
from yunhe.cli.follow import verdict
from yunhe.cli.options import example
from yunhe.cli.output import clean, moment
from yunhe.sdk.client import Client
from yunhe.sdk.events import BEGINNING
from yunhe.wire.api import EventView

SETTLED = "settled"  # the last event of an order
GAP = "  "

app = typer.Typer()


@app.command(epilog=example("yunhe watch last"))
def watch(
    ctx: typer.Context,
    order_id: Annotated[
        str | None,
        typer.Argument(
            help="One order's id, or `last`; all without.", metavar="[ORDER]", autocompletion=complete_order
        ),
    ] = None,
    after: Annotated[
        str | None, typer.Option("--after", metavar="ID", help="Go on behind the event of this id (--json has it).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line on stdout.")] = False,
) -> None:
    """Show what happens, as it happens: to one order until it is settled, or to all that your key may see.

    One order is shown from its beginning, all orders from now on. Ctrl-C ends the looking on, not the order.
    Exit status with ORDER: 0 when it succeeded, 1 when it did not.
    """
    with connect(ctx) as hub:
        named = None if order_id is None else order_named(hub, order_id)
        for event in _until_settled(hub, named, after or (BEGINNING if named else None)):
            print(event.model_dump_json() if as_json else _line(event, named), flush=True)
        if named is not None:
            raise typer.Exit(verdict([hub.wait(named, timeout=0)]))


def _until_settled(hub: Client, order_id: str | None, after: str | None) -> Iterator[EventView]:
    """Of all orders without end."""
    if order_id is None:
        remark("what happens from now on, until Ctrl-C")
    for event in hub.events(after, order_id):
        yield event
        if order_id is not None and event.kind == SETTLED:
            return


def _line(event: EventView, named: str | None) -> str:
    what = f"{event.kind}: {event.detail}" if event.detail else event.kind
    parts = (moment(event.at_utc_ms), (event.lease_id or event.order_id) if named is None else _task(event), what)
    return clean(GAP.join(part for part in parts if part))


def _task(event: EventView) -> str:
    return f"task {event.lease_id.partition('.')[2]}" if event.lease_id else ""
