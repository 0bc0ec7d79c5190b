"""Commands about which hub is used, and as whom."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from yunhe.cli.browser import sign_in
from yunhe.cli.connection import connect, session_of
from yunhe.cli.failure import remark
from yunhe.cli.options import AsJson, example
from yunhe.cli.output import moment, show_json, show_pairs, show_table
from yunhe.core.errors import InvalidInput
from yunhe.core.supply import SiteState
from yunhe.core.units import format_money
from yunhe.sdk.client import Client
from yunhe.sdk.config import Profile, config_path, find_network_file, load_config, resolve, save_profile

app = typer.Typer()


@app.command(epilog=example("yunhe login http://hub.example:8440"))
def login(
    ctx: typer.Context,
    url: Annotated[str | None, typer.Argument(help="The hub's address; the one in use without.")] = None,
    api_key: Annotated[str | None, typer.Option(help="The key; asked for, or read from stdin, without.")] = None,
    profile: Annotated[str, typer.Option(help="The name to store it under.")] = "default",
    check: Annotated[bool, typer.Option(help="Ask the hub whether it knows the key.")] = True,
    oidc: Annotated[str | None, typer.Option(help="Sign in through this provider, with a browser here.")] = None,
) -> None:
    """Store a hub's address and your key for it.

    They go to ~/.config/yunhe/config.toml, which only you can read, and are used from then on.
    """
    address = url or resolve(session_of(ctx).url).url
    if oidc is not None:
        with Client(address, "") as hub:
            session = sign_in(hub, oidc)
        api_key = session.key
        remark(f"the session ends at {moment(session.expires_utc_ms)}; then sign in again")
    key = (api_key or _ask_key(address)).strip()
    if not key:
        raise InvalidInput("is empty", field="--api-key", hint="an operator makes one: yunhe key create")
    if check:
        with Client(address, key) as hub:
            me = hub.whoami()
        print(f"{me.member} of {me.organisation}, {me.role}")
    path = config_path()
    save_profile(path, profile, Profile(address, key), make_default=True)
    print(f"stored in {path} as {profile}")
    network = find_network_file(Path.cwd())
    if network is not None:
        remark(f"in this folder {network} comes first; use --profile {profile}")


@app.command(epilog=example("yunhe config --json"))
def config(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Show which hub is used, and where its address comes from."""
    session = session_of(ctx)
    used = resolve(session.url, profile=session.profile)
    stored = load_config(config_path())
    if as_json:
        show_json(
            {
                "url": used.url,
                "source": used.source,
                "has_key": used.api_key is not None,
                "config_file": str(stored.path),
                "default_profile": stored.default,
                "profiles": {name: p.url for name, p in stored.profiles.items()},
            }
        )
        return
    show_pairs(
        (
            ("hub", used.url),
            ("found in", used.source),
            ("key", "yes" if used.api_key else "none"),
            ("stored profiles", str(stored.path)),
        )
    )
    if stored.profiles:
        print()
        rows = ((name, p.url, "default" if name == stored.default else "") for name, p in stored.profiles.items())
        show_table(("profile", "hub", ""), rows)


@app.command(epilog=example("yunhe status"))
def status(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Show whether the hub answers and what it is doing."""
    with connect(ctx) as hub:
        me, sites, balance, profile = hub.whoami(), hub.sites(), hub.balance(), hub.profile
        stats = hub.stats() if me.role in ("operator", "auditor") else None
    active = [site for site in sites if site.state == SiteState.ACTIVE and site.connected]
    if as_json:
        parts = {"whoami": me, "balance": balance, "stats": stats}
        documents = {name: part and part.model_dump(mode="json") for name, part in parts.items()}
        show_json({"url": profile.url, "sites": len(sites), "sites_active": len(active), **documents})
        return
    pairs = [
        ("hub", f"{profile.url} (from {profile.source})"),
        ("you", f"{me.member} of {me.organisation}, {me.role}"),
        ("available", format_money(balance.available_microcny)),
        ("sites", f"{len(active)} active of {len(sites)}"),
    ]
    if stats is not None:
        orders = ", ".join(f"{n} {state}" for state, n in stats.orders.items() if n)
        usage = f"{stats.usage_records} records, {stats.usage_gaps} gaps, {stats.disputed} charges disputed"
        pairs += [("orders", orders or "none"), ("usage", usage), ("leader", "yes" if stats.leader else "no")]
    show_pairs(pairs)


def _ask_key(address: str) -> str:
    """From the terminal without echo, or one line of stdin."""
    if not sys.stdin.isatty():
        return sys.stdin.readline()
    return str(typer.prompt(f"API key for {address}", hide_input=True))
