"""The runs behind nation.md: each case on islands and on the network, over seeds; nation.json and the pictures of it.

    python docs/studies/nation.py run --out /tmp/nation [--only base,load-2] [--seeds 1,2] [--every 1]
    python docs/studies/nation.py table --out /tmp/nation        writes docs/studies/nation.json and prints the tables
    python docs/studies/nation.py plot                           draws the pictures from nation.json

A run that is there already is not run again.
"""

import argparse
import gc
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from yunhe.core.demand import Precision
from yunhe.core.lifecycle import TaskState
from yunhe.core.placement.sizing import trusted_rate
from yunhe.facts.load import chips
from yunhe.simulator.build import Network
from yunhe.simulator.run import Run
from yunhe.simulator.scenario import Scenario, load
from yunhe.simulator.work import Stream
from yunhe.simulator.workloads.fitted import shipped

HERE = Path(__file__).parent
MAKE = HERE.parents[1] / "examples" / "scenarios" / "make_nation.py"
HOUR_MS = 3_600_000
PFLOP_HOUR = 3.6e18
WINDOW_H = 3  # of the cases: Monday from 12 h to 15 h, the fullest hours of the week
# Case: options of make_nation.py beside the sample's `--every`. The load rule was set with `base` alone.
CASES: dict[str, dict[str, object]] = {
    "base": {},
    "philly": {"like": "philly", "before_h": 1344},  # its longest job ran for 54 days
    "pai2020": {"like": "pai2020"},
    "load-0.5": {"jobs_per_day": 350_000},
    "load-1.5": {"jobs_per_day": 1_050_000},
    "load-2": {"jobs_per_day": 1_400_000},
    "load-3": {"jobs_per_day": 2_100_000},
    "skew-2": {"demand_sigma": 2.0, "jobs_per_day": 1_314_000},  # islands at 25 % again
    "east-1": {"east": 1},
    "east-6": {"east": 6},
    "spread-0.5": {"demand_sigma": 0.5},
    "spread-1.5": {"demand_sigma": 1.5},
    "clusters-40": {"cluster_share": 0.4},
    "clusters-80": {"cluster_share": 0.8},
    "near-0": {"near_percent": 0},
    "near-30": {"near_percent": 30},
    "data-0": {"data_percent": 0},
    "data-60-1TiB": {"data_percent": 60, "data_gib": 1024},
    "measured-0.4": {"measured": 0.4},
    "measured-0.8": {"measured": 0.8},
    "sizes-0.4": {"size_sigma": 0.4},
    "sizes-1.2": {"size_sigma": 1.2},
}
WHOLE = "whole"  # of a case over all 7,000 centres, beside the sample's
NETWORKS = {"islands": "off", "network": "on"}


def scenario(case: str, every: int, network: str, seed: int, hours: int) -> Scenario:
    options = [f"--{name.replace('_', '-')}={value}" for name, value in {**CASES[case], "every": every}.items()]
    text = subprocess.run([sys.executable, str(MAKE), *options], capture_output=True, text=True, check=True).stdout
    found = load(text)
    # Less than a day is measured from Monday noon on.
    start_ms = found.start + (0 if hours >= 24 else 12 * HOUR_MS)
    length_ms = (hours + 1) * HOUR_MS
    changes = {"network": NETWORKS[network], "seed": seed, "start": start_ms, "length": length_ms}
    return found.model_copy(update=changes)


# --- one run ------------------------------------------------------------------------------------------------------


