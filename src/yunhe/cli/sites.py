"""Commands about the sites of a network, over the hub's API."""

import time
from pathlib import Path
from typing import Annotated

import typer

from yunhe.cli.catalogue import POOL_COLUMNS, USE_COLUMNS, pool_row, use_row
from yunhe.cli.connection import connect
from yunhe.cli.failure import remark
from yunhe.cli.options import AsJson, SiteId, example
from yunhe.cli.output import moment, show_json, show_pairs, show_table
from yunhe.cli.tariffs import hours_pairs, multiples, read_forecast
from yunhe.cli.wording import NONE
from yunhe.core.supply import SiteState
from yunhe.core.units import format_latency, format_milli, format_money, format_span
from yunhe.facts.load import defaults
from yunhe.sdk.checked import checked
from yunhe.wire.api import SiteList, SiteTariff, SiteTerms, SiteView

app = typer.Typer()

NEAREST = 5


@app.command(epilog=example("yunhe site token acme"))
def token(
    ctx: typer.Context,
    provider: Annotated[str, typer.Argument(help="The organisation that will be paid for the site.")],
    as_json: AsJson = False,
) -> None:
    """Make a one-time token for a site to join (operators)."""
    with connect(ctx) as hub:
        made = hub.enrolment_token(provider)
    if as_json:
        show_json(made)
        return
    show_pairs((("token", made.token), ("good until", moment(made.expires_utc_ms))))


