"""`python -m benchmarks [--only id,id] [--quick] [--list] [--json]`: measure against the budgets.

Status 0 also when a budget is missed, which the table says plainly; 1 when a benchmark broke; 2 for a wrong name.
Results go to `benchmarks/results/latest.json`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.figure import LATEST, Budget, Extra, Figure, PeerFigure, as_row, load_budgets, machine
from benchmarks.peers.slurm import Slurm
from benchmarks.registry import BENCHMARKS, Benchmark
from benchmarks.scene import DATABASE, NotMeasurable, Scene, bounded

ROOT = Path(__file__).parent.parent
SERVER = ROOT / "tools" / "with-postgresql.sh"
INSIDE = "YUNHE_BENCH_INSIDE"  # set for the run beside a server, so that it is not tried twice
PEER_LIMIT_S = 120.0

Row = dict[str, Extra]

STATED = {"id", "value", "unit", "better", "budget", "goal", "peer", "peer_value", "seed", "machine"}
STATED |= {"budget_met", "goal_met", "note", "peer_note"}


def main(arguments: Sequence[str]) -> int:
    options = _options(arguments)
    budgets = load_budgets()
    if options.list:
        for budget in budgets.values():
            print(f"{budget.id:22} {budget.measure}")
        return 0
    wanted = [name for name in (options.only or "").split(",") if name] or list(BENCHMARKS)
    unknown = [name for name in wanted if name not in budgets or name not in BENCHMARKS]
    if unknown:
        print(f"there is no benchmark {', '.join(unknown)}; known are {', '.join(budgets)}", file=sys.stderr)
        return 2
    _beside_postgresql(arguments)
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="yunhe-bench-") as folder:
        # Daemons of other users look into folders below it.
        Path(folder).chmod(0o755)
        scene = Scene(options.seed, options.quick, Path(folder), console)
        rows, broken = _run_all(scene, [budgets[name] for name in wanted])
    LATEST.parent.mkdir(exist_ok=True)
    LATEST.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    if options.json:
        print(json.dumps(rows))
    else:
        _print_table(Console() if sys.stdout.isatty() else Console(width=120), rows)
    return 1 if broken else 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure against the budgets.")
    parser.add_argument("--only", metavar="ID,ID", help="these rows alone")
    parser.add_argument("--quick", action="store_true", help="shorter everywhere: for a look, not for the record")
    parser.add_argument("--list", action="store_true", help="the rows, and nothing is run")
    parser.add_argument("--json", action="store_true", help="the results on stdout instead of a table")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args(arguments)


def _beside_postgresql(arguments: Sequence[str]) -> None:
    """Without a server, run again beside a private one, where it is installed."""
    if os.environ.get(DATABASE) or os.environ.get(INSIDE):
        return
    if subprocess.run([SERVER, "--find"], capture_output=True, check=False, timeout=20).returncode == 0:
        command = [str(SERVER), "--durable", sys.executable, "-m", "benchmarks", *arguments]
        os.execve(str(SERVER), command, {**os.environ, INSIDE: "1"})


def _run_all(scene: Scene, budgets: Sequence[Budget]) -> tuple[list[Row], bool]:
    rows: list[Row] = []
    broken = False
    slurm = Slurm(scene)
    here = machine()
    try:
        for number, budget in enumerate(budgets, 1):
            scene.console.print(
                f"[bold]{budget.id}[/bold] ({number} of {len(budgets)}): {budget.measure}", highlight=False
            )
            benchmark = BENCHMARKS[budget.id]
            started = time.monotonic()
            try:
                with bounded(benchmark.limit_s):
                    found = benchmark.measure(scene)
            except NotMeasurable as error:
                found = Figure(None, note=str(error))
            except Exception as error:  # noqa: BLE001 - one broken benchmark must not hide the others' figures
                traceback.print_exc()
                found, broken = Figure(None, note=f"broke: {str(error).strip().splitlines()[-1][:200]}"), True
            row = as_row(budget, found, _peer(benchmark, slurm), scene.seed, here)
            row["seconds"] = round(time.monotonic() - started, 1)
            rows.append(row)
            scene.say(_verdict(row))
    finally:
        slurm.stop()
    return rows, broken


def _peer(benchmark: Benchmark, slurm: Slurm) -> PeerFigure:
    if benchmark.peer is None:
        return PeerFigure(None, "published figure; not installed beside")
    try:
        with bounded(PEER_LIMIT_S):
            return benchmark.peer(slurm)
    except Exception as error:  # noqa: BLE001 - a peer that does not work here is told, not failed on
        return PeerFigure(None, f"it did not work here: {error}")


def _verdict(row: Row) -> str:
    if row["value"] is None:
        return f"not measured: {row['note']}"
    state = "goal reached" if row["goal_met"] else "budget met" if row["budget_met"] else "budget MISSED"
    return f"{row['value']} {row['unit']}: {state}"


def _print_table(console: Console, rows: Sequence[Row]) -> None:
    """The rows side by side, then what else was seen of each."""
    table = Table()
    for name in ("benchmark", "value", "unit", "budget", "goal", "", "peer here"):
        table.add_column(name, justify="left" if name in ("benchmark", "unit", "") else "right", no_wrap=True)
    for row in rows:
        sign = "\u2265" if row["better"] == "higher" else "\u2264"
        table.add_row(
            str(row["id"]),
            _number(row["value"]),
            str(row["unit"]),
            f"{sign} {_number(row['budget'])}",
            _number(row["goal"]),
            _state(row),
            _number(row["peer_value"]),
        )
    console.print(table)
    for row in rows:
        more = [f"{name} {extra}" for name, extra in row.items() if name not in STATED]
        parts = [str(row["note"]), ", ".join(more), f"peer: {row['peer']}", str(row["peer_note"])]
        console.print(f"[bold]{row['id']}[/bold]: {'; '.join(filter(None, parts))}", highlight=False)
    if rows:
        console.print(str(rows[0]["machine"]), highlight=False)


def _number(value: Extra) -> str:
    return "-" if value is None else f"{value:g}" if isinstance(value, int | float) else value


def _state(row: Row) -> str:
    if row["value"] is None:
        return "not measured"
    if not row["budget_met"]:
        return "[red]missed[/red]"
    return "[green]goal[/green]" if row["goal_met"] else "[green]met[/green]"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
