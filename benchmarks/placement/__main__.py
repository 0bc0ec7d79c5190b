"""`python -m benchmarks.placement [--data DIR] [--only NAME,...] [--seeds N] [--json]`: public tables, side by side.

`yunhe bench tables` is the same. Status 1 when a table broke or its data is missing, 2 for a wrong name. A figure that
does not match what was published is no failure: the table says by how much. Tables also go to
`benchmarks/results/placement/NAME.json`.
"""

import argparse
import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.placement.table import Row, Table
from yunhe.apps.tables import draw

TABLES = {
    "fgd": "FGD (ATC'23): packing 8,152 tasks and more onto 6,212 cards, Alibaba 2023",
    "spatial": "spatial dispatch under round-trip limits and idle capacity (EuroSys'24)",
    "pglib": "PGLib-OPF: optimum of the linear network model, nodal prices",
    "gaia": "GAIA (ASPLOS'24): when to run, PAI-1k, South Australia",
    "gavel": "Gavel (OSDI'20): a heterogeneous cluster, average completion time",
}
DATA = "YUNHE_BENCH_DATA"
RESULTS = Path(__file__).parent.parent / "results" / "placement"


def main(arguments: Sequence[str]) -> int:
    options = _options(arguments)
    wanted = [name for name in (options.only or "").split(",") if name] or list(TABLES)
    unknown = [name for name in wanted if name not in TABLES]
    if unknown:
        print(f"--only: there is no table {', '.join(unknown)}; known are {', '.join(TABLES)}", file=sys.stderr)
        return 2
    if not options.data.is_dir():
        print(f"--data: {options.data} is no folder; the public traces are expected there, or ${DATA}", file=sys.stderr)
        return 2
    console = Console(stderr=True)
    found = []
    for number, name in enumerate(wanted, 1):
        console.print(f"[bold]{name}[/bold] ({number} of {len(wanted)}): {TABLES[name]}", highlight=False)
        table = _table(name, options, console)
        if table is not None:
            found.append(table)
    if options.json:
        print(json.dumps([table.as_json() for table in found]))
    else:
        out = Console() if sys.stdout.isatty() else Console(width=160)
        for table in found:
            _show(out, table)
    return 0 if len(found) == len(wanted) else 1


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="yunhe bench tables", description="Public tables: published, reproduced, ours.", epilog=_known()
    )
    default = Path(os.environ.get(DATA, "data"))
    parser.add_argument(
        "--data", type=Path, default=default, metavar="DIR", help=f"the public traces (${DATA}, or data/)"
    )
    parser.add_argument("--only", metavar="NAME,...", help="these tables alone")
    parser.add_argument(
        "--seeds", type=int, default=10, choices=range(1, 101), metavar="N", help="seeds of each replay"
    )
    parser.add_argument("--json", action="store_true", help="the tables on stdout as one JSON list")
    return parser.parse_args(arguments)


def _known() -> str:
    return "; ".join(f"{name}: {title}" for name, title in TABLES.items())


def _table(name: str, options: argparse.Namespace, console: Console) -> Table | None:
    started = time.monotonic()
    try:
        run = importlib.import_module(f"benchmarks.placement.{name}").run
        table: Table = run(options.data, options.seeds, lambda text: console.print(f"  {text}", highlight=False))
    except FileNotFoundError as error:
        console.print(f"[red]{name}[/red]: {error.filename} is missing below --data", highlight=False)
        return None
    except Exception:  # noqa: BLE001 - one broken table must not hide the others
        traceback.print_exc()
        return None
    table.seconds = round(time.monotonic() - started, 1)
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(table.as_json(), indent=1) + "\n", encoding="utf-8")
    return table


def _show(console: Console, table: Table) -> None:
    columns = ("case", "measure", "policy", ">published", ">here", ">+-", "unit", "verdict", "~note")
    draw(console, columns, [_cells(table, row) for row in table.rows], title=f"{table.title} ({table.source})")
    seeds = f"{len(table.seeds)} seeds; " if table.seeds else ""
    hashes = ", ".join(f"{name} {digest[:12]}" for name, digest in table.data.items())
    console.print(f"{seeds}{table.seconds} s; data: {hashes}", highlight=False)
    for note in table.notes:
        console.print(f"- {note}", highlight=False)
    console.print()


def _cells(table: Table, row: Row) -> tuple[str, ...]:
    policy = f"{row.policy} (ours)" if row.ours else row.policy
    published, spread = _number(row.published), _number(row.spread)
    value, verdict = _number(row.value), table.verdict(row)
    return (row.case, row.measure, policy, published, value, spread, row.unit, verdict, row.note)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
