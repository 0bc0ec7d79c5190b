"""The settings of one site agent; those of its engine are in a table named like the engine."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from yunhe.site.settings.data import DataSettings
from yunhe.site.settings.hub import LowerHubSettings
from yunhe.site.settings.kubernetes import KubernetesSettings
from yunhe.site.settings.lending import LendSettings
from yunhe.site.settings.process import MIB, DriverSettings
from yunhe.site.settings.ray import RaySettings
from yunhe.site.settings.slurm import SlurmSettings


class SiteSettings(BaseModel):
    """All settings of one site agent, read once in `yunhe.apps.site`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hub_url: str
    site_id: str
    name: str
    data_dir: Path
    # Certificate authorities (PEM) that vouch for the hub, for a network with one of its own. None: the system's.
    ca_file: Path | None = None
    driver: DriverSettings = DriverSettings()
    data: DataSettings = DataSettings()
    lend: LendSettings = LendSettings()
    hub: LowerHubSettings = LowerHubSettings()
    slurm: SlurmSettings = SlurmSettings()
    kubernetes: KubernetesSettings = KubernetesSettings()
    ray: RaySettings = RaySettings()
    # "fake" ends leases after `fake_run_ms` without starting anything: throughput benchmarks.
    engine: Literal["process", "slurm", "kubernetes", "ray", "hub", "fake"] = "process"
    fake_run_ms: int = Field(default=0, ge=0)
    # Longest poll that this site asks for; proxies between often cut at 60 s.
    poll_wait_ms: int = Field(default=50_000, ge=0, le=60_000)
    # Time for an answer beyond the poll's own wait.
    request_timeout_ms: int = Field(default=10_000, ge=100)
    backoff_first_ms: int = Field(default=100, ge=1)
    # Short, so that a hub that was restarted has its sites back at once.
    backoff_cap_ms: int = Field(default=5_000, ge=10)
    # The engine is asked about all leases so often even when nothing was announced.
    sweep_ms: int = Field(default=2_000, ge=20)
    # Units that others than Yunhe take or give back are told to the hub so soon.
    foreign_interval_ms: int = Field(default=5_000, ge=20)
    usage_interval_ms: int = Field(default=60_000, ge=100)
    snapshot_interval_ms: int = Field(default=600_000, ge=1_000)
    # New log text travels at most so often per job: fresh enough for eyes.
    log_interval_ms: int = Field(default=500, ge=20)
    # A hub that takes no logs or outputs delays the report of a job's end at most so long.
    flush_limit_ms: int = Field(default=30_000, ge=0)
    # Below this the site takes no new work.
    min_free_bytes: int = Field(default=64 * MIB, ge=0)
    # Patterns of the first word of commands that this site runs; empty: any.
    allow_programs: tuple[str, ...] = ()
    # Other sites to which the round trip is measured with every certificate, as "host:port" of anything that listens.
    peers: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:\[\]-]+:[0-9]{1,5}$", max_length=120)], ...] = ()
    # The embedded network ends its jobs with itself; a real site's jobs outlive the agent.
    stop_jobs_on_exit: bool = False