def simulate(found: Scenario) -> dict[str, Any]:
    """The result's figures that the study uses."""
    began_s = time.process_time()
    run = Run.fresh(found, Path())
    gc.freeze()
    before = [0]  # FLOP of orders that succeeded within the warm-up

    def log(order: Any, task: Any, now_ms: int, wall_ms: int, charged: int) -> None:
        if task.state is TaskState.SUCCEEDED and now_ms <= found.start + found.warm_up:
            before[0] += order.job.flop

    run.world.log = log
    while run.go_on(50_000):
        pass
    cpu_s = time.process_time() - began_s
    document = run.result()
    done = _work(document)
    rates = {chip.id: dict(chip.flops).get(Precision.FP16, 0) for chip in chips()}
    of_chips = [(rates[name], each["units"], each["utilisation"]) for name, each in document["chips"].items()]
    capacity = sum(rate * units for rate, units, _ in of_chips)
    ended = sum(int(flop) for flop in document["useful_flop"].values())
    orders = document["orders"]
    earned = document["money"]["earned_microcny"]
    return {
        **{name: document[name] for name in ("seed", "network", "centres", "cards", "fp16_pflops_nominal")},
        "cpu_s": cpu_s,
        "utilisation_cards": document["utilisation"],
        "utilisation_flops": sum(rate * units * busy for rate, units, busy in of_chips) / capacity,
        "work_flop": float(done),
        "whole_work_flop": float(done + sum(run.world.tally.under_way_flop.values()) + before[0]),
        "submitted": orders["submitted"],
        "refused": orders.get("refused_no_place", 0),
        "waiting_at_end": orders["waiting_at_end"],
        "wait_ms": document["wait_ms"],
        "cny_per_pflop_hour": document["charged_microcny"] / 1e6 / (ended / PFLOP_HOUR),
        "kwh_per_pflop_hour": document["energy_kwh"] / (done / PFLOP_HOUR),
        "kg_per_pflop_hour": document["carbon_kg"] / (done / PFLOP_HOUR),
        "power_cny_per_pflop_hour": document["power_cny"] / (done / PFLOP_HOUR),
        "energy_kwh": document["energy_kwh"],
        "carbon_kg": document["carbon_kg"],
        "charged_cny": document["charged_microcny"] / 1e6,
        "fees_cny": document["money"]["fees_microcny"] / 1e6,
        "earned_cny": sorted((amount / 1e6 for amount in earned.values()), reverse=True),
        "books_sum": document["money"]["sum_microcny"],
        "hours": document["hours"]["utilisation"],
        "fragmented": document["hours"]["fragmented"],
        "sites": [[site["region"], site["cards"], round(site["utilisation"], 4)] for site in document["sites"]],
        **bounds(found, run.world.network),
    }


def _work(document: dict[str, Any]) -> int:
    return sum(int(flop) for kind in ("useful_flop", "under_way_flop") for flop in document[kind].values())


# --- what any schedule could do ------------------------------------------------------------------------------------


