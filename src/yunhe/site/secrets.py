"""Secrets of a lease, from the hub to the job: opened in this process's memory, never kept, never written to a disk."""

import json

from yunhe.core.errors import InvalidInput
from yunhe.site.drivers.contract import Driver, SpawnFailed, delivers_secrets
from yunhe.site.link import Link
from yunhe.wire import sealing
from yunhe.wire.link import SecretsWanted, StartLease


class Secrets:
    """Of the leases of one site."""

    def __init__(self, link: Link, site_id: str, driver: Driver) -> None:
        self._link = link
        self._site_id = site_id
        self._driver = driver

    async def get(self, start: StartLease) -> dict[str, bytes]:
        """Name -> value. Raises SpawnFailed where the engine cannot deliver them, InvalidInput for what was not sealed
        for this lease, NotFound when this site may not have them (any more), else the link's errors."""
        if not start.secrets:
            return {}
        if not delivers_secrets(self._driver):
            raise SpawnFailed("this engine cannot deliver secrets")
        key = sealing.new_key()
        wanted = SecretsWanted(public_key=sealing.public_text(key))
        sealed = (await self._link.secrets(start.lease_id, start.epoch, wanted)).sealed
        plain = sealing.unseal(key, sealed, sealing.context(self._site_id, start.lease_id, start.epoch))
        values = {str(name): str(text).encode() for name, text in json.loads(plain).items()}
        if values.keys() != set(start.secrets):
            raise InvalidInput("other secrets came than the lease names", field="secrets")
        return values
