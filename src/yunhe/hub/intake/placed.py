"""Why an order that was placed is where it is: the offers of the round that placed it, beside the next best."""

from collections.abc import Callable

import sqlalchemy as sa

from yunhe.core.demand import Preference
from yunhe.core.lease import LeaseTerms
from yunhe.core.units import format_carbon_mass, format_milli, format_money, format_span
from yunhe.hub.orders import views
from yunhe.wire.api import CandidateView, OrderDetail, PlacingView, PriceView, RoundOrderView, TaskView

# (connection, order, when it was placed) -> the round that did it; None when it is kept no more
Recall = Callable[[sa.Connection, str, int], RoundOrderView | None]

MAX_PLACINGS = 5
MAX_OTHERS = 3
SOON_MS = 1_000

_BEST = {
    Preference.COST: "the cheapest",
    Preference.SPEED: "the one that ends first",
    Preference.CARBON: "the one with the least carbon",
}
_BY = {Preference.COST: "price", Preference.SPEED: "speed", Preference.CARBON: "carbon"}


def placings(conn: sa.Connection, order: OrderDetail, recall: Recall) -> tuple[PlacingView, ...]:
    """Of the newest attempts: one for each pool that the order's tasks were given."""
    newest: dict[str, TaskView] = {}
    for task in sorted(order.task_list, key=lambda t: t.placed_utc_ms or 0, reverse=True):
        if task.pool_id is not None and task.placed_utc_ms is not None and len(newest) < MAX_PLACINGS:
            newest.setdefault(task.pool_id, task)
    agreed = views.leases(conn, [(task.lease_id, task.epoch) for task in newest.values()])
    found = []
    for pool_id, task in newest.items():
        lease = agreed.get((task.lease_id, task.epoch))
        seen = recall(conn, order.id, task.placed_utc_ms or 0)
        found.append(_placing(pool_id, task, seen, None if lease is None else lease.terms))
    return tuple(found)


def _placing(pool_id: str, task: TaskView, seen: RoundOrderView | None, terms: LeaseTerms | None) -> PlacingView:
    site_id, _, _ = pool_id.partition(":")
    chosen = next((c for c in seen.candidates if c.pool_id == pool_id and c.tasks), None) if seen else None
    known = {
        "lease_id": task.lease_id,
        "epoch": task.epoch,
        "site_id": task.site_id or site_id,
        "pool_id": pool_id,
        "placed_utc_ms": task.placed_utc_ms,
    }
    if seen is None or chosen is None:
        return PlacingView(**known, text=_forgotten(pool_id, terms))
    better = [c for c in seen.candidates if c.rank < chosen.rank and not c.tasks]
    behind = [c for c in seen.candidates if c.rank > chosen.rank and not c.tasks]
    others = tuple((better[:MAX_OTHERS] + behind)[:MAX_OTHERS])
    return PlacingView(
        **known,
        text=" ".join([_chosen(seen, chosen), *(_other(seen, chosen, c) for c in others)]),
        round_id=seen.round_id,
        preference=seen.preference,
        fitting=seen.fitting,
        chosen=chosen,
        others=others,
    )


def _chosen(seen: RoundOrderView, at: CandidateView) -> str:
    preference = Preference(seen.preference)
    if seen.fitting == 1:
        rank = "the only place that fitted"
    elif at.rank == 1:
        rank = f"{_BEST[preference]} of {seen.fitting} places that fitted"
    else:
        rank = f"number {at.rank} by {_BY[preference]} of {seen.fitting} places that fitted"
    return f"{at.site_name} ({at.pool_id}), by round {seen.round_id}: {rank}. Offered: {_offer(seen, at)}."


def _offer(seen: RoundOrderView, at: CandidateView) -> str:
    wait_ms = at.start_utc_ms - seen.at_utc_ms
    start = "start at once" if wait_ms <= SOON_MS else f"start in {format_span(wait_ms)}"
    price = f"{format_money(at.price.total_microcny)}{_split(at.price)}"
    return f"{price}, {start}, at most {format_span(at.run_ms)}, {format_carbon_mass(at.carbon_mg)} CO2"


def _split(price: PriceView) -> str:
    parts = {
        "compute": price.compute_microcny,
        "energy": price.energy_microcny,
        "transfer": price.transfer_microcny,
        "line": price.line_microcny,
    }
    named = [f"{name} {format_money(amount)}" for name, amount in parts.items() if amount]
    return f" ({', '.join(named)})" if named else ""


def _other(seen: RoundOrderView, chosen: CandidateView, other: CandidateView) -> str:
    figures = [
        _beside(other.price.total_microcny - chosen.price.total_microcny, format_money, ("more", "less")),
        _beside(other.carbon_mg - chosen.carbon_mg, lambda mg: f"{format_carbon_mass(mg)} CO2", ("more", "less")),
        _beside(other.run_ms - chosen.run_ms, format_span, ("longer", "shorter")),
    ]
    differs = ", ".join(figure for figure in figures if figure) or "the same price, carbon and run time"
    place = f"{other.site_name} ({other.pool_id}): {differs}"
    if other.rank > chosen.rank:
        return f"Next best was {place}."
    why = "; ".join(f"needs {reason.need}, had {reason.have}" for reason in other.reasons)
    return f"Better by {_BY[Preference(seen.preference)]}, but not to be had, was {place} ({why})."


def _beside(difference: int, text: Callable[[int], str], words: tuple[str, str]) -> str:
    if not difference:
        return ""
    return f"{text(abs(difference))} {words[0] if difference > 0 else words[1]}"


def _forgotten(pool_id: str, terms: LeaseTerms | None) -> str:
    begin = f"{pool_id}: the round that placed it is not kept, or not yet."
    if terms is None:
        return begin
    price = f"{format_money(terms.price_microcny_per_unit_hour)} per unit and hour"
    power = f"power at {format_money(terms.power_price_microcny_per_kwh)} per kWh"
    return (
        f"{begin} It was agreed at {price} for {format_milli(terms.milli)} units, {power}, "
        f"PUE {format_milli(terms.pue_milli)}, {terms.carbon_g_per_kwh} gCO2/kWh."
    )
