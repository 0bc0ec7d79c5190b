"""GET what rounds go by."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Depends

from yunhe.hub.accounts.service import Accounts, Principal
from yunhe.hub.matching.service import Matching
from yunhe.hub.platform.context import Platform
from yunhe.hub.platform.leader import Leader
from yunhe.wire.api import RoundView


def router(platform: Platform, accounts: Accounts, lead: Leader, matching: Matching) -> APIRouter:
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

    return api
