"""Figures that anybody can check: the public tables."""

from pathlib import Path
from typing import Annotated

import typer

from yunhe.apps import bench as application
from yunhe.cli.options import AsJson, example

app = typer.Typer()


@app.command(epilog=example("yunhe bench tables --data data --only fgd,gaia"))
def tables(
    data: Annotated[
        Path, typer.Option(help="Folder of the public traces.", envvar="YUNHE_BENCH_DATA", file_okay=False)
    ] = Path("data"),
    only: Annotated[
        str | None, typer.Option(help="These tables alone: fgd, spatial, pglib, gaia, gavel.", metavar="NAME,...")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Seeds of each replay.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Print public tables of placement: published, reproduced and Yunhe's own, side by side.

    Runs every task list that lies in the folder. Figures are also written below benchmarks/results/placement.
    """
    words = ["--data", str(data), "--seeds", str(seeds)]
    words += ["--only", only] if only else []
    words += ["--json"] if as_json else []
    raise typer.Exit(application.run("placement", words))