@app.command(epilog=example("yunhe site approve zhangjiakou-1 --price-per-core-hour 0.12CNY"))
def approve(
    ctx: typer.Context,
    site_id: SiteId,
    price_per_core_hour: Annotated[str | None, typer.Option(help="As 0.12CNY.")] = None,
    price_per_card_hour: Annotated[str | None, typer.Option(help="As 9.50CNY.")] = None,
    power_price_per_kwh: Annotated[str | None, typer.Option(help="As 0.45CNY.")] = None,
    accept_asking: Annotated[
        bool | None,
        typer.Option("--accept-asking/--own-prices", help="Sell its pools at what the site asks, where it does."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Let a joined site take part, at prices (operators).

    Prices that are not given come from the facts of its place. Again for a site that takes part: new prices.
    """
    prices = {
        "price_per_core_hour": price_per_core_hour,
        "price_per_card_hour": price_per_card_hour,
        "power_price_per_kwh": power_price_per_kwh,
        "accept_asking": accept_asking,
    }
    terms = checked(SiteTerms, prices)
    with connect(ctx) as hub:
        waits = hub.site(site_id).state == SiteState.PENDING
        view = hub.approve(site_id, terms) if waits else hub.set_terms(site_id, terms)
    tell_site(view, as_json)
    if not as_json:
        remark(f"  {_prices(view)}")


@app.command(epilog=example("yunhe site tariff zhangjiakou-1 --power 0-8:0.4,8-10:1,10-12:1.6,12-24:1"))
def tariff(
    ctx: typer.Context,
    site_id: SiteId,
    power: Annotated[str | None, typer.Option(help="Multiples of its power price by the hour; flat.")] = None,
    carbon: Annotated[str | None, typer.Option(help="Likewise of its carbon.")] = None,
    utc_offset: Annotated[int | None, typer.Option(help="Of the site's clock, hours.")] = None,
    forecast: Annotated[Path | None, typer.Option(help="Foretold hours, JSON (docs/cli.md).")] = None,
    as_json: AsJson = False,
) -> None:
    """Say when power is cheap or clean at a site (operators, its provider).

    Hours are those of the site's day; those that are not named have the multiple 1.
    """
    stated: dict[str, object] = {
        "utc_offset": utc_offset,
        "power_by_hour": None if power is None else multiples(power, "--power"),
        "carbon_by_hour": None if carbon is None else multiples(carbon, "--carbon"),
    }
    if forecast is not None:
        stated |= read_forecast(forecast)
    wanted = checked(SiteTariff, {name: value for name, value in stated.items() if value is not None})
    with connect(ctx) as hub:
        view = hub.set_tariff(site_id, wanted)
    if as_json:
        show_json(view)
    else:
        show_pairs((("site", view.id), *hours_pairs(view)))


@app.command("list", epilog=example("yunhe site list --json"))
def list_sites(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List sites."""
    with connect(ctx) as hub:
        found = hub.sites()
    if as_json:
        show_json(SiteList(sites=found))
        return
    rows = (
        (
            s.id,
            s.name,
            s.provider,
            _state(s),
            s.cluster or s.region,
            format_milli(s.pue_milli),
            str(s.carbon_g_per_kwh),
            str(s.tier) if s.certified_utc_ms is not None else NONE,
            moment(s.last_contact_utc_ms),
        )
        for s in found
    )
    columns = ("site", "~name", "provider", "state", "place", ">PUE", ">gCO2/kWh", ">tier", "last contact")
    show_table(columns, rows)


@app.command(epilog=example("yunhe site show zhangjiakou-1"))
def show(ctx: typer.Context, site_id: SiteId, as_json: AsJson = False) -> None:
    """Show one site: place, grid, pools, measured speed."""
    with connect(ctx) as hub:
        site = hub.site(site_id)
    if as_json:
        show_json(site)
        return
    nearest = sorted(site.latency_us.items(), key=lambda item: item[1])[:NEAREST]
    show_pairs(
        (
            ("site", site.id),
            ("name", site.name),
            ("provider", site.provider),
            ("state", _state(site)),
            ("place", f"{site.cluster or NONE}, {site.region} ({site.lat}, {site.lon})"),
            ("PUE", format_milli(site.pue_milli)),
            ("grid", f"{site.carbon_g_per_kwh} gCO2/kWh"),
            ("power price", f"{format_money(site.power_price_microcny_per_kwh)} per kWh"),
            *hours_pairs(site),
            ("assumed figures", ", ".join(site.assumed) or "none"),
            ("isolation", f"tier {site.tier}: {site.isolation}"),
            ("certified", moment(site.certified_utc_ms)),
            ("next test", moment(site.retest_utc_ms)),
            ("last contact", moment(site.last_contact_utc_ms)),
            ("nearest, one way", ", ".join(f"{place} {format_latency(us, 1)}" for place, us in nearest) or NONE),
        )
    )
    print()
    show_table(POOL_COLUMNS, [pool_row(pool) for pool in site.pools])
    print()
    show_table(USE_COLUMNS, [use_row(pool) for pool in site.pools])
    benchmarks = [
        (pool.id, b.name, f"{b.value:.4g} {b.unit}", str(b.repeats), f"{b.spread_percent:.1f}%")
        for pool in site.pools
        for b in pool.benchmarks
    ]
    benchmarks += [
        (NONE, b.name, f"{b.value:.4g} {b.unit}", str(b.repeats), f"{b.spread_percent:.1f}%") for b in site.network
    ]
    if benchmarks:
        print()
        show_table(("pool", "~measured", ">median", ">runs", ">spread"), benchmarks)
    checks = [(pool.id, pool.stack, pool.stack_check) for pool in site.pools if pool.stack_check is not None]
    if checks:
        print()
        rows = [(pool, stack, ", ".join(c.operators), ", ".join(c.missing) or "none") for pool, stack, c in checks]
        show_table(("pool", "stack", "~operators ready", "~missing"), rows)


@app.command(epilog=example("yunhe site leave zhangjiakou-1"))
def leave(ctx: typer.Context, site_id: SiteId, as_json: AsJson = False) -> None:
    """Take a site out of the network for good."""
    with connect(ctx) as hub:
        view = hub.leave(site_id)
    tell_site(view, as_json)


def _state(site: SiteView) -> str:
    if site.state != SiteState.ACTIVE:
        return site.state
    if not site.connected:
        since_ms = max(0, round(time.time()) * 1000 - (site.last_contact_utc_ms or 0))
        return f"active, silent {format_span(since_ms)}" if site.last_contact_utc_ms else "active, silent"
    return site.state if site.accepting else "active, takes no work"


def _prices(site: SiteView) -> str:
    """At what a site is sold, and which of it nobody stated: an assumed price is that of the shipped facts."""
    assumed = "price_microcny_per_core_hour" in site.assumed
    core = [pool.price_microcny_per_unit_hour for pool in site.pools if pool.unit == "core"]
    if assumed and not core:
        core = [defaults()["price_microcny_per_core_hour"].value]
    parts = [f"{format_money(amount)} per core-hour{' (assumed)' * assumed}" for amount in sorted(set(core))]
    note = " (assumed)" if "power_price_microcny_per_kwh" in site.assumed else ""
    parts.append(f"power {format_money(site.power_price_microcny_per_kwh)} per kWh{note}")
    return f"sold at {', '.join(parts)}; another price: yunhe site approve {site.id} --price-per-core-hour 0.12CNY"


def tell_site(site: SiteView, as_json: bool) -> None:
    if as_json:
        show_json(site)
    else:
        print(f"{site.id} {_state(site)}")
