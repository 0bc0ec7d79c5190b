"""Ranked offers for an order, and per pool why it does not fit."""

import time

from nicegui import ui

from yunhe.console.orders.reasons import reasons
from yunhe.console.view import View
from yunhe.core.units import (
    format_bytes,
    format_carbon_mass,
    format_latency,
    format_milli,
    format_money,
    format_span,
)
from yunhe.wire.api import OfferView, PriceView, QuoteView

MAX_SHOWN = 12
NOW_MS = 5_000  # what starts within this time starts now


def offers(view: View, found: QuoteView) -> None:
    if not found.offers:
        ui.label(view.say("new.no_offer")).classes("text-weight-bold").props("role=status")
    with ui.element("ol").classes("yunhe-list").props(f'aria-label="{view.say("new.offers")}"'):
        for rank, offer in enumerate(found.offers[:MAX_SHOWN], 1):
            with ui.element("li"):
                _offer(view, rank, offer)
    if len(found.offers) > MAX_SHOWN:
        ui.label(view.say("new.more_offers", count=len(found.offers) - MAX_SHOWN)).classes("yunhe-soft")
    if found.refused:
        title = view.say("new.refused", count=len(found.refused))
        with ui.expansion(title, value=not found.offers).classes("full-width"):
            reasons(view, found.refused)


def most(found: QuoteView) -> int | None:
    """What the hub holds for this order, micro-CNY: the most it can cost where it fits; None when it fits nowhere."""
    return max((offer.hold.total_microcny for offer in found.offers), default=None)


def _offer(view: View, rank: int, offer: OfferView) -> None:
    name = offer.site_name or offer.site_id
    pool = "" if offer.pool_id == f"{offer.site_id}:cpu" else offer.pool_id
    with ui.row().classes("items-baseline full-width no-wrap"):
        ui.label(f"{rank}. {name}").classes("text-weight-bold yunhe-break")
        ui.label(pool).classes("yunhe-soft")
        if not offer.fits_budget:
            ui.badge(view.say("new.over_budget")).props("color=orange-9")
        ui.space()
        ui.label(format_money(offer.price.total_microcny)).classes("text-weight-bold yunhe-digits")
    ui.label(split(view, offer.price)).classes("yunhe-soft yunhe-digits")
    now = offer.start_utc_ms <= time.time() * 1000 + NOW_MS
    said = [
        view.say("new.now") if now else view.say("new.from", at=view.moment(offer.start_utc_ms)),
        view.say("new.runs", span=format_span(offer.run_ms)),
        view.say("new.units", units=format_milli(offer.units_milli), chip=offer.chip),
        *([format_bytes(offer.memory_bytes, 1)] if offer.memory_bytes else []),
        *(format_latency(us, 2) for us in offer.latency_us),
        f"CO₂ {format_carbon_mass(offer.carbon_mg)}",
        view.say("new.most", amount=format_money(offer.hold.total_microcny)),
    ]
    ui.label(" · ".join(said)).classes("yunhe-soft yunhe-digits")


def split(view: View, price: PriceView) -> str:
    """`Compute 0.04CNY + Energy 0.01CNY`; parts of nothing are left out."""
    parts = (
        ("compute", price.compute_microcny),
        ("energy", price.energy_microcny),
        ("transfer", price.transfer_microcny),
        ("line", price.line_microcny),
    )
    return " + ".join(f"{view.say(f'charge.{name}')} {format_money(amount)}" for name, amount in parts if amount)
