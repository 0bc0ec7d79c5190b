"""Sums over the network's sites for the front page: by region, vendor and provider, and cells of a map."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from yunhe.wire.api import ComputeView, NetworkSiteView

MAX_BUBBLES = 1_500
CELLS_DEG = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
WAYS: dict[str, Callable[[NetworkSiteView], Sequence[str]]] = {
    "region": lambda site: (site.region,),
    "vendor": lambda site: site.vendors,
    "provider": lambda site: (site.provider,),
    "kind": lambda site: ("cluster" if site.cluster else "other",),
}


@dataclass(slots=True)
class Sum:
    """Rates in GFLOP/s: general FP32, intelligent FP16."""

    name: str
    sites: int = 0
    connected: int = 0
    general: int = 0
    general_used: int = 0
    intelligent: int = 0
    intelligent_used: int = 0

    def add(self, site: NetworkSiteView) -> None:
        self.sites += 1
        self.connected += site.connected
        self.general += site.general_gflops
        self.general_used += site.general_used_gflops
        self.intelligent += site.intelligent_gflops
        self.intelligent_used += site.intelligent_used_gflops


def total(sites: Iterable[NetworkSiteView]) -> Sum:
    found = Sum("")
    for site in sites:
        found.add(site)
    return found


def by(way: str, sites: Iterable[NetworkSiteView]) -> list[Sum]:
    """The largest first. A site with chips of two vendors counts for both: its figures are not divided."""
    found: dict[str, Sum] = {}
    for site in sites:
        for name in WAYS[way](site):
            found.setdefault(name, Sum(name)).add(site)
    return sorted(found.values(), key=lambda each: (-each.intelligent, -each.general, each.name))


@dataclass(frozen=True, slots=True)
class Seen:
    """The network at one moment with all its sums, made once for every page that shows it."""

    sites: int
    total: Sum
    by: Mapping[str, Sequence[Sum]]  # by a way of `WAYS`
    bubbles: Sequence["Bubble"]

    @classmethod
    def of(cls, sites: Sequence[NetworkSiteView]) -> Self:
        return cls(len(sites), total(sites), {way: by(way, sites) for way in WAYS}, bubbles(sites))


@dataclass(frozen=True, slots=True)
class Bubble:
    """One site, or the sites of a cell of the map."""

    lon: float
    lat: float
    name: str
    sites: int
    size: float  # 0 to 1, by the root of its capacity: areas compare
    used_percent: float


def bubbles(sites: Sequence[NetworkSiteView], limit: int = MAX_BUBBLES) -> list[Bubble]:
    """At most `limit`, in cells as small as that allows. Intelligent compute counts, or general where there is none."""
    groups = {site.id: [site] for site in sites}
    for size in CELLS_DEG:
        if len(groups) <= limit:
            break
        cells: dict[str, list[NetworkSiteView]] = defaultdict(list)
        for site in sites:
            cells[f"{round(site.lat / size)}:{round(site.lon / size)}"].append(site)
        groups = cells
    made = [(group, _weight(group)) for group in groups.values()]
    largest = max((weight for _, weight in made), default=0) or 1
    return [_bubble(group, (weight / largest) ** 0.5) for group, weight in made]


def _weight(group: Sequence[NetworkSiteView]) -> int:
    return sum(site.intelligent_gflops or site.general_gflops for site in group)


def _bubble(group: Sequence[NetworkSiteView], size: float) -> Bubble:
    sum_ = total(group)
    name = group[0].name if len(group) == 1 else group[0].region
    lon = sum(site.lon for site in group) / len(group)
    lat = sum(site.lat for site in group) / len(group)
    return Bubble(round(lon, 3), round(lat, 3), name, len(group), round(size, 4), used_percent(sum_))


def used_percent(found: Sum | ComputeView) -> float:
    """Of intelligent compute where there is any, of general compute otherwise."""
    if isinstance(found, Sum):
        pairs = ((found.intelligent_used, found.intelligent), (found.general_used, found.general))
    else:
        pairs = (
            (found.intelligent_used_gflops, found.intelligent_gflops),
            (found.general_used_gflops, found.general_gflops),
        )
    return next((round(100 * used / capacity, 1) for used, capacity in pairs if capacity), 0.0)
