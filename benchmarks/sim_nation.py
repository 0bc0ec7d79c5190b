"""sim_nation_day, sim_nation_rss: one simulated day of a network of the nation's size, every order decided at once.

`python -m benchmarks.sim_nation [--jobs N] [--hours H]` runs it by itself and prints one JSON object.  The environment
variable YUNHE_BENCH_NATION_JOBS sets the number of jobs of the day for `make bench`; with fewer than a million the
seconds of the whole are what the measured seconds per job come to.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

from benchmarks import nation
from benchmarks.figure import Figure, PeerFigure
from benchmarks.peers import accasim, simgrid
from benchmarks.peers.slurm import Slurm
from benchmarks.scene import NotMeasurable, Scene
from yunhe.simulator.run import Run
from yunhe.simulator.scenario import Scenario, load
from yunhe.simulator.workloads.fitted import generate, shipped
from yunhe.simulator.workloads.raw import RawJob

JOBS = 1_000_000
QUICK_JOBS = 20_000
JOBS_VARIABLE = "YUNHE_BENCH_NATION_JOBS"
LIMIT_S = 900
PEER_JOBS = 20_000
PEER_NODES, PEER_CARDS, PEER_PER_DAY = 100, 8, 1_000

_known: dict[int, dict[str, float]] = {}  # one run serves both rows


def day(scene: Scene) -> Figure:
    """Wall seconds for a million jobs."""
    found = _measured(scene)
    scale = JOBS / found["jobs"]
    note = "" if found["jobs"] >= JOBS * 0.95 else f"from {found['jobs']:,.0f} jobs of the day"
    extra = {f"day_{name}": round(value, 3) for name, value in found.items()}
    return Figure(found["wall_s"] * scale if scale > 1.05 else found["wall_s"], note=note, extra=dict(extra))


def rss(scene: Scene) -> Figure:
    """MiB at the most, of the process that simulates."""
    found = _measured(scene)
    note = "" if found["jobs"] >= JOBS * 0.95 else f"of {found['jobs']:,.0f} jobs of the day: more take more"
    return Figure(found["rss_mib"], note=note)


def beside_others(_: Slurm) -> PeerFigure:
    """All on the same jobs and one cluster that all can hold; the figure is AccaSim's, for as many jobs, which like
    ours decides who gets what. Where it cannot be had it is SimGrid's, which does as its program says."""
    jobs = list(islice(generate(shipped("pai2020"), PEER_PER_DAY, 1, 0), PEER_JOBS))
    with tempfile.TemporaryDirectory(prefix="yunhe-bench-peers-") as made:
        folder = Path(made)
        ours = _ours(jobs, folder)
        told = [f"{PEER_JOBS:,} jobs on {PEER_NODES} nodes: Yunhe {_seconds(ours)} with money and energy"]
        figures = []
        for name, peer in (("AccaSim", accasim.run), ("SimGrid", simgrid.run)):
            try:
                theirs = peer(jobs, PEER_NODES, PEER_CARDS, folder)
            except NotMeasurable as error:
                told.append(str(error))
                continue
            figures.append(theirs["wall_s"] / PEER_JOBS * JOBS)
            told.append(f"{name} {_seconds(theirs)}, {theirs['cpu_s'] / ours['cpu_s']:.2f} times the CPU time of Yunhe")
    told.append(f"the figure is the first peer's per job times {JOBS:,}")
    return PeerFigure(figures[0] if figures else None, "; ".join(told))


def _seconds(found: dict[str, float]) -> str:
    return f"{found['wall_s']:.1f} s ({found['cpu_s']:.1f} CPU)"


def _ours(jobs: list[RawJob], folder: Path) -> dict[str, float]:
    rows = [f"{i},{job.at_ms / 1000},{max(1, job.run_ms // 1000)},{job.cards}" for i, job in enumerate(jobs)]
    (folder / "jobs.csv").write_text("job_id,arrival_s,service_sec,gpu_count\n" + "\n".join(rows))
    days = jobs[-1].at_ms // 86_400_000 + 2
    scenario = load(
        f"""
name: peer
length: {days}d
engine: online
centres:
  - name: one
    place: shanghai
    pools: [{{chip: v100-sxm2-32g, cards: {PEER_NODES * PEER_CARDS}, per_host: {PEER_CARDS}, price: 4CNY/h}}]
customers: [{{name: all, home: one}}]
workloads: [{{name: jobs, trace: {{format: pai2020, path: jobs.csv}}, ask: compute}}]
"""
    )
    return _timed(scenario, folder)


def _timed(scenario: Scenario, folder: Path) -> dict[str, float]:
    before, cpu_before = time.perf_counter(), time.process_time()
    run = Run.fresh(scenario, folder)
    while run.go_on(100_000):
        pass
    found = run.result()
    assert found["money"]["sum_microcny"] == 0
    orders = found["orders"]
    return {
        "wall_s": time.perf_counter() - before,
        "cpu_s": time.process_time() - cpu_before,
        "jobs": orders["submitted"],
        "succeeded": orders.get("succeeded", 0),
        "refused": orders.get("refused_no_place", 0),
        "waiting": orders["waiting_at_end"],
        "events": found["events"],
        "rounds": found["rounds"],
        "utilisation": found["utilisation"],
    }


def _measured(scene: Scene) -> dict[str, float]:
    """In a process of its own, so that its memory is its own."""
    jobs = QUICK_JOBS if scene.quick else int(os.environ.get(JOBS_VARIABLE, JOBS))
    if jobs not in _known:
        command = [sys.executable, "-m", "benchmarks.sim_nation", "--jobs", str(jobs), "--seed", str(scene.seed)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"the run failed: {done.stderr.strip()[-500:]}")
        _known[jobs] = json.loads(done.stdout)
    return _known[jobs]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=JOBS)
    parser.add_argument("--hours", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    found = _timed(nation.scenario(options.jobs, "online", options.seed, hours=options.hours), Path())
    found["rss_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found["us_per_job"] = found["wall_s"] / found["jobs"] * 1e6
    print(json.dumps(found))


if __name__ == "__main__":
    main()
