"""Quotes and reasons as the public API shows them."""

from dataclasses import dataclass

import sqlalchemy as sa

from yunhe.core.demand import Preference, Shape
from yunhe.core.lifecycle import ORDER_ENDED, OrderState, TaskState
from yunhe.core.placement.board import Board
from yunhe.core.placement.calendar import is_booking, moment
from yunhe.core.placement.when import Wait, wait_of
from yunhe.core.policy import Policy
from yunhe.core.round import Offer, Price, Quote, SiteReasons, explain
from yunhe.core.supply import Supply
from yunhe.core.units import format_carbon_mass, format_money
from yunhe.hub.intake.placed import Recall, placings
from yunhe.hub.intake.pricing import Pricer
from yunhe.hub.orders import rooms, views
from yunhe.hub.orders.shapes import Shapes
from yunhe.wire.api import (
    OfferView,
    OrderDetail,
    OrderSpec,
    PriceView,
    QuoteView,
    ReasonView,
    SiteReasonsView,
    TaskView,
    WaitView,
    WhyView,
)
from yunhe.wire.ends import end_words

MAX_PLACED_SHOWN = 20


def quote_view(shape: Shape, found: Quote, supply: Supply, spec: OrderSpec) -> QuoteView:
    names = {site.id: site.name for site in supply.sites}
    chips = {pool.id: pool.chip for pool in supply.pools}
    budget = shape.terms.budget_microcny
    return QuoteView(
        offers=tuple(
            _offer_view(offer, names[offer.site_id], chips[offer.pool_id], budget, 1 + spec.retries)
            for offer in found.offers
        ),
        refused=_reasons_view(found.refused, names),
    )


def _offer_view(offer: Offer, name: str, chip: str, budget: int | None, attempts: int) -> OfferView:
    return OfferView(
        site_id=offer.site_id,
        site_name=name,
        pool_id=offer.pool_id,
        chip=chip,
        units_milli=offer.units_milli,
        memory_bytes=offer.memory_bytes,
        run_ms=offer.run_ms,
        start_utc_ms=offer.start_ms,
        finish_utc_ms=offer.finish_ms,
        price=_price_view(offer.price, 1),
        hold=_price_view(offer.hold, attempts),
        carbon_mg=offer.carbon_mg,
        latency_us=offer.latency_us,
        fits_budget=budget is None or offer.hold.total * attempts <= budget,
        best_start_utc_ms=offer.best_start_ms,
        best_saves=offer.best_saves,
    )


def _price_view(price: Price, times: int) -> PriceView:
    return PriceView(
        compute_microcny=price.compute * times,
        energy_microcny=price.energy * times,
        transfer_microcny=price.transfer * times,
        line_microcny=price.line * times,
        total_microcny=price.total * times,
    )


def _reasons_view(found: tuple[SiteReasons, ...], names: dict[str, str]) -> tuple[SiteReasonsView, ...]:
    return tuple(
        SiteReasonsView(
            site_id=item.site_id,
            site_name=names.get(item.site_id, item.site_id),
            pool_id=item.pool_id,
            reasons=tuple(ReasonView(code=r.code, need=r.need, have=r.have, lasting=r.lasting) for r in item.reasons),
        )
        for item in found
    )


@dataclass(frozen=True, slots=True)
class Explainer:
    """What `why` asks. `recall`: the rounds that are kept."""

    pricer: Pricer
    shapes: Shapes
    policy: Policy
    recall: Recall


