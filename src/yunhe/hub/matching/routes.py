"""GET what rounds go by, and the newest of them in detail."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query

from yunhe.hub.accounts.service import Accounts, Principal
from yunhe.hub.matching.looking import Rounds
from yunhe.hub.matching.service import Matching
from yunhe.hub.platform.context import Platform
from yunhe.hub.platform.leader import Leader
from yunhe.wire.api import RoundDetail, RoundList, RoundOrderView, RoundView

Number = Annotated[int, Path(ge=1, le=2**62)]
Cursor = Annotated[str | None, Query(max_length=20)]


def router(platform: Platform, accounts: Accounts, lead: Leader, matching: Matching, rounds: Rounds) -> APIRouter:
    api = APIRouter(tags=["hub"])
    Operator = Annotated[Principal, Depends(accounts.require("operator"))]

    @api.get("/v1/round")
    async def shown(who: Operator) -> RoundView:
        """The policy of rounds, and this replica's own figures of them; for operators and auditors."""
        return RoundView(
            policy=asdict(platform.settings.policy),
            seed=platform.settings.round_seed,
            leading=lead.leading,
            rounds=matching.rounds,
            last_round_ms=matching.last_round_ms,
        )

    @api.get("/v1/rounds")
    async def latest(
        who: Operator, cursor: Cursor = None, limit: Annotated[int, Query(ge=1, le=1000)] = 100
    ) -> RoundList:
        """Rounds that are kept, newest first; for operators and auditors."""
        return await platform.read(lambda conn: rounds.page(conn, cursor, limit))

    @api.get("/v1/rounds/{number}")
    async def one(
        number: Number, who: Operator, cursor: Cursor = None, limit: Annotated[int, Query(ge=1, le=1000)] = 100
    ) -> RoundDetail:
        """One round, and a page of the orders that it looked at."""
        return await platform.read(lambda conn: rounds.detail(conn, number, cursor, limit))

    @api.get("/v1/rounds/{number}/orders/{order_id}")
    async def order(number: Number, order_id: Annotated[str, Path(max_length=80)], who: Operator) -> RoundOrderView:
        """One order in one round: every place that it had, ranked, and why it went where it did."""
        return await platform.read(lambda conn: rounds.order(conn, number, order_id))

    return api
