"""Commands that run a site, or speak for it. The agent is imported here and nowhere else in the command line."""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from yunhe.apps import site as application
from yunhe.cli import engine_hub, engine_kubernetes, engine_ray, engines
from yunhe.cli.completion import complete_site
from yunhe.cli.connection import connect, session_of
from yunhe.cli.engine_hub import HubOptions
from yunhe.cli.engine_kubernetes import KubernetesOptions
from yunhe.cli.engine_ray import RayOptions
from yunhe.cli.engines import Engine, SlurmOptions
from yunhe.cli.failure import remark
from yunhe.cli.options import AsJson, example
from yunhe.cli.output import show_json
from yunhe.cli.sites import tell_site
from yunhe.core.errors import InvalidInput
from yunhe.core.units import parse_bytes
from yunhe.sdk.checked import checked
from yunhe.sdk.client import Client
from yunhe.sdk.config import resolve
from yunhe.site.settings import DriverSettings
from yunhe.wire.api import SiteView

app = typer.Typer()

DATA_DIR = Path("yunhe-site")
TOKEN_VARIABLE = "YUNHE_SITE_TOKEN"


DataDir = Annotated[Path, typer.Option("--data-dir", help="The site's key, settings and jobs.")]
OwnDataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="The site whose data are here, by its own will: no hub is asked.")
]


MaybeSite = Annotated[str | None, typer.Argument(help="The site's id.", metavar="[SITE]", autocompletion=complete_site)]


@app.command(epilog=example("yunhe site join http://hub.example:8440 --name hall-7 --cluster zhangjiakou --cores 64"))
def join(
    ctx: typer.Context,
    hub: Annotated[str | None, typer.Argument(help="The hub's address; the one in use without.")] = None,
    name: Annotated[str, typer.Option(help="The site's name.")] = "",
    token: Annotated[
        str | None, typer.Option(envvar=TOKEN_VARIABLE, help="The one-time token (yunhe site token).")
    ] = None,
    cluster: Annotated[str | None, typer.Option(help="One of `yunhe clusters`; else the next three.")] = None,
    region: Annotated[str | None, typer.Option(help="Province, as Hebei.")] = None,
    lat: Annotated[float | None, typer.Option(help="Degrees north.")] = None,
    lon: Annotated[float | None, typer.Option(help="Degrees east.")] = None,
    cores: Annotated[float | None, typer.Option(help="Cores to offer; all without.")] = None,
    memory: Annotated[str | None, typer.Option(help="Memory to offer, as 64GiB; all without.")] = None,
    allow: Annotated[list[str] | None, typer.Option(help="Only run programs of this name (pattern).")] = None,
    ca_file: Annotated[
        Path | None, typer.Option(envvar="YUNHE_CA_FILE", help="Authorities (PEM) that vouch for the hub.")
    ] = None,
    engine: Annotated[Engine, typer.Option(help="What runs the jobs: this machine, or a cluster.")] = Engine.PROCESS,
    partition: engines.Partitions = None,
    account: engines.Account = None,
    qos: engines.Qos = None,
    chip: engines.Chips = None,
    shared_dir: engines.SharedDir = None,
    slurm_conf: engines.SlurmConf = None,
    python: engines.NodePython = None,
    address: engine_ray.Address = None,
    ray_token: engine_ray.Token = None,
    ray_resource: engine_ray.Lent = None,
    runtime_env: engine_ray.RuntimeEnv = None,
    kubeconfig: engine_kubernetes.Kubeconfig = None,
    context: engine_kubernetes.Context = None,
    namespace_prefix: engine_kubernetes.Prefix = None,
    node_selector: engine_kubernetes.NodeSelector = None,
    image: engine_kubernetes.Images = None,
    shared_volume: engine_kubernetes.Volume = None,
    cluster_queue: engine_kubernetes.Queue = None,
    lower_url: engine_hub.Url = None,
    lower_key_file: engine_hub.KeyFile = None,
    lower_site: engine_hub.Sites = None,
    lower_pool: engine_hub.Pools = None,
    lower_region: engine_hub.Regions = None,
    share: engine_hub.Share = None,
    margin: engine_hub.Margin = None,
    aggregate: engine_hub.Aggregate = False,
    anonymous: engine_hub.Anonymous = False,
    max_run: engine_hub.MaxRun = None,
    data_dir: DataDir = DATA_DIR,
    as_json: AsJson = False,
) -> None:
    """Enrol this machine as a site, with a one-time token.

    With --engine slurm, ray or kubernetes it is the cluster that jobs are handed to, with --engine hub another hub.
    The operator approves it (`yunhe site approve`); then `yunhe site serve` runs it.
    """
    if not name or not token:
        missing = "--name" if not name else "--token"
        raise InvalidInput("is required", field=missing, hint=f"the token may also be in {TOKEN_VARIABLE}")
    part = _Share(cores, memory)
    cluster_of = SlurmOptions(partition, account, qos, chip, shared_dir, slurm_conf, python)
    ray = RayOptions(address, ray_token, ray_resource, runtime_env, chip, shared_dir, python)
    kubernetes = KubernetesOptions(
        kubeconfig,
        context,
        namespace_prefix,
        (node_selector, image),
        shared_volume,
        cluster_queue,
        (chip, shared_dir),
    )
    below = HubOptions(
        lower_url,
        lower_key_file,
        (lower_site, lower_pool, lower_region),
        share,
        margin,
        (aggregate, anonymous),
        max_run,
    )
    enrolled = application.join(
        application.JoinRequest(
            hub_url=hub or resolve(session_of(ctx).url).url,
            token=token,
            name=name,
            data_dir=data_dir,
            cluster=cluster,
            region=region,
            lat=lat,
            lon=lon,
            ca_file=ca_file,
            driver=part.driver() if engine is Engine.PROCESS else part.nothing(),
            engine=engine,
            engine_settings=cluster_of.settings(engine)
            or ray.settings(engine, data_dir)
            or kubernetes.settings(engine)
            or below.settings(engine, cluster, region),
            private_files=ray.private_files(engine),
            extra={"allow_programs": tuple(allow)} if allow else {},
        )
    )
    if as_json:
        show_json(enrolled)
        return
    print(f"{enrolled.site_id} {enrolled.state}")
    approve, run = f"yunhe site approve {enrolled.site_id}", f"yunhe site serve --data-dir {data_dir}"
    remark(f"next: `{approve}` by the operator, and here `{run}`")


