"""The signed batches that usage came with, for auditors: anyone who holds one can check the site's signature."""

import base64
from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Path

from yunhe.core.errors import NotFound
from yunhe.hub.accounts.service import Accounts, Principal
from yunhe.hub.catalogue import service as catalogue
from yunhe.hub.dispatch import store
from yunhe.hub.platform.context import Platform
from yunhe.wire.api import EvidenceView

Number = Annotated[int, Path(ge=1, le=2**53)]


def router(platform: Platform, accounts: Accounts) -> APIRouter:
    api = APIRouter(tags=["audit"])
    # A batch speaks of several customers' leases, so only those who see all may read it.
    Auditor = Annotated[Principal, Depends(accounts.require("operator"))]

    @api.get("/v1/evidence/{site_id}/{epoch}/{poll_no}")
    async def evidence(site_id: str, epoch: Number, poll_no: Number, who: Auditor) -> EvidenceView:
        """The poll that reported usage, as the site signed it."""
        return await platform.read(lambda conn: _find(conn, site_id, epoch, poll_no))

    return api


def _find(conn: sa.Connection, site_id: str, epoch: int, poll_no: int) -> EvidenceView:
    table = store.evidence
    row = conn.execute(
        sa.select(table).where(table.c.site_id == site_id, table.c.epoch == epoch, table.c.poll_no == poll_no)
    ).first()
    if row is None:
        raise NotFound(f"no usage came with {site_id}/{epoch}/{poll_no}", hint="`yunhe usage ORDER --json` names it")
    return EvidenceView(
        site_id=site_id,
        public_key=catalogue.public_key(conn, site_id),
        signed=_text(row.signed),
        body=_text(row.body),
        signature=row.signature,
    )


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
