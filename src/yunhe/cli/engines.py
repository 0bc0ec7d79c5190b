"""Options of `yunhe site join` that belong to one engine, and the engine's settings that they make."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from yunhe.core.errors import InvalidInput
from yunhe.sdk.checked import checked
from yunhe.site.settings import SlurmSettings

SLURM_PANEL = "Options of --engine slurm"
NODES_PANEL = "Options of --engine slurm, ray and kubernetes"


class Engine(StrEnum):
    PROCESS = "process"
    SLURM = "slurm"
    RAY = "ray"
    KUBERNETES = "kubernetes"
    HUB = "hub"


Partitions = Annotated[
    list[str] | None, typer.Option(help="Slurm partition to offer; all without.", rich_help_panel=SLURM_PANEL)
]
Chips = Annotated[
    list[str] | None,
    typer.Option(help="The engine's name of a card and its chip: a100=a100-sxm-80g.", rich_help_panel=NODES_PANEL),
]
SharedDir = Annotated[
    Path | None, typer.Option(help="Folder that all nodes see; --data-dir without.", rich_help_panel=NODES_PANEL)
]
SlurmConf = Annotated[Path | None, typer.Option(envvar="SLURM_CONF", help="slurm.conf.", rich_help_panel=SLURM_PANEL)]
NodePython = Annotated[
    str | None, typer.Option(help="Python 3.11 on the nodes; this one without.", rich_help_panel=NODES_PANEL)
]
Account = Annotated[str | None, typer.Option(help="Slurm account.", rich_help_panel=SLURM_PANEL)]
Qos = Annotated[str | None, typer.Option(help="Slurm quality of service.", rich_help_panel=SLURM_PANEL)]


@dataclass(frozen=True, slots=True)
class SlurmOptions:
    """The Slurm cluster that is offered, as it was written."""

    partition: list[str] | None
    account: str | None
    qos: str | None
    chip: list[str] | None
    shared_dir: Path | None
    slurm_conf: Path | None
    python: str | None

    def settings(self, engine: Engine) -> SlurmSettings | None:
        """None without Slurm, where only SLURM_CONF may be set, for other reasons."""
        if engine is not Engine.SLURM:
            shared = {Engine.RAY: (), Engine.KUBERNETES: ("python",)}.get(engine, ("chip", "shared_dir", "python"))
            for name in ("partition", "account", "qos", *shared):
                if getattr(self, name):
                    raise InvalidInput("is for --engine slurm", field=f"--{name.replace('_', '-')}")
            return None
        for text in self.chip or ():
            if not all(text.partition("=")[::2]):
                raise InvalidInput(f"{text[:40]!r} is not TYPE=CHIP", field="--chip", hint="a100=a100-sxm-80g")
        values: dict[str, object] = {
            "partitions": tuple(self.partition or ()),
            "account": self.account,
            "qos": self.qos,
            "chips": tuple(self.chip or ()),
            "shared_dir": self.shared_dir and self.shared_dir.absolute(),
            "conf": self.slurm_conf and self.slurm_conf.absolute(),
            "python": self.python,
        }
        return checked(SlurmSettings, values)
