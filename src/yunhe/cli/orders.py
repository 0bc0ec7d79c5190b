"""Commands about orders that exist: list, look, follow, wait, stop."""

from collections import Counter
from collections.abc import Iterator
from typing import Annotated

import typer

from yunhe.apps.tables import without
from yunhe.cli.connection import connect, order_named
from yunhe.cli.failure import remark
from yunhe.cli.follow import copy_log, settle, tell_end, verdict
from yunhe.cli.options import AsJson, OrderId, OrderIds, Timeout, example
from yunhe.cli.output import moment, show_json, show_pairs, show_table
from yunhe.cli.wording import NONE, PRICE_COLUMNS, counts, delivered, end_of, price_cells, reason, state_of
from yunhe.core.lifecycle import OrderState
from yunhe.core.units import format_bytes, format_carbon_mass, format_energy, format_money, format_span, parse_duration
from yunhe.wire.api import OrderDetail, OrderPage, OrderView, SiteReasonsView, UsageList

app = typer.Typer()


@app.command(epilog=example("yunhe orders --state running --limit 20"))
def orders(
    ctx: typer.Context,
    state: Annotated[OrderState | None, typer.Option("--state", help="Only orders in this state.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List your orders, newest first."""
    with connect(ctx) as hub:
        found = tuple(hub.orders(state, limit))
    if as_json:
        show_json(OrderPage(orders=found))
        return
    columns = ("order", "~name", "state", "~tasks", "submitted", ">held", ">charged")
    single = all(order.array == 1 for order in found)
    show_table(*without(columns, list(map(_order_row, found)), ("tasks",) if single else ()))


@app.command(epilog=example("yunhe show ORDER"))
def show(ctx: typer.Context, order_id: OrderId, as_json: AsJson = False) -> None:
    """Show one order, its tasks and what happened to it."""
    with connect(ctx) as hub:
        order = hub.order(order_named(hub, order_id))
    if as_json:
        show_json(order)
        return
    show_pairs(
        (
            ("order", order.id),
            ("name", order.name),
            ("state", order.state + (", settled" if order.settled else "")),
            *(("booked", where) for where in booked_at(order)),
            ("submitted", moment(order.submitted_utc_ms)),
            ("ended", moment(order.ended_utc_ms)),
            ("held", format_money(order.hold_microcny)),
            ("charged", format_money(order.charged_microcny)),
        )
    )
    print()
    columns = ("task", "state", "site", "attempt", "started", "ran (hub's clock)", "~ended because")
    show_table(columns, _task_rows(order))
    print()
    facts = ((moment(f.utc_ms), f.lease_id or NONE, f.kind, f.detail) for f in order.facts)
    show_table(("time", "lease", "what happened", "~detail"), facts)


@app.command(epilog=example("yunhe why ORDER"))
def why(ctx: typer.Context, order_id: OrderId, as_json: AsJson = False) -> None:
    """Say why an order is where it is, or why it waits."""
    with connect(ctx) as hub:
        answer = hub.why(order_named(hub, order_id))
    if as_json:
        show_json(answer)
        return
    show_pairs((("order", answer.order_id), ("state", answer.state), ("why", answer.summary)))
    for placing in answer.placings:
        show_pairs((("where", placing.text),))
    for line in answer.placed if not answer.placings else ():
        show_pairs((("", line),))
    if answer.sites:
        print()
        show_reasons(answer.sites)


@app.command(epilog=example("yunhe logs -f ORDER --task 3"))
def logs(
    ctx: typer.Context,
    order_id: OrderId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the program has ended.")] = False,
    task: Annotated[int, typer.Option("--task", min=0, help="Which task of an array order.")] = 0,
    attempt: Annotated[
        int | None, typer.Option("--attempt", min=1, help="An earlier attempt (yunhe show); the latest without.")
    ] = None,
) -> None:
    """Print what an order's program wrote."""
    with connect(ctx) as hub:
        copy_log(hub, order_named(hub, order_id), task, follow, attempt)


@app.command(epilog=example("yunhe wait ORDER --timeout 10m"))
def wait(ctx: typer.Context, order_ids: OrderIds, timeout: Timeout = None, as_json: AsJson = False) -> None:
    """Wait until orders have ended and are settled.

    Exit status: 0 when all succeeded, 1 when one did not, 124 when --timeout passed first.
    """
    timeout_s = seconds(timeout)
    with connect(ctx) as hub:
        views = settle(hub, [order_named(hub, order_id) for order_id in order_ids], timeout_s)
        if not as_json:
            for view in views:
                tell_end(hub, view)
    if as_json:
        show_json(OrderPage(orders=tuple(views)))
    raise typer.Exit(verdict(views))


@app.command(epilog=example("yunhe cancel ORDER"))
def cancel(ctx: typer.Context, order_ids: OrderIds, as_json: AsJson = False) -> None:
    """Stop orders, or withdraw them while they wait."""
    with connect(ctx) as hub:
        views = tuple(hub.cancel(order_named(hub, order_id)) for order_id in order_ids)
    if as_json:
        show_json(OrderPage(orders=views))
        return
    for view in views:
        print(f"{view.id} {view.state}")
        if view.ended_utc_ms is None:
            remark(f"  its site has been told to stop it: yunhe wait {view.id}")


@app.command(epilog=example("yunhe usage ORDER --json"))
def usage(ctx: typer.Context, order_id: OrderId, as_json: AsJson = False) -> None:
    """Show what an order used and what was charged for it."""
    with connect(ctx) as hub:
        found = hub.usage(order_named(hub, order_id))
    if as_json:
        show_json(found)
        return
    show_table(
        ("lease", "attempt", ">run from", ">to (measured)", ">cpu time", ">peak memory", "measured by", "remark"),
        _usage_rows(found),
    )
    remark("Run times here are measured beside the job, and billed; `yunhe show` has them as the hub heard of them.")
    print()
    show_table(
        ("lease", "attempt", "site", *PRICE_COLUMNS, ">fee in it", ">energy", ">carbon", "~compute reserved", "remark"),
        _charge_rows(found),
    )


def seconds(timeout: str | None) -> float | None:
    """`10m` as seconds. Raises InvalidInput."""
    return None if timeout is None else parse_duration(timeout, "--timeout") / 1000


def show_reasons(sites: tuple[SiteReasonsView, ...]) -> None:
    """What is missing where; the pool is named where a site has others than its CPUs."""
    several = any(site.pool_id not in (None, f"{site.site_id}:cpu") for site in sites)
    columns = ("site", "pool", "~what is missing")
    show_table(*without(columns, list(reason_rows(sites)), () if several else ("pool",)))


def reason_rows(sites: tuple[SiteReasonsView, ...]) -> Iterator[tuple[str, str, str]]:
    """One row per constraint that fails; a pool that fits says so."""
    for site in sites:
        for text in [reason(r) for r in site.reasons] or ["fits"]:
            yield site.site_name or site.site_id, site.pool_id or NONE, text


def _order_row(view: OrderView) -> tuple[str, ...]:
    return (
        view.id,
        view.name,
        view.state,
        counts(view),
        moment(view.submitted_utc_ms),
        format_money(view.hold_microcny),
        format_money(view.charged_microcny),
    )


def booked_at(order: OrderDetail) -> Iterator[str]:
    """`at SITE from .. to ..`, once for each site."""
    booked = [task for task in order.task_list if task.booked_from_utc_ms is not None]
    places = Counter((task.site_id, task.booked_from_utc_ms, task.booked_until_utc_ms) for task in booked)
    for (site, from_ms, until_ms), tasks in places.items():
        yield f"at {site} from {moment(from_ms)} to {moment(until_ms)}" + (f" ({tasks} tasks)" if tasks > 1 else "")


def _task_rows(order: OrderDetail) -> Iterator[tuple[str, ...]]:
    for task in order.task_list:
        ran = NONE
        if task.started_utc_ms is not None and task.ended_utc_ms is not None:
            ran = format_span(task.ended_utc_ms - task.started_utc_ms)
        yield (
            str(task.index),
            state_of(task),
            task.site_id or NONE,
            str(task.epoch),
            moment(task.started_utc_ms),
            ran,
            end_of(task),
        )


def _usage_rows(found: UsageList) -> Iterator[tuple[str, ...]]:
    for record in found.usage:
        remarks = [word for word, said in (("final", record.final), ("disputed", record.disputed)) if said]
        yield (
            record.lease_id,
            str(record.epoch),
            format_span(record.from_ms),
            format_span(record.to_ms),
            format_span(record.cpu_ms),
            format_bytes(record.peak_memory_bytes, 1),
            "sampled" if record.sampled else "kernel",
            ", ".join(remarks),
        )


def _charge_rows(found: UsageList) -> Iterator[tuple[str, ...]]:
    for charge in found.charges:
        yield (
            charge.lease_id,
            str(charge.epoch),
            charge.site_id,
            *price_cells(charge.price),
            format_money(charge.operator_fee_microcny),
            format_energy(charge.energy_mwh),
            format_carbon_mass(charge.carbon_mg),
            delivered(charge.compute_delivered),
            "disputed" if charge.disputed else "",
        )
