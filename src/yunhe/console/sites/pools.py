"""The pools of a site: what is in use, nominal against measured, how far it is believed, and the price."""

from collections.abc import Sequence

from nicegui import ui

from yunhe.console import panels
from yunhe.console.sites import words
from yunhe.console.view import View
from yunhe.core.demand import Precision
from yunhe.core.units import format_bytes, format_flops, format_milli, format_money
from yunhe.wire.api import BenchmarkView, PoolView, RateView, SiteView

MAX_POOLS = 40
MAX_OPERATORS = 60
DIGITS = 1


def pools(view: View, site: SiteView) -> None:
    if not site.pools:
        view.show_empty(view.say("pool.none"))
    for pool in site.pools[:MAX_POOLS]:
        with panels.card(f"{pool.chip_name} · {pool.id}"):
            _use(view, pool)
            _rates(view, pool)
            _trust(view, pool)
            _facts(view, site, pool)
            _stack(view, pool)
    if len(site.pools) > MAX_POOLS:
        ui.label(view.say("pool.more", count=len(site.pools) - MAX_POOLS, id=site.id)).classes("yunhe-soft")


def _use(view: View, pool: PoolView) -> None:
    used = min(pool.capacity_milli, pool.leased_milli + pool.foreign_milli)
    share = used / pool.capacity_milli if pool.capacity_milli else 0.0
    ui.label(
        view.say(
            "pool.use",
            capacity=words.units(view, pool.capacity_milli, pool.unit),
            leased=format_milli(pool.leased_milli),
            foreign=format_milli(pool.foreign_milli),
            free=format_milli(pool.free_milli),
        )
    ).classes("yunhe-digits")
    ui.linear_progress(share, show_value=False).props('aria-hidden="true"')


def _rates(view: View, pool: PoolView) -> None:
    columns = [
        panels.column("precision", view.say("pool.precision")),
        panels.column("nominal", view.say("pool.nominal"), right=True),
        panels.column("measured", view.say("pool.measured"), right=True),
        panels.column("share", view.say("pool.share"), right=True),
    ]
    rows = [
        {
            "id": rate.precision,
            "precision": rate.precision.upper(),
            "nominal": _rate(rate.nominal_flops, rate.precision),
            "measured": _rate(rate.measured_flops, rate.precision),
            "share": _share(rate),
        }
        for rate in pool.rates
    ]
    ui.label(view.say("pool.rates")).classes("yunhe-soft")
    panels.table(columns, rows)


def _rate(flops: int | None, precision: str) -> str:
    return panels.NONE if flops is None else format_flops(flops, Precision(precision), DIGITS).partition("@")[0]


def _share(rate: RateView) -> str:
    if not rate.nominal_flops or rate.measured_flops is None:
        return panels.NONE
    return f"{100 * rate.measured_flops / rate.nominal_flops:.1f} %"


def _trust(view: View, pool: PoolView) -> None:
    text = view.say("pool.trust", percent=f"{pool.trust_milli / 10:.1f}")
    if pool.trust_note:
        text = f"{text}: {pool.trust_note}"
    ui.label(text).classes("" if pool.trust_milli >= 1000 else "text-negative")


def _facts(view: View, site: SiteView, pool: PoolView) -> None:
    asking = panels.NONE
    if pool.asking_microcny_per_unit_hour is not None:
        taken = view.say("pool.asking_taken" if site.accept_asking else "pool.asking_not_taken")
        asking = f"{format_money(pool.asking_microcny_per_unit_hour)} ({taken})"
    items = [
        (view.say(f"pool.price_{pool.unit}"), format_money(pool.price_microcny_per_unit_hour)),
        (view.say("pool.asking"), asking),
        (view.say("pool.tested"), view.moment(pool.tested_utc_ms or None)),
        (view.say("pool.memory"), f"{_bytes(pool.free_memory_bytes)} / {_bytes(pool.memory_bytes)}"),
        (view.say("pool.watts"), f"{pool.watts_per_unit} W ({pool.watts_source})"),
        (view.say("pool.stack"), pool.stack),
        (view.say("pool.abilities"), ", ".join(pool.abilities)),
    ]
    if pool.card_memory_bytes:
        items.append((view.say("pool.card_memory"), _bytes(pool.card_memory_bytes)))
    if pool.hubs:
        items.append((view.say("pool.hubs"), " → ".join(pool.hubs)))
    panels.facts(items)


def _stack(view: View, pool: PoolView) -> None:
    """Further figures of the certificate, folded away."""
    found = pool.stack_check
    if not pool.benchmarks and found is None:
        return
    with ui.expansion(view.say("pool.certificate")).classes("full-width"):
        benchmarks(view, pool.benchmarks)
        if found is not None:
            panels.facts((name, version) for name, version in found.versions.items())
            ui.label(view.say("pool.operators", names=", ".join(found.operators[:MAX_OPERATORS]) or panels.NONE))
            for name, said in list(found.missing.items())[:MAX_OPERATORS]:
                ui.label(f"✗ {name}: {said}").classes("yunhe-soft yunhe-break")


def benchmarks(view: View, found: Sequence[BenchmarkView]) -> None:
    columns = [
        panels.column("name", view.say("pool.benchmark")),
        panels.column("value", view.say("pool.value"), right=True),
        panels.column("repeats", view.say("pool.repeats"), right=True, wide=True),
        panels.column("spread", view.say("pool.spread"), right=True, wide=True),
    ]
    rows = [
        {
            "id": str(number),
            "name": item.name,
            "value": _measured(item),
            "repeats": str(item.repeats),
            "spread": f"{item.spread_percent:.1f} %",
        }
        for number, item in enumerate(found)
    ]
    panels.table(columns, rows)


def _measured(item: BenchmarkView) -> str:
    if item.unit == "B/s":
        return f"{_bytes(round(item.value))}/s"
    if item.unit == "FLOP/s":
        return format_flops(round(item.value), Precision.FP64, DIGITS).partition("@")[0]
    return f"{item.value:.4g} {item.unit}"


def _bytes(count: int) -> str:
    return format_bytes(count, 1)
