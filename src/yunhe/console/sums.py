"""Sums over the network's sites for the front page: by region, vendor, provider and kind; cells and lines of its map.

A site is a row of columns, so that thousands are added, compared and put into cells at once.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from yunhe.wire.api import NetworkChange, NetworkSiteView

WAYS = ("region", "vendor", "provider", "kind")
CELLS_DEG = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
CELLS_ACROSS = 64  # of a view: what a map can show and a browser draw in a frame
MAX_CELLS = 600  # in one view
MAX_LINES = 10  # in the table

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Sum(NamedTuple):
    """Rates in GFLOP/s: general FP32, intelligent FP16."""

    name: str
    sites: int = 0
    connected: int = 0
    general: int = 0
    general_used: int = 0
    intelligent: int = 0
    intelligent_used: int = 0

    @property
    def used_percent(self) -> float:
        """Of intelligent compute where there is any, of general compute otherwise."""
        pairs = ((self.intelligent_used, self.intelligent), (self.general_used, self.general))
        return next((round(100 * used / capacity, 1) for used, capacity in pairs if capacity), 0.0)


class View(NamedTuple):
    """A part of the map, in degrees, and how large its cells are."""

    west: float
    south: float
    east: float
    north: float
    cell_deg: float

    @classmethod
    def of(cls, west: float, south: float, east: float, north: float) -> Self:
        """With cells as small as the view allows; a cell stays where it is when the view is moved."""
        wanted = (east - west) / CELLS_ACROSS
        return cls(west, south, east, north, next((size for size in CELLS_DEG if size >= wanted), CELLS_DEG[-1]))


WHOLE = View.of(73.0, 17.0, 136.0, 54.0)


class Cell(NamedTuple):
    """One site, or the sites of a cell of the map. Its line leads to `place`, as its largest site's does."""

    lon: float
    lat: float
    name: str
    sites: int
    size: float  # 0 to 1, by the root of its capacity: areas compare
    used_percent: float
    place: str
    end: tuple[float, float]  # (lon, lat) of it
    one_way_us: int
    transfers: int
    load_percent: float


