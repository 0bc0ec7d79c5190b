"""Why a pool does not take a task, in words: what is needed and what is there, per failed constraint."""

from collections.abc import Callable
from dataclasses import dataclass

from yunhe.core import units
from yunhe.core.demand import LatencyBound, LatencyKind, Shape
from yunhe.core.hours import HOUR_MS
from yunhe.core.placement.board import trusted_rate
from yunhe.core.placement.calendar import moment
from yunhe.core.placement.cost import hold_of
from yunhe.core.placement.feasible import Fit
from yunhe.core.placement.look import Look
from yunhe.core.placement.values import Reason, SiteReasons
from yunhe.core.policy import Policy
from yunhe.core.supply import Free, Pool, PoolKind, Site, SiteState

_DATA_NETWORK = "a network for the input data"
_DIGITS = 2  # decimals in what people read


@dataclass(frozen=True, slots=True)
class Case:
    """One shape at one pool. `free`: what of it is free now; `room`: for as long as a task needs it (`calendar`)."""

    look: Look
    pool: int
    free: Free
    room: Free

    @property
    def asked(self) -> Shape:
        return self.look.shape

    @property
    def at(self) -> Pool:
        return self.look.board.supply.pools[self.pool]

    @property
    def site(self) -> Site:
        return self.look.board.columns.sites[self.pool]

    @property
    def policy(self) -> Policy:
        return self.look.board.policy

    @property
    def milli(self) -> int:
        return int(self.look.sizes.milli[self.pool])

    @property
    def memory(self) -> int:
        return int(self.look.sizes.memory[self.pool])


def reasons_of(fit: Fit, pool: int, free: Free, room: Free | None = None) -> tuple[Reason, ...]:
    """Every constraint that fails at a pool, in reading order; empty when the shape fits and the pool is free."""
    case = Case(fit.look, pool, free, room or free)
    found = []
    for constraint, fails in fit.failing:
        if fails[pool]:
            need, have = _TEXTS[constraint.code](case)
            found.append(Reason(constraint.code, need, have, constraint.lasting))
    return tuple(found)


def explain_shape(fit: Fit, free: tuple[Free, ...], room: tuple[Free, ...] = ()) -> tuple[SiteReasons, ...]:
    """Reasons of every pool, by site in the order of the supply; a site without pools says so."""
    supply, room = fit.look.board.supply, room or free
    pools_of: dict[str, list[int]] = {site.id: [] for site in supply.sites}
    for i, pool in enumerate(supply.pools):
        pools_of[pool.site_id].append(i)
    found = []
    for site in supply.sites:
        if not pools_of[site.id]:
            found.append(SiteReasons(site.id, None, (_no_pool(site),)))
        for i in pools_of[site.id]:
            found.append(SiteReasons(site.id, supply.pools[i].id, reasons_of(fit, i, free[i], room[i])))
    return tuple(found)


def _no_pool(site: Site) -> Reason:
    state = _site_state(site)
    have = "none" if state == SiteState.ACTIVE else f"none, the site is {state}"
    return Reason("site", "a certified pool", have, site.state is SiteState.LEFT)


def _site_state(site: Site) -> str:
    if site.state is SiteState.ACTIVE and not site.connected:
        return "disconnected"
    return site.state.value


# --- need and have per code -------------------------------------------------------------------------------------


def _units(pool: Pool, milli: int) -> str:
    one = "core" if pool.kind is PoolKind.CPU else "card"
    return f"{units.format_milli(milli)} {one}" + ("" if milli == 1000 else "s")


def _bytes(count: int) -> str:
    return units.format_bytes(count, _DIGITS)


def _site(case: Case) -> tuple[str, str]:
    return "an active site", _site_state(case.site)


def _sites(case: Case) -> tuple[str, str]:
    return f"one of the sites {_list(case.asked.requirement.sites)}", case.site.id


def _pools(case: Case) -> tuple[str, str]:
    return f"one of the pools {_list(case.asked.requirement.pools)}", case.at.id


def _stack(case: Case) -> tuple[str, str]:
    return f"a command for the {case.at.stack} stack", f"commands for {_list(case.asked.requirement.stacks)}"


