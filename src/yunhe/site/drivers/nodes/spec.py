"""What a supervisor on a node reads of its job, whichever engine starts it."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path

from yunhe.site.drivers.contract import Job
from yunhe.site.settings import DriverSettings
from yunhe.site.supervisor.records import Spec

PATH = "/usr/local/bin:/usr/bin:/bin"
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def path_of(python: str) -> str:
    """PATH with the folder of the nodes' interpreter in front."""
    return os.pathsep.join((os.path.dirname(python), PATH)) if "/" in python else PATH


def environment(job: Job, folder: Path, threads: int) -> dict[str, str]:
    """All but PATH. `threads` of one slot; `folder` is the lease's."""
    plan = job.lease.checkpoint
    return {
        "HOME": str(folder / "job"),
        "TMPDIR": str(folder / "tmp"),
        "LANG": "C.UTF-8",
        **dict.fromkeys(THREADS, str(threads)),
        **job.lease.env,
        "YUNHE_LEASE": str(job.key),
        "YUNHE_RANK": "0",
        "YUNHE_SIZE": str(job.lease.slots),
        **({"YUNHE_CHECKPOINT": f"{folder}/job/{plan.folder}"} if plan else {}),
    }


def node_spec(
    job: Job,
    driver: DriverSettings,
    folder: Path,
    argv: Sequence[str],
    env: dict[str, str],
    memory_bytes: int,
    beacon: Path,
) -> Spec:
    """No sandbox and no control group of ours: those are the engine's affair. `memory_bytes` of the whole lease."""
    lease = job.lease
    spec = Spec(
        key=str(job.key),
        argv=list(argv),
        env=env,
        cwd=str(folder / "job"),
        sandbox=[],
        uid=None,
        cgroup=None,
        rlimits=[("RLIMIT_CORE", 0), ("RLIMIT_FSIZE", driver.file_limit_bytes)],
        memory_limit_bytes=memory_bytes,
        pids_limit=driver.pids_limit,
        run_limit_ms=lease.run_limit_ms,
        disconnect_limit_ms=lease.disconnect_limit_ms,
        contact_ms=job.contact_ms,
        contact_path=str(beacon),
        term_grace_ms=driver.term_grace_ms,
        log_cap_bytes=lease.log_cap_bytes,
        sample_ms=driver.sample_ms,
        usage_write_ms=driver.usage_write_ms,
        notify="",
    )
    if lease.checkpoint:
        spec["notice"] = (signal.Signals[lease.checkpoint.signal], job.notice_ms)
    return spec
