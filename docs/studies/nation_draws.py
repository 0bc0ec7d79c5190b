"""What another draw of prices, sizes and demand would change: the nation by arithmetic, over draws of make_nation.py.

    python docs/studies/nation_draws.py [--draws 200]

Islands do all of their own work that they have room for; the network does all of it at the cheapest centres,
energy included.  Waiting, latency, data and whole cards are left out.  Prints medians and the 5th and 95th percentile
of the change from islands to network.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from yunhe.core.demand import Precision
from yunhe.facts.load import chips, places
from yunhe.facts.sites import card_watts, cluster_facts, located_facts
from yunhe.simulator.workloads.fitted import shipped

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "scenarios"))
import make_nation as nation

PFLOP = 1e15
DERATE = 0.6  # the hub's, of the reference card


def figures(seed: int) -> dict[str, float]:
    """Changes from islands to the network, in %, of one draw."""
    assumed = nation.Assumed()
    found = nation.groups(assumed, seed)
    rates = {chip.id: dict(chip.flops).get(Precision.FP16, 0) / PFLOP * assumed.measured for chip in chips()}
    rate = np.array([rates[group.chip] for group in found])
    capacity = rate * np.array([group.count * group.cards for group in found])
    facts = [_facts(group) for group in found]
    kwh = np.array([card_watts(group.chip)[0] for group in found]) / 1e3
    kwh = kwh * np.array([fact.pue_milli for fact in facts]) / 1e3 / rate  # of a PFLOP-hour
    carbon = kwh * np.array([fact.carbon_g_per_kwh for fact in facts]) / 1e3
    price = np.array([group.price_cny for group in found]) / rate
    price = price + kwh * np.array([fact.power_price_microcny_per_kwh for fact in facts]) / 1e6
    weight = np.array([group.count * group.demand for group in found], dtype=float)
    reference = rates["h800-sxm"] / assumed.measured * DERATE
    offered = assumed.jobs_per_day * shipped(assumed.like).card_hours_per_job / 24 * reference
    demand = offered * weight / weight.sum()
    islands = np.minimum(demand, capacity)
    network = np.zeros(len(found))
    left = min(float(demand.sum()), float(capacity.sum()))
    for i in np.argsort(price):
        network[i] = min(left, capacity[i])
        left -= network[i]
    change = {"work": float(network.sum() / islands.sum())}
    for name, each in (("price", price), ("energy", kwh), ("carbon", carbon)):
        change[name] = float(np.average(each, weights=network) / np.average(each, weights=islands))
    change["carbon of a kWh"] = change["carbon"] / change["energy"]
    return {name: (value - 1) * 100 for name, value in change.items()}


def _facts(group: Any) -> Any:
    kind, _, name = group.where.partition(": ")
    if kind == "cluster":
        return cluster_facts(name)
    place = next(place for place in places() if place.id == name)
    return located_facts(place.region, place.lat, place.lon)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=200)
    draws = [figures(seed) for seed in range(1, parser.parse_args().draws + 1)]
    studied = figures(7)  # the draw of nation.yaml
    sys.stdout.write(
        "| per work, change in % | the draw of nation.yaml | median | 5 % to 95 % of the draws |\n|---|--:|--:|--:|\n"
    )
    for name in studied:
        low, middle, high = np.percentile([each[name] for each in draws], (5, 50, 95))
        sys.stdout.write(f"| {name} | {studied[name]:+.1f} | {middle:+.1f} | {low:+.1f} to {high:+.1f} |\n")


if __name__ == "__main__":
    main()
