"""Commands about rounds: what they go by, the newest of them, and one order in one of them (operators)."""

from typing import Annotated

import typer

from yunhe.cli.connection import connect, order_named
from yunhe.cli.options import AsJson, example
from yunhe.cli.orders import show_reasons
from yunhe.cli.output import moment, show_json, show_pairs, show_table
from yunhe.cli.wording import NONE, price_sentence, reason
from yunhe.core.units import format_carbon_mass, format_latency, format_milli, format_span
from yunhe.wire.api import CandidateView, RoundDetail, RoundOrderView, RoundSummary

app = typer.Typer()

CAUSES = {
    "submitted": "orders came",
    "more": "the round before placed some",
    "freed": "units came free",
    "supply": "a site changed",
    "time": "time passed",
}
Cursor = Annotated[str | None, typer.Option("--cursor", help="Where the page before says that the next one begins.")]


@app.command("list", epilog=example("yunhe rounds list --limit 20"))
def list_rounds(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 20,
    cursor: Cursor = None,
    as_json: AsJson = False,
) -> None:
    """List the rounds that the hub keeps, newest first (operators)."""
    with connect(ctx) as hub:
        found = hub.rounds(limit=limit, cursor=cursor)
    if as_json:
        show_json(found)
        return
    columns = (">round", "time", "~cause", ">orders", ">placed", ">waiting", ">no place", ">took", ">gap")
    show_table(columns, [_row(item) for item in found.rounds])
    _more(found.next_cursor)


@app.command(epilog=example("yunhe rounds show 1842 --order ORDER"))
def show(
    ctx: typer.Context,
    number: Annotated[int, typer.Argument(help="The round's number (yunhe rounds).", metavar="ROUND", min=1)],
    order: Annotated[
        str | None, typer.Option("--order", help="One order in it: every place that it had, and why not there.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many orders.")] = 100,
    cursor: Cursor = None,
    as_json: AsJson = False,
) -> None:
    """Show one round, or one order in it with its candidates (operators)."""
    with connect(ctx) as hub:
        found = (
            hub.round_detail(number, limit=limit, cursor=cursor)
            if order is None
            else hub.round_order(number, order_named(hub, order))
        )
    if as_json:
        show_json(found)
    elif isinstance(found, RoundOrderView):
        _show_order(found)
    else:
        _show_round(found)


@app.command(epilog=example("yunhe rounds policy --json"))
def policy(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Show what rounds go by, and how the latest one went (operators)."""
    with connect(ctx) as hub:
        found = hub.round()
    if as_json:
        show_json(found)
        return
    show_pairs(
        (
            ("leads", "yes" if found.leading else "no, another replica does"),
            ("rounds since it started", str(found.rounds)),
            ("the latest took", _ms(found.last_round_ms) if found.rounds else NONE),
            ("seed", str(found.seed)),
        )
    )
    print()
    show_table(("policy", ">value"), [(name, _value(value)) for name, value in found.policy.items()])


def _show_round(found: RoundDetail) -> None:
    head = found.summary
    bound = NONE
    if found.cost_microcny is not None and found.least_microcny is not None:
        bound = f"{found.cost_microcny:.0f} of at least {found.least_microcny:.0f} ({_gap(head)} above it)"
    show_pairs(
        (
            ("round", str(head.id)),
            ("time", moment(head.at_utc_ms)),
            ("reason", CAUSES.get(head.cause, head.cause)),
            ("took", _ms(head.took_ms)),
            ("network", f"{found.pools} pools at {found.sites} sites"),
            ("orders", f"{head.open_orders} open, {head.waiting} wait, {head.unplaceable} fit nowhere"),
            ("tasks", f"{head.assigned} assigned, {head.placed} placed when it was committed"),
            ("cost and bound", bound),
            ("seed", str(found.seed)),
        )
    )
    print()
    shares = [
        (s.account, str(s.weight), format_milli(s.used_milli), _quota(s.quota_milli), _share(s.used_milli, s.weight))
        for s in found.shares
    ]
    show_table(("account", ">weight", ">used", ">quota", ">used per weight"), shares)
    print()
    rows = [
        (
            line.order_id,
            line.account,
            str(line.priority),
            moment(line.submitted_utc_ms),
            f"{line.assigned} of {line.tasks}",
            ", ".join(f"{pool} x{n}" if n > 1 else pool for pool, n in line.pools.items()) or NONE,
        )
        for line in found.orders
    ]
    show_table(("order", "account", ">priority", "submitted", ">tasks placed", "~where"), rows)
    _more(found.next_cursor)


def _show_order(found: RoundOrderView) -> None:
    show_pairs(
        (
            ("round", str(found.round_id)),
            ("time", moment(found.at_utc_ms)),
            ("order", found.order_id),
            ("account", found.account),
            ("preference", found.preference),
            ("tasks", f"{found.assigned} placed of {found.tasks}"),
            ("pools that fitted", str(found.fitting)),
        )
    )
    if found.candidates:
        print()
        columns = (">rank", "pool", "~price", ">start", ">run", ">carbon", ">latency", ">free", ">left", "~verdict")
        show_table(columns, [_candidate(found, item) for item in found.candidates])
    if found.refused:
        print()
        counted = ", ".join(f"{code} {count}" for code, count in sorted(found.refused_by.items(), key=lambda i: -i[1]))
        print(f"pools that did not fit, by what was missing: {counted}")
        show_reasons(found.refused)


def _candidate(found: RoundOrderView, item: CandidateView) -> tuple[str, ...]:
    wait_ms = item.start_utc_ms - found.at_utc_ms
    verdict = [f"chosen for {item.tasks}"] if item.tasks else []
    return (
        str(item.rank),
        item.pool_id,
        price_sentence(item.price),
        "at once" if wait_ms <= 0 else format_span(wait_ms),
        format_span(item.run_ms),
        format_carbon_mass(item.carbon_mg),
        ", ".join(format_latency(us, 1) for us in item.latency_us) or NONE,
        format_milli(item.free_milli),
        format_milli(item.left_milli),
        "; ".join([*verdict, *(reason(r).removesuffix(" (may pass)") for r in item.reasons)]),
    )


def _row(item: RoundSummary) -> tuple[str, ...]:
    return (
        str(item.id),
        moment(item.at_utc_ms),
        CAUSES.get(item.cause, item.cause),
        str(item.open_orders),
        str(item.placed) if item.placed == item.assigned else f"{item.placed} of {item.assigned}",
        str(item.waiting),
        str(item.unplaceable),
        _ms(item.took_ms),
        _gap(item),
    )


def _gap(item: RoundSummary) -> str:
    return NONE if item.gap_percent is None else f"{item.gap_percent:.2f}%"


def _ms(took_ms: float) -> str:
    return f"{took_ms:.1f} ms"


def _quota(milli: int | None) -> str:
    return NONE if milli is None else format_milli(milli)


def _share(used_milli: int, weight: int) -> str:
    return format_milli(used_milli // max(weight, 1))


def _value(value: int | bool) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else f"{value:,}"


def _more(cursor: str | None) -> None:
    if cursor is not None:
        print(f"more: --cursor {cursor}")
