"""What a site offers of this machine, and how its jobs are held."""

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
    # What the host's own users take: "stated" by the file `reserve` of the data directory alone, or also "measured", as
    # the CPU time of all that is not the site's. Sites that divide one machine would take each other for local users.
    local_use: Literal["stated", "measured"] = "stated"
    # None: by the chip's data sheet where it is known, else assumed.
    watts_per_core: int | None = Field(default=None, ge=0, le=100_000)
    # Never more than the host really gives; "processes" leaves the sandbox out where it would work (tests).
    isolation: Literal["auto", "sandbox", "processes"] = "auto"
    # Folders that jobs may read besides /usr; the interpreter's own are added.
    expose: tuple[Path, ...] = ()
    # Jobs that ask for the network share the host's, loopback included: docs/isolation.md. False: they are refused.
    allow_network: bool = True
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
