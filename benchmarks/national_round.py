"""round_nation, round_nation_gap, round_growth: rounds over the national instance (`benchmarks.national`).

    round_nation       one round, 10,000 open orders x 20,000 pools of 7,000 sites, s of wall time, from the snapshot to
                       the plan.  Of a round before nothing is kept but the searches of the graph of links, as live; the
                       first round, that has to make them, and the CPU time stand beside it
    round_nation_gap   what the plan's places cost above the least that they can, in percent: the optimum of the full
                       linear program over all kinds of tasks and all pools, solved by HiGHS in the same run (level by
                       level, since a higher priority is placed before a lower one).  No plan of whole gangs reaches
                       that: on one national instance HiGHS' own search over whole tasks (500 s) ended 1.1 % above it.
                       So the distance to the bound that counts whole tasks, which the plan tells, stands beside it
    round_growth       exponent of the round's CPU time against sites x orders, 100 to 20,000 of both, least squares on
                       logarithms

Expected of the first version (a matrix of all classes by all pools): 26 constraints x 12 million pairs, 3 s.  Found: it
asked for 871 MiB an array, because the budget of nearly every order made a class of its own (5,707), and ended there.
With a row per kind: 1.0 s, of them 0.4 s the rows.  Of the greedy plan was expected to cost 2 % above the least, as on
an earlier, milder instance; found were 20 to 50 %: few pools are the best of many.
"""

import resource
import time
from dataclasses import dataclass

import numpy as np

from benchmarks.figure import Extra, Figure
from benchmarks.national import NOW_MS, Scale, nation
from benchmarks.scene import Scene
from yunhe.core.placement.assign import Assigner
from yunhe.core.placement.board import Board
from yunhe.core.placement.classes import Classes, classes
from yunhe.core.placement.columns import Ints
from yunhe.core.placement.family import Family
from yunhe.core.placement.improve import Improver
from yunhe.core.placement.relax import Program
from yunhe.core.placement.values import Bound, Given
from yunhe.core.policy import Policy
from yunhe.core.round import plan_round

POLICY = Policy(max_assignments=1_000_000)
QUICK = Scale(sites=700, pools=2_000, orders=1_000)
ROUNDS = 5
GROWTH = (100, 300, 1_000, 3_000, 7_000, 20_000)


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds."""

    wall: float
    cpu: float


def round_nation(scene: Scene) -> Figure:
    wall, cpu, first, gaps, plan = [], [], [], [], None
    for i in range(1 if scene.quick else ROUNDS):
        snapshot = nation(scene.seed + i, QUICK if scene.quick else Scale())
        started = time.perf_counter()
        plan_round(snapshot, POLICY, NOW_MS, 0)
        first.append(time.perf_counter() - started)
        started, cpu_started = time.perf_counter(), time.process_time()
        plan = plan_round(snapshot, POLICY, NOW_MS, 0)
        wall.append(time.perf_counter() - started)
        cpu.append(time.process_time() - cpu_started)
        gaps.append(plan.bound.gap_percent if plan.bound is not None else 0.0)
        scene.say(f"{wall[-1]:.2f} s, {cpu[-1]:.2f} s of CPU")
    assert plan is not None
    extra: dict[str, Extra] = {
        "cpu_s": round(float(np.median(cpu)), 3),
        "worst_s": round(max(wall), 3),
        "first_s": round(float(np.median(first)), 3),
        "assigned": sum(a.tasks for a in plan.assignments),
        "waiting": plan.waiting,
        "unplaceable": plan.unplaceable,
        "gap_percent_worst": round(max(gaps), 3),
        "rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    return Figure(float(np.median(wall)), extra=extra)


class _Recorder(Improver):
    """Keeps the programs of each priority, and what came of them."""

    def __init__(self, grouped: Classes, class_of: Ints) -> None:
        super().__init__(grouped, class_of)
        self.levels: list[tuple[list[Family], Ints, Ints]] = []
        self.bounds: list[Bound] = []
        self.greedy = 0.0

    def improve(self, placed: Given, free: Ints, free_memory: Ints) -> tuple[Given, Bound | None]:
        whole, whole_memory = free.copy(), free_memory.copy()
        np.add.at(whole, placed.pool, placed.milli)
        np.add.at(whole_memory, placed.pool, placed.memory)
        families, _, before = self._families(placed, whole, whole_memory)
        self.levels.append((families, whole, whole_memory))
        self.greedy += before
        better, bound = super().improve(placed, free, free_memory)
        if bound is not None:
            self.bounds.append(bound)
        return better, bound


def round_nation_gap(scene: Scene) -> Figure:
    snapshot = nation(scene.seed, QUICK if scene.quick else Scale())
    grouped = classes(snapshot.shapes, Board(snapshot.supply, POLICY), NOW_MS)
    recorder = _Recorder(grouped, grouped.of_shape[snapshot.queue.shape])
    Assigner(grouped, snapshot, POLICY, NOW_MS).run(recorder)
    cost, least = (sum(getattr(bound, name) for bound in recorder.bounds) for name in ("cost", "least"))
    optimum, columns, spent = 0.0, 0, 0.0
    for families, free, free_memory in recorder.levels:
        started = time.perf_counter()
        full = Program(families, free, free_memory)
        full.add([np.arange(len(family.pools)) for family in families])
        optimum += full.solve().optimum
        spent += time.perf_counter() - started
        columns += sum(len(family.pools) for family in families)
        scene.say(f"the full program of a priority: {len(families)} kinds, {time.perf_counter() - started:.1f} s")
    extra: dict[str, Extra] = {
        "above_own_bound_percent": round(100 * (cost / least - 1), 4),
        "own_bound_above_optimum_percent": round(100 * (least / optimum - 1), 4),
        "greedy_above_optimum_percent": round(100 * (recorder.greedy / optimum - 1), 2),
        "full_columns": columns,
        "full_highs_s": round(spent, 1),
    }
    return Figure(100 * (cost / optimum - 1), note="the peer's time is full_highs_s", extra=extra)


def round_growth(scene: Scene) -> Figure:
    sizes = GROWTH[:3] if scene.quick else GROWTH
    found: dict[int, float] = {}
    for size in sizes:
        snapshot = nation(scene.seed, Scale(sites=size, pools=3 * size, orders=size))
        spent = []
        for turn in range(5 if size <= 1_000 else 1):
            started = time.process_time()
            plan_round(snapshot, POLICY, NOW_MS, turn)
            spent.append(time.process_time() - started)
        found[size] = min(spent)
        scene.say(f"{size} sites, {3 * size} pools, {size} orders: {found[size]:.3f} s of CPU")
    pairs = np.log([float(size) * size for size in found])
    exponent = float(np.polyfit(pairs, np.log(list(found.values())), 1)[0])
    extra: dict[str, Extra] = {f"cpu_s_{size}": round(spent, 4) for size, spent in found.items()}
    return Figure(exponent, extra=extra)
