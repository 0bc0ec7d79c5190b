"""fgd_decisions: packing decisions per second on the 1,523 nodes of Alibaba's list, one thread, at FGD's quality.

The tasks of the default list, 130 % of the cards, as in the table of FGD (`benchmarks/placement/fgd.py`), by Yunhe's
own rule; what it allocates stands beside what FGD allocates.  A decision is a placement with all that it changes, or a
task that fits nowhere.  Beside it, on the same arrivals: FGD through the same index, and FGD and best fit without one,
every node scored again for every task.

Seconds are of processor time: the machine is shared, and the work is one thread's.  By the wall it is in `by_wall`.
"""

import os
import time
from pathlib import Path

import numpy as np

from benchmarks.figure import Figure
from benchmarks.placement import packers
from benchmarks.placement.fgd import FOLDER, TASKS
from benchmarks.placement.replay import OURS, Place, Workload, drawn, fragments, policy
from benchmarks.placement.table import opened
from benchmarks.scene import NotMeasurable, Scene
from yunhe.core.placement.packing.fleet import Fleet
from yunhe.core.placement.packing.index import Rule
from yunhe.core.placement.packing.values import Need, Node
from yunhe.simulator.workloads.alibaba_gpu import read_nodes, read_tasks

DATA = "YUNHE_BENCH_DATA"
NODES = "openb_node_list_all_node.csv.gz"
RUNS, QUICK_RUNS = 5, 2
PLAIN = 2_000  # decisions of the replays without an index: they are slow


def measure(scene: Scene) -> Figure:
    workload = _workload()
    nodes, arrivals = drawn(workload, scene.seed)
    walls, rates = [], []
    for _ in range(int(scene.seconds(RUNS, QUICK_RUNS))):
        fleet = Fleet(nodes)
        wall, rate = _timed(policy(OURS, fleet, workload, scene.seed), arrivals)
        walls.append(wall)
        rates.append(rate)
    theirs = Fleet(nodes)
    _, fgd = _timed(policy("FGD", theirs, workload, scene.seed), arrivals)
    plain = Fleet(nodes)
    return Figure(
        float(np.median(rates)),
        extra={
            "by_wall": round(float(np.median(walls))),
            "allocated_pct": round(_allocated(fleet, workload), 2),
            "fgd_allocated_pct": round(_allocated(theirs, workload), 2),
            "fgd_indexed": round(fgd),
            "fgd_every_node": round(_every_node(plain, packers.Fgd(fragments(plain, workload)), arrivals)),
            "best_fit_every_node": round(_every_node(Fleet(nodes), packers.BestFit(), arrivals)),
            "runs": len(rates),
        },
    )


def _workload() -> Workload:
    folder = Path(os.environ.get(DATA, "data")) / FOLDER
    try:
        with opened(folder / NODES, {}) as file:
            nodes: tuple[Node, ...] = tuple(sorted(read_nodes(file, NODES), key=lambda node: node.name))
        name = TASKS.format("default")
        with opened(folder / name, {}) as file:
            tasks = tuple(task.need for task in sorted(read_tasks(file, name), key=lambda task: task.name))
    except FileNotFoundError as error:
        raise NotMeasurable(f"{error.filename} is missing: set ${DATA} to the folder of the public traces") from error
    return Workload("default", nodes, tasks)


def _timed(place: Place, arrivals: list[Need]) -> tuple[float, float]:
    """Decisions per second, by the wall and by the processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    for need in arrivals:
        place(need)
    return len(arrivals) / (time.perf_counter() - wall), len(arrivals) / (time.process_time() - cpu)


def _every_node(fleet: Fleet, rule: Rule, arrivals: list[Need]) -> float:
    def place(need: Need) -> tuple[int, tuple[int, ...]] | None:
        fitting = np.flatnonzero(fleet.fits(need))
        if not fitting.size:
            return None
        at = int(fitting[rule.costs(fleet, need, fitting).argmin()])
        return at, fleet.take(at, need, rule.card(fleet, need, at) if need.shares else -1)

    return _timed(place, arrivals[:PLAIN])[1]


def _allocated(fleet: Fleet, workload: Workload) -> float:
    return 100 * (1 - float(fleet.free.sum()) / workload.capacity_milli)
