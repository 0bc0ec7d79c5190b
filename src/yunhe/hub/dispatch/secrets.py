"""Secrets of an order, sealed to the site that is to start it."""

from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, Depends

from yunhe.hub.dispatch import sync
from yunhe.hub.dispatch.polling import Gate, SignedRequest
from yunhe.hub.dispatch.routes import Epoch, LeaseId
from yunhe.hub.orders import secrets
from yunhe.hub.orders.vault import Vault
from yunhe.hub.platform.context import Platform
from yunhe.wire import sealing
from yunhe.wire.link import SealedSecrets, SecretsWanted


def router(platform: Platform, gate: Gate, vault: Vault) -> APIRouter:
    api = APIRouter(tags=["agent"])
    Signed = Annotated[SignedRequest, Depends(gate)]

    @api.post("/v1/agent/secrets/{lease_id}/{epoch}")
    async def sealed(lease_id: LeaseId, epoch: Epoch, wanted: SecretsWanted, signed: Signed) -> SealedSecrets:
        """The secrets of a lease that the site holds and has not started. A repeat is sealed anew."""
        site_id = signed.site_id

        def read(conn: sa.Connection) -> tuple[str, str]:
            sync.check_epoch(conn, site_id, signed.epoch)
            return secrets.for_lease(conn, site_id, lease_id, epoch)

        plain = vault.open_sealed(*await platform.read(read))
        return SealedSecrets(sealed=sealing.seal(wanted.public_key, plain, sealing.context(site_id, lease_id, epoch)))

    return api
