"""Commands about people who sign in through a provider, for operators."""

from typing import Annotated

import typer

from yunhe.cli.accounts import ROLES
from yunhe.cli.connection import connect
from yunhe.cli.options import AsJson, example
from yunhe.cli.output import moment, show_json, show_table
from yunhe.wire.api import IdentityPage, IdentityView

account = typer.Typer()


@account.command(epilog=example("yunhe account link staff 7c1e-li acme --member li.wei --role customer"))
def link(
    ctx: typer.Context,
    provider: Annotated[str, typer.Argument(help="The provider's id (hub settings).")],
    subject: Annotated[str, typer.Argument(help="Whom the provider means (`sub`); the page of sign-in shows it.")],
    organisation: Annotated[str, typer.Argument(help="For whom they act.")],
    member: Annotated[str, typer.Option(help="Their name here.")],
    role: Annotated[str, typer.Option(help=f"One of {ROLES}.")] = "customer",
    as_json: AsJson = False,
) -> None:
    """Say for whom a person acts who signs in through a provider."""
    with connect(ctx) as hub:
        made = hub.link_identity(provider, subject, organisation, member, role)
    if as_json:
        show_json(made)
        return
    _table((made,))


@account.command("list", epilog=example("yunhe account list"))
def list_identities(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List people who sign in through a provider."""
    with connect(ctx) as hub:
        found = tuple(hub.identities())
    if as_json:
        show_json(IdentityPage(identities=found))
        return
    _table(found)


@account.command(epilog=example("yunhe account unlink ID"))
def unlink(
    ctx: typer.Context,
    identity_id: Annotated[str, typer.Argument(help="The person's id (yunhe account list).", metavar="ID")],
    as_json: AsJson = False,
) -> None:
    """Take a person's link away; their sessions end."""
    with connect(ctx) as hub:
        gone = hub.unlink_identity(identity_id)
    if as_json:
        show_json(gone)
        return
    print(f"{gone.subject} acts for {gone.organisation} no more")


def _table(found: tuple[IdentityView, ...]) -> None:
    rows = (
        (p.id, p.subject, p.issuer, p.organisation, p.member, p.role, p.source, moment(p.seen_utc_ms)) for p in found
    )
    show_table(("id", "subject", "~issuer", "organisation", "member", "role", "by", "seen"), rows)
