"""What the shipped facts say about one computing centre, with the names of the figures that are assumed."""

from dataclasses import dataclass

from yunhe.core.errors import InvalidInput
from yunhe.core.rounding import ceil_div
from yunhe.core.units import close_match, meant
from yunhe.facts.load import CarbonFactor, Cluster, carbon_factors, chips, clusters, defaults


@dataclass(frozen=True, slots=True)
class SiteFacts:
    """Figures of a site before its operator states better ones. `assumed` names fields of this class."""

    cluster: str | None
    name: str
    region: str
    lat: float
    lon: float
    pue_milli: int
    carbon_g_per_kwh: int
    power_price_microcny_per_kwh: int
    price_microcny_per_core_hour: int
    price_microcny_per_card_hour: int
    assumed: tuple[str, ...]


_SLIP = 0.8  # a name as like as this is a slip; Hong Kong and Chongqing are 0.67
_PRICES = ("price_microcny_per_core_hour", "price_microcny_per_card_hour")


def _cluster(cluster_id: str) -> Cluster:
    by_id = {cluster.id: cluster for cluster in clusters()}
    if cluster_id not in by_id:
        raise InvalidInput(f"no cluster is called {cluster_id[:40]!r}", field="cluster", hint=meant(cluster_id, by_id))
    return by_id[cluster_id]


def cluster_facts(cluster_id: str) -> SiteFacts:
    """Facts of a site at one of the ten clusters. Raises InvalidInput (`cluster`) for an unknown one."""
    cluster = _cluster(cluster_id)
    default = defaults()
    assumed = dict.fromkeys((*cluster.assumed, *_PRICES))
    power_price = cluster.power_price_microcny_per_kwh
    if power_price is None:
        power_price = default["power_price_microcny_per_kwh"].value
        assumed["power_price_microcny_per_kwh"] = None
    return SiteFacts(
        cluster=cluster.id,
        name=cluster.name_en,
        region=cluster.region,
        lat=cluster.lat,
        lon=cluster.lon,
        pue_milli=cluster.pue_milli,
        carbon_g_per_kwh=ceil_div(cluster.carbon_mg_per_kwh, 1000),
        power_price_microcny_per_kwh=power_price,
        price_microcny_per_core_hour=default["price_microcny_per_core_hour"].value,
        price_microcny_per_card_hour=default["price_microcny_per_card_hour"].value,
        assumed=tuple(assumed),
    )


def _province(region: str) -> CarbonFactor | None:
    provinces = (factor for factor in carbon_factors() if factor.level == "province")
    return next((factor for factor in provinces if region in (factor.name_en, factor.name_zh)), None)


def regions() -> tuple[str, ...]:
    """Names of the provinces with a published emission factor: the names that residency uses."""
    return tuple(factor.name_en for factor in carbon_factors() if factor.level == "province")


def located_facts(region: str, lat: float, lon: float) -> SiteFacts:
    """Facts of a site outside the clusters. A region without a published factor gets the country's, as assumed.

    Raises InvalidInput (`region`) when the name is near one that is known: it is likely a slip.
    """
    default = defaults()
    factor = _province(region)
    assumed = ["pue_milli", "power_price_microcny_per_kwh", *_PRICES]
    if factor is None:
        near = close_match(region, regions(), _SLIP)
        if near:
            raise InvalidInput(f"unknown region {region[:40]!r}", field="region", hint=f"did you mean {near!r}?")
        assumed.append("carbon_g_per_kwh")
    return SiteFacts(
        cluster=None,
        name=region,
        region=factor.name_en if factor else region,
        lat=lat,
        lon=lon,
        pue_milli=default["pue_milli"].value,
        carbon_g_per_kwh=factor.g_per_kwh if factor else ceil_div(default["carbon_mg_per_kwh"].value, 1000),
        power_price_microcny_per_kwh=default["power_price_microcny_per_kwh"].value,
        price_microcny_per_core_hour=default["price_microcny_per_core_hour"].value,
        price_microcny_per_card_hour=default["price_microcny_per_card_hour"].value,
        assumed=tuple(assumed),
    )


def core_watts() -> tuple[int, str]:
    """Full-load watts of one core of a server, and the reason of the figure."""
    default = defaults()["watts_per_core"]
    return default.value, f"assumed: {default.reason}"


def card_watts(chip_id: str) -> tuple[int, str]:
    """Full-load watts of one card, and where the figure comes from."""
    chip = next((chip for chip in chips() if chip.id == chip_id and chip.kind != "cpu"), None)
    if chip is None or chip.watts is None:
        default = defaults()["watts_per_card"]
        return default.value, f"assumed: {default.reason}"
    weak = "assumed: " if "tdp_w" in chip.assumed else ""
    return chip.watts, f"{weak}TDP of {chip.name}, {chip.source}"
