"""From a scenario to the values that the core decides on: supply, accounts, policy; and how each centre behaves."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from yunhe.core.demand import Precision
from yunhe.core.errors import InvalidInput
from yunhe.core.hours import FLAT, Hours
from yunhe.core.policy import Policy
from yunhe.core.supply import Free, Pool, PoolKind, Rate, Site, SiteState, Supply
from yunhe.core.units import meant
from yunhe.facts.load import Chip, chips, place_coordinates, places
from yunhe.facts.sites import SiteFacts, card_watts, cluster_facts, core_watts, located_facts, regions
from yunhe.simulator.parts import CentreSpec, CustomerSpec, Maintenance, Outages, PoolSpec
from yunhe.simulator.scenario import Scenario, names_of

GIB = 1 << 30
MEMORY_PER_CARD = 128 * GIB  # of the host, where a scenario states none; assumed
MEMORY_PER_CORE = 4 * GIB
BPS = 10_000
_NO_REGION = "-"


@dataclass(frozen=True, slots=True)
class Centre:
    """How one site behaves, beside its figures. Position i is `supply.sites[i]`."""

    site: Site
    load_by_hour: tuple[float, ...] | None  # share of its network that others use
    outages: Outages | None
    card_failures_every_ms: int | None
    maintenance: tuple[Maintenance, ...]


@dataclass(frozen=True, slots=True)
class Customer:
    id: str
    home: int | None  # position of its centre
    place: str | None  # where its users are
    region: str | None
    weight: int
    quota_milli: int | None
    deposit_microcny: int


@dataclass(frozen=True, slots=True)
class Network:
    supply: Supply
    centres: tuple[Centre, ...]
    customers: tuple[Customer, ...]
    policy: Policy


def build(scenario: Scenario) -> Network:
    """Raises InvalidInput naming the field that speaks of something unknown."""
    centres: list[Centre] = []
    pools: list[Pool] = []
    for i, spec in enumerate(scenario.centres):
        field = f"centres[{i}]"
        facts = _facts(spec, field)
        made = [(pool, _pool(pool, f"{field}.pools[{j}]")) for j, pool in enumerate(spec.pools)]
        for name in names_of(spec.name, spec.count):
            centres.append(_centre(spec, name, facts))
            pools += [replace(pool, id=f"{name}:{stated.name}", site_id=name) for stated, pool in made]
    at = {centre.site.id: i for i, centre in enumerate(centres)}
    coordinates = dict(place_coordinates())
    for centre in centres:
        coordinates.setdefault(centre.site.id, (centre.site.lat, centre.site.lon))
    sites, latency = _lines(scenario, [centre.site for centre in centres], at, coordinates)
    centres = [replace(centre, site=site) for centre, site in zip(centres, sites, strict=True)]
    supply = Supply(
        tuple(sites),
        tuple(pools),
        tuple(Free(pool.capacity_milli, pool.memory_bytes) for pool in pools),
        coordinates,
        latency,
    )
    alike = _alike(scenario, centres)
    customers = tuple(
        replace(customer, place=alike.get(customer.place or "", customer.place))
        for i, spec in enumerate(scenario.customers)
        for customer in _customers(spec, scenario, centres, at, f"customers[{i}]")
    )
    return Network(supply, tuple(centres), customers, policy(scenario))


def policy(scenario: Scenario) -> Policy:
    """The hub's defaults with what the scenario states."""
    rules = scenario.rules
    stated: dict[str, Any] = {
        "nominal_derate_percent": None if rules.nominal_derate is None else rules.nominal_derate * 100 // BPS,
        "operator_fee_bps": rules.operator_fee,
        "route_factor_percent": None if rules.route_factor is None else rules.route_factor * 100 // BPS,
        "transfer_microcny_per_gib": rules.transfer_price,
        "backfill": rules.backfill,
        "reserve_after_ms": rules.reserve_after,
        "max_assignments": rules.max_assignments,
    }
    return replace(Policy(), **{name: value for name, value in stated.items() if value is not None})


def chip_of(chip_id: str, field: str) -> Chip:
    known = {chip.id: chip for chip in chips()}
    if chip_id not in known:
        raise InvalidInput(f"no chip is called {chip_id[:40]!r}", field=field, hint=meant(chip_id, known))
    return known[chip_id]


# --- centres ------------------------------------------------------------------------------------------------------


def _facts(spec: CentreSpec, field: str) -> SiteFacts:
    if spec.cluster is not None:
        try:
            return cluster_facts(spec.cluster)
        except InvalidInput as error:
            raise InvalidInput(error.message, field=f"{field}.cluster", hint=error.hint) from error
    if spec.place is not None:
        known = {place.id: place for place in places()}
        if spec.place not in known:
            hint = meant(spec.place, known)
            raise InvalidInput(f"no place is called {spec.place[:40]!r}", field=f"{field}.place", hint=hint)
        place = known[spec.place]
        if place.region in regions():
            return located_facts(place.region, place.lat, place.lon)
        # Known, but without a factor of its own: the country's, and no guess that the name is a slip.
        return replace(located_facts(_NO_REGION, place.lat, place.lon), name=place.region, region=place.region)
    assert spec.region is not None and spec.lat is not None and spec.lon is not None
    try:
        return located_facts(spec.region, spec.lat, spec.lon)
    except InvalidInput as error:
        raise InvalidInput(error.message, field=f"{field}.region", hint=error.hint) from error