@app.command(epilog=example("yunhe site serve --data-dir yunhe-site"))
def serve(data_dir: DataDir = DATA_DIR) -> None:
    """Run the agent of a site that has joined.

    Ctrl-C stops the agent; its jobs go on, and the next start takes them up again.
    """
    settings = application.load_settings(data_dir)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    for chatty in ("httpx", "httpcore"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    remark(f"site {settings.site_id} of the hub at {settings.hub_url}; Ctrl-C stops the agent")
    raise typer.Exit(application.serve(settings))


@app.command(epilog=example("yunhe site pause zhangjiakou-1"))
def pause(ctx: typer.Context, site_id: MaybeSite = None, data_dir: OwnDataDir = None, as_json: AsJson = False) -> None:
    """Give a site no new work; what runs there goes on."""
    if data_dir is None:
        _switch_at_hub(ctx, site_id, as_json, Client.pause)
    else:
        application.pause(_own(site_id, data_dir))
        _tell_own(data_dir, as_json, accepting=False)


@app.command(epilog=example("yunhe site resume zhangjiakou-1"))
def resume(ctx: typer.Context, site_id: MaybeSite = None, data_dir: OwnDataDir = None, as_json: AsJson = False) -> None:
    """Give a paused site work again."""
    if data_dir is None:
        _switch_at_hub(ctx, site_id, as_json, Client.resume)
    else:
        application.resume(_own(site_id, data_dir))
        _tell_own(data_dir, as_json, accepting=True)


def _switch_at_hub(
    ctx: typer.Context, site_id: str | None, as_json: bool, call: Callable[[Client, str], SiteView]
) -> None:
    if site_id is None:
        raise InvalidInput("is required", field="SITE", hint="or --data-dir for a site on this machine")
    with connect(ctx) as hub:
        view = call(hub, site_id)
    tell_site(view, as_json)


def _tell_own(data_dir: Path, as_json: bool, *, accepting: bool) -> None:
    if as_json:
        show_json({"data_dir": str(data_dir), "accepting": accepting})
    else:
        print(f"the site in {data_dir} takes {'work again' if accepting else 'no new work'}")


@dataclass(frozen=True, slots=True)
class _Share:
    """The part of this machine that is offered, as it was written."""

    cores: float | None
    memory: str | None

    def driver(self) -> DriverSettings:
        values: dict[str, object] = {}
        if self.cores is not None:
            if not math.isfinite(self.cores):
                raise InvalidInput(f"{self.cores} is not a finite number", field="--cores", hint="for example 0.5")
            values["cores_milli"] = round(self.cores * 1000)
        if self.memory is not None:
            values["memory_bytes"] = parse_bytes(self.memory, "--memory")
        return checked(DriverSettings, values)

    def nothing(self) -> DriverSettings:
        """Of a cluster its partitions are offered. Raises InvalidInput when a part of this machine is stated."""
        if self.cores is not None or self.memory is not None:
            raise InvalidInput(
                "is for --engine process",
                field="--memory" if self.cores is None else "--cores",
                hint="a cluster is offered by its own names (--partition, --ray-resource)",
            )
        return DriverSettings()


def _own(site_id: str | None, data_dir: Path) -> Path:
    if site_id is not None:
        raise InvalidInput("goes without the site's id", field="--data-dir")
    return data_dir
