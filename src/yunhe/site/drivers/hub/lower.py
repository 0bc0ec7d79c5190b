"""The lower hub over its public API: every call in a thread, with a bound of time; the key comes from a file."""

import asyncio
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from yunhe.core.errors import InvalidInput, Unavailable
from yunhe.sdk.client import Client
from yunhe.site.settings import LowerHubSettings
from yunhe.wire.api import Follow, LookView, OrderSpec, OutputView, SiteView
from yunhe.wire.api.orders import MAX_LOOK

T = TypeVar("T")
ROLE = "customer"
MAX_KEY_BYTES = 1_000


def read_key(path: Path | None) -> str:
    """The API key of a file that nobody else may read. Raises InvalidInput."""
    if path is None:
        raise InvalidInput("is required: the file with the lower hub's key", field="hub.key_file")
    try:
        info = path.stat()
        text = path.read_text(encoding="utf-8")[:MAX_KEY_BYTES].strip()
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}", field="hub.key_file") from error
    if stat.S_IMODE(info.st_mode) & 0o077:
        raise InvalidInput(f"others may read {path}", field="hub.key_file", hint=f"chmod 600 {path}")
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise InvalidInput(f"{path} does not hold one API key", field="hub.key_file")
    return text


class LowerHub:
    """Calls of one account. The constructor opens nothing. Raises the lower hub's errors, Unavailable without one."""

    def __init__(self, settings: LowerHubSettings) -> None:
        self._settings = settings
        self._client: Client | None = None

    async def _do(self, call: Callable[[Client], T]) -> T:
        limit_s = self._settings.request_timeout_ms / 1000
        try:
            # httpx bounds each step of a call; this bounds the whole.
            async with asyncio.timeout(2 * limit_s):
                return await asyncio.to_thread(lambda: call(self._opened(limit_s)))
        except TimeoutError:
            raise Unavailable(f"no answer from {self._settings.url} in time") from None

    def _opened(self, limit_s: float) -> Client:
        if self._client is None:
            if not self._settings.url:
                raise InvalidInput("is required: the lower hub's address", field="hub.url")
            self._client = Client(self._settings.url, read_key(self._settings.key_file), timeout=limit_s, retries=0)
        return self._client

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    async def check_account(self) -> None:
        """Raises InvalidInput unless the key is that of a customer: nothing more is needed, so nothing more is held."""
        who = await self._do(lambda hub: hub.whoami())
        if who.role != ROLE:
            raise InvalidInput(
                f"the key at {self._settings.url} is that of an {who.role}",
                field="hub.key_file",
                hint=f"a customer's is enough: yunhe keys create {who.organisation} NAME --role customer",
            )

    async def hub_id(self) -> str:
        return (await self._do(lambda hub: hub.hub())).id

    async def sites(self) -> tuple[SiteView, ...]:
        return await self._do(lambda hub: hub.sites())

    async def submit(self, spec: OrderSpec, key: str) -> str:
        """The order's id; the same key and spec again is the same order."""
        return (await self._do(lambda hub: hub.submit(spec, key))).id

    async def cancel(self, order_id: str) -> None:
        await self._do(lambda hub: hub.cancel(order_id))

    async def look(self, keys: Sequence[str], follow: Follow | None = None) -> dict[str, LookView]:
        """What became of the orders of these keys; keys that made none are absent. Nobody waits for the orders of
        `follow` any more when it is silent for longer than it says."""
        found: dict[str, LookView] = {}
        for start in range(0, max(1, len(keys)), MAX_LOOK):
            part = tuple(keys[start : start + MAX_LOOK])
            views = await self._do(lambda hub, part=part: hub.look(part, follow))  # type: ignore[misc]
            found.update((view.key, view) for view in views)
        return found

    async def log(self, order_id: str, attempt: int, offset: int) -> bytes:
        """What the lower hub has of the attempt's log from `offset`, a piece at a time."""
        return await self._do(lambda hub: hub.log_piece(order_id, attempt=attempt, offset=offset))

    async def outputs(self, order_id: str) -> tuple[OutputView, ...]:
        return await self._do(lambda hub: hub.outputs(order_id))

    async def download(self, order_id: str, output: OutputView, target: Path) -> None:
        """Whole and checked by its SHA-256, or not at all. May take as long as the file needs."""
        client = await asyncio.to_thread(self._opened, self._settings.request_timeout_ms / 1000)
        await asyncio.to_thread(client.download_output, order_id, output, target, replace=True)