def why(conn: sa.Connection, order_id: str, by: Explainer, now_ms: int) -> WhyView:
    """For an order that waits: what each pool lacks now. For a placed or ended one: where it went and why there, or
    why it failed."""
    order = views.detail(conn, order_id)
    where = placings(conn, order, by.recall)
    waiting = order.tasks.get(TaskState.PENDING.value, 0)
    placed = tuple(
        f"task {task.index}: {task.pool_id}" for task in order.task_list[:MAX_PLACED_SHOWN] if task.pool_id is not None
    )
    if OrderState(order.state) in ORDER_ENDED or not waiting:
        summary = _settled_summary(order) + rooms.said(conn, order_id)
        return WhyView(order_id=order_id, state=order.state, summary=summary, placed=placed, placings=where)
    shape = views.shape_of(conn, order_id, by.shapes)
    supply = by.pricer.supply_for(conn, shape, now_ms)
    sites = explain(shape, supply, by.policy, now_ms)
    names = {site.id: site.name for site in supply.sites}
    board = Board(supply, by.policy)
    wait = wait_of(shape, board, now_ms, order.submitted_utc_ms)
    waits = wait_view(wait, board, shape, waiting) if wait is not None else None
    booked_ms = shape.terms.start_ms if is_booking(shape, now_ms) else None
    return WhyView(
        order_id=order_id,
        state=order.state,
        summary=(hour_summary(waiting, waits) if waits else _waiting_summary(waiting, sites, booked_ms))
        + rooms.said(conn, order_id),
        wait=waits,
        placed=placed,
        sites=_reasons_view(sites, names),
        placings=where,
    )


def wait_view(wait: Wait, board: Board, shape: Shape, tasks: int) -> WaitView:
    return WaitView(
        site_id=board.columns.sites[wait.pool].id,
        start_utc_ms=wait.start_ms,
        latest_utc_ms=wait.latest_ms,
        preference=shape.terms.preference,
        saves=wait.saves * tasks,
        saves_percent=wait.saves_percent,
    )


def hour_summary(tasks: int, wait: WaitView) -> str:
    carbon = wait.preference is Preference.CARBON
    saves = format_carbon_mass(wait.saves) if carbon else format_money(wait.saves)
    return (
        f"{_what(tasks)} for {'a cleaner' if carbon else 'a cheaper'} hour at {wait.site_id}: expected "
        f"{moment(wait.start_utc_ms)}, at the latest {moment(wait.latest_utc_ms)}; saves {saves} "
        f"({wait.saves_percent} %). No capacity is reserved"
    )


def _what(tasks: int) -> str:
    return "1 task waits" if tasks == 1 else f"{tasks} tasks wait"


def _waiting_summary(waiting: int, sites: tuple[SiteReasons, ...], start_ms: int | None) -> str:
    what = _what(waiting)
    if start_ms is not None:
        what += f" to be booked for {moment(start_ms)}"
    if not sites:
        return f"{what}: the network has no site yet"
    if any(not item.reasons for item in sites):
        return f"{what} for the next round: there is a place that fits"
    busy = [item for item in sites if all(not r.lasting for r in item.reasons)]
    if busy:
        if start_ms is not None:
            return f"{what}: {len(busy)} of {len(sites)} pools fit but are taken then"
        return f"{what} for free units: {len(busy)} of {len(sites)} pools fit but are busy"
    return f"{what}: no pool of the network can meet this requirement"


def _settled_summary(order: OrderDetail) -> str:
    """Of an order of which no task waits for a place: `1 task succeeded at north: exit code 0`; each way to end, or to
    be under way, by itself."""
    booked = [task for task in order.task_list if task.booked_from_utc_ms is not None]
    if booked:
        first, more = booked[0], len(booked) - 1
        assert first.booked_from_utc_ms is not None and first.booked_until_utc_ms is not None
        when = f"{moment(first.booked_from_utc_ms)} to {moment(first.booked_until_utc_ms)}"
        return f"booked at {first.pool_id} from {when}" + (f", and {more} more" if more else "")
    ways: dict[str, int] = {}
    for task in order.task_list:
        way = _way(task)
        ways[way] = ways.get(way, 0) + 1
    said = [f"{count} task{'s' if count > 1 else ''} {way}" for way, count in ways.items()]
    return "; ".join(said[:MAX_PLACED_SHOWN]) or order.state.value


def _way(task: TaskView) -> str:
    where = f" at {task.site_id}" if task.site_id else ""
    attempts = f", attempt {task.epoch}" if task.epoch > 1 else ""
    if task.state is TaskState.LEASED:
        return f"given to {task.site_id}{attempts}, not started yet"
    if task.state is TaskState.RUNNING:
        return f"running{where}{attempts}"
    if task.state is TaskState.UNKNOWN:
        return f"placed{where}{attempts}, which the hub does not hear from"
    ended = f": {end_words(task.reason, task.exit_code, task.detail)}" if task.reason else ""
    return f"{task.state.value}{where}{attempts}{ended}"
