"""Every setting of a site: unit in the name, default, and why that default."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

MIB = 1024 * 1024


class DriverSettings(BaseModel):
    """What the site offers and how its jobs are held; the process driver reads it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pool: str = Field(default="cpu", pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=24)
    # The site's share of this machine; several sites can divide one machine. None: all that this process may use.
    cores_milli: int | None = Field(default=None, gt=0)
    memory_bytes: int | None = Field(default=None, gt=0)
    # None: by the chip's data sheet where it is known, else assumed.
    watts_per_core: int | None = Field(default=None, ge=0, le=100_000)
    # Never more than the host really gives; "processes" leaves the sandbox out where it would work (tests).
    isolation: Literal["auto", "sandbox", "processes"] = "auto"
    # Folders that jobs may read besides /usr; the interpreter's own are added.
    expose: tuple[Path, ...] = ()
    # A fork bomb hits this; large enough for a build or an MPI rank per core.
    pids_limit: int = Field(default=512, ge=8)
    # Largest single file of a job: keeps one job from filling the disk of all.
    file_limit_bytes: int = Field(default=16 * 1024 * MIB, ge=MIB)
    # Time between SIGTERM and SIGKILL: enough to write a checkpoint's last block, short against a run limit.
    term_grace_ms: int = Field(default=2_000, ge=0)
    # Memory sampling without cgroups; a job can be over its limit for so long.
    sample_ms: int = Field(default=100, ge=10)
    # How fresh a supervisor keeps its totals for the next usage report.
    usage_write_ms: int = Field(default=5_000, ge=50)
    # A supervisor that was asked for and did not claim its lease in this time is asked for again.
    claim_wait_ms: int = Field(default=5_000, ge=100)


class SlurmSettings(BaseModel):
    """How a Slurm cluster is used; what holds its jobs is in `DriverSettings`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Folder that every node sees at the same path; None: the data directory is such a folder.
    shared_dir: Path | None = None
    # slurm.conf, where SLURM_CONF or the usual place is not it.
    conf: Path | None = None
    # Python 3.11 or later as the nodes find it; None: the agent's own.
    python: str | None = None
    # Offered partitions, the first one first: a node of several counts once. Empty: all that are up.
    partitions: tuple[str, ...] = ()
    account: str | None = Field(default=None, max_length=100)
    qos: str | None = Field(default=None, max_length=100)
    # "TYPE=CHIP": the catalogue's chip for a GRES type whose name does not say it exactly, as "a100=a100-sxm-80g".
    chips: tuple[str, ...] = ()
    # Cores that go with each card and are not offered as cores; None: half of a node's, divided by its cards.
    cores_per_card: int | None = Field(default=None, ge=1)
    # A command of Slurm that takes longer has given no answer; slurmctld's own limit (MessageTimeout) is 10 s.
    command_limit_ms: int = Field(default=10_000, ge=100)
    # The controller is asked for the list of jobs at most so often, for all leases together.
    listing_interval_ms: int = Field(default=1_000, ge=100)
    # A list older than this says nothing about now.
    listing_valid_ms: int = Field(default=5_000, ge=100)
    # The nodes leave word in a folder; it is looked at so often.
    news_ms: int = Field(default=100, ge=10)
    # A job that Slurm no longer lists and that never began is submitted again after this time.
    vanished_ms: int = Field(default=5_000, ge=0)
    submit_tries: int = Field(default=3, ge=1)
    # A job that Slurm calls running and whose step does not begin is given up after this time; prologs may be slow.
    start_ms: int = Field(default=300_000, ge=1_000)
    # No list, no record and no sign of life for so long: the job is lost. Several times `usage_write_ms`.
    lost_ms: int = Field(default=60_000, ge=100)
    # The end of a gang, or one that Slurm made, waits at most so long for Slurm's own word on it.
    end_word_ms: int = Field(default=20_000, ge=0)
    # A cancel that the step does not follow within this time after the grace is followed by Slurm's own.
    cancel_hard_ms: int = Field(default=10_000, ge=0)
    # Slurm's time limit is the lease's run limit and this: the step ends its job itself, Slurm only one that hangs.
    time_slack_ms: int = Field(default=120_000, ge=0)


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
    slurm: SlurmSettings = SlurmSettings()
    # "fake" ends leases after `fake_run_ms` without starting anything: throughput benchmarks.
    engine: Literal["process", "slurm", "fake"] = "process"
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
    # The embedded network ends its jobs with itself; a real site's jobs outlive the agent.
    stop_jobs_on_exit: bool = False
