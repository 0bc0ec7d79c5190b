"""Places that an order had in one round: ranked, with what each would have cost, and why it went there or not."""

from collections.abc import Sequence

from nicegui import ui

from yunhe.console import panels
from yunhe.console.orders import words
from yunhe.console.orders.offers import split
from yunhe.console.orders.reasons import told
from yunhe.console.view import View
from yunhe.core.units import format_carbon_mass, format_latency, format_milli, format_money, format_span
from yunhe.wire.api import CandidateView, PlacingView


def candidates(view: View, found: Sequence[CandidateView], at_ms: int) -> None:
    """`at_ms`: when the round was."""
    columns = [
        panels.column("rank", view.say("rounds.rank"), right=True),
        panels.column("place", view.say("rounds.place")),
        panels.column("price", view.say("rounds.price"), right=True),
        panels.column("split", view.say("rounds.split"), wide=True),
        panels.column("start", view.say("rounds.start"), wide=True),
        panels.column("run", view.say("rounds.run"), right=True, wide=True),
        panels.column("carbon", view.say("rounds.carbon"), right=True, wide=True),
        panels.column("latency", view.say("rounds.latency"), right=True, wide=True),
        panels.column("units", view.say("rounds.units"), right=True, wide=True),
        panels.column("verdict", view.say("rounds.verdict")),
    ]
    latency = any(item.latency_us for item in found)
    rows = [_row(view, item, at_ms) for item in found]
    panels.table([c for c in columns if latency or c["name"] != "latency"], rows)


def _row(view: View, item: CandidateView, at_ms: int) -> dict[str, object]:
    wait_ms = item.start_utc_ms - at_ms
    verdict = [view.say("rounds.chosen", count=item.tasks)] if item.tasks else []
    return {
        "id": item.pool_id,
        "rank": str(item.rank),
        "place": item.site_name if item.pool_id == f"{item.site_id}:cpu" else f"{item.site_name} ({item.pool_id})",
        "price": format_money(item.price.total_microcny),
        "split": split(view, item.price),
        "start": view.say("new.now") if wait_ms <= 0 else f"+{format_span(wait_ms)}",
        "run": format_span(item.run_ms),
        "carbon": format_carbon_mass(item.carbon_mg),
        "latency": ", ".join(format_latency(us, 1) for us in item.latency_us),
        "units": f"{format_milli(item.free_milli)} → {format_milli(item.left_milli)}",
        "verdict": "; ".join([*verdict, *(told(view, reason) for reason in item.reasons)]),
    }


def placings(view: View, found: Sequence[PlacingView]) -> None:
    """Why each attempt went where it did."""
    who = view.session.who
    for placing in found:
        if placing.chosen is None:
            ui.label(view.say("why.forgotten", pool=placing.pool_id)).classes("yunhe-soft")
            continue
        best = words.word(view, "why", f"best_{placing.preference}" if placing.chosen.rank == 1 else "not_best")
        text = view.say(
            "why.by_round", pool=placing.pool_id, best=best, fitting=placing.fitting, rank=placing.chosen.rank
        )
        ui.label(text)
        shown = sorted((placing.chosen, *placing.others), key=lambda item: item.rank)
        candidates(view, shown, placing.placed_utc_ms)
        if placing.round_id is not None and who is not None and who.role in ("operator", "auditor"):
            order_id = placing.lease_id.partition(".")[0]
            to = panels.address("/operator", show="round", round=str(placing.round_id), order=order_id)
            ui.link(view.say("why.round", number=placing.round_id), to).classes("yunhe-link")
