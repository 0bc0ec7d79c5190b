"""Commands that price and place orders, from YAML files or written as options and a command."""

import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand
from typer.exceptions import TyperException

from yunhe.apps.tables import without
from yunhe.cli.advice import common_reasons, doubts, explained
from yunhe.cli.connection import connect
from yunhe.cli.failure import OK, complain, exit_code, remark
from yunhe.cli.flags import AfterFlags, OrderFlags, build_order, with_flags
from yunhe.cli.follow import Tell, copy_log, settle, tell_end, verdict
from yunhe.cli.options import AsJson, example
from yunhe.cli.orders import seconds, show_reasons
from yunhe.cli.output import clean, moment, show_json, show_table
from yunhe.cli.wording import PRICE_COLUMNS, price_cells, price_sentence
from yunhe.core.errors import InvalidInput, YunheError
from yunhe.core.units import format_carbon_mass, format_milli, format_money, format_span, other_name
from yunhe.facts.load import place_names
from yunhe.sdk.client import Client
from yunhe.sdk.orderfile import dump_order, load_order
from yunhe.wire.api import OfferView, OrderPage, OrderSpec, OrderView, QuoteView
from yunhe.wire.convert import to_shape

app = typer.Typer()

_COMMAND = "yunhe.command"
_NOW_MS = 5_000  # what starts within this time starts now
_OFFER_COLUMNS = (
    "",
    "site",
    "pool",
    ">units",
    "start",
    ">run",
    *PRICE_COLUMNS,
    ">most",
    ">carbon",
    "best hour",
    "remark",
)

Files = Annotated[list[Path] | None, typer.Argument(help="Order files (YAML).", metavar="[FILE]... [-- COMMAND...]")]


class OrderCommand(TyperCommand):
    """Takes everything behind `--` as the job's command, so that it is never mistaken for a file or an option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if "--" in args:
            cut = args.index("--")
            ctx.meta[_COMMAND] = tuple(args[cut + 1 :])
            args = args[:cut]
        try:
            return super().parse_args(ctx, args)
        except TyperException as error:
            said = str(getattr(error, "option_name", ""))
            other = other_name(said.removeprefix("--"), ("cores", "cards", "memory"))
            if other is None:
                raise
            raise InvalidInput("there is no such option", field=said, hint=f"did you mean --{other}?") from error


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
        unclear = [] if as_json or answer.offers else list(doubts(hub, wanted[0].order))
    if as_json:
        show_json(answer)
        return
    if answer.offers:
        _show_offers(answer.offers)
    else:
        print("No site can take it now.")
    if answer.refused:
        print()
        show_reasons(answer.refused)
    for line in unclear:
        remark(line)


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
        for item in wanted:  # units and places too: what the hub would say of them
            to_shape(item.order, round(time.time() * 1000), place_names())
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
    _refuse_programs(files)
    return [Wanted(str(path), load_order(path)) for path in files]


def _refuse_programs(files: Sequence[Path]) -> None:
    """Raises InvalidInput when what stands where order files do is a command, or a program."""
    words = " ".join(map(str, files))
    first = files[0]
    if not first.exists() and shutil.which(str(first)):
        hint = f"a command goes behind --: yunhe submit --cores 0.1 -- {words}"
        raise InvalidInput("is a program, not an order file", field=str(first), hint=hint)
    for path in files:
        if path.suffix in (".py", ".sh") and path.is_file():
            runs = "python3" if path.suffix == ".py" else "sh"
            hint = f"to run it: yunhe submit --cores 0.1 -- {runs} {path}"
            raise InvalidInput("is a program, not an order file", field=str(path), hint=hint)


def _place(hub: Client, wanted: Sequence[Wanted], tell: Tell | None) -> tuple[list[OrderView], int]:
    """Submit each order; a refused one does not keep back the next. The orders, and the first failure's code."""
    placed: list[OrderView] = []
    code = OK
    for item in wanted:
        best: QuoteView | None = None
        try:
            best = hub.quote(item.order) if tell else None
            view = hub.submit(item.order)
        except YunheError as refusal:
            error = explained(refusal, hub, item.order, best)
            if len(wanted) == 1:
                raise error from refusal
            complain(f"{item.label}: {error.message}", error.field, error.hint)
            code = code or exit_code(error)
            continue
        placed.append(view)
        if tell is not None and best is not None:
            _tell_placed(view, best, tell)
            if not best.offers:
                for line in (*common_reasons(best), *doubts(hub, item.order)):
                    remark(f"  {line}")
    if placed and tell is print and sys.stderr.isatty():
        remark(f"next: yunhe why {placed[-1].id}, yunhe logs -f {placed[-1].id} (or `last`)")
    return placed, code


def _tell_placed(view: OrderView, answer: QuoteView, tell: Tell) -> None:
    tell(f"{view.id} {view.name} {view.state}, at most {format_money(view.hold_microcny)} (held)")
    if answer.offers:
        offer = answer.offers[0]
        expected = price_sentence(offer.price)
        tell(f"  best offer: {clean(offer.site_name or offer.site_id)} ({offer.pool_id}), expected {expected}")
    else:
        remark(f"  no site can take it now; what is missing: yunhe why {view.id}")


def _show_offers(offers: Sequence[OfferView]) -> None:
    """Columns that say nothing, or the same as another, are left out."""
    dull = [
        name
        for name, amounts in (
            ("transfer", [offer.price.transfer_microcny for offer in offers]),
            ("line", [offer.price.line_microcny for offer in offers]),
            ("most", [offer.hold.total_microcny - offer.price.total_microcny for offer in offers]),
            ("remark", [not offer.fits_budget for offer in offers]),
            ("best hour", [_best_hour(offer) for offer in offers]),
            ("pool", [offer.pool_id != f"{offer.site_id}:cpu" for offer in offers]),
        )
        if not any(amounts)
    ]
    show_table(*without(_OFFER_COLUMNS, list(_offer_rows(offers)), dull))


def _best_hour(offer: OfferView) -> str:
    """Empty where now is as good as any hour of the next day."""
    return moment(offer.best_start_utc_ms) if offer.best_saves else ""


def _offer_rows(offers: Sequence[OfferView]) -> Iterator[tuple[str, ...]]:
    soon_ms = round(time.time() * 1000) + _NOW_MS
    for rank, offer in enumerate(offers, 1):
        yield (
            str(rank),
            offer.site_name or offer.site_id,
            offer.pool_id,
            format_milli(offer.units_milli),
            "now" if offer.start_utc_ms <= soon_ms else moment(offer.start_utc_ms),
            format_span(offer.run_ms),
            *price_cells(offer.price),
            format_money(offer.hold.total_microcny),
            format_carbon_mass(offer.carbon_mg),
            _best_hour(offer),
            "" if offer.fits_budget else "over budget",
        )
