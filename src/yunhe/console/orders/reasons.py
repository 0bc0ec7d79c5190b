"""Why pools do not take a task: the constraints that keep most away, then each pool with what it needs and has."""

from collections import Counter
from collections.abc import Sequence

from nicegui import ui

from yunhe.console.orders import words
from yunhe.console.view import View
from yunhe.wire.api import ReasonView, SiteReasonsView

MAX_ROWS = 200  # pools listed; the counts are of all
_PAGE = 8


def reasons(view: View, sites: Sequence[SiteReasonsView]) -> None:
    counted = Counter(reason.code for site in sites for reason in {r.code: r for r in site.reasons}.values())
    with ui.row().classes("items-center"):
        for code, count in counted.most_common():
            text = view.say("why.of", what=words.word(view, "constraints", code), count=count, pools=len(sites))
            ui.badge(text).props("color=grey-7")
    columns = [{"name": n, "label": view.say(f"why.{n}"), "field": n, "align": "left"} for n in ("pool", "missing")]
    rows = [
        {"key": index, "pool": _place(site), "missing": [_text(view, reason) for reason in site.reasons]}
        for index, site in enumerate(sites[:MAX_ROWS])
    ]
    for row in rows:
        row["missing"] = row["missing"] or [view.say("why.fits")]
    with ui.element("div").classes("yunhe-wide"):
        table = ui.table(columns=columns, rows=rows, row_key="key", pagination=_PAGE if len(rows) > _PAGE else None)
        table.classes("full-width").props("flat bordered dense wrap-cells")
        table.add_slot("body-cell-missing", _CELL)
    if len(sites) > MAX_ROWS:
        ui.label(view.say("why.more", count=len(sites) - MAX_ROWS)).classes("yunhe-soft")


_CELL = '<q-td :props="props"><div v-for="line in props.value">{{ line }}</div></q-td>'


def _place(site: SiteReasonsView) -> str:
    name = site.site_name or site.site_id
    if site.pool_id is None or name == site.site_id:
        return site.pool_id or name
    return f"{name} ({site.pool_id})"


def _text(view: View, reason: ReasonView) -> str:
    text = told(view, reason)
    return text if reason.lasting else f"{text} {view.say('why.passes')}"


def told(view: View, reason: ReasonView) -> str:
    """`price: needs <= 0.02CNY, has 0.03CNY`."""
    what = words.word(view, "constraints", reason.code)
    return view.say(
        "why.needs", what=what, need=words.phrases(view, reason.need), have=words.phrases(view, reason.have)
    )
