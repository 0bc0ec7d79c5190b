"""From a command's context to a client."""

import typer

from yunhe.cli.session import Session
from yunhe.sdk.client import RETRIES, TIMEOUT_S, Client


def connect(ctx: typer.Context, *, timeout: float = TIMEOUT_S, retries: int = RETRIES) -> Client:
    """The client for this call, by the global options, the environment and the stored configuration."""
    session = session_of(ctx)
    return Client(session.url, profile=session.profile, timeout=timeout, retries=retries)


def session_of(ctx: typer.Context) -> Session:
    return ctx.obj if isinstance(ctx.obj, Session) else Session(None, None)
