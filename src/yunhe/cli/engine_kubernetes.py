"""Options of `yunhe site join --engine kubernetes`, and the settings that they make."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from yunhe.cli.engines import Engine
from yunhe.core.errors import InvalidInput
from yunhe.sdk.checked import checked
from yunhe.site.settings import KubernetesSettings

PANEL = "Options of --engine kubernetes"

Kubeconfig = Annotated[
    Path | None, typer.Option(help="Else $KUBECONFIG, ~/.kube/config, or the pod's account.", rich_help_panel=PANEL)
]
Context = Annotated[str | None, typer.Option(help="Of the kubeconfig; its current one without.", rich_help_panel=PANEL)]
Prefix = Annotated[str | None, typer.Option(help="Of the tenants' namespaces; yunhe without.", rich_help_panel=PANEL)]
NodeSelector = Annotated[
    list[str] | None, typer.Option(help="Offer only nodes with this LABEL=VALUE.", rich_help_panel=PANEL)
]
Images = Annotated[
    list[str] | None,
    typer.Option("--image", help="STACK=IMAGE: what runs orders that name no image.", rich_help_panel=PANEL),
]
Volume = Annotated[
    str | None,
    typer.Option(help="--shared-dir as pods mount it: nfs:SERVER:/PATH or host:/PATH.", rich_help_panel=PANEL),
]
Queue = Annotated[str | None, typer.Option(help="Kueue's ClusterQueue.", rich_help_panel=PANEL)]


@dataclass(frozen=True, slots=True)
class KubernetesOptions:
    """The cluster that is offered, as it was written. `chip` and `shared_dir` belong to other engines too."""

    kubeconfig: Path | None
    context: str | None
    namespace_prefix: str | None
    pairs: tuple[list[str] | None, list[str] | None]  # node selector, images
    shared_volume: str | None
    cluster_queue: str | None
    engines: tuple[list[str] | None, Path | None]  # chip, shared dir

    def settings(self, engine: Engine) -> KubernetesSettings | None:
        """None with another engine. Raises InvalidInput for options of this one then."""
        selector, images = self.pairs
        own: dict[str, object] = {
            "kubeconfig": self.kubeconfig and self.kubeconfig.absolute(),
            "context": self.context,
            "namespace_prefix": self.namespace_prefix,
            "node_selector": selector and tuple(selector),
            "images": images and tuple(images),
            "shared_volume": self.shared_volume,
            "cluster_queue": self.cluster_queue,
        }
        if engine is not Engine.KUBERNETES:
            for name, value in own.items():
                if value:
                    option = {"images": "image"}.get(name, name).replace("_", "-")
                    raise InvalidInput("is for --engine kubernetes", field=f"--{option}")
            return None
        chips, shared = self.engines
        values = {name: value for name, value in own.items() if value}
        values |= {"chips": tuple(chips)} if chips else {}
        values |= {"shared_dir": shared.absolute()} if shared else {}
        return checked(KubernetesSettings, values)
