"""The shipped tables as frozen rows. Every row keeps `source` and `confidence`.

Confidence is the table's own word (`high`, `medium`, `low`, `assumed`, or a mixture).  A figure counts as assumed
when its confidence says `low` or `assumed`: it is there to compute with, and shown as what it is.
"""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from importlib import resources

from yunhe.core.demand import Precision
from yunhe.core.errors import NotFound
from yunhe.core.rounding import ceil_div
from yunhe.core.units import meant

TABLES = ("chips", "clusters", "carbon_factors", "hubs", "tariffs", "places", "glossary", "defaults")

Row = dict[str, str]
Cell = str | int | float | list[str] | None

_NUMERIC = re.compile(
    r".*(_tflops|_tops|_gb|_gb_s|_w|_max|_min|_mult|cores|lat|lon|value|per_kwh|per_kwh_20\d\d)$", re.ASCII
)
_PLAIN_NUMBER = re.compile(r"-?\d+(\.\d+)?", re.ASCII)
_WEAK = re.compile(r"\b(low|assumed)\b")


@dataclass(frozen=True, slots=True)
class Chip:
    """One chip or card. Rates are dense; `basis` says nominal, derived or measured.

    For a CPU the figures are of the whole chip with `cores` cores; for an accelerator of one card.
    """

    id: str
    vendor: str
    name: str
    kind: str  # gpu, npu, dcu, tpu, cpu
    stack: str
    software: str
    flops: tuple[tuple[Precision, int], ...]  # FLOP/s (OP/s for INT8)
    memory_bytes: int | None
    memory_bandwidth_bytes_per_s: int | None
    watts: int | None  # TDP
    cores: int | None
    basis: str
    source: str
    confidence: str
    assumed: tuple[str, ...]
    note: str

    def rate(self, precision: Precision) -> int | None:
        """FLOP/s at `precision`; None where it is not known or not supported."""
        return dict(self.flops).get(precision)


@dataclass(frozen=True, slots=True)
class Cluster:
    """One of the ten national data centre clusters."""

    id: str
    name_en: str
    name_zh: str
    hub_id: str
    place_id: str
    lat: float
    lon: float
    region: str  # province: residency and emission factor
    pue_milli: int  # upper bound of the cluster's rules
    carbon_mg_per_kwh: int
    power_price_microcny_per_kwh: int | None
    example_rtt_us: tuple[tuple[str, int], ...]  # (place name, round trip) computed with route factor 1.4
    source: str
    confidence: str
    assumed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CarbonFactor:
    """Average CO2 of the electricity of a province, a grid region or the country."""

    level: str
    name_zh: str
    name_en: str
    mg_per_kwh: int  # of 2022
    mg_per_kwh_2021: int
    source: str
    confidence: str

    @property
    def g_per_kwh(self) -> int:
        """Whole grams, rounded up."""
        return ceil_div(self.mg_per_kwh, 1000)


@dataclass(frozen=True, slots=True)
class Hub:
    """One of the eight national hub nodes."""

    id: str
    name_en: str
    name_zh: str
    side: str
    clusters: tuple[str, ...]
    demand_role: str
    pue_max_milli: int
    source: str
    confidence: str


@dataclass(frozen=True, slots=True)
class Place:
    """A city that latency bounds and data locations name."""

    id: str
    name_zh: str
    name_en: str
    region: str
    lat: float
    lon: float
    source: str
    confidence: str


@dataclass(frozen=True, slots=True)
class Default:
    """A figure that Yunhe assumes where a site or a table states none."""

    name: str
    value: int
    unit: str
    reason: str


def _rows(table: str) -> Iterator[Row]:
    file = resources.files("yunhe.facts").joinpath("data", f"{table}.csv")
    yield from csv.DictReader(file.read_text(encoding="utf-8").splitlines())


def _weak(confidence: str) -> bool:
    return bool(_WEAK.search(confidence))


def _split(text: str) -> tuple[str, ...]:
    return tuple(part for part in text.split(";") if part)


def _scaled(text: str, factor: int) -> int | None:
    """As below; None when the cell is empty."""
    return _scaled_or_fail(text, factor) if text else None


def _scaled_or_fail(text: str, factor: int) -> int:
    """A decimal cell times `factor`, to the nearest integer, without a float on the way."""
    return int((Decimal(text) * factor).to_integral_value())


_RATE_COLUMNS = {
    "fp64_tflops": Precision.FP64,
    "fp32_tflops": Precision.FP32,
    "tf32_tflops": Precision.TF32,
    "bf16_tflops": Precision.BF16,
    "fp16_tflops": Precision.FP16,
    "fp8_tflops": Precision.FP8,
    "int8_tops": Precision.INT8,
}
_CHIP_FIGURES = (*_RATE_COLUMNS, "mem_gb", "mem_bw_gb_s", "tdp_w")
# Columns that are weak where the confidence of their row is; chips and clusters say it figure by figure.
_FIGURES = {
    "carbon_factors": ("kgco2_per_kwh_2022",),
    "hubs": ("pue_requirement_max",),
    "tariffs": ("flat_price_cny_per_kwh",),
    "places": ("lat", "lon"),
    "glossary": ("definition",),
    "defaults": ("value",),
}


def _assumed(table: str, row: Row) -> tuple[str, ...]:
    """The columns of a row whose figures have no reliable public source."""
    match table:
        case "chips":
            weak = _CHIP_FIGURES if _weak(row["confidence"]) else ()
            return tuple(sorted({*_split(row["assumed_fields"]), *(name for name in weak if row[name])}))
        case "clusters":
            pue = ("pue_max",) if _weak(row["pue_confidence"]) else ()
            price = ("power_price_cny_per_kwh",) if _weak(row["price_confidence"]) else ()
            return pue + price
    return _FIGURES[table] if _weak(row["confidence"]) else ()


