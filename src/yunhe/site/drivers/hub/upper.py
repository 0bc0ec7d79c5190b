"""What the driver has to know of the hub that this site belongs to: which one it is."""

from dataclasses import dataclass
from pathlib import Path

import httpx

from yunhe.core.errors import Unavailable
from yunhe.site.link import checked, parsed, trust
from yunhe.wire.api import HubView


@dataclass(frozen=True, slots=True)
class Upper:
    """The hub above and this site's id there. Not over the link: a site that joins has no epoch yet."""

    url: str
    site_id: str
    ca_file: Path | None
    timeout_ms: int

    async def hub_id(self) -> str:
        """Raises Unavailable."""
        limit = self.timeout_ms / 1000
        try:
            verify = trust(self.url, self.ca_file)
            async with httpx.AsyncClient(timeout=limit, verify=verify, trust_env=False) as http:
                response = await http.get(f"{self.url.rstrip('/')}/v1/hub")
        except httpx.TransportError as error:
            raise Unavailable(f"the hub above cannot be reached: {type(error).__name__} {error}") from error
        return parsed(HubView, checked(response)).id
