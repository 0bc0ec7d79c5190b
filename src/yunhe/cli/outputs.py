"""Commands about the files that an order left."""

from pathlib import Path
from typing import Annotated

import typer

from yunhe.apps.tables import without
from yunhe.cli.connection import connect, order_named
from yunhe.cli.failure import remark
from yunhe.cli.options import AsJson, OrderId, example
from yunhe.cli.output import clean, show_json, show_table
from yunhe.cli.wording import place_of
from yunhe.core.errors import InvalidInput, NotFound
from yunhe.core.units import format_bytes
from yunhe.wire.api import OutputList, OutputView

app = typer.Typer()


@app.command("list", epilog=example("yunhe outputs list ORDER"))
def list_outputs(ctx: typer.Context, order_id: OrderId, as_json: AsJson = False) -> None:
    """List the files that an order left."""
    with connect(ctx) as hub:
        found = hub.outputs(order_named(hub, order_id))
    if as_json:
        show_json(OutputList(outputs=found))
        return
    rows = [(o.path, o.lease_id, format_bytes(o.size_bytes, 1), o.sha256[:16], place_of(o)) for o in found]
    columns = ("path", "lease", ">size", "sha256 begins", "~where")
    show_table(*without(columns, rows, () if any(o.url for o in found) else ("where",)))


@app.command("get", epilog=example("yunhe outputs get ORDER result.json --to results"))
def get_outputs(
    ctx: typer.Context,
    order_id: OrderId,
    paths: Annotated[list[str] | None, typer.Argument(help="Only these files; all without.")] = None,
    to: Annotated[Path, typer.Option("--to", help="The folder that they go into.")] = Path("."),
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
) -> None:
    """Download the files that an order left.

    Files of an order with several tasks go into one folder per task. Each is checked against its SHA-256. A file that
    went to its URL alone is named, and is yours to fetch from there.
    """
    with connect(ctx) as hub:
        order_id = order_named(hub, order_id)
        found = hub.outputs(order_id)
        wanted = [o for o in found if not paths or o.path in paths]
        missing = sorted(set(paths or ()) - {o.path for o in wanted})
        if missing or not wanted:
            what = f"did not leave {', '.join(map(repr, missing))}" if missing else "left no files"
            way_out = "name them in run.outputs of the order, or with --output"
            raise NotFound(f"order {order_id} {what}", hint=f"yunhe outputs list {order_id}" if found else way_out)
        several = len({o.lease_id for o in found}) > 1
        for output in wanted:
            if not output.stored:
                text = f"{clean(output.path)} is not at the hub: {clean(place_of(output))}"
                if paths:
                    raise NotFound(text, hint="fetch it from there")
                remark(text)
                continue
            target = _target(to, output, several)
            hub.download_output(order_id, output, target, replace=force)
            print(clean(str(target)))


def _target(folder: Path, output: OutputView, several: bool) -> Path:
    """Where a file goes; a path that would leave the folder is refused, whoever sent it."""
    base = folder / output.lease_id if several else folder
    target = base / output.path
    if not target.resolve().is_relative_to(folder.resolve()):
        raise InvalidInput(f"{output.path!r} of {output.lease_id!r} would leave {folder}", field="outputs")
    return target
