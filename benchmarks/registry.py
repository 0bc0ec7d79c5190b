"""Which function measures which row of `budgets.yaml`, and what a peer does in its place."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import (
    console,
    fgd_decisions,
    hub_rate,
    hub_rss,
    national_decide,
    national_round,
    round_100,
    settled,
    sim_nation,
    slurm_agent,
    slurm_rate,
    start,
    submit,
    submit_batch,
)
from benchmarks.figure import Figure, PeerFigure
from benchmarks.peers.slurm import Slurm
from benchmarks.scene import Scene

Measure = Callable[[Scene], Figure]
Peer = Callable[[Slurm], PeerFigure]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """`limit_s` bounds it on a machine that is busy with other things."""

    measure: Measure
    limit_s: float
    peer: Peer | None = None


BENCHMARKS: dict[str, Benchmark] = {
    "submit_sqlite": Benchmark(submit.on_sqlite, 90, Slurm.submit_rate),
    "submit_postgresql": Benchmark(submit.on_postgresql, 90, Slurm.submit_rate),
    "submit_batch": Benchmark(submit_batch.measure, 120, Slurm.array_rate),
    "settled": Benchmark(settled.measure, 180, Slurm.completed_rate),
    "start_p50": Benchmark(start.p50, 180, Slurm.start_p50),
    "start_p99": Benchmark(start.p99, 180, Slurm.start_p99),
    "round_100_sites_p99": Benchmark(round_100.measure, 120),
    "hub_rss_1000_agents": Benchmark(hub_rss.measure, 300),
    "hub_under_hub": Benchmark(hub_rate.share, 300),
    "slurm_share": Benchmark(slurm_rate.share, 240),
    "slurm_added_start": Benchmark(slurm_rate.added_start, 120),
    "slurm_observe_10000": Benchmark(slurm_rate.observe, 240),
    "slurm_agent_rss": Benchmark(slurm_agent.measure, 240),
    "fgd_decisions": Benchmark(fgd_decisions.measure, 120),
    "decide_7000_sites_p99": Benchmark(national_decide.decide_p99, 180),
    "decide_throughput": Benchmark(national_decide.throughput, 240),
    "round_nation": Benchmark(national_round.round_nation, 300),
    "round_nation_gap": Benchmark(national_round.round_nation_gap, 600),
    "round_growth": Benchmark(national_round.round_growth, 300),
    "sim_nation_day": Benchmark(sim_nation.day, 1_000, sim_nation.beside_others),
    "sim_nation_rss": Benchmark(sim_nation.rss, 1_000),
    # The first of the four makes their stage: some minutes for 7,000 sites and 100,000 orders.
    "console_first_paint": Benchmark(console.first_paint, 1_800),
    "console_page_ms": Benchmark(console.page_ms, 1_800),
    "console_hub_cpu": Benchmark(console.hub_cpu, 1_800),
    "console_map_fps": Benchmark(console.map_fps, 1_800),
}