@dataclass(frozen=True)
class Seen:
    """The network at one moment, with what is asked of it made once for every page that shows it."""

    listed: Sequence[NetworkSiteView] = ()
    _views: dict[View, Sequence[Cell]] = field(default_factory=dict, compare=False)

    @property
    def sites(self) -> int:
        return len(self.listed)

    @cached_property
    def total(self) -> Sum:
        return next(iter(_sums(self._figures, np.zeros(self.sites, np.int64), [""])), Sum(""))

    @cached_property
    def by(self) -> Mapping[str, Sequence[Sum]]:
        """The largest first. A site with chips of two vendors counts for both: its figures are not divided."""
        return {way: self._by(way) for way in WAYS}

    @cached_property
    def lines(self) -> Sequence[NetworkSiteView]:
        """Of the sites where most moves; where nothing does, of the widest lines."""
        order = sorted(self.listed, key=lambda s: (-s.load_bps, -s.transfers, -s.bandwidth_bps, s.name))
        return order[:MAX_LINES]

    def cells(self, view: View) -> Sequence[Cell]:
        """At most `MAX_CELLS`, the largest."""
        found = self._views.get(view)
        if found is None:
            if len(self._views) > 200:  # as many as are looked at; a page that is moved asks for others
                self._views.clear()
            found = self._views[view] = self._cells(view)
        return found

    # --- columns --------------------------------------------------------------------------------------------------

    def _column(self, name: str) -> Ints:
        return np.fromiter((getattr(site, name) for site in self.listed), np.int64, self.sites)

    @cached_property
    def _figures(self) -> Ints:
        """Sites x the figures of `Sum`."""
        ones = np.ones(self.sites, np.int64)
        names = (
            "connected",
            "general_gflops",
            "general_used_gflops",
            "intelligent_gflops",
            "intelligent_used_gflops",
        )
        return np.column_stack([ones, *(self._column(name) for name in names)])

    @cached_property
    def _at(self) -> Floats:
        """Sites x (lon, lat), degrees."""
        return np.array([(site.lon, site.lat) for site in self.listed]).reshape(-1, 2)

    @cached_property
    def _moving(self) -> Ints:
        """Sites x (transfers, load, bandwidth)."""
        return np.column_stack([self._column(name) for name in ("transfers", "load_bps", "bandwidth_bps")])

    @cached_property
    def _weight(self) -> Ints:
        """What a site counts on the map: intelligent compute, or general where there is none."""
        general, intelligent = self._figures[:, 2], self._figures[:, 4]
        return np.where(intelligent > 0, intelligent, general)

    def _by(self, way: str) -> list[Sum]:
        rows, names = [], []
        for row, site in enumerate(self.listed):
            for name in _names(way, site):
                rows.append(row)
                names.append(name)
        known = {name: number for number, name in enumerate(dict.fromkeys(names))}
        groups = np.array([known[name] for name in names], np.int64)
        found = _sums(self._figures[rows], groups, list(known))
        return sorted(found, key=lambda each: (-each.intelligent, -each.general, each.name))

    # --- the map --------------------------------------------------------------------------------------------------

    def _cells(self, view: View) -> Sequence[Cell]:
        group, cells = self._groups(view.cell_deg)
        weight = np.bincount(group, self._weight, cells)
        count = np.bincount(group, minlength=cells)
        at = np.column_stack([np.bincount(group, self._at[:, i], cells) / count for i in (0, 1)])
        inside = (at >= (view.west, view.south)).all(1) & (at <= (view.east, view.north)).all(1)
        shown = np.flatnonzero(inside)
        shown = shown[np.argsort(-weight[shown], kind="stable")][:MAX_CELLS]
        sums = _sums(self._figures, group, [""] * cells)
        moving = np.column_stack([np.bincount(group, self._moving[:, i], cells) for i in range(3)])
        order = np.argsort(-self._weight, kind="stable")
        cell_ids, places = np.unique(group[order], return_index=True)
        largest = dict(zip(cell_ids.tolist(), order[places].tolist(), strict=True))
        top = max(1.0, float(weight.max(initial=0)))
        made = []
        for cell in shown.tolist():
            site, sum_ = self.listed[largest[cell]], sums[cell]
            transfers, load, bandwidth = moving[cell].tolist()
            made.append(
                Cell(
                    lon=round(float(at[cell, 0]), 3),
                    lat=round(float(at[cell, 1]), 3),
                    name=site.name if sum_.sites == 1 else site.region,
                    sites=sum_.sites,
                    size=round(float(weight[cell] / top) ** 0.5, 3),
                    used_percent=sum_.used_percent,
                    place=site.place,
                    end=(site.place_lon, site.place_lat),
                    one_way_us=site.one_way_us,
                    transfers=int(transfers),
                    load_percent=round(100 * load / bandwidth, 1) if bandwidth else 0.0,
                )
            )
        return made

    def _groups(self, size: float) -> tuple[Ints, int]:
        """The cell of each site, and how many cells there are."""
        keys = np.round(self._at / size).astype(np.int64)
        _, group = np.unique(keys[:, 0] * 1_000_000 + keys[:, 1], return_inverse=True)
        return group.astype(np.int64), int(group.max(initial=-1)) + 1


def _names(way: str, site: NetworkSiteView) -> Sequence[str]:
    match way:
        case "region":
            return (site.region,)
        case "vendor":
            return site.vendors
        case "provider":
            return (site.provider,)
        case _:
            return ("cluster" if site.cluster else "other",)


def _sums(figures: Ints, groups: Ints, names: Sequence[str]) -> list[Sum]:
    """One of each group. Exact: sums of GFLOP/s stay far below 2^53."""
    found: list[Any] = [np.bincount(groups, figures[:, i], len(names)).astype(np.int64).tolist() for i in range(6)]
    return [Sum(name, *row) for name, row in zip(names, zip(*found, strict=True), strict=True)]


class Network:
    """The sites as the hub told them, change by change."""

    def __init__(self) -> None:
        self._sites: dict[str, NetworkSiteView] = {}

    def take(self, change: NetworkChange) -> Seen:
        """The network after the change."""
        if change.whole:
            self._sites.clear()
        for gone in change.gone:
            self._sites.pop(gone, None)
        self._sites.update((site.id, site) for site in change.sites)
        return seen(self._sites.values())


def seen(sites: Iterable[NetworkSiteView]) -> Seen:
    """With what every page shows made at once: by the thread that asks, so that pages do not wait for it."""
    found = Seen(tuple(sites))
    _ = found.total, found.by, found.lines
    found.cells(WHOLE)
    return found
