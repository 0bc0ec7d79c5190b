"""The rounds that the hub keeps: the list, one of them, and one order in it."""

from nicegui import ui

from yunhe.console import panels
from yunhe.console.operating import health
from yunhe.console.orders import words
from yunhe.console.orders.candidates import candidates
from yunhe.console.orders.reasons import reasons
from yunhe.console.panels import NONE, address, word
from yunhe.console.view import View
from yunhe.core.units import format_milli
from yunhe.wire.api import RoundDetail, RoundList, RoundOrderView, RoundSummary

PATH = "/operator"
ROWS = 25
REFRESH_S = 5.0
MAX_NUMBER_CHARS = 18


def rounds(view: View) -> None:
    """By the address: the list and the policy, one round, or one order in it."""
    number, order_id = word(view, "round"), word(view, "order")
    if not (number.isascii() and number.isdecimal() and len(number) <= MAX_NUMBER_CHARS):
        _list(view)
        health.rounds(view)
        return
    with panels.card(view.say("rounds.one", number=number)):
        ui.link(view.say("rounds.all"), address(PATH, show="round")).classes("yunhe-link")
        if order_id:
            to_round = address(PATH, show="round", round=number)
            ui.link(view.say("rounds.back", number=number), to_round).classes("yunhe-link")
            view.part(
                lambda: view.ask(lambda hub: hub.round_order(int(number), order_id)), lambda found: _order(view, found)
            )
            return
        cursor = word(view, "cursor") or None
        view.part(
            lambda: view.ask(lambda hub: hub.round_detail(int(number), limit=ROWS, cursor=cursor)),
            lambda found: _round(view, found, cursor),
        )


def _list(view: View) -> None:
    cursor = word(view, "cursor")

    def draw(found: RoundList) -> None:
        if not found.rounds:
            view.show_empty(view.say("rounds.none"))
            return
        columns = [
            panels.column("number", view.say("rounds.number"), right=True),
            panels.column("at", view.say("rounds.at")),
            panels.column("cause", view.say("rounds.cause"), wide=True),
            panels.column("orders", view.say("rounds.orders"), right=True),
            panels.column("placed", view.say("rounds.placed"), right=True),
            panels.column("waiting", view.say("rounds.waiting"), right=True, wide=True),
            panels.column("unplaceable", view.say("rounds.unplaceable"), right=True, wide=True),
            panels.column("took", view.say("rounds.took"), right=True, wide=True),
            panels.column("gap", view.say("rounds.gap"), right=True, wide=True),
        ]
        panels.table(columns, [_line(view, item) for item in found.rounds], link="number")
        following = address(PATH, show="round", cursor=found.next_cursor) if found.next_cursor else None
        panels.pages(view, first=address(PATH, show="round") if cursor else None, following=following)

    with panels.card(view.say("rounds.kept")):
        view.part(
            lambda: view.ask(lambda hub: hub.rounds(limit=ROWS, cursor=cursor or None)),
            draw,
            every_s=None if cursor else REFRESH_S,
        )


def _line(view: View, item: RoundSummary) -> dict[str, object]:
    return {
        "id": item.id,
        "address": address(PATH, show="round", round=str(item.id)),
        "number": str(item.id),
        "at": view.moment(item.at_utc_ms),
        "cause": words.word(view, "causes", item.cause),
        "orders": f"{item.open_orders:,}",
        "placed": _placed(item),
        "waiting": f"{item.waiting:,}",
        "unplaceable": f"{item.unplaceable:,}",
        "took": f"{item.took_ms:.1f} ms",
        "gap": NONE if item.gap_percent is None else f"{item.gap_percent:.2f} %",
    }


def _placed(item: RoundSummary) -> str:
    return f"{item.placed:,}" if item.placed == item.assigned else f"{item.placed:,} / {item.assigned:,}"


