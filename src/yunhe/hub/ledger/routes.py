"""Balances, deposits, and the book itself."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from yunhe.core import units
from yunhe.core.errors import NotFound
from yunhe.hub.accounts.service import Accounts, Principal
from yunhe.hub.ledger import service
from yunhe.hub.ledger.service import Balance, Deposit
from yunhe.hub.platform.context import Platform
from yunhe.wire.api import BalanceView, DepositRequest, PostingPage, PostingView, TrialBalance, TrialBalanceRow


def router(platform: Platform, accounts: Accounts) -> APIRouter:
    """Paths under /v1 of this room."""
    routes = APIRouter(prefix="/v1", tags=["ledger"])
    Anyone = Annotated[Principal, Depends(accounts.require("customer", "provider"))]
    Operator = Annotated[Principal, Depends(accounts.require("operator"))]

    @routes.get("/balance")
    async def balance(
        principal: Anyone, organisation: Annotated[str | None, Query(max_length=80)] = None
    ) -> BalanceView:
        """One's own; an operator or auditor may name an organisation."""
        wanted = organisation or principal.organisation
        principal.check_sees(wanted, f"organisation {wanted}")
        return balance_view(await platform.read(lambda conn: service.balance(conn, wanted)))

    @routes.post("/deposits")
    async def deposit(body: DepositRequest, principal: Operator) -> BalanceView:
        """Book a payment; the same reference again is not booked twice."""
        amount = units.parse_money(body.amount, "amount", zero_ok=False)
        wanted = Deposit(body.organisation, amount, body.reference, platform.clock.now_ms())
        return balance_view(await platform.write(service.deposit_by, (principal, wanted)))

    @routes.get("/trial-balance")
    async def trial_balance(principal: Operator) -> TrialBalance:
        """Every balance recomputed from the postings; for operators and auditors."""
        trial = await platform.read(service.trial_balance)
        rows = tuple(TrialBalanceRow(account=row.account, unit=row.unit, amount=row.amount) for row in trial.rows)
        return TrialBalance(rows=rows, sum_by_unit=trial.sum_by_unit, postings=trial.postings, balanced=trial.balanced)

    @routes.get("/postings")
    async def list_postings(
        principal: Anyone,
        account: Annotated[str | None, Query(max_length=120)] = None,
        cursor: Annotated[str | None, Query(max_length=200)] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = service.PAGE,
    ) -> PostingPage:
        """Newest first: of one account of the book, or of all that one may see."""
        visible = None if principal.sees_all else service.own_accounts(principal.organisation)
        if account is not None:
            if visible is not None and account not in visible:
                raise NotFound(f"account {account} is not known", field="account")
            visible = (account,)
        rows, following = await platform.read(lambda conn: service.postings(conn, visible, cursor, limit))
        views = tuple(
            PostingView(
                set_ref=row.set_ref,
                n=row.n,
                utc_ms=row.at_ms,
                kind=row.kind,
                source=row.source,
                destination=row.destination,
                amount=row.amount,
                unit=row.unit,
            )
            for row in rows
        )
        return PostingPage(postings=views, next_cursor=following)

    return routes


def balance_view(balance: Balance) -> BalanceView:
    return BalanceView(
        account=balance.organisation,
        available_microcny=balance.available,
        held_microcny=balance.held,
        credit_limit_microcny=balance.credit_limit,
        earned_microcny=balance.earned,
    )
