"""Power grids in MATPOWER's case format (version 2) as networks of the linear ("DC") power flow model.

The model is that of PowerModels.jl's DCPPowerModel, whose optimum PGLib publishes: a branch has the susceptance
x / (r^2 + x^2), taps and phase shifts are left out, its flow keeps to rate A and to the limits of the angle across it,
a bus shunt draws Gs at 1 per unit, and what is out of service is not there.
"""

import re
from collections.abc import Iterator
from math import radians
from typing import NamedTuple, TextIO

from yunhe.core import errors
from yunhe.core.market.network import Line, Network, Node, Offer

COLUMNS = {
    "bus": ("bus_i", "type", "Pd", "Qd", "Gs"),
    "gen": ("bus", "Pg", "Qg", "Qmax", "Qmin", "Vg", "mBase", "status", "Pmax", "Pmin"),
    "gencost": ("model", "startup", "shutdown", "n"),
    "branch": (
        "fbus",
        "tbus",
        "r",
        "x",
        "b",
        "rateA",
        "rateB",
        "rateC",
        "ratio",
        "angle",
        "status",
        "angmin",
        "angmax",
    ),
    "dcline": ("fbus", "tbus", "status"),
}
ISOLATED = 4  # type of a bus that is out of service
WIDEST_DEG = 60.0  # PowerModels' angle limit for a branch that states none, or one of 90 degrees and more
MAX_LINES = 1_000_000

_ASSIGNED = re.compile(r"\s*mpc\.(\w+)\s*=\s*(.*)")


class Case(NamedTuple):
    """`fixed_usd_per_h` is what the generators cost at no output; the network's prices are in USD per MWh."""

    name: str
    network: Network
    fixed_usd_per_h: float


class _Row(NamedTuple):
    line: int
    values: list[float]


def read(file: TextIO, name: str) -> Case:
    """The grid of a case file. Raises InvalidInput naming file, line and field."""
    base_mva, tables = _tables(file, name)
    live = {int(row.values[0]) for row in tables["bus"] if int(row.values[1]) != ISOLATED}
    nodes = [
        Node(str(int(row.values[0])), row.values[2] + row.values[4]) for row in tables["bus"] if row.values[0] in live
    ]
    if len(tables["gencost"]) < len(tables["gen"]):
        raise errors.InvalidInput(
            f"{len(tables['gen'])} generators have {len(tables['gencost'])} costs", field=f"{name}: gencost"
        )
    offers, fixed = [], 0.0
    for place, (row, price) in enumerate(zip(tables["gen"], tables["gencost"], strict=False), 1):
        at, status, most, least = (row.values[column] for column in (0, 7, 8, 9))
        if status > 0 and at in live:
            constant, linear, square = _cost(price, name)
            offers.append(Offer(f"gen {place}", str(int(at)), linear, most, least, square))
            fixed += constant
    lines = [
        _line(place, row, base_mva, name) for place, row in enumerate(tables["branch"], 1) if _in_service(row, live)
    ]
    for row in tables["dcline"]:
        if row.values[2] > 0:
            raise errors.InvalidInput(
                "lines for direct current are not read", field=f"{name}:{row.line}: dcline.status"
            )
    return Case(name, Network(nodes, offers, lines), fixed)


def _in_service(row: _Row, live: set[int]) -> bool:
    return row.values[10] > 0 and row.values[0] in live and row.values[1] in live


def _line(place: int, row: _Row, base_mva: float, name: str) -> Line:
    tail, head, r, x, rate = (row.values[column] for column in (0, 1, 2, 3, 5))
    if r * r + x * x == 0 or x == 0:
        raise errors.InvalidInput("is 0", field=f"{name}:{row.line}: branch.x")
    susceptance = base_mva * x / (r * r + x * x)
    turns = sorted(susceptance * radians(angle) for angle in _angles(*row.values[11:13]))
    limit = rate if rate > 0 else max(map(abs, turns))  # 0 stands for no limit
    return Line(
        f"branch {place}",
        str(int(tail)),
        str(int(head)),
        most=min(limit, turns[1]),
        least=max(-limit, turns[0]),
        susceptance=susceptance,
    )


def _angles(least: float, most: float) -> tuple[float, float]:
    if least == most == 0:
        return -WIDEST_DEG, WIDEST_DEG
    return (least if least > -90 else -WIDEST_DEG), (most if most < 90 else WIDEST_DEG)


def _cost(row: _Row, name: str) -> tuple[float, float, float]:
    """Coefficients of 1, q and q^2 in USD/h, q in MW."""
    model, count, rest = int(row.values[0]), int(row.values[3]), row.values[4:]
    if model != 2:
        raise errors.InvalidInput("is not 2 (a polynomial)", field=f"{name}:{row.line}: gencost.model")
    if not 0 <= count <= len(rest):
        raise errors.InvalidInput(
            f"{count} coefficients are said, {len(rest)} given", field=f"{name}:{row.line}: gencost.n"
        )
    powers = rest[:count][::-1]
    if any(powers[3:]):
        raise errors.InvalidInput("is above 3: costs are at most quadratic", field=f"{name}:{row.line}: gencost.n")
    constant, linear, square = (*powers[:3], 0.0, 0.0, 0.0)[:3]
    return constant, linear, square


def _tables(file: TextIO, name: str) -> tuple[float, dict[str, list[_Row]]]:
    tables: dict[str, list[_Row]] = {table: [] for table in COLUMNS}
    found: set[str] = set()
    base_mva, inside = 0.0, ""
    for number, text in _bare(file, name):
        assigned = _ASSIGNED.match(text)
        if assigned and not inside:
            key, text = assigned.groups()
            found.add(key)
            if key == "baseMVA":
                base_mva = sum(_values(text.rstrip("; "), f"{name}:{number}: baseMVA")[:1])
            if not text.startswith("["):
                continue
            inside, text = key, text[1:]
        if inside:
            body, closed, _ = text.partition("]")
            for part in filter(str.strip, body.split(";")):
                if inside in COLUMNS:
                    tables[inside].append(_row(part, number, inside, name))
            inside = "" if closed else inside
    for key in ("baseMVA", "bus", "gen", "gencost", "branch"):
        if key not in found:
            raise errors.InvalidInput(f"there is no mpc.{key}", field=name)
    if inside:
        raise errors.InvalidInput("the table has no end", field=f"{name}: {inside}")
    if not base_mva > 0:
        raise errors.InvalidInput("is not positive", field=f"{name}: baseMVA")
    return base_mva, tables


def _bare(file: TextIO, name: str) -> Iterator[tuple[int, str]]:
    for number, text in enumerate(file, 1):
        if number > MAX_LINES:
            raise errors.TooLarge(f"more than {MAX_LINES} lines", field=name)
        yield number, text.partition("%")[0].strip()


def _row(text: str, number: int, table: str, name: str) -> _Row:
    values = _values(text, f"{name}:{number}: {table}", COLUMNS[table])
    if len(values) < len(COLUMNS[table]):
        raise errors.InvalidInput(
            "the column is missing", field=f"{name}:{number}: {table}.{COLUMNS[table][len(values)]}"
        )
    return _Row(number, values)


def _values(text: str, field: str, names: tuple[str, ...] = ()) -> list[float]:
    values = []
    for place, word in enumerate(text.replace(",", " ").split()):
        where = f"{field}.{names[place]}" if place < len(names) else field
        try:
            values.append(float(word))
        except ValueError:
            raise errors.InvalidInput(f"{word!r} is not a number", field=where) from None
        if values[-1] != values[-1]:
            raise errors.InvalidInput("is not a number", field=where)
    return values
