"""What a site earned in a month, day by day, and what ran there."""

from nicegui import ui

from yunhe.console import panels
from yunhe.console.view import View
from yunhe.core.units import format_energy, format_milli, format_money, format_span
from yunhe.wire.api import SiteChargePage, SiteRevenue

MICRO = 1_000_000


def revenue(view: View, found: SiteRevenue) -> None:
    if not found.days:
        ui.label(view.say("earning.none", month=found.month)).classes("yunhe-soft")
        return
    days = found.days
    panels.figures(
        (
            (
                view.say("earning.earned"),
                format_money(sum(day.earned_microcny for day in days)),
                view.say("earning.fee", amount=format_money(sum(day.operator_fee_microcny for day in days))),
            ),
            (
                view.say("earning.runs"),
                str(sum(day.charges for day in days)),
                view.say("earning.disputed", count=sum(day.disputed for day in days)),
            ),
            (view.say("earning.energy"), format_energy(sum(day.energy_mwh for day in days)), ""),
        )
    )
    ui.echart(
        {
            "animation": False,
            "grid": {"left": 60, "right": 12, "top": 24, "bottom": 24},
            "tooltip": {"trigger": "axis"},
            "xAxis": {"type": "category", "data": [day.day[5:] for day in days]},
            "yAxis": {"type": "value", "name": "CNY", "nameTextStyle": {"color": "#888"}},
            "series": [
                {
                    "type": "bar",
                    "name": view.say("earning.earned"),
                    "barMaxWidth": 28,
                    "itemStyle": {"color": "#2a7f62"},
                    "data": [day.earned_microcny / MICRO for day in days],
                }
            ],
        }
    ).classes("yunhe-chart").props(f'role=img aria-label="{view.say("earning.earned")}"')


def charges(view: View, found: SiteChargePage) -> None:
    columns = [
        panels.column("at", view.say("earning.at")),
        panels.column("lease", view.say("earning.lease"), wide=True),
        panels.column("used", view.say("earning.used"), right=True, wide=True),
        panels.column("price", view.say("earning.price"), right=True, wide=True),
        panels.column("fee", view.say("earning.fee_column"), right=True, wide=True),
        panels.column("earned", view.say("earning.earned"), right=True),
        panels.column("note", view.say("earning.note"), whole=True),
    ]
    rows = [
        {
            "id": f"{charge.lease_id}:{charge.epoch}",
            "at": view.moment(charge.at_utc_ms),
            "lease": f"{charge.lease_id}:{charge.epoch}",
            "used": f"{format_milli(charge.units_milli)} × {format_span(charge.wall_ms)}",
            "price": format_money(charge.price.total_microcny),
            "fee": format_money(charge.operator_fee_microcny),
            "earned": format_money(charge.earned_microcny),
            "note": view.say("earning.is_disputed") if charge.disputed else "",
            "colour": "orange-9",
        }
        for charge in found.charges
    ]
    panels.table(columns, rows, badge="note")
