"""Commands that simulate: run a scenario, compare runs, sweep over seeds and changes."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from yunhe.apps import simulator as application
from yunhe.apps import sweep as sweeping
from yunhe.apps.simulator import RESULT, Outcome
from yunhe.cli.failure import FAILED, INTERRUPTED, OK, remark
from yunhe.cli.options import AsJson, example
from yunhe.cli.output import show_json, show_pairs, show_table
from yunhe.cli.wording import NONE
from yunhe.core.units import format_money
from yunhe.simulator.compare import Line
from yunhe.simulator.compare import compare as compared
from yunhe.simulator.replay import replay as replayed
from yunhe.simulator.result import Document
from yunhe.simulator.run import Run

app = typer.Typer()

ScenarioFile = Annotated[Path, typer.Argument(help="The scenario (YAML).", metavar="SCENARIO")]
WhatIf = Annotated[
    list[str] | None,
    typer.Option("--what-if", help="A change, written out (`price: {centre: guian, compute: 5CNY/h}`) or in a file."),
]
Runs = Annotated[Path, typer.Argument(help="A run's folder or result, or a folder of runs.")]


@app.command(
    epilog=example("yunhe sim run examples/scenarios/small.yaml --what-if 'set: {network: off}' --out islands")
)
def run(
    scenario: ScenarioFile,
    out: Annotated[
        Path | None, typer.Option(help="Folder for state, result and report; sim-NAME-SEED without.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Instead of the scenario's.")] = None,
    what_if: WhatIf = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew, whatever lies in the folder.")] = False,
    report: Annotated[bool, typer.Option(help="Write report.html and Parquet tables.")] = True,
    as_json: AsJson = False,
) -> None:
    """Run a scenario and write what came of it.

    Ctrl-C stops it; the same command goes on from there. Same scenario and seed, same result to the last byte.
    """
    prepared = application.prepare(scenario, what_if or [], seed)
    folder = out or Path(f"sim-{prepared.scenario.name}-{prepared.scenario.seed}")
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %  {task.fields[told]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as bar:
        task = bar.add_task(prepared.scenario.name, total=1.0, told="")

        def tell(share: float, under_way: Run) -> None:
            submitted = under_way.world.tally.counts["submitted"]
            bar.update(task, completed=share, told=f"{submitted:,} orders, {len(under_way.world.orders):,} open")

        outcome = application.simulate(prepared, folder, fresh=fresh, progress=tell, report=report)
    if outcome.result is None:
        remark(f"stopped; the same command goes on from {folder}")
        raise typer.Exit(INTERRUPTED)
    if as_json:
        show_json(outcome.result)
        return
    _tell(outcome, outcome.result, report)


@app.command(epilog=example("yunhe sim compare islands network"))
def compare(first: Runs, second: Runs, as_json: AsJson = False) -> None:
    """Show two runs, or two folders of runs over seeds, side by side.

    With several seeds the 95 % interval of the difference is beside it.
    """
    lines = compared(application.read_results(first), application.read_results(second))
    show_lines(lines, first.name, second.name, as_json)


@app.command(epilog=example("yunhe sim sweep examples/scenarios/small.yaml --seeds 1-5 --what-if cheaper.yaml --out s"))
def sweep(
    scenario: ScenarioFile,
    out: Annotated[Path, typer.Option(help="Folder for all runs: OUT/VARIANT/seed-N.")],
    seeds: Annotated[str, typer.Option(help="Such as 1-5 or 3,7,11.")] = "1-5",
    what_if: WhatIf = None,
    processes: Annotated[int | None, typer.Option(min=1, max=256, help="At once; the cores without.")] = None,
    ray: Annotated[str | None, typer.Option(help="Address of a Ray cluster to run on, or `auto`.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run a scenario over seeds, as it is and with each change by itself, and compare.

    Runs that are there already are not run again.
    """
    chosen, numbers = sweeping.variants(what_if or []), sweeping.seeds_of(seeds)
    at_once = processes or len(os.sched_getaffinity(0))

    def tell(name: str, n: int, total: int) -> None:
        remark(f"{n}/{total} {name}")

    found = sweeping.sweep(scenario, chosen, numbers, out, processes=at_once, ray=ray, done=tell)
    base = found[sweeping.BASE]
    if as_json:
        changes = {name: [_as_row(line) for line in compared(base, runs)] for name, runs in found.items()}
        show_json({"seeds": list(numbers), "against": sweeping.BASE, "variants": changes})
        return
    if len(found) == 1:
        show_lines(compared(base, base), sweeping.BASE, sweeping.BASE, as_json=False)
    for variant in chosen[1:]:
        print(f"{variant.name}: {variant.edits[0]}")
        show_lines(compared(base, found[variant.name]), sweeping.BASE, variant.name, as_json=False)


