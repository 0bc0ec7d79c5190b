"""How a site moves its jobs' data in and out."""

from ipaddress import ip_network
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from yunhe.site.settings.process import MIB

GIB = 1024 * MIB


def _network(text: str) -> str:
    ip_network(text)
    return text


class StoreSettings(BaseModel):
    """Options for all URLs that begin with `prefix`: an endpoint, a user, a key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prefix: str = Field(min_length=5, max_length=1000)  # "s3://", "s3://lab/", "sftp://data.example.cn/"
    # A JSON object, readable by the agent's user alone; docs/data.md lists the names.
    options_file: Path
    # Organisations whose orders may use it; empty: everybody's, so let it open nothing that is not everybody's.
    tenants: tuple[str, ...] = ()


class DataSettings(BaseModel):
    """How a site moves its jobs' data in and out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Inputs kept by content, and what is on its way. None: `data` in the data directory.
    cache_dir: Path | None = None
    # The least recently used inputs are dropped above this; those of running leases stay.
    cache_limit_bytes: int = Field(default=50 * GIB, ge=0)
    # Of one file: a job's data may not fill the disk of all.
    input_limit_bytes: int = Field(default=100 * GIB, ge=0)
    # Of all files that one lease sends to URLs.
    output_limit_bytes: int = Field(default=100 * GIB, ge=0)
    # Transfers at a time, each a process of 35 to 70 MiB: more only share the same line.
    parallel: int = Field(default=4, ge=1, le=64)
    # A transfer that says nothing for so long is killed and tried again.
    stall_ms: int = Field(default=60_000, ge=100)
    # Tries in a row that bring not one byte: then the source cannot be reached from here.
    tries: int = Field(default=6, ge=1)
    retry_first_ms: int = Field(default=1_000, ge=1)
    retry_cap_ms: int = Field(default=60_000, ge=10)
    # A file that moves more slowly than this, in the mean of so long, is given up: the units wait for it, and another
    # site may be nearer. 0: any rate will do.
    least_bytes_per_s: int = Field(default=100_000, ge=0)
    least_over_ms: int = Field(default=300_000, ge=100)
    # For all inputs of a lease, and for all its outputs: the units wait meanwhile, and the hub waits for 3 h.
    fetch_limit_ms: int = Field(default=2 * 3_600_000, ge=100)
    push_limit_ms: int = Field(default=3_600_000, ge=100)
    # A store is asked for so long to drop an upload that was given up.
    abandon_limit_ms: int = Field(default=15_000, ge=100)
    # How far a transfer has come is told at most so often.
    report_ms: int = Field(default=3_000, ge=20)
    # Addresses that are not public and may still be reached, as "10.20.0.0/16". Empty: the centre's inside, the host
    # itself and the cloud's metadata are closed to orders.
    allow_networks: tuple[Annotated[str, AfterValidator(_network)], ...] = ()
    # `file:` URLs may read here, and write there, links resolved. Empty: nowhere.
    read_folders: tuple[Path, ...] = ()
    write_folders: tuple[Path, ...] = ()
    # Keys of the SFTP servers that may be spoken to, as OpenSSH keeps them. None: no SFTP.
    known_hosts: Path | None = None
    stores: tuple[StoreSettings, ...] = ()
