"""Commands that price and place orders, from YAML files or written as options and a command."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from yunhe.cli.connection import connect
from yunhe.cli.failure import OK, complain, exit_code, remark
from yunhe.cli.flags import AfterFlags, OrderFlags, build_order, with_flags
from yunhe.cli.follow import Tell, copy_log, settle, tell_end, verdict
from yunhe.cli.options import AsJson, example
from yunhe.cli.orders import reason_rows, seconds
from yunhe.cli.output import clean, moment, show_json, show_table
from yunhe.cli.wording import PRICE_COLUMNS, price_cells, price_sentence, span
from yunhe.core.errors import InvalidInput, YunheError
from yunhe.core.units import format_carbon_mass, format_milli, format_money
from yunhe.sdk.client import Client
from yunhe.sdk.orderfile import dump_order, load_order
from yunhe.wire.api import OfferView, OrderPage, OrderSpec, OrderView, QuoteView

app = typer.Typer()

_COMMAND = "yunhe.command"

Files = Annotated[list[Path] | None, typer.Argument(help="Order files (YAML).", metavar="[FILE]... [-- COMMAND...]")]


class OrderCommand(TyperCommand):
    """Takes everything behind `--` as the job's command, so that it is never mistaken for a file or an option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if "--" in args:
            cut = args.index("--")
            ctx.meta[_COMMAND] = tuple(args[cut + 1 :])
            args = args[:cut]
        return super().parse_args(ctx, args)


@dataclass(frozen=True, slots=True)
class Wanted:
    """One order to place, and what it is called in messages."""

    label: str
    order: OrderSpec


@app.command(
    cls=OrderCommand,
    epilog=example("yunhe quote --compute 0.05TFLOPS@fp64 --latency 20ms:shanghai -- python3 job.py"),
)
@with_flags
def quote(ctx: typer.Context, flags: OrderFlags, files: Files = None, as_json: AsJson = False) -> None:
    """Show what an order would cost, where it fits and where not.

    Without a command the requirement alone is priced.
    """
    wanted = _wanted(ctx, files or [], flags, default_command=("true",))
    if len(wanted) != 1:
        raise InvalidInput("takes one order file at a time", field="FILE")
    with connect(ctx) as hub:
        answer = hub.quote(wanted[0].order)
    if as_json:
        show_json(answer)
        return
    if answer.offers:
        columns = ("", "site", "pool", ">units", "start", ">run", *PRICE_COLUMNS, ">most", ">carbon", "remark")
        show_table(columns, _offer_rows(answer.offers))
    else:
        print("No site can take it now.")
    if answer.refused:
        print()
        show_table(("site", "pool", "what is missing"), reason_rows(answer.refused))


@app.command(
    cls=OrderCommand,
    epilog=example("yunhe submit --compute 0.05TFLOPS@fp64 --latency 20ms:shanghai --budget 2CNY -- python3 job.py"),
)
@with_flags
def submit(
    ctx: typer.Context, flags: OrderFlags, then: AfterFlags, files: Files = None, as_json: AsJson = False
) -> None:
    """Place orders, from files or written as options.

    Either name order files, or write one order as options with the job's command behind `--`. Files of this folder
    that the command names are sent along (text, 1 MiB together); --no-attach leaves them out.
    With --follow stdout is the job's own output, and all else goes to stderr.
    With --wait or --follow the exit status is 0 only when all orders succeeded.
    """
    wanted = _wanted(ctx, files or [], flags)
    timeout_s = seconds(then.timeout)
    if then.follow and (as_json or len(wanted) > 1):
        raise InvalidInput("follows one order, and not with --json", field="--follow")
    if then.dry_run:
        print("---\n".join(dump_order(item.order) for item in wanted), end="")
        return
    with connect(ctx) as hub:
        # Followed: stdout is the program's own, so that it can be piped on.
        tell = None if as_json else remark if then.follow else print
        placed, code = _place(hub, wanted, tell)
        ids = [view.id for view in placed]
        if then.follow and ids:
            copy_log(hub, ids[0], 0, follow=True)
        if (then.wait or then.follow) and ids:
            placed = settle(hub, ids, timeout_s)
            if tell is not None:
                for view in placed:
                    tell_end(hub, view, tell)
            code = code or verdict(placed)
    if as_json:
        show_json(OrderPage(orders=tuple(placed)))
    raise typer.Exit(code)


def _wanted(
    ctx: typer.Context, files: Sequence[Path], flags: OrderFlags, default_command: tuple[str, ...] = ()
) -> list[Wanted]:
    """The orders to place; all are read and checked before the first is sent."""
    command = ctx.meta.get(_COMMAND, ())
    if not files:
        command = command or default_command
        if not command:
            raise InvalidInput(
                "names no order", hint="give an order file, or options and `-- COMMAND`; see --help for an example"
            )
        return [Wanted(" ".join(command)[:60], build_order(flags, command, Path.cwd()))]
    if command:
        raise InvalidInput("an order comes from a file or from a command, not both", field="FILE")
    if flags.given():
        raise InvalidInput(
            "do not go with an order file", field=", ".join(flags.given()), hint="write it into the file"
        )
    return [Wanted(str(path), load_order(path)) for path in files]


def _place(hub: Client, wanted: Sequence[Wanted], tell: Tell | None) -> tuple[list[OrderView], int]:
    """Submit each order; a refused one does not keep back the next. The orders, and the first failure's code."""
    placed: list[OrderView] = []
    code = OK
    for item in wanted:
        try:
            best = hub.quote(item.order) if tell else None
            view = hub.submit(item.order)
        except YunheError as error:
            if len(wanted) == 1:
                raise
            complain(f"{item.label}: {error.message}", error.field, error.hint)
            code = code or exit_code(error)
            continue
        placed.append(view)
        if tell is not None and best is not None:
            _tell_placed(view, best, tell)
    return placed, code


def _tell_placed(view: OrderView, answer: QuoteView, tell: Tell) -> None:
    tell(f"{view.id} {view.name} {view.state}, at most {format_money(view.hold_microcny)} (held)")
    if answer.offers:
        offer = answer.offers[0]
        expected = price_sentence(offer.price)
        tell(f"  best offer: {clean(offer.site_name or offer.site_id)} ({offer.pool_id}), expected {expected}")
    else:
        remark(f"  no site can take it now; what is missing: yunhe why {view.id}")


def _offer_rows(offers: Sequence[OfferView]) -> Iterator[tuple[str, ...]]:
    for rank, offer in enumerate(offers, 1):
        yield (
            str(rank),
            offer.site_name or offer.site_id,
            offer.pool_id,
            format_milli(offer.units_milli),
            moment(offer.start_utc_ms),
            span(offer.run_ms),
            *price_cells(offer.price),
            format_money(offer.hold.total_microcny),
            format_carbon_mass(offer.carbon_mg),
            "" if offer.fits_budget else "over budget",
        )