def _operators(case: Case) -> tuple[str, str]:
    needed, ready = case.asked.requirement.operators, case.at.operators
    have = f"missing {_list(needed - ready)}" if ready else "no check of its software stack"
    return f"the operators {_list(needed)} on {case.at.stack}", have


def _abilities(case: Case) -> tuple[str, str]:
    needed, able = case.asked.requirement.abilities, case.at.abilities
    return f"an engine that gives jobs {_list(needed)}", f"one without {_list(needed - able)}"


def _trust(case: Case) -> tuple[str, str]:
    return "rates that a test has shown", "claims that a test has refuted"


def _cores(case: Case) -> tuple[str, str]:
    if case.at.kind is PoolKind.ACCELERATOR:
        return "cores", "cards only"
    return _units(case.at, case.milli), f"{_units(case.at, case.at.capacity_milli)} in the pool"


def _cards(case: Case) -> tuple[str, str]:
    if case.at.kind is PoolKind.CPU:
        return "cards", "cores only"
    return _units(case.at, case.milli), f"{_units(case.at, case.at.capacity_milli)} in the pool"


def _chip(case: Case) -> tuple[str, str]:
    return case.asked.requirement.chip or "any chip", case.at.chip


def _compute(case: Case) -> tuple[str, str]:
    need = case.asked.requirement
    if need.compute is not None:
        precision, text = need.compute.precision, units.format_compute(need.compute, _DIGITS)
    else:
        assert need.work is not None
        limit = max(0, case.look.remaining_ms)
        precision, text = need.work.precision, f"{units.format_work(need.work, _DIGITS)} in {_time(limit)}"
    rate = trusted_rate(case.at, precision, case.policy)
    if rate is None:
        return text, f"no rate known at {precision.value}"
    whole = rate * case.at.capacity_milli // 1000
    return text, f"{units.format_flops(whole, precision, _DIGITS)} in the whole pool"


def _slot(case: Case) -> tuple[str, str]:
    slot = int(case.look.sizes.slot_milli[case.pool])
    return f"{_units(case.at, slot)} in one slot", f"{_units(case.at, case.at.max_slot_milli)} at most"


def _gang(case: Case) -> tuple[str, str]:
    slots = int(case.look.sizes.slots[case.pool])
    slot = int(case.look.sizes.slot_milli[case.pool])
    whole, most = _units(case.at, case.at.capacity_milli), _units(case.at, case.at.max_slot_milli)
    return f"{slots} slots of {_units(case.at, slot)} together", f"{whole}, {most} to a host"


def _memory(case: Case) -> tuple[str, str]:
    slot = int(case.look.sizes.slot_memory[case.pool])
    host = int(case.look.board.columns.host_memory[case.pool])
    if slot > host:
        return f"{_bytes(slot)} in one slot", f"{_bytes(host)} to a host"
    return _bytes(case.memory), f"{_bytes(case.at.memory_bytes)} in the pool"


def _card_memory(case: Case) -> tuple[str, str]:
    return f"{_bytes(case.asked.requirement.card_memory_bytes)} per card", _bytes(case.at.card_memory_bytes)


def _latency(case: Case) -> tuple[str, str]:
    need, have = [], []
    for bound in case.asked.requirement.latency:
        us = case.look.latency_us(bound, case.pool)
        if us is None or us > bound.limit_us:
            need.append(_bound(bound))
            have.append("unknown" if us is None else units.format_latency(us, _DIGITS))
    return "; ".join(need), "; ".join(have)


def _bound(bound: LatencyBound) -> str:
    kind = "round trip" if bound.kind is LatencyKind.RTT else "one way"
    return f"<= {units.format_latency(bound.limit_us, _DIGITS)} {kind} to {bound.place}"


def _bandwidth(case: Case) -> tuple[str, str]:
    need, have = case.asked.requirement, case.site.bandwidth_bps
    if need.bandwidth_bps > have or need.data_at is None:
        text = f">= {units.format_bandwidth(need.bandwidth_bps, _DIGITS)}" if need.bandwidth_bps else _DATA_NETWORK
        return text, units.format_bandwidth(have, _DIGITS)
    reached = int(case.look.board.bandwidth_from(need.data_at)[case.pool])
    return _DATA_NETWORK, units.format_bandwidth(reached, _DIGITS)


