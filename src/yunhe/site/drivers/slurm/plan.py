"""A lease as options of sbatch, and as the specification that its step reads."""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from yunhe.site.drivers.contract import Job, SpawnFailed
from yunhe.site.drivers.nodes.chips import UNIT
from yunhe.site.drivers.nodes.program import Program
from yunhe.site.drivers.nodes.spec import environment, node_spec, path_of
from yunhe.site.drivers.slurm.folder import Plan
from yunhe.site.drivers.slurm.supply import MIB, SlurmPool
from yunhe.site.drivers.slurm.tenants import Account
from yunhe.site.settings import DriverSettings, SlurmSettings
from yunhe.site.supervisor.records import Spec

START, RANK = "site/drivers/slurm/start.py", "site/drivers/slurm/rank.py"
PROGRAM = (START, RANK, "site/drivers/slurm/step.py")
MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True)
class Size:
    """Of one slot: whole cores, cards, and memory."""

    slots: int
    cores: int
    cards: int
    memory_bytes: int


def size_of(job: Job, pool: SlurmPool) -> Size:
    """Cores rounded up from thousandths. Raises SpawnFailed for what Slurm would let wait for ever."""
    lease, report = job.lease, pool.report
    if lease.slot_milli > report.max_slot_milli or lease.slots * lease.slot_milli > report.capacity_milli:
        raise SpawnFailed(f"{lease.slots} x {lease.slot_milli} milli-units are more than the pool has")
    memory = lease.slot_memory_bytes or report.memory_bytes * lease.slot_milli // report.capacity_milli
    if not pool.card:
        return Size(lease.slots, -(-lease.slot_milli // UNIT), 0, memory)
    if lease.slot_milli % UNIT:
        raise SpawnFailed("Slurm gives whole cards only")
    cards = lease.slot_milli // UNIT
    return Size(lease.slots, max(1, cards * pool.cores_per_card), cards, memory)


@dataclass(frozen=True, slots=True)
class Planner:
    """Everything that is the same for all leases of a site."""

    driver: DriverSettings
    slurm: SlurmSettings
    program: Program
    news: Path
    beacon: Path

    @property
    def python(self) -> str:
        return self.slurm.python or sys.executable

    def plan(self, job: Job, pool: SlurmPool, account: Account | None) -> Plan:
        size, lease = size_of(job, pool), job.lease
        grace_ms = max(self.driver.term_grace_ms, job.notice_ms)
        minutes = -(-(lease.run_limit_ms + grace_ms + self.slurm.time_slack_ms) // MINUTE_MS)
        options = [
            f"--partition={pool.partition}",
            f"--ntasks={size.slots}",
            f"--cpus-per-task={size.cores}",
            # Per core and not per node: where Slurm puts the slots of a gang is its own affair.
            f"--mem-per-cpu={-(-size.memory_bytes // (size.cores * MIB))}M",
            f"--time={minutes}",
            "--no-requeue",
            "--input=/dev/null",
            "--open-mode=append",
        ]
        options += self._places(pool, size)
        if size.slots > 1 and self.slurm.gang_switches is not None:
            wait = -(-self.slurm.gang_switches_wait_ms // MINUTE_MS)
            options.append(f"--switches={self.slurm.gang_switches}@{wait}")
        for name, value in (("account", self.slurm.account), ("qos", self.slurm.qos)):
            if value:
                options.append(f"--{name}={value}")
        return {
            "options": options,
            "slots": size.slots,
            "cores": size.cores,
            "pool": lease.pool,
            "milli": lease.slots * lease.slot_milli,
            "memory_bytes": lease.slots * lease.slot_memory_bytes,
            "become": list(account.become) if account else [],
            "gid": account.gid if account else -1,
        }

    def script(self, batch: Path) -> str:
        """The batch script of every lease of a batch."""
        words = [self.python, "-I", "-S", str(self.program.path(START)), str(batch), str(self.news)]
        return f"#!/bin/sh\nexec {shlex.join(words)}\n"

    @staticmethod
    def _places(pool: SlurmPool, size: Size) -> list[str]:
        """Nodes and cards. Cards that Slurm cannot count by task go one slot to a node."""
        if size.slots == 1:
            return ["--nodes=1", *([f"--gres={pool.card}:{size.cards}"] if size.cards else [])]
        if not size.cards:
            return []
        if pool.card.partition(":")[0] == "gpu":
            return [f"--gpus-per-task={pool.card.partition(':')[2] or 'gpu'}:{size.cards}".replace("=gpu:", "=")]
        return [f"--nodes={size.slots}", "--ntasks-per-node=1", f"--gres={pool.card}:{size.cards}"]

    def spec(self, job: Job, pool: SlurmPool, folder: Path, account: Account | None) -> Spec:
        size = size_of(job, pool)
        env = {"PATH": path_of(self.python), **environment(job, folder, size.cores)}
        memory = size.slots * size.memory_bytes
        spec = node_spec(job, self.driver, folder, self._argv(job, pool, size, folder), env, memory, self.beacon)
        if account:
            spec["become"] = list(account.become)
        return spec

    def _argv(self, job: Job, pool: SlurmPool, size: Size, folder: Path) -> list[str]:
        """A gang is started by srun, one rank for each slot, and ends with the first rank that fails."""
        command = list(job.lease.command)
        if size.slots == 1:
            return command
        driver = self.driver
        words = ["srun", "--quiet", "--kill-on-bad-exit=1", f"--ntasks={size.slots}", f"--cpus-per-task={size.cores}"]
        words += self._places(pool, size)
        words += [self.python, "-I", "-S", str(self.program.path(RANK)), str(folder), str(size.memory_bytes)]
        return [*words, str(driver.sample_ms), str(driver.usage_write_ms), "--", *command]
