"""SimGrid (Casanova et al., 2014; 3.32 of Debian, in C++ with a Python interface) beside ours on the same jobs.

SimGrid simulates what programs do on machines and brings no dispatcher of jobs, so a program of its kind stands here:
one actor takes the jobs in the order of their arrival and gives each the first hosts with free cards, and an actor per
job computes for as long as the job ran.  It keeps no prices, money, energy or failures.  It is the package
`python3-simgrid`, for the system's own Python, and runs as a child.
"""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks.scene import NotMeasurable
from yunhe.simulator.workloads.raw import RawJob

PYTHON = "/usr/bin/python3"
INSTALL = "apt-get install python3-simgrid"
LOOK_S = 30
RUN_S = 300

PROGRAM = """
import json, sys, time
import simgrid
SPEED = 1e9
jobs = json.load(open(sys.argv[1]))
nodes, cards = int(sys.argv[2]), int(sys.argv[3])
before, cpu_before = time.perf_counter(), time.process_time()
engine = simgrid.Engine(["peer", "--log=root.thres:warning"])
zone = simgrid.NetZone.create_star_zone("cluster")
hosts = [zone.create_host(f"n{i}", SPEED) for i in range(nodes)]
for host in hosts:
    host.core_count = cards
    host.seal()
zone.seal()
free, left, done, ended = [cards] * nodes, [nodes * cards], simgrid.Semaphore(0), [0]

def job(run_s, places):
    simgrid.this_actor.execute(run_s * SPEED)
    for node, count in places:
        free[node] += count
        left[0] += count
    ended[0] += 1
    done.release()

def dispatcher():
    for number, (at_s, run_s, wanted) in enumerate(jobs):
        if at_s > simgrid.Engine.clock:
            simgrid.this_actor.sleep_until(at_s)
        while left[0] < wanted:
            done.acquire()
        places, missing = [], wanted
        for node in range(nodes):
            if free[node]:
                count = min(free[node], missing)
                free[node] -= count
                places.append((node, count))
                missing -= count
                if not missing:
                    break
        left[0] -= wanted
        simgrid.Actor.create(f"j{number}", hosts[places[0][0]], job, run_s, places)

simgrid.Actor.create("dispatcher", hosts[0], dispatcher)
engine.run()
found = {"wall_s": time.perf_counter() - before, "cpu_s": time.process_time() - cpu_before}
print(json.dumps({**found, "jobs": ended[0]}))
"""


def run(jobs: Sequence[RawJob], nodes: int, cards: int, folder: Path) -> dict[str, float]:
    """Wall and CPU seconds for `jobs` on `nodes` nodes of `cards`. Raises NotMeasurable where it cannot be had."""
    _look()
    given = [(job.at_ms / 1000, max(1, job.run_ms // 1000), job.cards) for job in jobs]
    file = folder / "jobs.json"
    file.write_text(json.dumps([row for row in given if row[2] <= nodes * cards]))
    command = [PYTHON, "-I", "-c", PROGRAM, str(file), str(nodes), str(cards)]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=RUN_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise NotMeasurable(f"SimGrid took more than {RUN_S} s") from error
    if done.returncode != 0:
        raise NotMeasurable(f"SimGrid did not run: {done.stderr.strip()[-200:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _look() -> None:
    try:
        done = subprocess.run([PYTHON, "-I", "-c", "import simgrid"], capture_output=True, timeout=LOOK_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotMeasurable(f"SimGrid is not here: {error}") from error
    if done.returncode != 0:
        raise NotMeasurable(f"SimGrid is not installed ({INSTALL})")
