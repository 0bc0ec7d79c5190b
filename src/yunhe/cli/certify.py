"""What a site's pools do: measured here now, or asked of the hub. The engines are imported with the command."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from yunhe.apps import certify as application
from yunhe.cli.completion import complete_site
from yunhe.cli.connection import connect
from yunhe.cli.failure import remark
from yunhe.cli.options import AsJson, example
from yunhe.cli.output import moment, show_json, show_pairs, show_table
from yunhe.cli.sites import tell_site
from yunhe.cli.wording import NONE
from yunhe.core.errors import InvalidInput
from yunhe.core.units import format_flops
from yunhe.site.discover import find_cards
from yunhe.wire.link import BenchmarkResult, Certificate, PoolReport

app = typer.Typer()

MaybeSite = Annotated[
    str | None, typer.Argument(help="A site of the hub (operators).", metavar="[SITE]", autocompletion=complete_site)
]
DataDir = Annotated[Path | None, typer.Option("--data-dir", help="A site that is here; this whole machine without.")]


@app.command(epilog=example("yunhe site certify --data-dir yunhe-site"))
def certify(ctx: typer.Context, site_id: MaybeSite = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Measure the pools of this machine now, or have the hub test SITE again.

    Nominal stands beside measured. Nothing is sent to a hub; a site measures itself when its hub says so.
    """
    if site_id is not None:
        if data_dir is not None:
            raise InvalidInput("goes without the site's id", field="--data-dir")
        with connect(ctx) as hub:
            view = hub.certify(site_id)
        tell_site(view, as_json)
        if not as_json:
            remark(f"tested when its turn comes and a unit is free; then: yunhe site show {site_id}")
        return
    certificate = application.measure(data_dir)
    if as_json:
        show_json(certificate)
        return
    _show(certificate)
    cards = find_cards()
    if cards:
        print()
        rows = [
            (
                c.found.name,
                c.chip.id if c.chip else "unknown",
                c.stack,
                c.found.driver or NONE,
                c.found.firmware or NONE,
            )
            for c in cards
        ]
        show_table(("~card", "catalogue", "stack", "driver", "firmware"), rows)


def _show(certificate: Certificate) -> None:
    show_pairs(
        (
            ("measured", moment(certificate.tested_utc_ms)),
            ("with", certificate.software),
            ("isolation", f"tier {certificate.tier}: {certificate.isolation}"),
        )
    )
    for pool in certificate.pools:
        print()
        chip = pool.chip if pool.chip != "unknown" else f"{pool.chip_name} (not in the catalogue)"
        print(f"pool {pool.name}: {chip}, stack {pool.stack}; figures of one {pool.kind_of_unit}")
        show_table(("precision", ">nominal", ">measured", ">of nominal", ">spread", "~"), _rates(pool))
        others = [found for found in pool.benchmarks if not found.name.startswith("gemm_")]
        if others:
            print()
            show_table(("~measured", ">median", ">runs", ">spread"), _others(others))
        if pool.stack_check is not None:
            print()
            show_pairs((name, version) for name, version in pool.stack_check.versions.items())
            show_table(
                ("operator", "~"),
                [(name, "ready") for name in pool.stack_check.operators]
                + [(item.operator, f"missing: {item.reason}") for item in pool.stack_check.missing],
            )
    if certificate.network:
        print()
        show_table(("~network", ">median", ">runs", ">spread"), _others(certificate.network))


def _rates(pool: PoolReport) -> Iterable[tuple[str, ...]]:
    spreads = {found.name: f"{found.spread_percent:.1f}%" for found in pool.benchmarks}
    for rate in pool.rates:
        nominal, measured = rate.nominal_flops, rate.measured_flops
        yield (
            rate.precision.value,
            format_flops(nominal, rate.precision, 2) if nominal else NONE,
            format_flops(measured, rate.precision, 2) if measured else NONE,
            f"{measured * 100 / nominal:.0f}%" if nominal and measured else NONE,
            spreads.get(f"gemm_{rate.precision.value}", NONE),
            "" if measured else f"not measured: {rate.not_measured or 'no result'}",
        )


def _others(found: Iterable[BenchmarkResult]) -> list[tuple[str, ...]]:
    return [(b.name, f"{b.value:.4g} {b.unit}", str(b.repeats), f"{b.spread_percent:.1f}%") for b in found]
