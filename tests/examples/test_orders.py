"""The example orders are valid, stay small, and each has an expected end."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.law.sources import ROOT
from yunhe.core.demand import Precision
from yunhe.core.policy import Policy
from yunhe.core.round import Quote, quote
from yunhe.core.supply import Free, Pool, PoolKind, Rate, Site, SiteState, Supply
from yunhe.facts.load import places
from yunhe.facts.sites import cluster_facts
from yunhe.sdk import load_order
from yunhe.wire.api import MAX_FILES_BYTES
from yunhe.wire.convert import to_shape

ORDERS = ROOT / "examples" / "orders"
FILES = sorted(ORDERS.glob("[0-9]*.yaml"))
ENDS = ("succeeded", "failed:", "refused:", "cancelled", "withdrawn")


def content(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return loaded


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_an_order_is_valid_and_carries_what_it_runs(path: Path) -> None:
    spec = load_order(path)
    assert spec.run.command is not None
    assert spec.run.command[0] == "python"
    assert spec.run.command[1] in spec.run.files
    assert len(spec.run.files) == len(content(path)["run"]["files"])
    assert sum(len(text.encode()) for text in spec.run.files.values()) <= MAX_FILES_BYTES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_an_order_says_what_it_shows_and_what_to_expect(path: Path) -> None:
    comments = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    assert comments[0].startswith("# Shows: ")
    assert any(line.startswith("# Expected: ") for line in comments)


def test_every_order_has_an_expected_end() -> None:
    expected = content(ORDERS / "expected.yaml")
    assert list(expected) == [path.name for path in FILES]
    assert all(end.startswith(ENDS) for end in expected.values())
    assert len(FILES) >= 14


def test_the_orders_cover_what_a_customer_can_ask() -> None:
    texts = [content(path) for path in FILES]
    asked = {key for text in texts for key in text["requirement"]}
    assert asked >= {"cores", "compute", "work", "memory", "slots", "latency", "bandwidth", "residency", "tier"}
    assert asked >= {"max_carbon", "data"}
    assert {text.get("preference", "cost") for text in texts} == {"cost", "speed", "carbon"}
    assert {key for text in texts for key in text} >= {"duration", "deadline", "budget", "array", "retries"}


# --- where they would run: three centres that share two cores, as in `make demo` -----------------------------------

NOW_MS = 1_795_000_000_000


@dataclass(frozen=True)
class Machine:
    """The smallest part that one of the three sites gets of it; `flops` FLOP/s of a whole core at fp64."""

    cores_milli: int
    memory_bytes: int
    flops: int
    tier: int


OLD_LAPTOP = Machine(540, 330 * 2**20, 10 * 10**9, 0)  # two slow cores, 2 GiB, no sandbox
ONE_CORE = Machine(270, 330 * 2**20, 60 * 10**9, 2)
POLICY = Policy()


def centre(cluster: str, machine: Machine) -> tuple[Site, Pool]:
    """A site at a real cluster with its part of the machine."""
    facts = cluster_facts(cluster)
    site = Site(
        id=cluster,
        name=facts.name,
        provider=cluster,
        region=facts.region,
        cluster=cluster,
        lat=facts.lat,
        lon=facts.lon,
        pue_milli=facts.pue_milli,
        carbon_g_per_kwh=facts.carbon_g_per_kwh,
        power_price_microcny_per_kwh=facts.power_price_microcny_per_kwh,
        tier=machine.tier,
        bandwidth_bps=10**9,
        state=SiteState.ACTIVE,
    )
    pool = Pool(
        id=f"{cluster}:cpu",
        site_id=cluster,
        kind=PoolKind.CPU,
        chip="unknown",
        stack="cpu",
        capacity_milli=machine.cores_milli,
        memory_bytes=machine.memory_bytes,
        card_memory_bytes=0,
        max_slot_milli=machine.cores_milli,
        rates=(Rate(Precision.FP64, None, machine.flops), Rate(Precision.FP32, None, 2 * machine.flops)),
        price_microcny_per_unit_hour=facts.price_microcny_per_core_hour,
        watts_per_unit=8,
    )
    return site, pool


def asked(name: str, machine: Machine) -> Quote:
    sites, pools = zip(*(centre(c, machine) for c in ("zhangjiakou", "yrd_demo", "guian")), strict=True)
    there = {place.id: (place.lat, place.lon) for place in places()}
    free = tuple(Free(pool.capacity_milli, pool.memory_bytes) for pool in pools)
    shape = to_shape(load_order(ORDERS / name), NOW_MS, {name: name for name in there})
    return quote(shape, Supply(sites, pools, free, there), POLICY, NOW_MS)


@pytest.mark.parametrize("machine", [OLD_LAPTOP, ONE_CORE], ids=["old-laptop", "one-core"])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_orders_find_a_place_on_small_machines(path: Path, machine: Machine) -> None:
    found = asked(path.name, machine)
    end = content(ORDERS / "expected.yaml")[path.name]
    affordable = end not in ("withdrawn", "refused:over_budget")
    assert bool(found.offers) == affordable


def test_constraints_choose_the_sites() -> None:
    assert {offer.site_id for offer in asked("10-primes-near-shanghai.yaml", ONE_CORE).offers} == {"yrd_demo"}
    assert asked("09-three-bodies.yaml", ONE_CORE).offers[0].site_id == "guian"
    assert {offer.site_id for offer in asked("02-pagerank.yaml", ONE_CORE).offers} == {"zhangjiakou", "guian"}
    missing = {reason.code for site in asked("12-no-such-site.yaml", ONE_CORE).refused for reason in site.reasons}
    assert missing >= {"compute", "latency", "tier"}
    costly = {reason.code for site in asked("13-over-budget.yaml", ONE_CORE).refused for reason in site.reasons}
    assert costly == {"budget"}
