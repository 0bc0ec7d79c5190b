"""`yunhe site lend`: what a centre lends of what it has. Speaks for the site on this machine; no hub is asked."""

from pathlib import Path
from typing import Annotated

import typer

from yunhe.apps import site as application
from yunhe.cli.options import AsJson, example
from yunhe.cli.output import show_json, show_pairs
from yunhe.core.errors import InvalidInput
from yunhe.core.units import format_duration, parse_duration
from yunhe.site.settings import LendSettings

app = typer.Typer()
ALL, ALWAYS, ANY = "all", "always", "any"


@app.command(
    epilog=example("yunhe site lend --data-dir yunhe-site --share 50% --hours 20:00-07:00 --longest 6h --give-back 30s")
)
def lend(
    data_dir: Annotated[Path, typer.Option("--data-dir", help="The site whose data are here.")] = Path("yunhe-site"),
    share: Annotated[
        list[str] | None, typer.Option(help="Of every pool, as 50%; of one, as cpu=50%; or all.", metavar="SHARE")
    ] = None,
    hours: Annotated[
        list[str] | None,
        typer.Option(help="When, as 20:00-07:00 or Mon-Fri 20:00-07:00; or always.", metavar="HOURS"),
    ] = None,
    zone: Annotated[str | None, typer.Option(help="Of the hours, as Asia/Shanghai; this host's without.")] = None,
    longest: Annotated[str | None, typer.Option(help="Longest run limit to take, as 6h; or any.")] = None,
    give_back: Annotated[str | None, typer.Option(help="How fast local users get units back, as 30s.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a site lends: share, hours, length of runs.

    A running agent takes it up within seconds. Without options: what is lent now. Local users always come first.
    """
    changes: dict[str, object] = {**_shares(share or [])}
    if hours:
        changes["hours"] = () if hours == [ALWAYS] else tuple(hours)
    if zone:
        changes["zone"] = zone
    if longest:
        changes["longest_ms"] = None if longest == ANY else parse_duration(longest, "--longest")
    if give_back:
        changes["give_back_ms"] = parse_duration(give_back, "--give-back")
    policy = application.lend(data_dir, changes)
    if as_json:
        show_json({"data_dir": str(data_dir), **policy.model_dump(mode="json")})
    else:
        _tell(policy)


def _shares(texts: list[str]) -> dict[str, object]:
    if not texts:
        return {}
    if texts == [ALL]:
        return {"share_percent": 100, "pool_shares": ()}
    whole = [text for text in texts if "=" not in text]
    pools = tuple(text for text in texts if "=" in text)
    if len(whole) > 1 or any(not text.rstrip("%").isdecimal() for text in whole):
        raise InvalidInput("states a share of every pool once", field="--share", hint="--share 50% --share gpu=100%")
    changes: dict[str, object] = {"pool_shares": pools} if pools else {}
    if whole:
        changes["share_percent"] = int(whole[0].rstrip("%"))
    return changes


def _tell(policy: LendSettings) -> None:
    of_pools = [f"{text.rstrip('%')}%" for text in policy.pool_shares]
    show_pairs(
        (
            ("share", ", ".join([f"{policy.share_percent}%", *of_pools])),
            ("hours", f"{', '.join(policy.hours)} {policy.zone or 'local time'}" if policy.hours else ALWAYS),
            ("longest run", ANY if policy.longest_ms is None else format_duration(policy.longest_ms)),
            ("gives back within", format_duration(policy.give_back_ms)),
        )
    )