def _chip(row: Row) -> Chip:
    rates = ((precision, _scaled(row[column], 10**12)) for column, precision in _RATE_COLUMNS.items())
    return Chip(
        id=row["chip_id"],
        vendor=row["vendor"],
        name=row["name"],
        kind=row["kind"],
        stack=row["stack"],
        software=row["software"],
        flops=tuple((precision, flops) for precision, flops in rates if flops is not None),
        memory_bytes=_scaled(row["mem_gb"], 10**9),
        memory_bandwidth_bytes_per_s=_scaled(row["mem_bw_gb_s"], 10**9),
        watts=_scaled(row["tdp_w"], 1),
        cores=_scaled(row["cores"], 1),
        basis=row["basis"],
        source=row["source"],
        confidence=row["confidence"],
        assumed=_assumed("chips", row),
        note=row["note"],
    )


@lru_cache(maxsize=1)
def chips() -> tuple[Chip, ...]:
    return tuple(_chip(row) for row in _rows("chips"))


def _example_rtts(text: str) -> tuple[tuple[str, int], ...]:
    pairs = (part.rsplit(" ", 1) for part in _split(text))
    return tuple((place, _scaled_or_fail(ms, 1000)) for place, ms in pairs)


def _cluster(row: Row) -> Cluster:
    fields = {"pue_max": "pue_milli", "power_price_cny_per_kwh": "power_price_microcny_per_kwh"}
    return Cluster(
        id=row["cluster_id"],
        name_en=row["name_en"],
        name_zh=row["name_zh"],
        hub_id=row["hub_id"],
        place_id=row["place_id"],
        lat=float(row["lat"]),
        lon=float(row["lon"]),
        region=row["grid_region"],
        pue_milli=_scaled_or_fail(row["pue_max"], 1000),
        carbon_mg_per_kwh=_scaled_or_fail(row["grid_factor_kgco2_per_kwh_2022"], 10**6),
        power_price_microcny_per_kwh=_scaled(row["power_price_cny_per_kwh"], 10**6),
        example_rtt_us=_example_rtts(row["rtt_example_ms"]),
        source=row["source"],
        confidence=row["confidence"],
        assumed=tuple(fields[column] for column in _assumed("clusters", row)),
    )


@lru_cache(maxsize=1)
def clusters() -> tuple[Cluster, ...]:
    return tuple(_cluster(row) for row in _rows("clusters"))


@lru_cache(maxsize=1)
def carbon_factors() -> tuple[CarbonFactor, ...]:
    return tuple(
        CarbonFactor(
            level=row["level"],
            name_zh=row["name_zh"],
            name_en=row["name_en"],
            mg_per_kwh=_scaled_or_fail(row["kgco2_per_kwh_2022"], 10**6),
            mg_per_kwh_2021=_scaled_or_fail(row["kgco2_per_kwh_2021"], 10**6),
            source=row["source"],
            confidence=row["confidence"],
        )
        for row in _rows("carbon_factors")
    )


@lru_cache(maxsize=1)
def hubs() -> tuple[Hub, ...]:
    return tuple(
        Hub(
            id=row["hub_id"],
            name_en=row["name_en"],
            name_zh=row["name_zh"],
            side=row["side"],
            clusters=_split(row["clusters"]),
            demand_role=row["demand_role"],
            pue_max_milli=_scaled_or_fail(row["pue_requirement_max"], 1000),
            source=row["source"],
            confidence=row["confidence"],
        )
        for row in _rows("hubs")
    )


@lru_cache(maxsize=1)
def places() -> tuple[Place, ...]:
    return tuple(
        Place(
            id=row["place_id"],
            name_zh=row["name_zh"],
            name_en=row["name_en"],
            region=row["region"],
            lat=float(row["lat"]),
            lon=float(row["lon"]),
            source=row["source"],
            confidence=row["confidence"],
        )
        for row in _rows("places")
    )


@lru_cache(maxsize=1)
def defaults() -> dict[str, Default]:
    """Assumed figures by name; see `data/defaults.csv` for the reason of each."""
    found = (Default(row["name"], int(row["value"]), row["unit"], row["reason"]) for row in _rows("defaults"))
    return {default.name: default for default in found}


@lru_cache(maxsize=1)
def place_names() -> dict[str, str]:
    """Each name of a place (its id, and its names in English and Chinese, lower case) -> its id."""
    return {name.lower(): place.id for place in places() for name in (place.name_zh, place.name_en, place.id)}


@lru_cache(maxsize=1)
def place_coordinates() -> dict[str, tuple[float, float]]:
    """Place id -> (lat, lon), as `Supply.places` wants it."""
    return {place.id: (place.lat, place.lon) for place in places()}


# --- rows for people and for the API ----------------------------------------------------------------------------


def _cell(column: str, text: str) -> Cell:
    if not text:
        return None
    if _NUMERIC.fullmatch(column) and _PLAIN_NUMBER.fullmatch(text):
        return float(text) if "." in text else int(text)
    return text


def table(name: str) -> tuple[dict[str, Cell], ...]:
    """The rows of a shipped table as plain values for JSON, each with `source`, `confidence`, and in `assumed` the
    columns that are.

    Raises NotFound when there is no such table.
    """
    if name not in TABLES:
        raise NotFound(f"no table of facts is called {name[:40]!r}", field="table", hint=meant(name, TABLES))
    rows: list[dict[str, Cell]] = []
    for row in _rows(name):
        cells = {column: _cell(column, text) for column, text in row.items() if column != "assumed_fields"}
        rows.append({**cells, "assumed": list(_assumed(name, row))})
    return tuple(rows)
