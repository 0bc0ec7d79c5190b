"""PGLib-OPF v23.07: the optimum of the linear power flow, and the nodal prices of its smallest grid.

The nine grids under typical operating conditions, cleared by `yunhe.core.market.clearing`, whose answers are checked
again by `core.market.feasible` and against the bound that their own prices prove. Published are five digits.
"""

import csv
import time
from math import floor, log10
from pathlib import Path

from benchmarks.placement import matpower
from benchmarks.placement.table import Progress, Row, Table, opened
from yunhe.core import errors
from yunhe.core.market.clearing import clear

SECTION = "Typical Operating Conditions (TYP)"
PRICES = {"pglib_opf_case5_pjm": (16.98, 26.38, 30.00, 39.94, 10.00)}  # USD/MWh, of nodes 1 to 5


def run(data: Path, seeds: int, progress: Progress) -> Table:
    """The table. There is nothing random in it: `seeds` is not used."""
    hashes: dict[str, str] = {}
    folder = data / "pglib_opf"
    published = _published(folder / "baseline_results.csv", hashes)
    rows, notes = [], []
    paths = sorted(folder.glob("*.m.gz"), key=lambda path: path.stat().st_size)
    for path in paths:
        name = path.name.removesuffix(".m.gz")
        with opened(path, hashes) as file:
            case = matpower.read(file, path.name)
        progress(f"{name}: {len(case.network.nodes)} nodes, {len(case.network.lines)} lines")
        started = time.process_time()
        found = clear(case.network)
        seconds = time.process_time() - started
        cost = found.cost + case.fixed_usd_per_h
        known = published.get(name)
        note = f"gap to the proved bound {max(0.0, found.cost - found.bound) / cost:.1e}; {seconds:.1f} s of CPU"
        rows.append(
            Row(name, "DC optimum", "cost", "USD/h", cost, known, _half_digit(known), better="lower", note=note)
        )
        for node, price, expected in zip(case.network.nodes, found.prices, PRICES.get(name, ()), strict=False):
            rows.append(Row(name, "DC optimum", f"price at {node.id}", "USD/MWh", float(price), expected, 0.005))
        rents = float(found.rents.sum())
        rows.append(Row(name, "DC optimum", "congestion rent", "USD/h", rents))
    notes.append(
        "A reproduction counts as equal when it rounds to the published digits (5 of costs, 2 decimals of prices)."
    )
    return Table("pglib", "PGLib-OPF: linear power flow", "PGLib-OPF v23.07, BASELINE.md", rows, hashes, notes=notes)


def _published(path: Path, hashes: dict[str, str]) -> dict[str, float]:
    with opened(path, hashes) as file:
        found = {}
        for number, row in enumerate(csv.DictReader(file), 2):
            try:
                if row["section"] == SECTION:
                    found[row["case"]] = float(row["dc_usd_per_h"])
            except (KeyError, TypeError, ValueError) as error:
                raise errors.InvalidInput(f"{error}", field=f"{path.name}:{number}: dc_usd_per_h") from None
    return found


def _half_digit(published: float | None) -> float:
    """Half a unit of the fifth digit."""
    return 0.0 if not published else 0.5 * 10.0 ** (floor(log10(abs(published))) - 4)
