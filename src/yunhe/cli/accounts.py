"""Commands about organisations and API keys."""

from typing import Annotated, get_args

import typer

from yunhe.cli.connection import connect
from yunhe.cli.failure import remark
from yunhe.cli.options import AsJson, example
from yunhe.cli.output import moment, show_json, show_pairs, show_table
from yunhe.cli.wording import NONE
from yunhe.core.units import format_milli, format_money
from yunhe.sdk.checked import checked
from yunhe.wire.api import KeyList, OrganisationChange, OrganisationList, OrganisationRequest, OrganisationView, Role

org = typer.Typer()
key = typer.Typer()

ROLES = ", ".join(get_args(Role))


@org.command(epilog=example("yunhe org create acme --name 'Acme Research' --credit-limit 100CNY --quota-cores 64"))
def create(
    ctx: typer.Context,
    organisation: Annotated[str, typer.Argument(help="Its id: small letters, digits and dashes.")],
    name: Annotated[str | None, typer.Option(help="Its name for people; the id without.")] = None,
    credit_limit: Annotated[str, typer.Option(help="How far it may go below zero, as 100CNY.")] = "0CNY",
    quota_cores: Annotated[float | None, typer.Option(help="Most cores at one time.")] = None,
    weight: Annotated[int, typer.Option(help="Its share beside others.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Add an organisation."""
    wanted = checked(
        OrganisationRequest,
        {
            "id": organisation,
            "name": name or organisation,
            "credit_limit": credit_limit,
            "quota_cores": quota_cores,
            "weight": weight,
        },
    )
    with connect(ctx) as hub:
        made = hub.create_organisation(wanted)
    if as_json:
        show_json(made)
        return
    _table((made,))


@org.command("set", epilog=example("yunhe org set acme --quota-cores 32 --weight 2"))
def set_organisation(
    ctx: typer.Context,
    organisation: Annotated[str, typer.Argument(help="Its id.")],
    name: Annotated[str | None, typer.Option(help="Its name for people.")] = None,
    credit_limit: Annotated[str | None, typer.Option(help="How far it may go below zero, as 100CNY.")] = None,
    quota_cores: Annotated[str | None, typer.Option(help="Most cores at one time; `none`: no limit.")] = None,
    weight: Annotated[int | None, typer.Option(help="Its share beside others.")] = None,
    as_json: AsJson = False,
) -> None:
    """Change an organisation's quota, weight, credit or name (operators).

    With a quota below what is used nothing new is placed, and what runs goes on.
    """
    values = {"name": name, "credit_limit": credit_limit, "quota_cores": quota_cores, "weight": weight}
    wanted = checked(OrganisationChange, {key: value for key, value in values.items() if value is not None})
    with connect(ctx) as hub:
        view = hub.change_organisation(organisation, wanted)
    if as_json:
        show_json(view)
        return
    _table((view,))
    if view.quota_milli is not None and view.used_milli > view.quota_milli:
        used, quota = format_milli(view.used_milli), format_milli(view.quota_milli)
        remark(f"{view.id} uses {used}, more than its quota of {quota}: nothing new is placed, what runs goes on")


@org.command("list", epilog=example("yunhe org list"))
def list_organisations(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List organisations."""
    with connect(ctx) as hub:
        found = hub.organisations()
    if as_json:
        show_json(OrganisationList(organisations=found))
        return
    _table(found)


@key.command("create", epilog=example("yunhe key create acme --member li.wei --role customer"))
def create_key(
    ctx: typer.Context,
    organisation: Annotated[str, typer.Argument(help="Organisation id.")],
    member: Annotated[str, typer.Option(help="Who will use it.")],
    role: Annotated[str, typer.Option(help=f"One of {ROLES}.")] = "customer",
    as_json: AsJson = False,
) -> None:
    """Make an API key; it is shown once."""
    with connect(ctx) as hub:
        made = hub.create_key(organisation, member, role)
    if as_json:
        show_json(made)
        return
    show_pairs((("id", made.id), ("key", made.key), ("role", made.role), ("organisation", made.organisation)))
    remark("Keep the key: it is not shown again. To use it: yunhe login")


@key.command("list", epilog=example("yunhe key list"))
def list_keys(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List API keys, without their secrets."""
    with connect(ctx) as hub:
        found = hub.keys()
    if as_json:
        show_json(KeyList(keys=found))
        return
    rows = ((k.id, k.organisation, k.member, k.role, moment(k.created_utc_ms), moment(k.revoked_utc_ms)) for k in found)
    show_table(("key", "organisation", "member", "role", "made", "revoked"), rows)


@key.command(epilog=example("yunhe key revoke KEY"))
def revoke(
    ctx: typer.Context,
    key_id: Annotated[str, typer.Argument(help="The key's id (yunhe key list).", metavar="KEY")],
    as_json: AsJson = False,
) -> None:
    """Make an API key worthless."""
    with connect(ctx) as hub:
        view = hub.revoke_key(key_id)
    if as_json:
        show_json(view)
        return
    print(f"{view.id} revoked")


def _table(found: tuple[OrganisationView, ...]) -> None:
    rows = (
        (
            o.id,
            o.name,
            format_money(o.credit_limit_microcny),
            NONE if o.quota_milli is None else format_milli(o.quota_milli),
            format_milli(o.used_milli),
            str(o.weight),
        )
        for o in found
    )
    show_table(("organisation", "~name", ">credit limit", ">quota", ">used", ">weight"), rows)