def _round(view: View, found: RoundDetail, cursor: str | None) -> None:
    head = found.summary
    bound = NONE
    if found.cost_microcny is not None and found.least_microcny is not None and head.gap_percent is not None:
        bound = f"{found.cost_microcny:,.0f} / {found.least_microcny:,.0f} ({head.gap_percent:.2f} %)"
    panels.facts(
        (
            (view.say("rounds.at"), view.moment(head.at_utc_ms)),
            (view.say("rounds.cause"), words.word(view, "causes", head.cause)),
            (view.say("rounds.took"), f"{head.took_ms:.1f} ms"),
            (view.say("rounds.orders"), f"{head.open_orders:,}"),
            (view.say("rounds.placed"), _placed(head)),
            (view.say("rounds.waiting"), f"{head.waiting:,}"),
            (view.say("rounds.unplaceable"), f"{head.unplaceable:,}"),
            (view.say("rounds.network"), view.say("rounds.size", pools=found.pools, sites=found.sites)),
            (view.say("rounds.bound"), bound),
            (view.say("round.seed"), str(found.seed)),
        )
    )
    columns = [
        panels.column("order", view.say("audit.order")),
        panels.column("account", view.say("rounds.account"), wide=True),
        panels.column("priority", view.say("rounds.priority"), right=True, wide=True),
        panels.column("submitted", view.say("rounds.submitted"), wide=True),
        panels.column("placed", view.say("rounds.placed"), right=True),
        panels.column("pools", view.say("rounds.where")),
    ]
    rows = [
        {
            "id": line.order_id,
            "address": address(PATH, show="round", round=str(head.id), order=line.order_id),
            "order": line.order_id,
            "account": line.account,
            "priority": str(line.priority),
            "submitted": view.moment(line.submitted_utc_ms),
            "placed": f"{line.assigned} / {line.tasks}",
            "pools": ", ".join(f"{pool} ×{n}" if n > 1 else pool for pool, n in line.pools.items()) or NONE,
        }
        for line in found.orders
    ]
    panels.table(columns, rows, link="order")
    here = {"show": "round", "round": str(head.id)}
    following = address(PATH, **here, cursor=found.next_cursor) if found.next_cursor else None
    panels.pages(view, first=address(PATH, **here) if cursor else None, following=following)
    ui.label(view.say("rounds.shares")).classes("yunhe-sub").props("role=heading aria-level=3")
    _shares(view, found)


def _shares(view: View, found: RoundDetail) -> None:
    columns = [
        panels.column("account", view.say("rounds.account")),
        panels.column("weight", view.say("account.weight"), right=True),
        panels.column("used", view.say("account.used"), right=True),
        panels.column("quota", view.say("account.quota"), right=True),
    ]
    rows = [
        {
            "id": share.account,
            "account": share.account,
            "weight": str(share.weight),
            "used": format_milli(share.used_milli),
            "quota": view.say("account.no_quota") if share.quota_milli is None else format_milli(share.quota_milli),
        }
        for share in found.shares
        if share.used_milli or any(line.account == share.account for line in found.orders)
    ]
    panels.table(columns, rows)


def _order(view: View, found: RoundOrderView) -> None:
    panels.facts(
        (
            (view.say("audit.order"), found.order_id),
            (view.say("rounds.account"), found.account),
            (view.say("rounds.at"), view.moment(found.at_utc_ms)),
            (view.say("rounds.preference"), words.word(view, "rounds", f"by_{found.preference}")),
            (view.say("rounds.placed"), f"{found.assigned} / {found.tasks}"),
            (view.say("rounds.fitting"), f"{found.fitting:,}"),
        )
    )
    if found.candidates:
        candidates(view, found.candidates, found.at_utc_ms)
    else:
        ui.label(view.say("rounds.no_place")).classes("text-weight-bold")
    if found.refused:
        ui.label(view.say("rounds.refused")).classes("yunhe-sub").props("role=heading aria-level=3")
        reasons(view, found.refused)
