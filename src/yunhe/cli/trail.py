"""Commands about what happened: to orders, and by whose hand to the network (operators)."""

import re
from typing import Annotated

import typer

from yunhe.cli.connection import connect
from yunhe.cli.options import AsJson, example
from yunhe.cli.output import moment, show_json, show_table
from yunhe.cli.wording import NONE
from yunhe.core.units import format_money
from yunhe.wire.api import AuditView

app = typer.Typer()

Limit = Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")]
Cursor = Annotated[str | None, typer.Option("--cursor", help="Where the page before says that the next one begins.")]


@app.command(epilog=example("yunhe audit --subject zhangjiakou-1"))
def audit(
    ctx: typer.Context,
    subject: Annotated[str | None, typer.Option(help="Only of this site, organisation or key.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    as_json: AsJson = False,
) -> None:
    """List what people changed: who, when, what, before and after (operators)."""
    with connect(ctx) as hub:
        found = hub.audit(subject, limit=limit, cursor=cursor)
    if as_json:
        show_json(found)
        return
    rows = [
        (moment(e.at_utc_ms), f"{e.organisation} {e.member}", e.role, e.action, e.subject, _changes(e), e.key_id)
        for e in found.entries
    ]
    show_table(("time", "~who", "role", "what", "of", "~before and after", "by key"), rows)
    _more(found.next_cursor)


@app.command(epilog=example("yunhe events --limit 20 --json"))
def events(ctx: typer.Context, limit: Limit = 50, cursor: Cursor = None, as_json: AsJson = False) -> None:
    """List what happened to anybody's orders, newest first (operators); as it happens: yunhe watch."""
    with connect(ctx) as hub:
        found = hub.latest_events(limit, cursor)
    if as_json:
        show_json(found)
        return
    rows = [
        (moment(e.at_utc_ms), e.lease_id or e.order_id, str(e.epoch or NONE), e.kind, e.site_id or NONE, e.detail)
        for e in found.events
    ]
    show_table(("time", "order or task", "attempt", "what happened", "site", "~detail"), rows)
    _more(found.next_cursor)


def _changes(entry: AuditView) -> str:
    """`state active -> paused`; of what is new, its values alone."""
    names = dict.fromkeys((*entry.before, *entry.after))
    said = []
    for name in names:
        before, after = (_value(name, values.get(name)) for values in (entry.before, entry.after))
        shown = re.sub(r"_(microcny|milli|ms)(?=_|$)", "", name).replace("_", " ")
        said.append(f"{shown} {before} -> {after}" if name in entry.before else f"{shown} {after}")
    return ", ".join(said)


def _value(name: str, value: str | int | bool | None) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        if "_microcny" in name:
            return format_money(value)
        if name.endswith("_milli"):
            return f"{value / 1000:g}"
        if name.endswith("_ms"):
            return moment(value)
    return str(value)


def _more(cursor: str | None) -> None:
    if cursor is not None:
        print(f"more: --cursor {cursor}")
