"""A hub's database of the nation's size, for measures of the console: sites with pools, orders with their whole way.

`python -m benchmarks.console_world FOLDER [--sites N] [--orders N]` makes one; `yunhe hub serve --data-dir FOLDER
--database-url sqlite:///FOLDER/hub.db` shows it.  Everything is written by the hub's own rooms: orders are held,
placed, started, used, ended and settled in write transactions of their own, at a few sites and with many orders in
each transaction; then the other sites enrol.  Sizes, places and chips of the sites are those of `national`.
"""

import argparse
import math
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from benchmarks.national import Scale, a_supply
from tests.hub.conftest import FakeClock
from tests.hub.world import Held, SiteDouble, World
from yunhe.core.supply import Pool, PoolKind, Site, Supply
from yunhe.facts.sites import regions
from yunhe.hub.accounts import service as accounts
from yunhe.hub.accounts.service import NewKey, Organisation, Principal
from yunhe.hub.catalogue import network
from yunhe.hub.catalogue import service as catalogue
from yunhe.hub.catalogue import store as catalogue_store
from yunhe.hub.intake import service as intake
from yunhe.hub.intake.pricing import Canonical, Priced, canonical
from yunhe.hub.intake.service import Submission
from yunhe.hub.orders import events
from yunhe.hub.platform import bulk, migrate
from yunhe.hub.platform.context import open_platform
from yunhe.hub.platform.settings import HubSettings
from yunhe.hub.platform.writer import Tx, no_crash
from yunhe.wire import signing
from yunhe.wire.api import ComputeView, OrderSpec, SiteTerms
from yunhe.wire.link import Certificate, Enrol, PoolDigest, PoolReport, RateReport, Report

SITES, ORDERS, POOLS_PER_SITE = 7_000, 100_000, 20_000 / 7_000
SPARE = 1.2  # some places have no published emission factor, and no site here
CUSTOMERS = 20  # the first has half of all orders
WORKING = 40  # sites at which the orders ran
CORES = 20_000  # of each of these
BATCH = 4_000  # orders of one turn
SITE_BATCH = 200
FORMS = 100
DAY_MS, MINUTE_MS = 86_400_000, 60_000
SPAN_MS = 30 * DAY_MS
REPORTS = 900  # of one poll
NAMES = ("train", "evaluate", "render", "fold", "simulate", "index", "transcode", "embed")


Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Made:
    """Where it is, and the customer with the most orders."""

    folder: Path
    customer: str
    customer_key: str
    running: int
    took_s: float

    @property
    def database_url(self) -> str:
        return url_of(self.folder)


def url_of(folder: Path) -> str:
    return f"sqlite:///{folder}/hub.db"


def make(folder: Path, sites: int = SITES, orders: int = ORDERS, seed: int = 1) -> Made:
    """Into an empty folder. Raises what the hub's rooms refuse."""
    began, now_ms = time.monotonic(), int(time.time() * 1000)
    clock = FakeClock(now_ms - SPAN_MS)
    settings = HubSettings(database_url=url_of(folder), data_dir=folder, certify_prove_ms=0)
    platform = open_platform(settings, clock, no_crash)
    try:
        migrate.upgrade(platform.db)
        world = World(platform, clock)
        key = _customers(world)
        running = _orders(world, orders, min(WORKING, sites), random.Random(seed))
        clock.ms = now_ms
        more = round(sites * SPARE)
        supply = a_supply(np.random.default_rng(seed), Scale(more, round(more * POOLS_PER_SITE)))
        _sites(world, supply, sites - len(world.sites))
        _day(world)
    finally:
        platform.readers.shutdown()
        platform.db.close()
    return Made(folder, _name(0), key, running, time.monotonic() - began)


# --- who orders -----------------------------------------------------------------------------------------------------


def _name(number: int) -> str:
    return f"lab-{number:02d}"


