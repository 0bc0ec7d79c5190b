"""`Client`: all calls of the public API, typed."""

from types import TracebackType
from typing import Self

from yunhe.sdk.accounts import AccountCalls
from yunhe.sdk.config import Profile, resolve
from yunhe.sdk.events import EventCalls
from yunhe.sdk.network import NetworkCalls
from yunhe.sdk.orders import OrderCalls
from yunhe.sdk.sign_in import SignInCalls
from yunhe.sdk.transport import Transport

TIMEOUT_S = 30.0
RETRIES = 3


class Client(OrderCalls, EventCalls, NetworkCalls, AccountCalls, SignInCalls):
    """A hub, asked over its public API. Use it as a context manager, or call `close`.

    Without arguments it finds the hub as `yunhe.sdk.config` describes. Every call raises errors of
    `yunhe.core.errors`; `Unavailable` when no hub answers. Calls that may safely be repeated are, a few times.
    May be shared by threads.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        profile: str | None = None,
        timeout: float = TIMEOUT_S,
        retries: int = RETRIES,
    ) -> None:
        """`timeout`: seconds without a byte from the hub, beside the time that a long poll is asked to take;
        `retries`: how often a call that may be repeated is, at most 3."""
        self._transport = Transport(resolve(url, api_key, profile), timeout, retries)

    @property
    def profile(self) -> Profile:
        """The hub's address and where it was found."""
        return self._transport.profile

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._transport.close()
