"""Work moved to greener regions within a round trip and idle capacity (EuroSys'24, Sukprasert et al.).

The published protocol: the GCP regions whose zone has a carbon series, once each, ordered by their mean carbon
intensity of 2022. Every region has 100 units of capacity and 100 - idle units of work, which may run wherever the round
trip to it is within the limit. Greedy: region by region, greenest first, moves its work to the greenest region within
reach that has room left, then to the next. Ours: the optimum of all regions together, by the network LP.
"""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from benchmarks.placement.table import Progress, Row, Table, opened
from yunhe.core import errors
from yunhe.core.market.reach import Place, dispatch

CAPACITY = 100
YEAR = "2022"
TOLERANCE = 1e-9  # gCO2/kWh


class World(NamedTuple):
    """Zones from the greenest on; `rtt_ms` from each to the zones it reaches, the least of several."""

    carbon: dict[str, float]
    rtt_ms: dict[str, dict[str, float]]


def run(data: Path, seeds: int, progress: Progress) -> Table:
    """The table. There is nothing random in it: `seeds` is not used."""
    hashes: dict[str, str] = {}
    folder = data / "grid_hourly"
    world = read_world(folder, hashes)
    progress(f"{len(world.carbon)} zones")
    rows, notes, unequal = [], [], []
    for limit_ms, idle, published in read_published(folder / "published_capacity_latency_emissions.csv", hashes):
        case = f"{limit_ms} ms, {idle} % idle"
        work = round(CAPACITY * (1 - idle / 100))
        reach = within(world, limit_ms)
        here = greedy(world.carbon, reach, work)
        places = {zone: Place(carbon, CAPACITY) for zone, carbon in world.carbon.items()}
        best = dispatch(dict.fromkeys(world.carbon, float(work)), places, reach).cost / (work * len(world.carbon))
        rows.append(_row(case, "greedy", here, published=published, tolerance=TOLERANCE))
        rows.append(_row(case, "network LP", _settled(best, here), ours=True))
        if best > here + TOLERANCE:
            unequal.append(case)
    notes.append(
        "The LP's optimum is proved by its prices; a difference from greedy below 1e-9 g/kWh is shown as none."
    )
    if unequal:
        notes.append(f"greedy is below the optimum, so its figures break the protocol: {', '.join(unequal)}")
    source = "EuroSys'24, 'On the Limitations of Carbon-Aware Temporal and Spatial Workload Shifting in the Cloud'"
    return Table("spatial", "Spatial dispatch under round trips and capacity", source, rows, hashes, notes=notes)


def _row(
    case: str, policy: str, value: float, *, published: float | None = None, tolerance: float = 0.0, ours: bool = False
) -> Row:
    return Row(case, policy, "mean carbon", "g/kWh", value, published, tolerance, ours=ours, better="lower")


def _settled(best: float, greedy_value: float) -> float:
    return greedy_value if abs(best - greedy_value) <= TOLERANCE else best


def within(world: World, limit_ms: float) -> dict[str, set[str]]:
    """For each zone the zones whose round trip is at most `limit_ms`."""
    return {zone: {to for to, rtt in ways.items() if rtt <= limit_ms} for zone, ways in world.rtt_ms.items()}


def greedy(carbon: Mapping[str, float], reach: Mapping[str, set[str]], work: int) -> float:
    """Mean carbon intensity of all work, gCO2/kWh, by the published greedy; `carbon` from the greenest on."""
    load = dict.fromkeys(carbon, work)
    for zone in carbon:
        left = work
        for to in (to for to in carbon if to in reach[zone]):
            moved = min(left, CAPACITY - load[to])
            load[to] += moved
            load[zone] -= moved
            left -= moved
    return sum(units * carbon[zone] for zone, units in load.items()) / (work * len(carbon))


def read_world(folder: Path, hashes: dict[str, str]) -> World:
    """Zones that have both a latency and a carbon series. Raises InvalidInput naming line and field."""
    carbon: dict[str, float] = {}
    path = folder / "zone_mean_ci_2020_2022.csv"
    with opened(path, hashes) as file:
        for number, row in enumerate(csv.DictReader(file), 2):
            if None in row.values() or "zonecode" not in row:
                raise errors.InvalidInput("a column is missing", field=f"{path.name}:{number}")
            carbon[row["zonecode"]] = _number(row.get(YEAR, ""), f"{path.name}:{number}: {YEAR}")
    path = folder / "gcp_latency_ms_34regions.csv"
    with opened(path, hashes) as file:
        lines = list(csv.reader(file))
    if not lines:
        raise errors.InvalidInput("the file is empty", field=path.name)
    columns = lines[0][1:]
    found = [zone for zone in sorted(carbon, key=lambda zone: carbon[zone]) if zone in columns]
    rtt_ms: dict[str, dict[str, float]] = {zone: {} for zone in found}
    for number, line in enumerate(lines[1:], 2):
        if len(line) != len(columns) + 1:
            what = f"{len(line)} columns where there are {len(columns) + 1} names"
            raise errors.InvalidInput(what, field=f"{path.name}:{number}")
        if line[0] not in rtt_ms:
            continue
        for zone in found:  # of two regions in one zone the first column counts, as published, and either row
            rtt = _number(line[1 + columns.index(zone)], f"{path.name}:{number}: {zone}")
            rtt_ms[zone][line[0]] = min(rtt, rtt_ms[zone].get(line[0], rtt))
    return World({zone: carbon[zone] for zone in found}, rtt_ms)


def read_published(path: Path, hashes: dict[str, str]) -> list[tuple[int, int, float]]:
    """(round-trip limit in ms, idle capacity in %, gCO2/kWh) of every published cell."""
    cells = []
    with opened(path, hashes) as file:
        for number, row in enumerate(csv.DictReader(file), 2):
            limit_ms = int(_number(row.pop("latency", None), f"{path.name}:{number}: latency"))
            cells += [(limit_ms, int(idle), _number(row[idle], f"{path.name}:{number}: {idle}")) for idle in row]
    return sorted(cells, key=lambda cell: (cell[1], cell[0]))


def _number(text: str | None, field: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        raise errors.InvalidInput(f"{text!r} is not a number", field=field) from None
    if not 0 <= value < float("inf"):
        raise errors.InvalidInput(f"{text!r} is negative or not finite", field=field)
    return value
