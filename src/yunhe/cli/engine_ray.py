"""Options of `yunhe site join` for a Ray cluster."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from yunhe.cli.engines import Engine
from yunhe.core.errors import InvalidInput
from yunhe.sdk.checked import checked
from yunhe.site.settings import RaySettings

PANEL = "Options of --engine ray"
TOKEN_FILE = "ray-token"  # in the site's data directory

Address = Annotated[
    str | None, typer.Option(help="Ray's dashboard; http://127.0.0.1:8265 without.", rich_help_panel=PANEL)
]
Token = Annotated[
    str | None,
    typer.Option(envvar="RAY_AUTH_TOKEN", help="Kept in a file that only you can read.", rich_help_panel=PANEL),
]
Lent = Annotated[
    str | None,
    typer.Option(help="Only offer nodes that have this custom resource of Ray.", rich_help_panel=PANEL),
]
RuntimeEnv = Annotated[
    str | None,
    typer.Option(help="""Runtime environment of every job, as '{"conda": "base"}'.""", rich_help_panel=PANEL),
]


@dataclass(frozen=True, slots=True)
class RayOptions:
    """The Ray cluster that is offered, as it was written. The last three are Slurm's too."""

    address: str | None
    ray_token: str | None
    ray_resource: str | None
    runtime_env: str | None
    chip: list[str] | None
    shared_dir: Path | None
    python: str | None

    def settings(self, engine: Engine, data_dir: Path) -> RaySettings | None:
        """None without Ray, where only RAY_AUTH_TOKEN may be set, for other reasons."""
        if engine is not Engine.RAY:
            for name in ("address", "ray_resource", "runtime_env"):
                if getattr(self, name):
                    raise InvalidInput("is for --engine ray", field=f"--{name.replace('_', '-')}")
            return None
        values: dict[str, object] = {
            "token_file": data_dir.absolute() / TOKEN_FILE if self.ray_token else None,
            "lent": self.ray_resource,
            "chips": tuple(self.chip or ()),
            "shared_dir": self.shared_dir and self.shared_dir.absolute(),
            "python": self.python,
        }
        stated = {"address": self.address, "runtime_env": self.runtime_env}
        return checked(RaySettings, values | {name: value for name, value in stated.items() if value})

    def private_files(self, engine: Engine) -> dict[str, str]:
        """What the settings name and what nobody else may read."""
        return {TOKEN_FILE: self.ray_token} if engine is Engine.RAY and self.ray_token else {}
