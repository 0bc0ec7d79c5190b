"""Ids for the shell's completion. It must be quick and silent: without a hub there is nothing to offer."""

import typer

from yunhe.cli.connection import connect
from yunhe.core.errors import YunheError
from yunhe.sdk.client import Client

TIMEOUT_S = 0.5
MOST = 50


def complete_order(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Order ids with name and state."""
    try:
        with _client(ctx) as hub:
            return [(o.id, f"{o.name} {o.state}") for o in hub.orders(limit=MOST) if o.id.startswith(incomplete)]
    except YunheError:
        return []  # a message in the middle of a command line being typed would be worse than no offer


def complete_site(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Site ids with name and state."""
    try:
        with _client(ctx) as hub:
            return [(s.id, f"{s.name} {s.state}") for s in hub.sites() if s.id.startswith(incomplete)]
    except YunheError:
        return []  # as above


def _client(ctx: typer.Context) -> Client:
    return connect(ctx, timeout=TIMEOUT_S, retries=0)
