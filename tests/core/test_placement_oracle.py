"""The constraints against a slow second opinion: one pool and one shape at a time, in whole numbers and fractions.

The oracle is written from the rules, not from the code; it shares only the value types and the tariff.
"""

from fractions import Fraction
from math import ceil, floor
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.placement_network import GIB, HOUR, NOW, PLACES, POLICY, a_pool, a_site, cards
from yunhe.core.demand import (
    Compute,
    LatencyBound,
    LatencyKind,
    Precision,
    Preference,
    Requirement,
    Shape,
    Terms,
    Work,
)
from yunhe.core.energy import full_load_mwh
from yunhe.core.lines import one_way_us
from yunhe.core.round import SiteReasons, explain, quote
from yunhe.core.supply import Free, Pool, PoolKind, Rate, Site, SiteState, Supply
from yunhe.core.tariff import price

TERA = 10**12

sites = st.builds(
    a_site,
    id=st.just("s1"),
    region=st.sampled_from(["beijing", "hebei"]),
    cluster=st.sampled_from([None, "shanghai"]),
    lat=st.sampled_from([31.23, 39.9]),
    carbon_g_per_kwh=st.sampled_from([100, 500]),
    tier=st.integers(0, 2),
    bandwidth_bps=st.sampled_from([0, 10**9, 10**10]),
    state=st.sampled_from([SiteState.ACTIVE] * 8 + list(SiteState)),
    connected=st.sampled_from([True] * 9 + [False]),
)
rates = st.sampled_from([None, 10**9, 10**10, 3 * 10**10])
cpu_pools = st.builds(
    lambda id, capacity, host, memory, nominal, measured: a_pool(
        id,
        capacity_milli=capacity,
        max_slot_milli=min(capacity, host),
        memory_bytes=memory * GIB,
        rates=(Rate(Precision.FP64, nominal, measured), Rate(Precision.FP32, measured, None)),
    ),
    st.sampled_from(["s1:a", "s1:b"]),
    st.sampled_from([300, 1_000, 4_000, 10_000]),
    st.sampled_from([700, 2_000, 4_000]),
    st.sampled_from([1, 8, 33]),
    rates,
    rates,
)
card_pools = st.builds(
    lambda id, capacity, host, memory, measured: cards(
        id,
        chip="a100" if measured else "h100",
        stack="cuda" if capacity > 4 else "cann",
        capacity_milli=capacity * 1000,
        max_slot_milli=min(capacity, host) * 1000,
        memory_bytes=memory * GIB,
        rates=(Rate(Precision.BF16, 312 * TERA, measured),),
    ),
    st.sampled_from(["s1:c", "s1:d"]),
    st.sampled_from([1, 4, 8, 20]),
    st.sampled_from([1, 4, 8]),
    st.sampled_from([8, 64, 1_024]),
    st.sampled_from([None, 200 * TERA]),
)
pools = cpu_pools | card_pools
bounds = st.builds(
    LatencyBound,
    place=st.sampled_from(["shanghai", "beijing", "atlantis"]),
    limit_us=st.sampled_from([0, 7_000, 14_000, 10**6]),
    kind=st.sampled_from(LatencyKind),
)
amounts = st.sampled_from([1, 10**9, 10**10 + 1, 4 * 10**10, 10**15, 1_601 * TERA])
size_fields: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.fixed_dictionaries({"cores_milli": st.sampled_from([100, 700, 1_000, 2_000, 9_000])}),
    st.fixed_dictionaries({"cards": st.sampled_from([1, 3, 8])}),
    st.fixed_dictionaries({"compute": st.builds(Compute, amounts, st.sampled_from(Precision))}),
    st.fixed_dictionaries({"work": st.builds(Work, amounts.map(lambda n: n * 1_800), st.sampled_from(Precision))}),
    st.just({}),
)
limits = st.fixed_dictionaries(
    {},
    optional={
        "chip": st.sampled_from(["x86", "a100", "h100"]),
        "slots": st.sampled_from([1, 2, 3, 5]),
        "memory_bytes": st.sampled_from([GIB, 8 * GIB, 40 * GIB]),
        "card_memory_bytes": st.sampled_from([40 * GIB, 96 * GIB]),
        "latency": st.lists(bounds, max_size=2).map(tuple),
        "bandwidth_bps": st.sampled_from([10**9, 10**10]),
        "residency": st.sampled_from([frozenset({"hebei"}), frozenset({"beijing", "hebei"})]),
        "tier": st.integers(0, 2),
        "max_carbon_g_per_kwh": st.sampled_from([99, 100, 500]),
        "sites": st.sampled_from([frozenset({"s1"}), frozenset({"s2"})]),
        "stacks": st.sampled_from([frozenset({"cpu"}), frozenset({"cuda"}), frozenset({"cpu", "cuda", "cann"})]),
        "data": st.sampled_from([("shanghai", 10**9), ("beijing", 10**13), ("s1", 10**13)]),
    },
)
terms = st.builds(
    Terms,
    run_limit_ms=st.sampled_from([60_000, HOUR]),
    deadline_ms=st.sampled_from([None, NOW - 5, NOW + 60_000, NOW + HOUR // 2, NOW + 9 * HOUR]),
    budget_microcny=st.sampled_from([None, 0, 1_792, 107_500, 10**7, 10**12]),
    preference=st.sampled_from(Preference),
    array=st.sampled_from([1, 3]),
)


def build_shape(size: dict[str, object], limit: dict[str, object], t: Terms) -> Shape:
    fields = {"stacks": frozenset({"cpu", "cuda", "cann"}), **size, **limit}
    data = fields.pop("data", None)
    if data is not None:
        fields["data_at"], fields["data_bytes"] = data  # type: ignore[misc]
    return Shape(Requirement(**fields), t)  # type: ignore[arg-type]


shapes = st.builds(build_shape, size_fields, limits, terms)


class Oracle:
    """Everything about one shape at one pool."""

    def __init__(self, shape: Shape, site: Site, pool: Pool, free: Free) -> None:
        self.need, self.terms, self.site, self.pool, self.free = shape.requirement, shape.terms, site, pool, free
        self.shape = shape
        self.counted = self.need.compute is not None or self.need.work is not None
        self.slots, self.slot, self.run_ms = self.need.slots, 0, self.terms.run_limit_ms
        self.transfer_ms = self._transfer()
        left = self.terms.run_limit_ms
        if self.terms.deadline_ms is not None:
            left = min(left, self.terms.deadline_ms - NOW)
        self.left_ms = left
        self.rate = self._rate()
        self._size()
        self.milli = self.slots * self.slot
        self.memory = self._memory()

    def _transfer(self) -> int:
        need = self.need
        if need.data_at is None or need.data_at in (self.site.id, self.site.cluster):
            return 0
        return ceil(Fraction(need.data_bytes * 8 * 1000, max(1, self.site.bandwidth_bps)))

    def _rate(self) -> int | None:
        asked = self.need.compute or self.need.work
        for rate in self.pool.rates:
            if asked is not None and rate.precision is asked.precision:
                if rate.measured_flops is not None:
                    return rate.measured_flops
                if rate.nominal_flops is not None:
                    return floor(rate.nominal_flops * Fraction(POLICY.nominal_derate_percent, 100))
        return None

    def _size(self) -> None:
        need, is_cards = self.need, self.pool.kind is PoolKind.ACCELERATOR
        if need.cores_milli is not None:
            self.slot = need.cores_milli
        elif need.cards is not None:
            self.slot = need.cards * 1000
        elif not self.counted:
            self.slot = 1000 if is_cards else min(1000, self.pool.max_slot_milli)
        elif self.rate is not None:
            seconds = Fraction(max(1, self.left_ms - self.transfer_ms), 1000)
            flops = Fraction(need.compute.flops) if need.compute else Fraction(need.work.flop) / seconds  # type: ignore
            units = flops / self.rate
            if is_cards:
                whole = ceil(units)
                if need.slots == 1:
                    self.slots = ceil(Fraction(whole, self.pool.max_slot_milli // 1000))
                self.slot = ceil(Fraction(whole, self.slots)) * 1000
            else:
                self.slot = ceil(Fraction(ceil(units * 1000), self.slots))
            if need.work is not None:
                running = Fraction(need.work.flop) / (Fraction(self.slots * self.slot, 1000) * self.rate)
                self.run_ms = ceil(running * 1000) + self.transfer_ms

    def _memory(self) -> int:
        if self.need.memory_bytes:
            return self.need.memory_bytes * self.slots
        return self.pool.memory_bytes // self.pool.capacity_milli * min(self.milli, self.pool.capacity_milli)

    def wrong_kind(self) -> bool:
        need, is_cards = self.need, self.pool.kind is PoolKind.ACCELERATOR
        wants_cores = need.cores_milli is not None or (need.cards is None and not self.counted and need.chip is None)
        return (wants_cores and is_cards) or (need.cards is not None and not is_cards)

    def too_far(self) -> bool:
        for bound in self.need.latency:
            if bound.place not in PLACES:
                return True
            us = one_way_us(self.site.lat, self.site.lon, *PLACES[bound.place], POLICY.route_factor_percent)
            if us * (2 if bound.kind is LatencyKind.RTT else 1) > bound.limit_us:
                return True
        return False

    def host_slots(self) -> int:
        """Slots that fit, host by host."""
        rest, count = self.pool.capacity_milli, 0
        while rest > 0:
            host = min(rest, self.pool.max_slot_milli)
            count, rest = count + host // self.slot, rest - host
        return count

    def hold(self) -> int:
        one = price(
            price_microcny_per_unit_hour=self.pool.price_microcny_per_unit_hour,
            milli=self.milli,
            wall_ms=self.terms.run_limit_ms,
            energy_mwh=full_load_mwh(
                self.site.pue_milli, self.pool.watts_per_unit, self.milli, self.terms.run_limit_ms
            ),
            power_price_microcny_per_kwh=self.site.power_price_microcny_per_kwh,
            data_bytes=self.need.data_bytes if self.need.data_at else 0,
            transfer_microcny_per_gib=POLICY.transfer_microcny_per_gib,
        )
        return one.total * self.terms.array

    def place_codes(self) -> set[str]:
        """What does not depend on the size of the task."""
        need, site = self.need, self.site
        moves = need.data_at is not None and need.data_bytes > 0
        checks = {
            "site": site.state is not SiteState.ACTIVE or not site.connected,
            "sites": bool(need.sites) and site.id not in need.sites,
            "pools": bool(need.pools) and self.pool.id not in need.pools,
            "stack": self.pool.stack not in need.stacks,
            "chip": need.chip is not None and need.chip != self.pool.chip,
            "card_memory": need.card_memory_bytes > self.pool.card_memory_bytes,
            "latency": self.too_far(),
            "bandwidth": need.bandwidth_bps > site.bandwidth_bps or (moves and site.bandwidth_bps == 0),
            "residency": bool(need.residency) and site.region not in need.residency,
            "tier": need.tier > site.tier,
            "carbon": need.max_carbon_g_per_kwh is not None and site.carbon_g_per_kwh > need.max_carbon_g_per_kwh,
        }
        return {code for code, fails in checks.items() if fails}

    def size_codes(self) -> set[str]:
        pool, codes = self.pool, set()
        if self.counted and self.rate is None:
            return {"compute"}
        if self.transfer_ms >= self.left_ms or self.run_ms > self.left_ms:
            codes.add("deadline")
        if self.wrong_kind():
            return codes | {"cards" if pool.kind is PoolKind.CPU else "cores"}
        short = self.milli > pool.capacity_milli
        if short and self.counted:
            return codes | {"compute"}
        if short and self.need.slots == 1:
            codes.add("cards" if pool.kind is PoolKind.ACCELERATOR else "cores")
        elif self.slot > pool.max_slot_milli:
            codes.add("slot")
        elif self.slots > 1 and self.slots > self.host_slots():
            codes.add("gang")
        host_memory = pool.memory_bytes * pool.max_slot_milli // pool.capacity_milli
        if self.need.memory_bytes > host_memory or self.memory > pool.memory_bytes:
            codes.add("memory")
        if self.terms.budget_microcny is not None and self.hold() > self.terms.budget_microcny:
            codes.add("budget")
        return codes

    def codes(self) -> set[str]:
        codes = self.place_codes() | self.size_codes()
        if not codes and (self.milli > self.free.milli or self.memory > self.free.memory_bytes):
            return {"busy"}
        return codes


@settings(max_examples=400, deadline=None)
@given(shapes, sites, st.lists(pools, min_size=1, max_size=3, unique_by=lambda p: p.id), st.sampled_from([0, 50, 100]))
def test_explain_and_quote_agree_with_the_oracle(shape: Shape, site: Site, at: list[Pool], free_percent: int) -> None:
    free = tuple(Free(p.capacity_milli * free_percent // 100, p.memory_bytes * free_percent // 100) for p in at)
    supply = Supply((site,), tuple(at), free, PLACES)
    oracles = {p.id: Oracle(shape, site, p, f) for p, f in zip(at, free, strict=True)}

    entries: tuple[SiteReasons, ...] = explain(shape, supply, POLICY, NOW)
    assert {e.pool_id: {r.code for r in e.reasons} for e in entries} == {id: o.codes() for id, o in oracles.items()}

    found = quote(shape, supply, POLICY, NOW)
    assert {offer.pool_id for offer in found.offers} == {id for id, o in oracles.items() if o.codes() <= {"busy"}}
    for offer in found.offers:
        oracle = oracles[offer.pool_id]
        assert (offer.units_milli, offer.memory_bytes) == (oracle.milli, oracle.memory)
        assert (offer.run_ms, offer.hold.total) == (oracle.run_ms, oracle.hold())
        assert offer.price.total <= offer.hold.total
    ranking = {
        Preference.COST: lambda o: (o.price.total, o.finish_ms, o.pool_id),
        Preference.SPEED: lambda o: (o.finish_ms, o.price.total, o.pool_id),
        Preference.CARBON: lambda o: (o.carbon_mg, o.price.total, o.pool_id),
    }[shape.terms.preference]
    assert list(found.offers) == sorted(found.offers, key=ranking)
