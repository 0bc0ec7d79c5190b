"""AccaSim (Galleguillos et al., 2017), a simulator of dispatching in Python, beside ours on the same jobs.

It is installed into a virtual environment of its own, once, below the user's cache.  Its first-fit, first-come
dispatcher places jobs on nodes; it keeps no prices, money, energy or failures.  Version 1.1.3 is of an older Python:
one name that has moved since is put back before it is imported.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.scene import NotMeasurable
from yunhe.simulator.workloads.raw import RawJob

VERSION = "1.1.3"
INSTALL_S = 300
RUN_S = 300

PROGRAM = """
import collections, collections.abc, json, logging, sys, time
collections.Mapping = collections.abc.Mapping
from accasim.base.simulator_class import Simulator
from accasim.base.scheduler_class import FirstInFirstOut
from accasim.base.allocator_class import FirstFit
before, cpu_before = time.perf_counter(), time.process_time()
off = {"scheduling_output": False, "statistics_output": False, "show_statistics": False}
simulation = Simulator(sys.argv[1], sys.argv[2], FirstInFirstOut(FirstFit()), **off)
simulation.start_simulation()
found = {"wall_s": time.perf_counter() - before, "cpu_s": time.process_time() - cpu_before}
print(json.dumps({**found, "jobs": simulation.dispatched_jobs}))
"""


def run(jobs: Sequence[RawJob], nodes: int, cards: int, folder: Path) -> dict[str, float]:
    """Wall and CPU seconds for `jobs` on `nodes` nodes of `cards`. Raises NotMeasurable where it cannot be had."""
    python = _installed()
    workload, system = folder / "jobs.swf", folder / "system.json"
    with workload.open("w", encoding="utf-8") as file:
        for number, job in enumerate(jobs, 1):
            seconds = max(1, job.run_ms // 1000)
            # Standard workload format: id, submit, wait, run, processors, ..., requested processors and time.
            head = f"{number} {job.at_ms // 1000} -1 {seconds} {job.cards} -1 -1 {job.cards} {seconds}"
            file.write(f"{head} -1 1 1 1 1 1 1 -1 -1\n")
    groups = {"groups": {"node": {"core": cards, "mem": 1_000_000}}, "resources": {"node": nodes}}
    system.write_text(json.dumps({**groups, "start_time": 0, "equivalence": {"processor": {"core": 1}}}))
    command = [python, "-c", PROGRAM, str(workload), str(system)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=RUN_S, check=False)
    if done.returncode != 0:
        raise NotMeasurable(f"AccaSim {VERSION} did not run: {done.stderr.strip()[-200:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _installed() -> str:
    """Its interpreter."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "yunhe" / f"accasim-{VERSION}"
    python = cache / "bin" / "python"
    ready = cache / ".installed"
    if not ready.exists():
        try:
            subprocess.run(
                [sys.executable, "-m", "venv", str(cache)], check=True, timeout=INSTALL_S, capture_output=True
            )
            install = [str(python), "-m", "pip", "install", "-q", f"accasim=={VERSION}"]
            subprocess.run(install, check=True, timeout=INSTALL_S, capture_output=True)
        except (OSError, subprocess.SubprocessError) as error:
            raise NotMeasurable(f"AccaSim cannot be installed here: {error}") from error
        ready.touch()
    return str(python)
