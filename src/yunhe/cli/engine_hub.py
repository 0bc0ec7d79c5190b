"""Options of `yunhe site join` for a hub below."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from yunhe.cli.engines import Engine
from yunhe.core.errors import InvalidInput
from yunhe.core.units import parse_duration
from yunhe.facts.sites import cluster_facts
from yunhe.sdk.checked import checked
from yunhe.site.settings import LowerHubSettings

PANEL = "Options of --engine hub"
ANY = "any"

Url = Annotated[str | None, typer.Option(help="The lower hub's address.", rich_help_panel=PANEL)]
KeyFile = Annotated[
    Path | None,
    typer.Option(help="File with a customer's key there, that only you can read.", rich_help_panel=PANEL),
]
Sites = Annotated[list[str] | None, typer.Option(help="Offer only this site below (pattern).", rich_help_panel=PANEL)]
Pools = Annotated[
    list[str] | None, typer.Option(help="Offer only this pool below, SITE:POOL (pattern).", rich_help_panel=PANEL)
]
Regions = Annotated[
    list[str] | None,
    typer.Option(help=f"Offer sites of this region; this site's own without, '{ANY}' for all.", rich_help_panel=PANEL),
]
Share = Annotated[int | None, typer.Option(help="Percent of each pool to offer.", rich_help_panel=PANEL)]
Margin = Annotated[
    float | None, typer.Option(help="Percent on the lower hub's price; 10 without.", rich_help_panel=PANEL)
]
Aggregate = Annotated[bool, typer.Option("--aggregate", help="Offer equal pools as one.", rich_help_panel=PANEL)]
Anonymous = Annotated[
    bool, typer.Option("--anonymous", help="Tell no names of sites and pools.", rich_help_panel=PANEL)
]
MaxRun = Annotated[str | None, typer.Option(help="Longest run to pass down, as 6h.", rich_help_panel=PANEL)]


@dataclass(frozen=True, slots=True)
class HubOptions:
    """The hub that is offered, as it was written."""

    lower_url: str | None
    lower_key_file: Path | None
    offered: tuple[list[str] | None, list[str] | None, list[str] | None]  # patterns of sites, pools and regions
    share: int | None
    margin: float | None
    flags: tuple[bool, bool]  # aggregate, anonymous
    max_run: str | None

    def settings(self, engine: Engine, cluster: str | None, region: str | None) -> LowerHubSettings | None:
        """None without a hub below. `cluster`, `region`: where this site says that it is."""
        sites, pools, regions = self.offered
        stated = {
            "lower-url": self.lower_url,
            "lower-key-file": self.lower_key_file,
            "lower-site": sites,
            "lower-pool": pools,
            "lower-region": regions,
            "share": self.share,
            "margin": self.margin,
            "aggregate": self.flags[0],
            "anonymous": self.flags[1],
            "max-run": self.max_run,
        }
        if engine is not Engine.HUB:
            for name, value in stated.items():
                if value not in (None, False, []):
                    raise InvalidInput("is for --engine hub", field=f"--{name}")
            return None
        for name in ("lower-url", "lower-key-file"):
            if stated[name] is None:
                raise InvalidInput("is required with --engine hub", field=f"--{name}")
        values = {
            "url": self.lower_url,
            "key_file": self.lower_key_file and self.lower_key_file.absolute(),
            "sites": tuple(sites or ()),
            "pools": tuple(pools or ()),
            "regions": _regions(regions, cluster, region),
            "aggregate": self.flags[0],
            "anonymous": self.flags[1],
            "share_percent": self.share,
            "margin_bps": None if self.margin is None else round(self.margin * 100),
            "max_run_ms": None if self.max_run is None else parse_duration(self.max_run, "--max-run"),
        }
        return checked(LowerHubSettings, {name: value for name, value in values.items() if value is not None})


def _regions(stated: list[str] | None, cluster: str | None, region: str | None) -> tuple[str, ...]:
    """The hub above checks a customer's residency against this site's region alone, so no other is offered unasked."""
    if stated:
        return () if ANY in stated else tuple(stated)
    own = cluster_facts(cluster).region if cluster else region
    return (own,) if own else ()
