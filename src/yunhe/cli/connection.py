"""From a command's context to a client."""

import typer

from yunhe.cli.session import Session
from yunhe.core.errors import NotFound
from yunhe.sdk.client import RETRIES, TIMEOUT_S, Client

LAST = "last"


def connect(ctx: typer.Context, *, timeout: float = TIMEOUT_S, retries: int = RETRIES) -> Client:
    """The client for this call, by the global options, the environment and the stored configuration."""
    session = session_of(ctx)
    return Client(session.url, profile=session.profile, timeout=timeout, retries=retries)


def session_of(ctx: typer.Context) -> Session:
    return ctx.obj if isinstance(ctx.obj, Session) else Session(None, None)


def order_named(hub: Client, order_id: str) -> str:
    """The id itself; of `last` that of one's latest order. Raises NotFound when there is none yet."""
    if order_id != LAST:
        return order_id
    latest = next(iter(hub.orders(limit=1)), None)
    if latest is None:
        raise NotFound("there is no order yet", hint="yunhe submit --help shows how to place one")
    return latest.id
