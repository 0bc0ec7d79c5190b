"""decide_7000_sites_p99, decide_throughput: one order at once over the national instance (`benchmarks.national`).

    decide_7000_sites_p99   each of the 10,000 queued orders is decided once, in a random order, with its reasons
                            counted by constraint; what it takes is in use from then on, and half of it is given back.
                            Nothing is known before but the graph: the first of a kind pays for its lane.
    decide_throughput       decisions per s, with take and give back, over a day: orders come evenly, run for an
                            exponential time and end; 300,000 of them, after a warm-up of 10,000.  The clock stands, so
                            that deadlines do not pass: a late order would be no work at all.

Expected: a lane 1 ms (20 vector operations over 20,000 pools), a decision in a known lane 15 us, its reasons 3 us more.
Found: work until a deadline has another size at every moment, so no lane of it lasts, and its reasons are counted over
all pools anew.  Nothing is kept of a moment, so the clock that stands helps nobody.
"""

import heapq
import time

import numpy as np

from benchmarks.figure import Extra, Figure
from benchmarks.national import NOW_MS, Scale, nation
from benchmarks.national_round import POLICY, QUICK
from benchmarks.scene import Scene
from yunhe.core.placement.online import Online, Taken
from yunhe.core.round import Snapshot

DAY = 300_000
WARM = 10_000


def decide_p99(scene: Scene) -> Figure:
    snapshot = nation(scene.seed, QUICK if scene.quick else Scale())
    queue = snapshot.queue
    online = Online(snapshot.supply, POLICY)
    wall, cpu, placed = [], [], 0
    for n, i in enumerate(np.random.default_rng(scene.seed).permutation(len(queue.ids)).tolist()):
        shape, tasks = snapshot.shapes[queue.shape[i]], int(queue.tasks[i])
        started, cpu_started = time.perf_counter(), time.process_time()
        taken = online.decide(shape, NOW_MS, tasks)
        online.why(shape, NOW_MS)
        wall.append((time.perf_counter() - started) * 1000)
        cpu.append((time.process_time() - cpu_started) * 1000)
        online.take(taken)
        placed += bool(taken)
        if n % 2:
            online.give_back(taken)
    p50, p99 = np.percentile(wall, [50, 99]).tolist()
    extra: dict[str, Extra] = {
        "p50_ms": round(p50, 3),
        "cpu_p50_ms": round(float(np.percentile(cpu, 50)), 3),
        "cpu_p99_ms": round(float(np.percentile(cpu, 99)), 3),
        "placed": placed,
        "decisions": len(wall),
    }
    return Figure(p99, extra=extra)


def throughput(scene: Scene) -> Figure:
    snapshot = nation(scene.seed, QUICK if scene.quick else Scale())
    count = 20_000 if scene.quick else DAY
    online = Online(snapshot.supply, POLICY)
    draw = np.random.default_rng(scene.seed)
    _day(online, snapshot, draw, WARM)
    started, cpu_started = time.perf_counter(), time.process_time()
    placed = _day(online, snapshot, draw, count)
    wall, cpu = time.perf_counter() - started, time.process_time() - cpu_started
    extra: dict[str, Extra] = {"per_cpu_s": round(count / cpu), "placed": placed, "decisions": count}
    return Figure(count / wall, extra=extra)


def _day(online: Online, snapshot: Snapshot, draw: np.random.Generator, count: int) -> int:
    """How many orders found a place. All give back what they took before it ends."""
    queue, shapes = snapshot.queue, snapshot.shapes
    which = draw.integers(0, len(queue.ids), count)
    asked = [shapes[i] for i in queue.shape[which].tolist()]
    # A fiftieth of the day on average, so that thousands run at a time; times of the day are numbers of orders here.
    ends = (np.arange(count) + draw.exponential(count / 50, count)).tolist()
    running: list[tuple[float, int, tuple[Taken, ...]]] = []
    placed = 0
    for i, shape in enumerate(asked):
        while running and running[0][0] <= i:
            online.give_back(heapq.heappop(running)[2])
        taken = online.decide(shape, NOW_MS)
        if taken:
            online.take(taken)
            heapq.heappush(running, (ends[i], i, taken))
            placed += 1
    for _, _, taken in running:
        online.give_back(taken)
    return placed
