"""Sites and pools as the public API shows them."""

from collections.abc import Sequence

from yunhe.core import lines
from yunhe.core.hours import DAY, FLAT, HOUR_MS
from yunhe.facts.load import place_coordinates
from yunhe.hub.catalogue.records import PoolRecord, SiteRecord
from yunhe.hub.catalogue.service import unit_price
from yunhe.hub.catalogue.tariffs import ONE
from yunhe.wire.api import BenchmarkView, HoursView, PoolView, RateView, SiteView, StackView
from yunhe.wire.link import BenchmarkResult, StackReport


def hours_view(site: SiteRecord, now_ms: int) -> HoursView:
    """What power costs and emits now, and the best hours of the next 24."""
    tariff, first = site.tariff, now_ms // HOUR_MS
    hours = tariff.hours(site.power_price_microcny_per_kwh, site.carbon_g_per_kwh)
    coming = range(first, first + (1 if hours == FLAT else DAY))
    power = [hours.power_at(hour, site.power_price_microcny_per_kwh) for hour in coming]
    carbon = [hours.carbon_at(hour, site.carbon_g_per_kwh) for hour in coming]
    cheapest, cleanest = power.index(min(power)), carbon.index(min(carbon))
    foretold = [f.first + len(f.values) for f in (tariff.power_forecast, tariff.carbon_forecast) if f.values]
    return HoursView(
        utc_offset=tariff.utc_offset,
        power_by_hour=tuple(milli / ONE for milli in tariff.power_milli),
        carbon_by_hour=tuple(milli / ONE for milli in tariff.carbon_milli),
        power_source=tariff.power_source,
        carbon_source=tariff.carbon_source,
        foretold_until_utc_ms=max(foretold) * HOUR_MS if foretold else None,
        power_now_microcny_per_kwh=power[0],
        carbon_now_g_per_kwh=carbon[0],
        cheapest_utc_ms=(first + cheapest) * HOUR_MS,
        cheapest_microcny_per_kwh=power[cheapest],
        cleanest_utc_ms=(first + cleanest) * HOUR_MS,
        cleanest_g_per_kwh=carbon[cleanest],
    )


def pool_view(pool: PoolRecord, site: SiteRecord, hours: HoursView | None = None) -> PoolView:
    """What is free is free for the hub's leases: certified minus leases minus foreign use."""
    return PoolView(
        id=pool.id,
        site_id=pool.site_id,
        chip=pool.chip,
        chip_name=pool.chip_name,
        unit="core" if pool.kind == "cpu" else "card",
        stack=pool.stack,
        capacity_milli=pool.capacity_milli,
        free_milli=pool.free_milli,
        leased_milli=pool.used_milli,
        foreign_milli=min(pool.foreign_milli, pool.capacity_milli),
        busy_milli=pool.busy_milli,
        powered_milli=pool.powered_milli,
        longest_ms=pool.longest_ms,
        memory_bytes=pool.memory_bytes,
        free_memory_bytes=pool.free_memory,
        rates=tuple(
            RateView(precision=r.precision.value, nominal_flops=r.nominal_flops, measured_flops=r.measured_flops)
            for r in pool.rates
        ),
        benchmarks=_benchmark_views(pool.benchmarks),
        price_microcny_per_unit_hour=unit_price(site, pool),
        watts_per_unit=pool.watts_per_unit,
        watts_source=pool.watts_source,
        max_slot_milli=pool.max_slot_milli,
        card_memory_bytes=pool.card_memory_bytes,
        hubs=pool.hubs,
        asking_microcny_per_unit_hour=pool.asking_microcny,
        tested_utc_ms=pool.tested_ms or site.certified_ms or 0,
        trust_milli=pool.trust_milli,
        trust_note=pool.trust_note,
        abilities=pool.abilities,
        stack_check=_stack_view(pool.stack_check),
        hours=hours,
    )


def _stack_view(found: StackReport | None) -> StackView | None:
    if found is None:
        return None
    missing = {item.operator: item.reason for item in found.missing}
    return StackView(versions=found.versions, operators=found.operators, missing=missing)


def _benchmark_views(results: Sequence[BenchmarkResult]) -> tuple[BenchmarkView, ...]:
    return tuple(
        BenchmarkView(name=b.name, value=b.value, unit=b.unit, repeats=b.repeats, spread_percent=b.spread_percent)
        for b in results
    )


def site_view(
    site: SiteRecord, pools: Sequence[PoolRecord], connected: bool, route_factor_percent: int, now_ms: int
) -> SiteView:
    """`latency_us` is the computed one-way delay to every place of the facts."""
    hours = hours_view(site, now_ms)
    return SiteView(
        hours=hours,
        id=site.id,
        name=site.name,
        provider=site.provider,
        state=site.state.value,
        connected=connected,
        accepting=site.accepting,
        cluster=site.cluster,
        region=site.region,
        lat=site.lat,
        lon=site.lon,
        pue_milli=site.pue_milli,
        carbon_g_per_kwh=site.carbon_g_per_kwh,
        power_price_microcny_per_kwh=site.power_price_microcny_per_kwh,
        assumed=site.assumed,
        accept_asking=site.accept_asking,
        tier=site.tier,
        isolation=site.isolation,
        last_contact_utc_ms=site.last_contact_ms,
        certified_utc_ms=site.certified_ms,
        retest_utc_ms=site.retest_ms,
        software=site.software,
        network=_benchmark_views(site.network),
        pools=tuple(pool_view(pool, site, hours) for pool in pools),
        latency_us={
            place: lines.one_way_us(site.lat, site.lon, lat, lon, route_factor_percent)
            for place, (lat, lon) in place_coordinates().items()
        },
    )
