"""The network as text, kept up to date: what moves is read, what differs is written anew and told to who watches."""

import secrets
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from functools import cache, lru_cache
from itertools import chain
from typing import Any, NamedTuple

import sqlalchemy as sa

from yunhe.core import lines
from yunhe.core.demand import Precision
from yunhe.core.supply import PoolKind
from yunhe.facts.load import chips, place_coordinates
from yunhe.hub.catalogue import store
from yunhe.hub.catalogue.records import LISTED, LineLoad
from yunhe.hub.catalogue.texts import parse_rates
from yunhe.hub.platform import bulk
from yunhe.wire.api import ComputeView, NetworkSiteView

Loads = Callable[[sa.Connection, int], Mapping[str, LineLoad]]

KEPT_CHANGES = 60  # who is farther behind is told everything
FEW = 500  # sites: so many are read by id, more with all

# Columns of a site that are shown as they are.
_SHOWN = (
    "id",
    "name",
    "provider",
    "region",
    "cluster",
    "lat",
    "lon",
    "state",
    "tier",
    "carbon_g_per_kwh",
    "bandwidth_bps",
)
_LISTED = store.site.c.state.in_([state.value for state in LISTED])
_CONNECTED = store.site.c.last_contact_ms >= sa.bindparam("since_ms")
_TAKEN = store.pool.c.used_milli + store.pool.c.foreign_milli
_CURRENT = store.pool.c.retired.is_(sa.false())

# Read every second while somebody watches, tens of thousands of rows: only what may change while a site is listed.
# What else is shown of a pool changes with its version.
_MOVING_SITES = sa.select(
    *(store.site.c[n] for n in ("id", "state", "tier", "carbon_g_per_kwh", "bandwidth_bps")), _CONNECTED
).where(_LISTED)
_MOVING_POOLS = sa.select(store.pool.c.site_id, store.pool.c.id, store.pool.c.version, _TAKEN).where(_CURRENT)

_SITES = sa.select(*(store.site.c[name] for name in _SHOWN), _CONNECTED).where(_LISTED)
_POOLS = sa.select(
    *(store.pool.c[n] for n in ("site_id", "kind", "chip", "rates", "capacity_milli")),
    _TAKEN,
).where(_CURRENT)
_SOME_SITES = _SITES.where(bulk.any_of(store.site.c.id))
_SOME_POOLS = _POOLS.where(bulk.any_of(store.pool.c.site_id))

_NOTHING = LineLoad(0, 0, 0)
_ZERO = dict.fromkeys(ComputeView.model_fields, 0)
_CPU = PoolKind.CPU.value
Rows = Sequence[tuple[Any, ...]]


class _Moving(NamedTuple):
    """As the driver has them: equal to those before in most looks."""

    sites: Rows
    pools: Rows
    loads: Mapping[str, LineLoad]


class _Said(NamedTuple):
    """What is shown, all at once: a thread makes the next one while others look at this one."""

    changes: int
    texts: Mapping[str, bytes]  # by site, in order
    touched: Sequence[Set[str]]  # the sites of each of the last changes


class Shown:
    """`tag` names what is shown: as long as no site changes it stays. Another process has other tags."""

    def __init__(self, silent_after_ms: int, route_factor_percent: int, loads: Loads) -> None:
        self._silent_after_ms, self._route_factor_percent, self._loads = silent_after_ms, route_factor_percent, loads
        self._moving = _Moving((), (), {})
        self._said = _Said(0, {}, ())
        self._joined: tuple[int, bytes] = (0, b"")
        self._process = secrets.token_hex(6)
        self.at_ms = -(2**62)

    @property
    def tag(self) -> str:
        return f'"{self._process}-{self._said.changes}"'

    def read(self, conn: sa.Connection, now_ms: int) -> None:
        """One at a time."""
        since = {"since_ms": now_ms - self._silent_after_ms}
        moving = _Moving(
            conn.execute(_MOVING_SITES, since).cursor.fetchall(),
            conn.execute(_MOVING_POOLS).cursor.fetchall(),
            self._loads(conn, now_ms),
        )
        touched = _differing(self._moving.sites, moving.sites) | _differing(self._moving.pools, moving.pools)
        touched |= {site for site, _ in self._moving.loads.items() ^ moving.loads.items()}
        if touched:
            made = sites(conn, now_ms, self._silent_after_ms, self._route_factor_percent, moving.loads, touched)
            texts = {**self._said.texts, **{site.id: site.model_dump_json().encode() for site in made}}
            # One that left is named no more; one that came between the two readings is seen at the next look.
            texts = {site: texts[site] for site in sorted(row[0] for row in moving.sites) if site in texts}
            kept = (*self._said.touched, touched)[-KEPT_CHANGES:]
            self._said = _Said(self._said.changes + 1, texts, kept)
        self._moving = moving
        self.at_ms = now_ms

    def json(self) -> bytes:
        """A NetworkView."""
        said = self._said
        if self._joined[0] != said.changes:
            self._joined = said.changes, b",".join(said.texts.values())
        return b'{"at_utc_ms":%d,"sites":[%b]}' % (self.at_ms, self._joined[1])

    def since(self, seen: int | None) -> tuple[bytes | None, int]:
        """A NetworkChange for whoever has `seen` so many changes, None when there is none; and how many there are now.

        Without `seen`, or when that is too long ago, it is whole.
        """
        changes, texts, kept = self._said
        if seen == changes:
            return None, changes
        if seen is None or changes - seen > len(kept):
            return self._change(b"true", texts.values(), ()), changes
        touched = set(chain(*kept[seen - changes :]))
        here = [texts[site] for site in touched if site in texts]
        return self._change(b"false", here, [site for site in touched if site not in texts]), changes

    def same(self) -> bytes:
        """A NetworkChange in which nothing is another."""
        return self._change(b"false", (), ())

    def _change(self, whole: bytes, here: Iterable[bytes], gone: Iterable[str]) -> bytes:
        said = (self.at_ms, whole, b",".join(here), b",".join(b'"%b"' % site.encode() for site in gone))
        return b'{"at_utc_ms":%d,"whole":%b,"sites":[%b],"gone":[%b]}' % said


