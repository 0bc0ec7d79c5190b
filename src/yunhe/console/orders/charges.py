"""What was charged, line by line, down to the inputs; each charge is computed again here."""

from collections.abc import Iterator
from dataclasses import fields

from nicegui import ui

from yunhe.console.orders import words
from yunhe.console.orders.way import index_of
from yunhe.console.view import View
from yunhe.core.demand import Precision, Work
from yunhe.core.tariff import BYTES_PER_GIB, RatingInputs, rate
from yunhe.core.units import (
    format_bytes,
    format_carbon,
    format_carbon_mass,
    format_energy,
    format_milli,
    format_money,
    format_span,
    format_work,
)
from yunhe.wire.api import ChargeView, UsageList, UsageView

MAX_CHARGES = 30
MAX_RECORDS = 200
_PAGE = 8
_NAMES = tuple(field.name for field in fields(RatingInputs))


def charges(view: View, found: UsageList) -> None:
    if not found.charges:
        ui.label(view.say("charge.none")).classes("yunhe-soft")
    alone = len(found.charges) == 1
    for charge in found.charges[:MAX_CHARGES]:
        title = view.say("charge.title", task=index_of(charge.lease_id), attempt=charge.epoch, site=charge.site_id)
        panel = ui.expansion(f"{title}: {format_money(charge.price.total_microcny)}", value=alone)
        with panel.classes("yunhe-card"):
            _charge(view, charge)
    if len(found.charges) > MAX_CHARGES:
        ui.label(view.say("charge.more", count=len(found.charges) - MAX_CHARGES)).classes("yunhe-soft")


def recomputed(charge: ChargeView) -> bool | None:
    """Whether the inputs give this charge; None when they are not those that this version computes from."""
    if not all(isinstance(charge.inputs.get(name), int | list | tuple) for name in _NAMES):
        return None
    again = rate(RatingInputs(**{name: charge.inputs[name] for name in _NAMES}))
    said = charge.price
    parts = (said.compute_microcny, said.energy_microcny, said.transfer_microcny, said.line_microcny)
    computed = (again.price.compute, again.price.energy, again.price.transfer, again.price.line)
    return (*parts, charge.operator_fee_microcny) == (*computed, again.fee)


def _charge(view: View, charge: ChargeView) -> None:
    same = recomputed(charge)
    if charge.disputed:
        ui.badge(view.say("charge.disputed")).props("color=orange-9")
    with ui.element("div").classes("yunhe-wide"), ui.element("table").classes("yunhe-sums"):
        for name, amount, how in _lines(view, charge):
            with ui.element("tr"):
                _cell("th", view.say(f"charge.{name}"))
                _cell("td", format_money(amount))
                _cell("td", how)
    with ui.row():
        ui.label(view.say("charge.energy_used", amount=format_energy(charge.energy_mwh))).classes("yunhe-soft")
        ui.label(view.say("charge.carbon", amount=format_carbon_mass(charge.carbon_mg))).classes("yunhe-soft")
        ui.label(view.say("charge.delivered", amount=_delivered(charge))).classes("yunhe-soft")
    key = "unknown" if same is None else "same" if same else "differs"
    ui.label(view.say(f"charge.{key}")).classes("text-negative" if same is False else "").props("role=status")
    with ui.expansion(view.say("charge.inputs")).classes("full-width"), ui.element("div").classes("yunhe-wide"):
        with ui.element("table").classes("yunhe-sums"):
            for name, value in charge.inputs.items():
                with ui.element("tr"):
                    _cell("th", name)
                    _cell("td", str(value))


def _lines(view: View, charge: ChargeView) -> Iterator[tuple[str, int, str]]:
    """(part, micro-CNY, how it comes about) of the charge and of the operator's fee in it."""
    price, inputs = charge.price, _Shown(charge.inputs)
    yield (
        "compute",
        price.compute_microcny,
        view.say(
            "charge.how_compute",
            units=inputs.thousandths("milli"),
            wall=inputs.span("wall_ms"),
            price=inputs.money("price_microcny_per_unit_hour"),
        ),
    )
    yield (
        "energy",
        price.energy_microcny,
        view.say(
            "charge.how_energy",
            busy=inputs.span("cpu_ms"),
            watts=inputs.text("watts_per_unit"),
            pue=inputs.thousandths("pue_milli"),
            price=inputs.money("power_price_microcny_per_kwh"),
            carbon=format_carbon(inputs.number("carbon_g_per_kwh")),
        ),
    )
    yield (
        "transfer",
        price.transfer_microcny,
        view.say(
            "charge.how_transfer",
            gib=format_bytes(inputs.number("data_bytes"), 2),
            price=inputs.money("transfer_microcny_per_gib"),
            one=format_bytes(BYTES_PER_GIB),
        ),
    )
    yield "line", price.line_microcny, ""
    capped = price.total_microcny >= inputs.number("hold_microcny") > 0
    yield "total", price.total_microcny, view.say("charge.capped") if capped else ""
    yield "fee", charge.operator_fee_microcny, view.say("charge.how_fee", percent=inputs.number("fee_bps") / 100)


class _Shown:
    """The inputs of a charge as text; what an older hub did not keep counts as 0."""

    def __init__(self, inputs: dict[str, object]) -> None:
        self._inputs = inputs

    def number(self, name: str) -> int:
        value = self._inputs.get(name)
        return value if isinstance(value, int) else 0

    def text(self, name: str) -> str:
        return str(self.number(name))

    def span(self, name: str) -> str:
        return format_span(self.number(name))

    def money(self, name: str) -> str:
        return format_money(self.number(name))

    def thousandths(self, name: str) -> str:
        return format_milli(self.number(name))


def _cell(kind: str, text: str) -> None:
    with ui.element(kind):
        ui.label(text)


def _delivered(charge: ChargeView) -> str:
    """Each precision by itself: they are never added."""
    known = set(Precision)
    parts = [format_work(Work(n, Precision(p)), 3) for p, n in charge.compute_delivered.items() if p in known and n]
    return ", ".join(parts) or words.NONE


def records(view: View, found: UsageList) -> None:
    """Each measured interval, and the signed batch of the site that said so."""
    names = ("task", "attempt", "from", "to", "cpu", "peak", "measured", "evidence")
    columns = [{"name": n, "label": view.say(f"usage.{n}"), "field": n, "align": "left"} for n in names]
    rows = [{"key": key, **_record(view, record)} for key, record in enumerate(found.usage[:MAX_RECORDS])]
    with ui.element("div").classes("yunhe-wide"):
        table = ui.table(columns=columns, rows=rows, row_key="key", pagination=_PAGE if len(rows) > _PAGE else None)
        table.classes("full-width").props("flat bordered dense")
    if len(found.usage) > MAX_RECORDS:
        ui.label(view.say("usage.more", count=len(found.usage) - MAX_RECORDS)).classes("yunhe-soft")


def _record(view: View, record: UsageView) -> dict[str, object]:
    how = [view.say("usage.sampled" if record.sampled else "usage.kernel")]
    how += [view.say("usage.final")] if record.final else []
    how += [view.say("usage.disputed")] if record.disputed else []
    return {
        "task": index_of(record.lease_id),
        "attempt": record.epoch,
        "from": format_span(record.from_ms),
        "to": format_span(record.to_ms),
        "cpu": format_span(record.cpu_ms),
        "peak": format_bytes(record.peak_memory_bytes, 1),
        "measured": ", ".join(how),
        "evidence": record.evidence or words.NONE,
    }
