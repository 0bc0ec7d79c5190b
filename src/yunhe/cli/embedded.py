"""Commands that run a whole network on this machine. It is imported here and nowhere else in the command line."""

import signal
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from yunhe.apps import demo as demonstration
from yunhe.apps import embedded
from yunhe.cli.failure import remark
from yunhe.cli.options import example

app = typer.Typer()

ORDERS = Path("examples/orders")


@app.command(epilog=example("yunhe up"))
def up(
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="The hub's port; 8440 or a free one without.")
    ] = None,
) -> None:
    """Start a small network of your own on this machine.

    A hub and three sites that divide this machine. Its data are in .yunhe of this folder; commands in this folder
    and below find it by themselves. Ctrl-C stops it.
    """
    _stop_in_order()
    embedded.up(Path.cwd(), remark, port)


@app.command(epilog=example("yunhe demo --exit --json"))
def demo(
    leave: Annotated[bool, typer.Option("--exit", help="End when all is told: 0 if all went as expected.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, and nothing else.")] = False,
    orders: Annotated[Path, typer.Option(help="Folder of order files, with expected.yaml.")] = ORDERS,
    engines: Annotated[
        str, typer.Option(help="What runs the sites' jobs, started for it: process,slurm,ray.", show_default=False)
    ] = "",
) -> None:
    """Start three sites and run the example orders on them.

    Without --exit the network stays up until Ctrl-C.
    """
    _stop_in_order()
    wanted = tuple(name.strip() for name in engines.split(",")) if engines else ()
    raise typer.Exit(demonstration.demo(Path.cwd(), orders, leave=leave, json_only=as_json, engines=wanted))


def _stop_in_order() -> None:
    """SIGTERM ends the network as Ctrl-C does: its parts are stopped, its file is removed."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