@app.command(epilog=example("yunhe sim replay rounds.jsonl"))
def replay(
    record: Annotated[Path, typer.Argument(help="What a hub recorded: its setting `round_record`.")],
    as_json: AsJson = False,
) -> None:
    """Decide recorded rounds of a hub again, and say whether each comes out the same to the last byte."""
    rounds, orders, assigned = 0, 0, 0
    different: list[int] = []
    for item in replayed(application.read_record(record)):
        rounds, orders = rounds + 1, orders + item.orders
        assigned += len(item.plan.assignments)
        if not item.same:
            different.append(item.number)
    if as_json:
        show_json({"rounds": rounds, "orders": orders, "assignments": assigned, "different": different})
    else:
        told = f"different in line {', '.join(map(str, different[:10]))}" if different else "all the same"
        print(f"{rounds:,} rounds over {orders:,} open orders, {assigned:,} assignments: {told}")
    raise typer.Exit(FAILED if different else OK)


def show_lines(lines: list[Line], first: str, second: str, as_json: bool) -> None:
    if as_json:
        show_json({"first": first, "second": second, "lines": [_as_row(line) for line in lines]})
        return
    rows = [
        (
            line.name,
            figure(line.first),
            figure(line.second),
            figure(line.difference, signed=True) + (f" ± {figure(line.spread)}" if line.spread is not None else ""),
            NONE if line.percent is None else f"{line.percent:+.1f}",
            line.unit,
        )
        for line in lines
        if line.first is not None
    ]
    show_table(("figure", f">{first}", f">{second}", ">difference", ">%", "unit"), rows)


def figure(value: float | None, *, signed: bool = False) -> str:
    """Four significant digits, and no more than two behind the point."""
    if value is None:
        return NONE
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 100 else 2
    return f"{value:{'+' if signed else ''},.{digits}f}"


def _as_row(line: Line) -> dict[str, object]:
    names = ("name", "unit", "first", "second", "difference", "percent", "spread", "seeds")
    return {name: getattr(line, name) for name in names}


def _tell(outcome: Outcome, found: Document, report: bool) -> None:
    orders, waits = found["orders"], found["wait_ms"]
    remark("it had been run before; --fresh runs it again" if outcome.found else f"{outcome.cpu_s:.1f} s of CPU time")
    show_pairs(
        (
            ("scenario", f"{found['scenario']} {found['scenario_sha256'][:12]}, seed {found['seed']}"),
            ("network", f"{found['centres']:,} centres, {found['cards']:,} cards, {found['customers']:,} customers"),
            ("orders", ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in orders.items())),
            ("utilisation", f"{found['utilisation'] * 100:.2f} %"),
            ("mean wait", f"{waits['all']['mean'] / 60_000:.2f} min of {waits['all']['jobs']:,} that started"),
            ("paid", format_money(found["charged_microcny"])),
            ("energy", f"{found['energy_kwh']:,.1f} kWh, {found['carbon_kg']:,.1f} kg CO2"),
            ("books", f"sum {found['money']['sum_microcny']} micro-CNY over all accounts"),
        )
    )
    sizes = [
        (name, f"{w['jobs']:,}", *(f"{w[q] / 60_000:,.1f}" for q in ("mean", "p50", "p90", "p99", "most")))
        for name, w in waits.items()
        if name != "all"
    ]
    show_table(("wait by size", ">jobs", ">mean min", ">p50", ">p90", ">p99", ">most"), sizes)
    if report and not application.can_report():
        remark(
            "no report: it needs matplotlib and pyarrow (pip install matplotlib pyarrow), then the same command again"
        )
        report = False
    remark(f"in {outcome.folder}: {RESULT}" + (f", {application.REPORT}" if report else ""))