def _residency(case: Case) -> tuple[str, str]:
    return f"in {_list(case.asked.requirement.residency)}", case.site.region


def _tier(case: Case) -> tuple[str, str]:
    return f"security tier >= {case.asked.requirement.tier}", str(case.site.tier)


def _carbon(case: Case) -> tuple[str, str]:
    limit = case.asked.requirement.max_carbon_g_per_kwh or 0
    has = case.site.hours.carbon_at(case.look.now_ms // HOUR_MS, case.site.carbon_g_per_kwh)
    return f"<= {units.format_carbon(limit)}", units.format_carbon(has)


def _deadline(case: Case) -> tuple[str, str]:
    left = case.look.remaining_ms
    run = int(case.look.sizes.run_ms[case.pool])
    transfer = int(case.look.sizes.transfer_ms[case.pool])
    need = f"to end within {_time(left)}" if left > 0 else "to end before the deadline, which has passed"
    if transfer >= max(left, 1):
        return need, f"{_time(transfer)} for the input data alone"
    return need, f"{_time(run)} of run time"


def _budget(case: Case) -> tuple[str, str]:
    hold = hold_of(case.asked, case.at, case.site, case.milli, case.policy)
    return f"<= {units.format_money(case.asked.terms.budget_microcny or 0)}", units.format_money(hold.total)


def _busy(case: Case) -> tuple[str, str]:
    need, have = _lacks(case, case.free)
    return need, f"{have} free now"


def _lacks(case: Case, free: Free) -> tuple[str, str]:
    """What the task takes, and what there is, where that is less."""
    need, have = [], []
    if case.milli > free.milli:
        need.append(_units(case.at, case.milli))
        have.append(_units(case.at, free.milli))
    if case.memory > free.memory_bytes:
        need.append(_bytes(case.memory))
        have.append(_bytes(free.memory_bytes))
    return " and ".join(need), " and ".join(have)


def _booked_out(case: Case) -> tuple[str, str]:
    need, have = _lacks(case, case.room)
    start_ms = case.asked.terms.start_ms
    assert start_ms is not None
    return f"{need} from {moment(start_ms)} to {moment(start_ms + case.asked.terms.run_limit_ms)}", f"{have} free then"


def _before_booking(case: Case) -> tuple[str, str]:
    need, have = _lacks(case, case.room)
    whole = case.asked.terms.run_limit_ms + case.policy.booking_margin_ms
    return f"{need} for {_time(whole)}", f"{have} for so long, bookings take the rest"


def _list(names: frozenset[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _time(ms: int) -> str:
    """To the second above a minute, and to the minute above a day: nobody reads `3d4h12m7s311ms`."""
    step = 60_000 if ms >= 86_400_000 else 1_000 if ms >= 60_000 else 1
    return units.format_duration(ms // step * step)


def _duration(case: Case) -> tuple[str, str]:
    return f"a run of {_time(case.asked.terms.run_limit_ms)}", f"lent for {_time(case.at.longest_ms or 0)} at most now"


_TEXTS: dict[str, Callable[[Case], tuple[str, str]]] = {
    "site": _site,
    "sites": _sites,
    "pools": _pools,
    "trust": _trust,
    "stack": _stack,
    "operators": _operators,
    "abilities": _abilities,
    "cores": _cores,
    "cards": _cards,
    "chip": _chip,
    "compute": _compute,
    "slot": _slot,
    "gang": _gang,
    "memory": _memory,
    "card_memory": _card_memory,
    "latency": _latency,
    "bandwidth": _bandwidth,
    "residency": _residency,
    "tier": _tier,
    "carbon": _carbon,
    "duration": _duration,
    "deadline": _deadline,
    "budget": _budget,
    "busy": _busy,
    "booked_out": _booked_out,
    "before_booking": _before_booking,
}
