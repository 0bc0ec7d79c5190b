"""Invoices and moves of the book as CSV, with the rights of the session.

Amounts are integers with their unit in the column's name. A cell that a spreadsheet would take for a formula gets an
apostrophe before it, as OWASP advises ("CSV Injection").
"""

import asyncio
import csv
import io
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Protocol
from urllib.parse import quote

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import PlainTextResponse, StreamingResponse

from yunhe.console.asking import Asking
from yunhe.console.guard import session_of
from yunhe.core.errors import RateLimited, YunheError
from yunhe.sdk.client import Client
from yunhe.wire.api import InvoiceView, PostingPage
from yunhe.wire.message import NO_NUL
from yunhe.wire.problem import STATUS

INVOICE_CSV = "/money/invoice.csv"
POSTINGS_CSV = "/money/postings.csv"
MAX_ROWS = 100_000  # of one file; one that ends there says so in its last row
PAGE_ROWS = 1_000
AT_ONCE = 4  # of all users together
CUT = "cut here: more rows than one file has; ask for one account or use `yunhe ledger postings`"
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_BOM = "\ufeff"  # spreadsheets read UTF-8 only with it

Row = Sequence[str | int]
Page = tuple[Sequence[Row], str | None]  # and the cursor of the next one


class Fetch(Protocol):
    def __call__(self, hub: Client, cursor: str | None) -> Page: ...


Word = Annotated[str | None, Query(min_length=1, max_length=120, pattern=NO_NUL)]
Month = Annotated[str, Query(max_length=7, pattern=r"^2\d{3}-(0[1-9]|1[0-2])$")]

INVOICE_COLUMNS = (
    "account",
    "month",
    "order_id",
    "order_name",
    "lease_id",
    "attempt",
    "site_id",
    "compute_microcny",
    "energy_microcny",
    "transfer_microcny",
    "line_microcny",
    "total_microcny",
)
POSTING_COLUMNS = ("time_utc", "set_ref", "n", "kind", "source", "destination", "amount", "unit")


def add_routes(web: FastAPI, asking: Asking) -> None:
    export = _Export(asking)

    @web.get(INVOICE_CSV)
    async def invoice(request: Request, month: Month, of: Word = None) -> Response:
        def fetch(hub: Client, cursor: str | None) -> Page:
            return _invoice_rows(hub.invoice_page(month, of, limit=PAGE_ROWS, cursor=cursor))

        return await export.answer(request, f"invoice-{month}.csv", INVOICE_COLUMNS, fetch)

    @web.get(POSTINGS_CSV)
    async def postings(request: Request, account: Word = None) -> Response:
        def fetch(hub: Client, cursor: str | None) -> Page:
            return _posting_rows(hub.postings_page(account, limit=PAGE_ROWS, cursor=cursor))

        return await export.answer(request, "postings.csv", POSTING_COLUMNS, fetch)


class _Export:
    """Streams pages as they come; the first is asked for before anything is said, so a refusal is one."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking
        self._free = asyncio.Semaphore(AT_ONCE)

    async def answer(self, request: Request, name: str, columns: Sequence[str], fetch: Fetch) -> Response:
        client = session_of(request.scope).client
        try:
            if self._free.locked():
                raise RateLimited("too many exports at once", hint="try again in a moment")
            first = await self._asking.ask(client, partial(fetch, cursor=None))
        except YunheError as error:
            said = f"{error.message}\n{error.hint}".strip()
            return PlainTextResponse(f"{said}\n", status_code=STATUS.get(type(error), 500))
        headers = {"content-disposition": f"attachment; filename*=utf-8''{quote(name, safe='')}"}
        headers["cache-control"] = "no-store"
        pieces = self._pieces(client, columns, fetch, first)
        return StreamingResponse(pieces, media_type="text/csv; charset=utf-8", headers=headers)

    async def _pieces(
        self, client: Client | None, columns: Sequence[str], fetch: Fetch, first: Page
    ) -> AsyncIterator[str]:
        async with self._free:
            rows, cursor = first
            yield _BOM + text_of([columns, *rows])
            written = len(rows)
            while cursor is not None:
                if written >= MAX_ROWS:
                    yield text_of([[CUT]])
                    return
                rows, cursor = await self._asking.ask(client, partial(fetch, cursor=cursor))
                written += len(rows)
                yield text_of(rows)


def text_of(rows: Iterable[Row]) -> str:
    """Rows as RFC 4180 has them."""
    out = io.StringIO()
    csv.writer(out).writerows([safe(cell) for cell in row] for row in rows)
    return out.getvalue()


def safe(cell: str | int) -> str | int:
    """Text that no spreadsheet computes; numbers stay numbers."""
    return f"'{cell}" if isinstance(cell, str) and cell.lstrip(" ").startswith(_FORMULA) else cell


def _invoice_rows(found: InvoiceView) -> Page:
    rows = [
        (
            found.account,
            found.month,
            line.order_id,
            line.order_name,
            line.lease_id,
            line.epoch,
            line.site_id,
            line.price.compute_microcny,
            line.price.energy_microcny,
            line.price.transfer_microcny,
            line.price.line_microcny,
            line.price.total_microcny,
        )
        for line in found.lines
    ]
    return rows, found.next_cursor


def _posting_rows(found: PostingPage) -> Page:
    rows = [
        (
            datetime.fromtimestamp(move.utc_ms / 1000, UTC).isoformat(timespec="milliseconds"),
            move.set_ref,
            move.n,
            move.kind,
            move.source,
            move.destination,
            move.amount,
            move.unit,
        )
        for move in found.postings
    ]
    return rows, found.next_cursor