def _customers(world: World) -> str:
    for number in range(CUSTOMERS):
        world.organisation(_name(number), cny=100_000_000)
    made = world.write(accounts.create_keys, NewKey(_name(0), "measure", "customer"))
    return str(made.secret)


# --- orders ---------------------------------------------------------------------------------------------------------

Form = tuple[OrderSpec, Canonical, Priced]


def _orders(world: World, total: int, places: int, draw: random.Random) -> int:
    """All that is ordered, run and settled; returns how many of the last turn still run."""
    doubles = [world.site(f"centre {i:02d}", CORES) for i in range(places)]
    forms = _forms(world)
    sizes = [min(BATCH, total - begun) for begun in range(0, total, BATCH)]
    for left, size in zip(range(len(sizes) - 1, -1, -1), sizes, strict=True):
        _submit(world, forms, size, SPAN_MS * 9 // 10 // len(sizes) // size, draw)
        for double in doubles:
            double.poll()  # a round takes those that were heard of lately
        while world.commit(world.plan()):
            pass
        for double in doubles:
            _work(double, draw, stay=0.0 if left else 0.25)
        while world.rows("SELECT 1 FROM work WHERE room = 'settlement' LIMIT 1"):
            world.settle()
    return sum(len(double.held) for double in doubles)


def _forms(world: World) -> list[Form]:
    found = []
    for number in range(FORMS):
        fields = {
            "name": f"{NAMES[number % len(NAMES)]}-{number:03d}",
            "run": {"command": ["true"]},
            "requirement": {"cores": 1 + number % 4, "memory": "64MiB"},
            "duration": f"{1 + number % 30}m",
            "budget": "5CNY",
        }
        spec = OrderSpec.model_validate(fields)
        text = canonical(spec)
        with world.platform.db.reading() as conn:
            found.append((spec, text, world.pricer.price(conn, spec, text.hash)))
    return found


def _submit(world: World, forms: Sequence[Form], size: int, step_ms: int, draw: random.Random) -> None:
    made = []
    for _ in range(size):
        world.clock.ms += step_ms
        number = 0 if draw.random() < 0.5 else draw.randrange(1, CUSTOMERS)
        who = Principal(_name(number), "measure", "customer", "k")
        made.append(intake.new_order(who, *draw.choice(forms), world.clock.ms, None))
    ids = world.write(intake.accept, Submission(tuple(made))).ids
    for order_id in draw.sample(ids, size // 100):
        world.write(events.cancel_orders, order_id)


def _work(double: SiteDouble, draw: random.Random, stay: float) -> None:
    """What the site was given starts; all but a share of it ends."""
    double.poll()
    for held in _parts(list(double.held.values()), REPORTS // 3):
        double.poll(*(report for each in held for report in _life(double, each, draw, stay)))


def _life(double: SiteDouble, held: Held, draw: random.Random, stay: float) -> Iterator[Report]:
    began_ms, stays = double.world.clock.ms, draw.random() < stay
    yield double.started(held)
    yield double.used(held, draw.randrange(1_000, MINUTE_MS), final=not stays)
    double.world.clock.ms = began_ms  # they run beside each other
    if not stays:
        yield double.ended(held, exit_code=0 if draw.random() < 0.95 else 1)


def _parts(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (items[begun : begun + size] for begun in range(0, len(items), size))


# --- sites ----------------------------------------------------------------------------------------------------------


def _sites(world: World, supply: Supply, wanted: int) -> None:
    """`wanted` sites of the supply enrol, are approved and certified; others use there what is not free."""
    pools: dict[str, list[tuple[Pool, int]]] = {}
    for pool, free in zip(supply.pools, supply.free, strict=True):
        pools.setdefault(pool.site_id, []).append((pool, pool.capacity_milli - free.milli))
    world.do(lambda tx: accounts.create_organisations(tx, [Organisation(p, p) for p in _providers(supply.sites)]))
    known = [site for site in supply.sites if site.region in regions()][:wanted]
    for some in _parts(known, SITE_BATCH):
        world.do(partial(_join_all, [(site, pools[site.id]) for site in some]))
    world.do(_heard_of)


def _join_all(sites: Sequence[tuple[Site, Sequence[tuple[Pool, int]]]], tx: Tx) -> None:
    for site, pools in sites:
        _join(tx, site, pools)


def _heard_of(tx: Tx) -> None:
    """All of them now, and none is to measure itself soon."""
    ids = [site.id for site in catalogue.list_sites(tx.conn)]
    for site_id in ids:
        catalogue.retest_at(tx, site_id, tx.now_ms + SPAN_MS)
    catalogue.touch_many(tx, dict.fromkeys(ids, (True, ())))


def _providers(sites: Iterable[Site]) -> list[str]:
    return sorted({site.provider for site in sites})


def _join(tx: Tx, site: Site, pools: Sequence[tuple[Pool, int]]) -> None:
    token, key = catalogue.create_token(tx, site.provider).secret, signing.new_key()
    proof = signing.sign(key, token.encode())
    place = {"region": site.region, "lat": site.lat, "lon": site.lon}
    enrol = Enrol(token=token, name=site.name, public_key=signing.public_text(key), proof=proof, **place)
    site_id = catalogue.enrol(tx, enrol).site_id
    catalogue.approve(tx, site_id, SiteTerms())
    reports = tuple(_report(f"p{n}", pool) for n, (pool, _) in enumerate(pools))
    certificate = Certificate(seq=1, tested_utc_ms=1, tier=site.tier, isolation="", software="", pools=reports)
    catalogue.certify(tx, site_id, certificate)
    digests = [PoolDigest(name=f"p{n}", foreign_milli=taken) for n, (_, taken) in enumerate(pools)]
    catalogue.touch(tx, site_id, tx.now_ms, True, digests)


def _report(name: str, pool: Pool) -> PoolReport:
    return PoolReport(
        name=name,
        kind_of_unit="core" if pool.kind is PoolKind.CPU else "card",
        chip=pool.chip,
        chip_name=pool.chip,
        stack=pool.stack,
        capacity_milli=pool.capacity_milli,
        memory_bytes=pool.memory_bytes,
        card_memory_bytes=pool.card_memory_bytes,
        max_slot_milli=pool.max_slot_milli,
        watts_per_unit=pool.watts_per_unit,
        rates=tuple(
            RateReport(precision=r.precision, nominal_flops=r.nominal_flops, measured_flops=r.measured_flops)
            for r in pool.rates
        ),
    )


def _day(world: World) -> None:
    """A sample of the network for each minute of the day that was."""
    with world.platform.db.reading() as conn:
        seen = network.view(conn, world.clock.ms, SPAN_MS).sites
    sums = {name: sum(getattr(site, name) for site in seen) for name in ComputeView.model_fields}
    last_ms = world.clock.ms // MINUTE_MS * MINUTE_MS
    rows = []
    for number in range(DAY_MS // MINUTE_MS):
        part = 0.8 + 0.2 * math.sin(number / 230)
        used = {name: round(value * part) if "used" in name else value for name, value in sums.items()}
        rows.append({"at_utc_ms": last_ms - number * MINUTE_MS, "sites": len(seen), "connected": len(seen), **used})
    world.do(lambda tx: bulk.insert(tx.conn, catalogue_store.network_sample, rows))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.console_world", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sites", type=int, default=SITES)
    parser.add_argument("--orders", type=int, default=ORDERS)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, mode=0o700)
    made = make(options.folder.absolute(), options.sites, options.orders)
    key = made.folder / "customer.key"
    key.touch(mode=0o600)
    key.write_text(made.customer_key)
    print(f"{made.database_url} in {made.took_s:.0f} s; the key of {made.customer} is in {key}")


if __name__ == "__main__":
    main()
