"""How a Slurm cluster is used."""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


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
    # Under at most so many leaf switches each gang is to lie, where Slurm knows its network (TopologyPlugin); None: it
    # is Slurm's affair alone. Slurm waits so long for such a place, then it takes any.
    gang_switches: int | None = Field(default=None, ge=1, le=10_000)
    gang_switches_wait_ms: int = Field(default=300_000, ge=60_000)
    # A group of the centre whose members are accounts for tenants, one for each, so that tenants are apart; every
    # account has a primary group of its own, in which the agent's user is. None: all jobs run as the agent's user.
    tenant_group: str | None = Field(default=None, min_length=1, max_length=32)
    # Put before a command, it makes that run as the account {user} without asking: on the agent's host and the nodes.
    tenant_command: tuple[str, ...] = ("/usr/bin/sudo", "-n", "-u", "{user}", "--")
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
    # The centre keeps accounts (slurmdbd): `sacct` is asked why a job ended that Slurm no longer lists.
    accounting: bool = False
    # Accounts are written late; a job of which they say nothing for so long is lost.
    accounting_wait_ms: int = Field(default=300_000, ge=0)
    # All such jobs are asked for at once, so often.
    accounting_interval_ms: int = Field(default=10_000, ge=100)

    @model_validator(mode="after")
    def _tenants_can_be_apart(self) -> Self:
        """A command that is searched for could be one of a job's own."""
        command = self.tenant_command
        if not command or not command[0].startswith("/") or not any("{user}" in word for word in command):
            raise ValueError('tenant_command starts with "/" and names {user}')
        if self.tenant_group and self.shared_dir is None:
            raise ValueError("tenant_group needs a shared_dir: jobs may not come near the data directory")
        return self
