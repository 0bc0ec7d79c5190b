"""Money: balance, holds, invoices by month, every move of the book, and the proof that it balances."""

from nicegui import ui

from yunhe.console import panels
from yunhe.console.exports import INVOICE_CSV, POSTINGS_CSV
from yunhe.console.money import books
from yunhe.console.panels import address, word
from yunhe.console.shell import shell
from yunhe.console.view import View
from yunhe.core.posting import FEES
from yunhe.core.units import format_money
from yunhe.sdk.client import Client
from yunhe.wire.api import BalanceView, InvoiceView, PostingPage

PATH = "/money"
ROWS = 25
REFRESH_S = 5.0


async def page(view: View) -> None:
    with shell(view, view.say("money.title"), PATH):
        ui.label(view.say("money.title")).classes("yunhe-title").props("role=heading aria-level=1")
        who = view.session.who
        if who is None:
            view.part(lambda: view.ask(Client.whoami), lambda _: None)
            return
        MoneyPage(view, sees_all=who.role in ("operator", "auditor"), bills=who.role != "provider")


class MoneyPage:
    """What is looked at is in the address: `of` (an organisation), `month`, `account`, and places in lists."""

    def __init__(self, view: View, *, sees_all: bool, bills: bool) -> None:
        self._view, self._sees_all = view, sees_all
        self._of = word(view, "of") if sees_all else ""
        self._month, self._account = panels.month_of(view), word(view, "account")
        self._line, self._move = word(view, "line"), word(view, "move")
        if sees_all:
            panels.search(view, PATH, "of", self._of, view.say("money.of"))
        view.part(self._fetch_balance, self._draw_balance, every_s=REFRESH_S)
        if bills:
            with panels.card(view.say("money.invoice")):
                panels.months(view, self._month, lambda month: self._address(month=month, line=""))
                view.part(self._fetch_invoice, self._draw_invoice)
        with panels.card(view.say("money.postings")):
            self._accounts()
            view.part(self._fetch_postings, self._draw_postings)
        if sees_all:
            with panels.card(view.say("money.proof")):
                self._proof()

    def _address(self, **changed: str | None) -> str:
        now = {"of": self._of, "month": self._month, "account": self._account, "line": self._line, "move": self._move}
        return address(PATH, **{**now, **changed})

    # --- balance --------------------------------------------------------------------------------------------------

    async def _fetch_balance(self) -> BalanceView:
        return await self._view.ask(lambda hub: hub.balance(self._of or None))

    def _draw_balance(self, found: BalanceView) -> None:
        view = self._view
        ui.label(found.account).classes("yunhe-sub")
        credit = view.say("money.credit", amount=format_money(found.credit_limit_microcny))
        panels.figures(
            (
                (view.say("money.available"), format_money(found.available_microcny), credit),
                (view.say("money.held"), format_money(found.held_microcny), view.say("money.held_means")),
                (view.say("money.earned"), format_money(found.earned_microcny), view.say("money.earned_means")),
            )
        )

    # --- invoice --------------------------------------------------------------------------------------------------

    async def _fetch_invoice(self) -> InvoiceView:
        cursor = self._line or None
        return await self._view.ask(
            lambda hub: hub.invoice_page(self._month, self._of or None, limit=ROWS, cursor=cursor)
        )

    def _draw_invoice(self, found: InvoiceView) -> None:
        view = self._view
        if not found.line_count:
            view.show_empty(view.say("money.no_lines", month=found.month), view.say("money.to_orders"), "/orders")
            return
        with ui.row().classes("items-center full-width"):
            total = view.say("money.total", amount=format_money(found.total_microcny), count=found.line_count)
            ui.label(total).classes("yunhe-digits text-weight-bold")
            ui.space()
            _csv(view, address(INVOICE_CSV, month=self._month, of=self._of))
        books.lines(view, found)
        following = self._address(line=found.next_cursor) if found.next_cursor else None
        panels.pages(view, first=self._address(line="") if self._line else None, following=following)

    # --- postings -------------------------------------------------------------------------------------------------

    def _accounts(self) -> None:
        """Which account's moves: one's own by name, for those who see all also any other."""
        view, who = self._view, self._view.session.who
        of = self._of or (who.organisation if who else "")
        own = {name: f"org:{of}:{name}" for name in books.OWN} | ({"fees": FEES} if self._sees_all else {})
        items = [(view.say("money.all"), self._address(account="", move=""), not self._account)]
        items += [
            (view.say(f"money.account_{name}"), self._address(account=account, move=""), account == self._account)
            for name, account in own.items()
        ]
        panels.tabs(view.say("money.account"), items)
        if self._sees_all:
            kept = {name: value for name, value in (("of", self._of), ("month", self._month)) if value}
            panels.search(view, PATH, "account", self._account, view.say("money.any_account"), kept)

    async def _fetch_postings(self) -> PostingPage:
        account, cursor = self._account or None, self._move or None
        return await self._view.ask(lambda hub: hub.postings_page(account, limit=ROWS, cursor=cursor))

    def _draw_postings(self, found: PostingPage) -> None:
        view = self._view
        if not found.postings:
            view.show_empty(view.say("money.no_moves"))
        else:
            with ui.row().classes("full-width"):
                ui.space()
                _csv(view, address(POSTINGS_CSV, account=self._account))
            books.moves(view, found.postings)
        following = self._address(move=found.next_cursor) if found.next_cursor else None
        panels.pages(view, first=self._address(move="") if self._move else None, following=following)

    # --- proof ----------------------------------------------------------------------------------------------------

    def _proof(self) -> None:
        """On demand: the hub adds up every posting that there is."""
        view = self._view
        ui.label(view.say("money.proof_means")).classes("yunhe-soft")
        button = ui.button(view.say("money.prove")).props("outline no-caps")
        box = ui.column().classes("full-width")

        def check() -> None:
            box.clear()
            with box:
                view.part(lambda: view.ask(Client.trial_balance), lambda found: books.proof(view, found))

        button.on_click(check)


def _csv(view: View, to: str) -> None:
    ui.link(view.say("money.csv"), to).props("download").classes("yunhe-link")
