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
MAX_VIEWS = 200  # of one moment that are kept: as many as are looked at

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


class _Columns(NamedTuple):
    """The sites as columns; `groups`: of each way rows, the group of each of them, and the groups' names."""

    figures: Ints  # sites x the figures of `Sum`
    moving: Ints  # sites x (transfers, load, bandwidth)
    at: Floats  # sites x (lon, lat), degrees
    groups: Mapping[str, tuple[Ints, Ints, Sequence[str]]]

    @classmethod
    def of(cls, sites: Sequence[NetworkSiteView]) -> Self:
        return cls(
            np.array([_figures(site) for site in sites], np.int64).reshape(-1, 6),
            np.array([_moving(site) for site in sites], np.int64).reshape(-1, 3),
            np.array([(site.lon, site.lat) for site in sites], np.float64).reshape(-1, 2),
            {way: _groups(way, sites) for way in WAYS},
        )

    def changed(self, changes: Mapping[int, NetworkSiteView]) -> Self:
        """With other sites in some rows, that differ from those before in their figures and in what moves only."""
        figures, moving = self.figures.copy(), self.moving.copy()
        for row, site in changes.items():
            figures[row], moving[row] = _figures(site), _moving(site)
        return self._replace(figures=figures, moving=moving)


def _figures(site: NetworkSiteView) -> tuple[int, ...]:
    general, intelligent = site.general_gflops, site.intelligent_gflops
    used = site.general_used_gflops, site.intelligent_used_gflops
    return 1, site.connected, general, used[0], intelligent, used[1]


def _moving(site: NetworkSiteView) -> tuple[int, int, int]:
    return site.transfers, site.load_bps, site.bandwidth_bps


def _groups(way: str, sites: Sequence[NetworkSiteView]) -> tuple[Ints, Ints, Sequence[str]]:
    found = [(row, name) for row, site in enumerate(sites) for name in _names(way, site)]
    known = {name: number for number, name in enumerate(dict.fromkeys(name for _, name in found))}
    rows = np.array([row for row, _ in found], np.int64)
    return rows, np.array([known[name] for _, name in found], np.int64), list(known)


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


@dataclass(frozen=True, eq=False)
class Seen:
    """The network at one moment, with what is asked of it made once for every page that shows it."""

    listed: Sequence[NetworkSiteView]
    _columns: _Columns
    _views: dict[View, Sequence[Cell]] = field(default_factory=dict)

    @property
    def sites(self) -> int:
        return len(self.listed)

    @cached_property
    def total(self) -> Sum:
        return _sums(self._columns.figures, np.zeros(self.sites, np.int64), [""])[0]

    @cached_property
    def by(self) -> Mapping[str, Sequence[Sum]]:
        """The largest first. A site with chips of two vendors counts for both: its figures are not divided."""
        found = {}
        for way, (rows, groups, names) in self._columns.groups.items():
            sums = _sums(self._columns.figures[rows], groups, names)
            found[way] = sorted(sums, key=lambda each: (-each.intelligent, -each.general, each.name))
        return found

    @cached_property
    def lines(self) -> Sequence[NetworkSiteView]:
        """Of the sites where most moves; where nothing does, of the widest lines."""
        transfers, load, bandwidth = (self._columns.moving[:, i] for i in range(3))
        order = np.lexsort((-bandwidth, -transfers, -load))
        return [self.listed[row] for row in order[:MAX_LINES].tolist()]

    def cells(self, view: View) -> Sequence[Cell]:
        """At most `MAX_CELLS`, the largest."""
        found = self._views.get(view)
        if found is None:
            if len(self._views) >= MAX_VIEWS:
                self._views.clear()
            found = self._views[view] = self._cells(view)
        return found

    # --- the map --------------------------------------------------------------------------------------------------

    def _cells(self, view: View) -> Sequence[Cell]:
        group, cells = self._at_cells(view.cell_deg)
        figures, at_sites = self._columns.figures, self._columns.at
        # What a site counts on the map: intelligent compute, or general where there is none.
        weights = np.where(figures[:, 4] > 0, figures[:, 4], figures[:, 2])
        weight = np.bincount(group, weights, cells)
        count = np.bincount(group, minlength=cells)
        at = np.column_stack([np.bincount(group, at_sites[:, i], cells) / count for i in (0, 1)])
        inside = (at >= (view.west, view.south)).all(1) & (at <= (view.east, view.north)).all(1)
        shown = np.flatnonzero(inside)
        shown = shown[np.argsort(-weight[shown], kind="stable")][:MAX_CELLS]
        sums = _sums(figures, group, [""] * cells)
        moving = np.column_stack([np.bincount(group, self._columns.moving[:, i], cells) for i in range(3)])
        order = np.argsort(-weights, kind="stable")
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

    def _at_cells(self, size: float) -> tuple[Ints, int]:
        """The cell of each site, and how many cells there are."""
        keys = np.round(self._columns.at / size).astype(np.int64)
        _, group = np.unique(keys[:, 0] * 1_000_000 + keys[:, 1], return_inverse=True)
        return group.astype(np.int64), int(group.max(initial=-1)) + 1


def _sums(figures: Ints, groups: Ints, names: Sequence[str]) -> list[Sum]:
    """One of each group. Exact: sums of GFLOP/s stay far below 2^53."""
    found: list[Any] = [np.bincount(groups, figures[:, i], len(names)).astype(np.int64).tolist() for i in range(6)]
    return [Sum(name, *row) for name, row in zip(names, zip(*found, strict=True), strict=True)]


class Network:
    """The sites as the hub told them, change by change."""

    def __init__(self) -> None:
        self._rows: dict[str, int] = {}
        self._listed: list[NetworkSiteView] = []
        self._columns = _Columns.of(())

    def take(self, change: NetworkChange) -> Seen:
        """The network after the change, with what every page shows made by the thread that asks: no page waits."""
        rows = {self._rows.get(site.id, -1): site for site in change.sites}
        few = not change.whole and not change.gone and -1 not in rows
        if few and all(_stays(self._listed[row], site) for row, site in rows.items()):
            for row, site in rows.items():
                self._listed[row] = site
            self._columns = self._columns.changed(rows)
        else:
            kept = {} if change.whole else {site.id: site for site in self._listed}
            kept |= {site.id: site for site in change.sites}
            self._listed = [site for site in kept.values() if site.id not in change.gone]
            self._rows = {site.id: row for row, site in enumerate(self._listed)}
            self._columns = _Columns.of(self._listed)
        found = Seen(tuple(self._listed), self._columns)
        _ = found.total, found.by, found.lines, found.cells(WHOLE)
        return found


def _stays(before: NetworkSiteView, now: NetworkSiteView) -> bool:
    """Where it is, and in its groups."""
    return all(getattr(before, name) == getattr(now, name) for name in ("lat", "lon", *_GROUPED))


_GROUPED = ("region", "vendors", "provider", "cluster")


def seen(sites: Iterable[NetworkSiteView]) -> Seen:
    return Network().take(NetworkChange(at_utc_ms=0, whole=True, sites=tuple(sites), gone=()))
