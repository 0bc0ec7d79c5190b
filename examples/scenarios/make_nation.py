"""Writes nation.yaml: 7,000 centres and 1.88 million PFLOPS at FP16, dense and nominal, as far as public figures go.

    python examples/scenarios/make_nation.py > examples/scenarios/nation.yaml
    python examples/scenarios/make_nation.py --every 10 --east 5 > /tmp/other.yaml

What is public and what is assumed stands beside each figure below; docs/studies/nation.md varies what is assumed, by
the options of this program.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np

from yunhe.facts.load import Place, chips, places
from yunhe.facts.load import clusters as cluster_rows

# Public: number of centres and sum, stated for the whole country ("7,000 centres", "1.88 million P", FP16).
CENTRES = 7_000
TOTAL_PFLOPS = 1_880_000
# Assumed: how many centres stand in each of the ten clusters of the eight hubs.
CENTRES_PER_CLUSTER = 120
# Assumed: of what stands elsewhere, one centre in eight is an intelligent computing centre and holds 70 %; the others
# are machine rooms of firms, universities and the network's edge.
MIDDLE_PER_PROVINCE, MIDDLE_SHARE = 25, 0.70
# Assumed: spread of prices (standard deviation of the logarithm).
PRICE_SIGMA = 0.15
# Assumed: what a PFLOPS at FP16 costs in an hour before the spread; near what clouds asked for an A100 in 2025.
CNY_PER_PFLOPS_HOUR = 28.0
# Assumed: shares of the capacity by chip. No public count by type exists; shares of the vendors follow the order of
# their shipments as the press ranks them. Chips whose FP16 figure is of low confidence are left out.
CLUSTER_CHIPS = {
    "h800-sxm": 22,
    "ascend-910b2": 14,
    "ascend-910c": 12,
    "a800-sxm-80g": 14,
    "h20": 12,
    "ascend-910b3": 8,
}
CLUSTER_CHIPS |= {
    "a100-sxm-80g": 6,
    "hygon-k100ai": 4,
    "metax-c500-oam": 3,
    "biren-br104": 2,
    "mtt-s4000": 2,
    "h100-sxm": 1,
}
MIDDLE_CHIPS = {
    "ascend-910b3": 20,
    "ascend-910b4": 14,
    "a100-sxm-80g": 14,
    "h20": 12,
    "ascend-910a": 10,
    "mlu370-x8": 6,
}
MIDDLE_CHIPS |= {"l40s": 6, "hygon-k100ai": 6, "v100-sxm2-32g": 6, "bi-v150": 3, "metax-c500-pcie": 3}
EDGE_CHIPS = {"rtx4090": 30, "ascend-310p": 16, "l40s": 14, "v100-sxm2-32g": 14, "mlu370-x8": 8, "mtt-s4000": 6}
EDGE_CHIPS |= {"bi-v100": 6, "kunlun-r200": 6}
EAST = {"Beijing", "Tianjin", "Shanghai", "Jiangsu", "Zhejiang", "Guangdong", "Shandong", "Fujian"}
# Multiples of the power price by the hour, after provincial time-of-use tariffs (Guangdong 2021: 1.7 and 0.38).
POWER = [0.4] * 8 + [1] * 2 + [1.7] * 2 + [1] * 2 + [1.7] * 5 + [1] * 5
LEFT_OUT = {"Taiwan", "Macao", "Hong Kong"}  # no emission factor or price that is known


@dataclass(frozen=True, slots=True)
class Assumed:
    """What the study varies, each by itself."""

    cluster_share: float = 0.60  # of the capacity, that stands in the ten clusters
    size_sigma: float = 0.8  # spread of sizes: standard deviation of the logarithm
    measured: float = 0.6  # rate over nominal, as published training runs state for dense work
    east: float = 3.0  # what the east asks for, per unit of capacity, against the rest
    demand_sigma: float = 1.0  # between groups of one province: some are never idle, many hardly used
    # The one figure that is scaled, once, so that islands stand at 25 %, amid the 20 to 30 % that are stated for them:
    # the mean over a week where a centre does all of its own work that it has room for (`nation.py rule`).
    jobs_per_day: int = 700_000
    like: str = "venus"  # the trace
    before_h: int = 48  # what came in these hours and would still run is there at the start; no job of Venus ran longer
    near_percent: float = 10  # of the jobs must run within 20 ms of their customer, there and back
    data_percent: float = 30  # of the jobs bring data from their customer's centre,
    data_gib: int = 100  # so many
    stay_percent: float = 5  # of the jobs stay in their customer's province
    start: str = "2026-01-04T23:00+08:00"  # a Sunday; the first hour is not measured, Monday is
    hours: int = 24  # that are measured
    every: int = 1  # only every n-th centre, and its customers with their jobs


@dataclass(frozen=True, slots=True)
class Group:
    """Equal centres."""

    name: str
    where: str
    region: str
    count: int
    chip: str
    cards: int
    price_cny: float
    gbps: int
    demand: int


def groups(assumed: Assumed, seed: int = 7) -> list[Group]:
    draw = np.random.default_rng(seed)
    found: list[Group] = []
    clusters = cluster_rows()
    for cluster in clusters:
        capacity = TOTAL_PFLOPS * assumed.cluster_share / len(clusters)
        where = f"cluster: {cluster.id}"
        chosen = (CLUSTER_CHIPS, 400)
        found += _spread(assumed, draw, (f"{cluster.id}", where, cluster.region), CENTRES_PER_CLUSTER, capacity, chosen)
    towns = _one_per_province()
    rest = TOTAL_PFLOPS * (1 - assumed.cluster_share) / len(towns)
    edge_centres = CENTRES - len(clusters) * CENTRES_PER_CLUSTER - len(towns) * MIDDLE_PER_PROVINCE
    for i, town in enumerate(towns):
        where = f"place: {town.id}"
        few = edge_centres // len(towns) + (1 if i < edge_centres % len(towns) else 0)
        middle, edge = (MIDDLE_CHIPS, 100), (EDGE_CHIPS, 10)
        names = (f"{town.id}-mid", where, town.region), (f"{town.id}-edge", where, town.region)
        found += _spread(assumed, draw, names[0], MIDDLE_PER_PROVINCE, rest * MIDDLE_SHARE, middle)
        found += _spread(assumed, draw, names[1], few, rest * (1 - MIDDLE_SHARE), edge)
    return found


def thinned(found: list[Group], every: int) -> list[Group]:
    """Every n-th centre in the order of the groups. Those that are left are as they were, with the same load."""
    left, before = [], 0
    for group in found:
        after = before + group.count
        count = after // every - before // every
        if count:
            left.append(replace(group, count=count))
        before = after
    return left


def _one_per_province() -> list[Place]:
    seen: dict[str, Place] = {}
    for place in places():
        if place.region not in LEFT_OUT:
            seen.setdefault(place.region, place)  # the capital comes first
    return list(seen.values())


def _spread(
    assumed: Assumed,
    draw: np.random.Generator,
    names: tuple[str, str, str],
    centres: int,
    pflops: float,
    kind: tuple[dict[str, int], int],
) -> Iterator[Group]:
    """The centres of one kind in one place, in at most as many groups as there are chips."""
    shares, gbps = kind
    name, where, region = names
    chosen = list(shares)[: max(1, min(len(shares), centres // 3))]
    weight = np.array([shares[chip] for chip in chosen], dtype=float) * draw.lognormal(
        0, assumed.size_sigma, len(chosen)
    )
    counts = np.full(len(chosen), centres // len(chosen))
    counts[: centres % len(chosen)] += 1
    rates = {chip.id: dict(chip.flops)["fp16"] / 1e15 for chip in chips() if chip.id in shares}
    for i, chip in enumerate(chosen):
        of_group = pflops * weight[i] / weight.sum()
        cards = max(8, round(of_group / counts[i] / rates[chip] / 8) * 8)
        price = round(rates[chip] * CNY_PER_PFLOPS_HOUR * draw.lognormal(0, PRICE_SIGMA), 2)
        wanted = assumed.east if region in EAST else 1.0
        demand = wanted * cards * rates[chip] * draw.lognormal(0, assumed.demand_sigma)
        yield Group(f"{name}-{i}", where, region, int(counts[i]), chip, cards, price, gbps, max(1, round(demand * 10)))


def _assumed() -> Assumed:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for each in fields(Assumed):
        option = f"--{each.name.replace('_', '-')}"
        parser.add_argument(option, type=type(each.default), default=each.default, help=f"{each.default} without")
    return Assumed(**vars(parser.parse_args()))


def main() -> None:
    assumed = _assumed()
    whole = groups(assumed)
    found = thinned(whole, assumed.every)
    # A customer asks for as much as before, however few are left.
    asked = sum(group.count * group.demand for group in found) / sum(group.count * group.demand for group in whole)
    jobs = round(assumed.jobs_per_day * asked)
    rates = {chip.id: dict(chip.flops).get("fp16", 0) / 1e15 for chip in chips()}
    total = sum(group.count * group.cards * rates[group.chip] for group in found)
    write = sys.stdout.write
    write("# Made by make_nation.py, which says of each figure whether it is public or assumed.\n")
    write(f"# {sum(group.count for group in found)} centres, {len({group.chip for group in found})} chips, ")
    write(f"{total / 1e6:.3f} million PFLOPS at FP16 (dense, nominal)\n")
    write("name: nation\nseed: 1\nengine: online\n")
    write(f"start: {assumed.start}\n")
    write(f"length: {assumed.hours + 1}h\nwarm_up: 1h # not measured\n")
    write("round_every: 60s # what waits is looked at once a minute\n\n")
    write("sites: { start_delay: 30s, stragglers: 2%, straggler_factor: 1.5 }\n\ncentres:\n")
    for group in found:
        nominal = rates[group.chip] * 1000
        pool = f"{{ chip: {group.chip}, cards: {group.cards}, price: {group.price_cny}CNY/h, "
        pool += f"speed: [{nominal * assumed.measured:.4g}TFLOPS@fp16] }}"
        write(f"  - {{ name: {group.name}, count: {group.count}, {group.where}, bandwidth: {group.gbps}Gbps, ")
        write(f"power_by_hour: {POWER}, ")
        write(f"pools: [{pool}] }}\n")
    write("\ncustomers: # one at home in every centre\n")
    for group in found:
        write(f"  - {{ name: of-{group.name}, one_per: {group.name} }}\n")
    write("\nworkloads:\n")
    write("  - name: training\n")
    write(f"    # What came in the {assumed.before_h} hours before and would still run is there at the start.\n")
    write(f"    fitted: {{ like: {assumed.like}, jobs_per_day: {jobs}, before: {assumed.before_h}h }}\n")
    write("    reference_chip: h800-sxm # as many cards as the trace had, of today's generation; assumed\n")
    write("    ask: compute # of so many cards; their number and kind are Yunhe's choice\n")
    write(f"    near: {{ share: {assumed.near_percent:g}%, rtt: 20ms }} # assumed\n")
    write(f"    data: {{ share: {assumed.data_percent:g}%, size: {assumed.data_gib}GiB }} # assumed\n")
    write(f"    stay_in_region: {assumed.stay_percent:g}% # assumed\n")
    write("    customers:\n")
    for group in found:
        write(f"      of-{group.name}: {min(group.demand, 1_000_000)}\n")


if __name__ == "__main__":
    main()
