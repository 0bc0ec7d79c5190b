"""What Slurm runs on a node: `step.main` with BATCH_DIR and NEWS_DIR. Supervises one job, once for ever.

A copy of this and of the supervisor lies on the shared disk (see `program`); nothing else of Yunhe is needed. A second
start of the same lease, by whatever mistake of Slurm, finds the claim taken and ends at once.
"""

import json
import os
import signal
import sys
import time

from yunhe.site.drivers.slurm.rank import PLACE
from yunhe.site.supervisor import tenant
from yunhe.site.supervisor.far import STOPPED, FarSupervisor
from yunhe.site.supervisor.job import Job
from yunhe.site.supervisor.kernel import counter
from yunhe.site.supervisor.records import Spec, Totals, claim, monotonic_ms, read_text
from yunhe.site.supervisor.seat import Seat

GRACE_MS = 2_000  # at most, after Slurm's own SIGTERM: its SIGKILL follows after KillWait, 30 s where nobody changed it
# Each rank kills its own processes; after this, SIGTERM makes srun have the ranks killed; then it is killed itself.
GANG_ASK_MS, GANG_KILL_MS = 3_000, 10_000
GANG_END_MS = 1_000  # for the last records of the ranks
SUSPENDED_MS = 2_000  # this process looks around at least every second: after a longer pause it was not running


def oom_counter() -> tuple[str, str] | None:
    """File and line prefix that count the kernel's kills for memory in this process's own control group."""
    for line in (read_text("/proc/self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            place = ("/sys/fs/cgroup" + path + "/memory.events", "oom_kill ")
        elif "memory" in controllers.split(","):
            place = (f"/sys/fs/cgroup/memory{path}/memory.oom_control", "oom_kill ")
        else:
            continue
        if path != "/" and counter(*place) is not None:
            return place
    return None


class NodeJob(Job):
    """Limits are Slurm's where it has them; a gang's use is the sum over its ranks."""

    def __init__(self, spec: Spec, seat: Seat, slots: int) -> None:
        super().__init__(spec, seat)
        self.ranks = slots if slots > 1 else 0
        self.ooms = oom_counter()
        self.ooms_before = (counter(*self.ooms) or 0) if self.ooms else 0
        self.kill_since = 0
        self.asked = False

    def rank_records(self) -> list[dict[str, object]]:
        texts = (read_text(f"ranks/{rank}.json") for rank in range(self.ranks))
        return [json.loads(text) for text in texts if text]

    def totals(self) -> Totals:
        totals = super().totals()
        for record in self.rank_records():
            totals["cpu_ms"] += int(str(record["cpu_ms"]))
            totals["peak_memory_bytes"] += int(str(record["peak_memory_bytes"]))
        return totals

    def out_of_memory(self) -> bool:
        killed = self.ooms is not None and (counter(*self.ooms) or 0) > self.ooms_before
        return super().out_of_memory() or killed or any(record["out_of_memory"] for record in self.rank_records())

    def terminate(self) -> None:
        self.warn(signal.SIGTERM)

    def warn(self, number: int) -> None:
        """The ranks look into `ranks/stop` and signal their processes; SIGTERM would make srun kill them."""
        if self.ranks:
            with open("ranks/stop", "w", encoding="ascii") as file:
                file.write(str(int(number)))
        else:
            super().warn(number)

    def kill(self) -> None:
        if not self.ranks or self.status is not None:
            super().kill()
            return
        now = monotonic_ms()
        if not self.kill_since:
            self.kill_since = now
            self.warn(signal.SIGKILL)
        elif now - self.kill_since > GANG_KILL_MS:
            super().kill()
        elif now - self.kill_since > GANG_ASK_MS and not self.asked:
            self.asked = True
            os.kill(self.pid, signal.SIGTERM)

    def told(self) -> bool:
        """Whether Slurm told ranks to end, and not because one of them failed. What they ended with is no success."""
        records = self.rank_records()
        return any(r.get("told") for r in records) and not any(r["exit_code"] for r in records if not r.get("told"))

    def clear(self) -> bool:
        gone = super().clear()
        until = monotonic_ms() + GANG_END_MS
        while not all(record["ended"] for record in self.rank_records()):
            if monotonic_ms() > until:  # killed on its node, where Slurm sees to the rest
                break
            time.sleep(0.02)
        if "become" in self.spec:
            tenant.open_to_group(self.spec["become"], "job")
        if self.status:  # srun says the highest one; ranks that were only stopped, for the one that failed, say these
            codes = [int(str(record["exit_code"] or 0)) for record in self.rank_records()]
            self.status = next((code for code in codes if code not in (0, *STOPPED)), self.status)
        return gone


class StepSupervisor(FarSupervisor):
    """The supervisor of a batch job, which Slurm may suspend."""

    job: NodeJob

    def __init__(self, spec: Spec, seat: Seat, slots: int, news: str) -> None:
        super().__init__(spec, seat, news, "Slurm", GRACE_MS)
        self.job = NodeJob(spec, seat, slots)
        self.looked = monotonic_ms()
        signal.signal(signal.SIGCONT, lambda *_: self.resumed())

    def judge(self, cleared: bool) -> None:
        if self.job.told():
            self.stop("supervisor_lost", "stopped by Slurm")  # where nothing else has
        super().judge(cleared)

    def resumed(self) -> None:
        """Slurm had suspended the job, and this process with it: that time is neither used nor charged."""
        away = monotonic_ms() - self.looked
        if self.job.start_ms and away > SUSPENDED_MS:
            self.job.start_ms += away
        self.looked = monotonic_ms()

    def pause_ms(self) -> int:
        self.looked = monotonic_ms()
        return super().pause_ms()


def lease_dir(batch: str) -> str:
    """The element's own lease; a batch of one is no array. Raises OSError for one that was given up."""
    with open(f"{batch}/leases", encoding="utf-8") as file:
        name = file.read().split()[int(os.environ.get("SLURM_ARRAY_TASK_ID") or 0)]
    return f"{batch}/../../leases/{name}"


def dress(spec: Spec, place: dict[str, str], slots: int) -> None:
    """Give the job its place; one of another user starts by way of that user, a gang's ranks each for themselves."""
    env = {**place, **spec["env"]}
    if "become" not in spec:
        spec["env"] = env
    elif slots > 1:
        spec["env"] = {**tenant.CLEAN, **place}
    else:
        spec["argv"] = tenant.command(spec["become"], spec["argv"], env, os.path.abspath("job.env"))
        spec["env"] = tenant.CLEAN


def main() -> int:
    batch, news = sys.argv[1:3]
    os.chdir(lease_dir(batch))  # a lease that was given up has no folder: nothing is started
    errors = os.open("supervisor.err", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDWR)
    place = {name: value for name, value in os.environ.items() if name.startswith(PLACE)}
    seat = Seat([])
    where = f"{place.get('SLURMD_NODENAME', '?')} {place.get('SLURM_JOB_ID', '?')}"
    if not claim(f"{seat.name} {where}"):
        os.write(errors, f"started again on {where}: nothing done\n".encode())
        seat.leave()
        return 0
    for fd, target in ((null, 0), (null, 1), (errors, 2)):
        os.dup2(fd, target)
    with open("spec.json", encoding="utf-8") as file:
        spec: Spec = json.load(file)
    with open("plan.json", encoding="utf-8") as file:
        slots = int(json.load(file)["slots"])
    dress(spec, place, slots)
    supervisor = StepSupervisor(spec, seat, slots, news)
    supervisor.run()
    return supervisor.job.status or 0
