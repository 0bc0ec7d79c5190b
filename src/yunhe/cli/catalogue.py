"""Commands about what the network has, and about the public facts that it is described with."""

from collections.abc import Callable, Sequence

import typer

from yunhe.cli.connection import connect
from yunhe.cli.options import AsJson, example
from yunhe.cli.output import show_json, show_table
from yunhe.cli.wording import NONE
from yunhe.core.demand import Precision
from yunhe.core.units import format_bytes, format_duration, format_flops, format_milli, format_money
from yunhe.sdk.client import Client
from yunhe.wire.api import FactTable, PoolList, PoolView

app = typer.Typer()

POOL_COLUMNS = (
    "pool",
    "~chip",
    ">free",
    ">certified",
    ">memory free",
    ">price per hour",
    "~speed of one unit",
    "~trust",
)


USE_COLUMNS = ("pool", ">certified", ">leased", ">others, not lent", ">busy", ">powered", ">longest run")


@app.command(epilog=example("yunhe pools"))
def pools(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List pools: what is free, measured speed and price."""
    with connect(ctx) as hub:
        found = hub.pools()
    if as_json:
        show_json(PoolList(pools=found))
        return
    show_table(POOL_COLUMNS, [pool_row(pool) for pool in found])


@app.command(epilog=example("yunhe chips --json"))
def chips(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List known chips with their public figures and sources."""
    columns = {
        "chip_id": "chip",
        "vendor": "vendor",
        "fp64_tflops": ">FP64 TFLOPS",
        "fp32_tflops": ">FP32 TFLOPS",
        "bf16_tflops": ">BF16 TFLOPS",
        "int8_tops": ">INT8 TOPS",
        "mem_gb": ">memory GB",
        "tdp_w": ">W",
        "confidence": "~confidence",
    }
    _facts(ctx, Client.chips, columns, as_json)


@app.command(epilog=example("yunhe clusters"))
def clusters(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the national hub clusters with their figures."""
    columns = {
        "cluster_id": "cluster",
        "name_en": "name",
        "name_zh": "",
        "hub_id": "hub",
        "pue_max": ">PUE at most",
        "grid_factor_kgco2_per_kwh_2022": ">grid kgCO2/kWh",
        "assumed": "~assumed",
    }
    _facts(ctx, Client.clusters, columns, as_json)


@app.command(epilog=example("yunhe factors"))
def factors(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List emission factors of the grids."""
    columns = {
        "name_en": "grid",
        "name_zh": "",
        "level": "level",
        "kgco2_per_kwh_2022": ">kgCO2/kWh 2022",
        "kgco2_per_kwh_2021": ">2021",
        "source": "~source",
        "confidence": "~confidence",
    }
    _facts(ctx, Client.factors, columns, as_json)


@app.command(epilog=example("yunhe places"))
def places(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List places that a latency can be asked to."""
    columns = {"place_id": "place", "name_zh": "", "name_en": "name", "region": "region", "lat": ">lat", "lon": ">lon"}
    _facts(ctx, Client.places, columns, as_json)


def pool_row(pool: PoolView) -> tuple[str, ...]:
    return (
        pool.id,
        f"unknown ({pool.chip_name})" if pool.chip == "unknown" and pool.chip_name else pool.chip,
        format_milli(pool.free_milli),
        f"{format_milli(pool.capacity_milli)} {pool.unit}s",
        format_bytes(pool.free_memory_bytes, 1),
        format_money(pool.price_microcny_per_unit_hour),
        ", ".join(_speeds(pool)) or NONE,
        "" if pool.trust_milli == 1000 else f"counts {format_milli(pool.trust_milli * 100)}%: {pool.trust_note}",
    )


def use_row(pool: PoolView) -> tuple[str, ...]:
    """Who has the units, and which of them work and are on: whoever they work for."""
    return (
        pool.id,
        format_milli(pool.capacity_milli),
        format_milli(pool.leased_milli),
        format_milli(pool.foreign_milli),
        NONE if pool.busy_milli is None else format_milli(pool.busy_milli),
        NONE if pool.powered_milli is None else format_milli(pool.powered_milli),
        NONE if pool.longest_ms is None else format_duration(pool.longest_ms),
    )


def _speeds(pool: PoolView) -> Sequence[str]:
    """Measured where it is, else nominal and said so; precisions stand side by side and are never added."""
    texts = []
    known = set(Precision)
    for rate in pool.rates:
        flops = rate.measured_flops or rate.nominal_flops
        if flops and rate.precision in known:
            note = "" if rate.measured_flops else " nominal"
            texts.append(format_flops(flops, Precision(rate.precision), 1) + note)
    return texts


def _facts(ctx: typer.Context, call: Callable[[Client], FactTable], columns: dict[str, str], as_json: bool) -> None:
    with connect(ctx) as hub:
        table = call(hub)
    if as_json:
        show_json(table)
        return
    show_table(tuple(columns.values()), [[_cell(row.get(key)) for key in columns] for row in table.rows])
    print("Sources and further figures: --json")


def _cell(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return NONE if value is None else str(value)