def _centre(spec: CentreSpec, name: str, facts: SiteFacts) -> Centre:
    def stated(value: int | None, otherwise: int) -> int:
        return otherwise if value is None else value

    site = Site(
        id=name,
        name=name,
        provider=spec.provider or name,
        region=facts.region,
        cluster=facts.cluster,
        lat=facts.lat,
        lon=facts.lon,
        pue_milli=stated(spec.pue, facts.pue_milli),
        carbon_g_per_kwh=stated(spec.carbon, facts.carbon_g_per_kwh),
        power_price_microcny_per_kwh=stated(spec.power_price, facts.power_price_microcny_per_kwh),
        tier=spec.tier,
        bandwidth_bps=spec.bandwidth,
        state=SiteState.ACTIVE,
    )
    power, carbon = site.power_price_microcny_per_kwh, site.carbon_g_per_kwh
    of_day = Hours(power=_of_day(spec.power_by_hour, power), carbon=_of_day(spec.carbon_by_hour, carbon))
    return Centre(
        replace(site, hours=FLAT if of_day == FLAT else of_day),
        spec.network_load_by_hour,
        spec.outages,
        spec.card_failures_every,
        spec.maintenance,
    )


def _of_day(multiples: tuple[float, ...] | None, figure: int) -> tuple[int, ...]:
    return tuple(round(figure * each) for each in multiples or ())


def _pool(spec: PoolSpec, field: str) -> Pool:
    """Without its id and site."""
    units = spec.cores or spec.cards or 0
    chip = None if spec.chip == "cpu" else chip_of(spec.chip, f"{field}.chip")
    nominal = dict(chip.flops) if chip else {}
    measured = {speed.precision: speed.flops for speed in spec.speed}
    rates = tuple(Rate(p, nominal.get(p), measured.get(p)) for p in Precision if p in nominal or p in measured)
    share = MEMORY_PER_CARD if chip else MEMORY_PER_CORE
    watts = spec.power or (card_watts(spec.chip)[0] if chip else core_watts()[0])
    return Pool(
        id="",
        site_id="",
        kind=PoolKind.ACCELERATOR if chip else PoolKind.CPU,
        chip=spec.chip if chip else "unknown",
        stack=chip.stack if chip else "cpu",
        capacity_milli=units * 1000,
        memory_bytes=spec.memory or units * share,
        card_memory_bytes=(chip.memory_bytes or 0) if chip else 0,
        max_slot_milli=min(spec.per_host, units) * 1000,
        rates=rates,
        price_microcny_per_unit_hour=spec.price,
        watts_per_unit=watts,
    )


def _lines(
    scenario: Scenario, sites: list[Site], at: dict[str, int], coordinates: dict[str, tuple[float, float]]
) -> tuple[list[Site], dict[tuple[str, str], int]]:
    latency: dict[tuple[str, str], int] = {}
    for i, line in enumerate(scenario.lines):
        if line.to not in coordinates:
            hint = meant(line.to, list(place_coordinates()))
            raise InvalidInput(f"no place or centre is called {line.to[:40]!r}", field=f"lines[{i}].to", hint=hint)
        latency[line.centre, line.to] = line.one_way
        if line.to in at:
            latency[line.to, line.centre] = line.one_way
        if line.bandwidth is not None:
            index = at[line.centre]
            sites[index] = replace(sites[index], bandwidth_bps=line.bandwidth)
    return sites, latency


def _alike(scenario: Scenario, centres: list[Centre]) -> dict[str, str]:
    """Of centres at one point, which are equally far from everywhere, the first: users there are at one place, and
    their orders of one kind. Not of centres with a line of their own."""
    with_line = {name for line in scenario.lines for name in (line.centre, line.to)}
    first: dict[tuple[float, float], str] = {}
    sites = [centre.site for centre in centres if centre.site.id not in with_line]
    return {site.id: first.setdefault((site.lat, site.lon), site.id) for site in sites}


# --- customers ----------------------------------------------------------------------------------------------------


def _customers(
    spec: CustomerSpec, scenario: Scenario, centres: list[Centre], at: dict[str, int], field: str
) -> Iterator[Customer]:
    homes: list[str | None] = [spec.home]
    if spec.one_per is not None:
        group = next(centre for centre in scenario.centres if centre.name == spec.one_per)
        homes = list(names_of(group.name, group.count))
    if spec.place is not None and spec.place not in place_coordinates():
        hint = meant(spec.place, list(place_coordinates()))
        raise InvalidInput(f"no place is called {spec.place[:40]!r}", field=f"{field}.place", hint=hint)
    regions = {place.id: place.region for place in places()}
    for name, home in zip(names_of(spec.name, len(homes)), homes, strict=True):
        index = at[home] if home is not None else None
        region = regions.get(spec.place) if spec.place else None
        if region is None and index is not None:
            region = centres[index].site.region
        yield Customer(
            id=name,
            home=index,
            place=spec.place or home,
            region=region,
            weight=spec.weight,
            quota_milli=spec.quota_cards * 1000 if spec.quota_cards is not None else None,
            deposit_microcny=spec.deposit,
        )