def _differing(before: Rows, now: Rows) -> set[str]:
    """Sites (first column) of rows that are in one of both only. They mostly come in the same order."""
    if before == now:
        return set()
    if len(before) == len(now):
        pairs = [(a, b) for a, b in zip(before, now, strict=True) if a != b]
        return {row[0] for row in {a for a, _ in pairs} ^ {b for _, b in pairs}}
    return {row[0] for row in set(before) ^ set(now)}


def sites(
    conn: sa.Connection,
    now_ms: int,
    silent_after_ms: int,
    route_factor_percent: int,
    loads: Mapping[str, LineLoad],
    wanted: Set[str] | None = None,
) -> Iterator[NetworkSiteView]:
    """Sites that take part, with what they have: the `wanted`, or all."""
    few = wanted is not None and len(wanted) <= FEW
    ids: dict[str, object] = {"ids": sorted(wanted)} if few and wanted is not None else {}
    since = {"since_ms": now_ms - silent_after_ms}
    found = conn.execute(_SOME_SITES if few else _SITES, {**since, **ids}).cursor.fetchall()
    pools = defaultdict(list)
    for site_id, *pool in conn.execute(_SOME_POOLS if few else _POOLS, ids).cursor.fetchall():
        pools[site_id].append(pool)
    for *shown, connected in found:
        if wanted is None or shown[0] in wanted:
            fields = dict(zip(_SHOWN, shown, strict=True))
            line = _line(fields["lat"], fields["lon"], route_factor_percent)
            has, load = pools[shown[0]], loads.get(shown[0], _NOTHING)
            yield NetworkSiteView(
                **fields,
                connected=bool(connected),
                vendors=tuple(sorted({_vendors().get(chip, "unknown") for _, chip, *_ in has})),
                **line._asdict(),
                transfers=load.transfers,
                left_bytes=load.left_bytes,
                load_bps=load.bps,
                **_compute(has),
            )


class _Line(NamedTuple):
    place: str
    place_lat: float
    place_lon: float
    one_way_us: int


@lru_cache(maxsize=50_000)
def _line(lat: float, lon: float, route_factor_percent: int) -> _Line:
    """The nearest place of the facts, and how long light needs to it: one way, along a fibre."""
    place, (there_lat, there_lon) = min(
        place_coordinates().items(), key=lambda each: (each[1][0] - lat) ** 2 + (0.8 * (each[1][1] - lon)) ** 2
    )  # at 37 degrees north a degree of longitude is 0.8 of one of latitude: near enough to choose
    one_way_us = lines.one_way_us(lat, lon, there_lat, there_lon, route_factor_percent)
    return _Line(place, there_lat, there_lon, one_way_us)


def _compute(pools: Sequence[Sequence[Any]]) -> dict[str, int]:
    """Fields of ComputeView: each pool counts as what it is, a processor's FP32 or an accelerator's FP16."""
    found = dict(_ZERO)
    for kind, _, rates, capacity_milli, taken_milli in pools:
        name = "general" if kind == _CPU else "intelligent"
        rate = _rate(rates, kind)
        found[f"{name}_gflops"] += rate * capacity_milli // 10**12
        found[f"{name}_used_gflops"] += rate * min(capacity_milli, taken_milli) // 10**12
    return found


@lru_cache(maxsize=50_000)  # read again and again, and the same as long as a certificate is
def _rate(rates: str, kind: str) -> int:
    """FLOP/s of a whole unit: measured where it was measured, nominal otherwise."""
    precision = Precision.FP32 if kind == _CPU else Precision.FP16
    return next((r.measured_flops or r.nominal_flops or 0 for r in parse_rates(rates) if r.precision == precision), 0)


@cache
def _vendors() -> dict[str, str]:
    return {chip.id: chip.vendor for chip in chips()}