def bounds(found: Scenario, network: Network) -> dict[str, float]:
    """Most work that a schedule which knows all arrivals could do from the start to the end, FLOP.

    For the nation as one machine and for the sum of its islands: maximise the work of all hours, where an hour does no
    more than the capacity, and up to each hour no more is done than the jobs that have come allow, each at the highest
    rate that its number of cards gives on any chip (of the nation, or of its home).  Work may be cut, moved, and put on
    any card; latency, data, residency and start delays are left out.  Such a program's optimum is a recursion over the
    hours.  On an island, a gang that is larger than the island does nothing.
    """
    stream = Stream(found, network, 0, Path())
    home_rate, home_cards, capacity = _homes(found, network)
    hours = -(-found.length // HOUR_MS)
    whole, islands = np.zeros(hours), np.zeros((len(home_rate), hours))
    ends_s = np.arange(1, hours + 1) * 3600.0
    every_rate = np.unique(home_rate)
    offered = 0.0
    for rows in _blocks(stream.open(0)):
        jobs = np.array([(at - found.start, job.customer, job.cards, job.flop) for at, job in rows], dtype=float)
        at_s, home, cards, flop = jobs[:, 0] / 1000, jobs[:, 1].astype(int), jobs[:, 2], jobs[:, 3]
        offered += float(flop.sum())
        asked = cards * stream.reference.flops
        rate = (_given(asked[:, None] / every_rate) * every_rate).max(axis=1)
        passed_s = np.maximum(0.0, ends_s - at_s[:, None])
        whole += np.minimum(flop[:, None], rate[:, None] * passed_s).sum(axis=0)
        own = _given(asked / home_rate[home])
        fits = np.where(own <= home_cards[home], 1.0, 0.0)
        np.add.at(islands, home, fits[:, None] * np.minimum(flop[:, None], (own * home_rate[home])[:, None] * passed_s))
    per_hour = float(capacity.sum()) * 3600
    return {
        "capacity_flop": per_hour * hours,
        "offered_flop": offered,
        "bound_flop": float(_most(whole[None, :], np.array([per_hour]))[0]),
        "islands_bound_flop": float(_most(islands, capacity * 3600).sum()),
    }


def _given(cards: Any) -> Any:
    """Whole cards, as many on every host of eight: what an order of so many gets."""
    whole = np.ceil(cards)
    hosts = np.ceil(whole / 8)
    return np.ceil(whole / hosts) * hosts


def _homes(found: Scenario, network: Network) -> tuple[Any, Any, Any]:
    """Of each customer's home: FLOP/s of a card, cards, FLOP/s of all."""
    pool_of = {pool.site_id: pool for pool in network.supply.pools}
    pools = [pool_of[network.centres[customer.home or 0].site.id] for customer in network.customers]
    rate = np.array([trusted_rate(pool, found.workloads[0].precision, network.policy) for pool in pools], dtype=float)
    cards = np.array([pool.capacity_milli // 1000 for pool in pools], dtype=float)
    return rate, cards, rate * cards


def _most(available: Any, per_hour: Any) -> Any:
    done = np.zeros(len(available))
    for hour in range(available.shape[1]):
        done = np.minimum(done + per_hour, available[:, hour])
    return done


def _blocks(rows: Iterator[Any]) -> Iterator[list[Any]]:
    while block := list(islice(rows, 20_000)):
        yield block


# --- commands -----------------------------------------------------------------------------------------------------


def rule(options: argparse.Namespace) -> None:
    """The load rule, by arithmetic over all centres: mean over a week, each centre does what it has room for."""
    sys.path.insert(0, str(MAKE.parent))
    import make_nation as nation  # noqa: PLC0415 - a program beside this one

    say = sys.stdout.write
    for like in ("venus", "philly", "pai2020"):
        for jobs in (350_000, 700_000, 1_050_000, 1_400_000, 2_100_000):
            offered, islands = steady(nation, nation.Assumed(like=like, jobs_per_day=jobs))
            say(f"{like} {jobs:,} jobs a day: offered {offered:.1%}, islands {islands:.1%}\n")
    curve = []
    for sigma in (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0):
        low, high = 100_000, 20_000_000
        while high - low > 1_000:
            jobs = (low + high) // 2
            low, high = (
                (jobs, high)
                if steady(nation, nation.Assumed(demand_sigma=sigma, jobs_per_day=jobs))[1] < 0.254
                else (low, jobs)
            )
        offered, islands = steady(nation, nation.Assumed(demand_sigma=sigma, jobs_per_day=low))
        curve.append([sigma, low, offered, islands])
        say(f"spread {sigma}: islands stand at 25.4 % with {low:,} jobs a day, {offered:.1%} offered\n")
    (options.out / "curve.json").write_bytes(orjson.dumps(curve))


def steady(nation: Any, assumed: Any) -> tuple[float, float]:
    """(offered load, what islands do of it), shares of the capacity."""
    found = nation.groups(assumed)
    rates = {chip.id: dict(chip.flops).get(Precision.FP16, 0) for chip in chips()}
    capacity = np.array([each.count * each.cards * rates[each.chip] for each in found]) * assumed.measured
    weight = np.array([each.count * each.demand for each in found], dtype=float)
    reference = rates["h800-sxm"] * 0.6  # the hub's derate: what the reference card counts for
    offered = assumed.jobs_per_day * shipped(assumed.like).card_hours_per_job / 24 * reference * weight / weight.sum()
    return float(offered.sum() / capacity.sum()), float(np.minimum(offered, capacity).sum() / capacity.sum())


def run_all(options: argparse.Namespace) -> None:
    options.out.mkdir(parents=True, exist_ok=True)
    for case in options.only.split(","):
        for seed in map(int, options.seeds.split(",")):
            for network in NETWORKS:
                file = options.out / f"{case}.{options.every}.{options.hours}h.{network}.{seed}.json"
                if file.exists():
                    continue
                found = simulate(scenario(case, options.every, network, seed, options.hours))
                file.write_bytes(orjson.dumps(found))
                told = f"{file.name}: {found['cpu_s']:.0f} s CPU, {found['utilisation_flops']:.2%}"
                sys.stdout.write(f"{told} of the FLOP/s busy\n")
                sys.stdout.flush()


def table(options: argparse.Namespace) -> None:
    """nation.json, and its tables in Markdown."""
    cases = {}
    for case in CASES:
        for every in (1, options.every):
            pairs = _pairs(options.out, case, every, WINDOW_H)
            if pairs:
                cases[f"{case}, {WHOLE}" if every == 1 else case] = _case(pairs)
    days = _pairs(options.out, "base", 1, 24) or _pairs(options.out, "base", options.every, 24)
    day = {name: days[0][name] for name in NETWORKS} if days else None
    curve = orjson.loads((options.out / "curve.json").read_bytes())
    found = {"every": options.every, "cases": cases, "curve": curve, "day": day, "days": [_slim(pair) for pair in days]}
    (HERE / "nation.json").write_bytes(orjson.dumps(_rounded(found), option=orjson.OPT_APPEND_NEWLINE))
    say = sys.stdout.write
    for each in days:
        say(_side_by_side(each))
    say("\n| case | seeds | islands, % | network, % | nation's bound, % | network of bound, % | more work, % |")
    say(" price, % | energy, % | carbon, % | orders never started, % |\n|---" + "|--:" * 10 + "|\n")
    for name, case in cases.items():
        cells = [_shown(case[key]) for key in _COLUMNS]
        lost = f"{_shown(case['islands_never_percent'])} to {_shown(case['network_never_percent'])}"
        say(f"| {name} | {len(case['gain_percent'])} | {' | '.join(cells)} | {lost} |\n")


_COLUMNS = ("islands_of_capacity", "network_of_capacity", "bound_of_capacity", "network_of_bound", "gain_percent")
_COLUMNS += ("price_percent", "energy_percent", "carbon_percent")


def _pairs(out: Path, case: str, every: int, hours: int) -> list[dict[str, Any]]:
    """Islands and network of each seed that was run."""
    found = []
    for seed in range(1, 100):
        files = {n: out / f"{case}.{every}.{hours}h.{n}.{seed}.json" for n in NETWORKS}
        if all(file.exists() for file in files.values()):
            found.append({name: orjson.loads(file.read_bytes()) for name, file in files.items()})
    return found


def _slim(pair: dict[str, Any]) -> dict[str, Any]:
    long = ("sites", "hours", "earned_cny", "fragmented")
    return {name: {key: value for key, value in run.items() if key not in long} for name, run in pair.items()}


def _case(pairs: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Figures of each seed. Work is that of the whole run, the warm-up with it, as the bounds are."""
    found: dict[str, list[float]] = {}
    for pair in pairs:
        off, on = pair["islands"], pair["network"]
        capacity = on["capacity_flop"]
        figures = {
            "islands_of_capacity": off["whole_work_flop"] / capacity * 100,
            "islands_bound_of_capacity": on["islands_bound_flop"] / capacity * 100,
            "network_of_capacity": on["whole_work_flop"] / capacity * 100,
            "bound_of_capacity": on["bound_flop"] / capacity * 100,
            "network_of_bound": on["whole_work_flop"] / on["bound_flop"] * 100,
            "gain_percent": (on["whole_work_flop"] / off["whole_work_flop"] - 1) * 100,
            "islands_never_percent": _never(off),
            "network_never_percent": _never(on),
        }
        for name in ("cny", "kwh", "kg"):
            key = f"{name}_per_pflop_hour"
            figures[{"cny": "price", "kwh": "energy", "kg": "carbon"}[name] + "_percent"] = (
                on[key] / off[key] - 1
            ) * 100
        for name, value in figures.items():
            found.setdefault(name, []).append(value)
    return found


def _never(run: dict[str, Any]) -> float:
    """Refused, or still waiting at the end, of these and those that started in the time that was measured, %."""
    left = run["refused"] + run["waiting_at_end"]
    return left / (left + run["wait_ms"]["all"]["jobs"]) * 100


def _side_by_side(pair: dict[str, Any]) -> str:
    rows = [
        ("cards busy, %", "utilisation_cards", 100),
        ("FLOP/s busy, %", "utilisation_flops", 100),
        ("work, ZFLOP", "work_flop", 1e-21),
        ("orders that came", "submitted", 1),
        ("refused", "refused", 1),
        ("waiting at the end", "waiting_at_end", 1),
        ("price, CNY per useful PFLOP-h", "cny_per_pflop_hour", 1),
        ("energy, kWh per useful PFLOP-h", "kwh_per_pflop_hour", 1),
        ("power bill, CNY per useful PFLOP-h", "power_cny_per_pflop_hour", 1),
        ("carbon, kg per useful PFLOP-h", "kg_per_pflop_hour", 1),
        ("energy, MWh", "energy_kwh", 1e-3),
        ("carbon, t", "carbon_kg", 1e-3),
        ("customers paid, million CNY", "charged_cny", 1e-6),
        ("fee of the operator, million CNY", "fees_cny", 1e-6),
    ]
    off, on = pair["islands"], pair["network"]
    lines = [f"\n| Monday, seed {on['seed']} | islands | network | change, % |\n|---|--:|--:|--:|\n"]
    values = [(name, off[key] * scale, on[key] * scale) for name, key, scale in rows]
    for size in on["wait_ms"]:
        for figure in ("mean", "p99"):
            if figure in on["wait_ms"][size]:
                waits = [run["wait_ms"][size][figure] / 60_000 for run in (off, on)]
                values.append((f"wait of {size}, {figure}, min", waits[0], waits[1]))
    values.append(("orders that did not start, %", _never(off), _never(on)))
    for share in (0.01, 0.1):
        parts = [sum(r["earned_cny"][: round(share * r["centres"])]) / sum(r["earned_cny"]) for r in (off, on)]
        values.append((f"earned by the first {share:.0%} of the centres, %", parts[0] * 100, parts[1] * 100))
    idle = [sum(busy < 0.01 for _, _, busy in run["sites"]) / run["centres"] * 100 for run in (off, on)]
    values.append(("centres below 1 % utilisation, %", idle[0], idle[1]))
    for key, label in (("islands_bound_flop", "islands' bound"), ("bound_flop", "nation's bound")):
        parts = [run["whole_work_flop"] / run[key] * 100 for run in (off, on)]
        values.append((f"work of 25 h, % of the {label}", parts[0], parts[1]))
    for name, a, b in values:
        lines.append(f"| {name} | {a:,.2f} | {b:,.2f} | {f'{(b / a - 1) * 100:+.1f}' if a else '-'} |\n")
    return "".join(lines)


def _shown(values: list[float]) -> str:
    mean = statistics.fmean(values)
    return f"{mean:.1f}" + (f" ({min(values):.1f} to {max(values):.1f})" if len(values) > 1 else "")


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def plot(options: argparse.Namespace) -> None:
    from nation_pictures import draw  # noqa: PLC0415 - matplotlib only where it draws

    draw(orjson.loads((HERE / "nation.json").read_bytes()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("rule", "run", "table", "plot"))
    parser.add_argument("--out", type=Path, default=Path("/tmp/nation"))
    parser.add_argument("--only", default=",".join(CASES))
    parser.add_argument("--seeds", default="1")
    parser.add_argument("--every", type=int, default=40, help="every n-th centre, with its own load")
    parser.add_argument("--hours", type=int, default=24, help="measured, after an hour of warm-up")
    options = parser.parse_args()
    {"rule": rule, "run": run_all, "table": table, "plot": plot}[options.command](options)


if __name__ == "__main__":
    main()
