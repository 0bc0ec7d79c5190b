"""Writes nation.yaml: 7,000 centres and 1.88 million PFLOPS at FP16, dense and nominal, as far as public figures go.

    python examples/scenarios/make_nation.py > examples/scenarios/nation.yaml

What is public and what is assumed stands beside each figure below; docs/studies/nation.md varies what is assumed.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from yunhe.facts.load import Place, chips, places
from yunhe.facts.load import clusters as cluster_rows

# Public: number of centres and sum, stated for the whole country ("7,000 centres", "1.88 million P", FP16).
CENTRES = 7_000
TOTAL_PFLOPS = 1_880_000
# Assumed: how much of it stands in the ten clusters of the eight hubs, and how many centres that is.
CLUSTER_SHARE = 0.60
CENTRES_PER_CLUSTER = 120
# Assumed: of what stands elsewhere, one centre in eight is an intelligent computing centre and holds 70 %; the others
# are machine rooms of firms, universities and the network's edge.
MIDDLE_PER_PROVINCE, MIDDLE_SHARE = 25, 0.70
# Assumed: spread of sizes (standard deviation of the logarithm) and of prices.
SIZE_SIGMA, PRICE_SIGMA = 0.8, 0.15
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
# Assumed: measured over nominal, as published training runs state for dense work.
MEASURED = 0.6
# Assumed: the east asks for three times of what it holds, per unit of capacity, against the rest.
EAST = {"Beijing", "Tianjin", "Shanghai", "Jiangsu", "Zhejiang", "Guangdong", "Shandong", "Fujian"}
EAST_DEMAND = 3.0
DEMAND_SIGMA = 1.0  # between centres of one province: some are never idle, many hardly used
# Multiples of the power price by the hour, after provincial time-of-use tariffs (Guangdong 2021: 1.7 and 0.38).
POWER = [0.4] * 8 + [1] * 2 + [1.7] * 2 + [1] * 2 + [1.7] * 5 + [1] * 5
JOBS_PER_DAY = 1_000_000
LEFT_OUT = {"Taiwan", "Macao", "Hong Kong"}  # no emission factor or price that is known


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


def groups(seed: int = 7) -> list[Group]:
    draw = np.random.default_rng(seed)
    found: list[Group] = []
    clusters = cluster_rows()
    for cluster in clusters:
        capacity = TOTAL_PFLOPS * CLUSTER_SHARE / len(clusters)
        where = f"cluster: {cluster.id}"
        found += _spread(
            draw, f"{cluster.id}", where, cluster.region, CENTRES_PER_CLUSTER, capacity, (CLUSTER_CHIPS, 400)
        )
    towns = _one_per_province()
    rest = TOTAL_PFLOPS * (1 - CLUSTER_SHARE) / len(towns)
    edge_centres = CENTRES - len(clusters) * CENTRES_PER_CLUSTER - len(towns) * MIDDLE_PER_PROVINCE
    for i, town in enumerate(towns):
        where = f"place: {town.id}"
        few = edge_centres // len(towns) + (1 if i < edge_centres % len(towns) else 0)
        middle = (MIDDLE_CHIPS, 100)
        found += _spread(draw, f"{town.id}-mid", where, town.region, MIDDLE_PER_PROVINCE, rest * MIDDLE_SHARE, middle)
        found += _spread(draw, f"{town.id}-edge", where, town.region, few, rest * (1 - MIDDLE_SHARE), (EDGE_CHIPS, 10))
    return found


def _one_per_province() -> list[Place]:
    seen: dict[str, Place] = {}
    for place in places():
        if place.region not in LEFT_OUT:
            seen.setdefault(place.region, place)  # the capital comes first
    return list(seen.values())


def _spread(
    draw: np.random.Generator,
    name: str,
    where: str,
    region: str,
    centres: int,
    pflops: float,
    kind: tuple[dict[str, int], int],
) -> Iterator[Group]:
    """The centres of one kind in one place, in at most as many groups as there are chips."""
    shares, gbps = kind
    chosen = list(shares)[: max(1, min(len(shares), centres // 3))]
    weight = np.array([shares[chip] for chip in chosen], dtype=float) * draw.lognormal(0, SIZE_SIGMA, len(chosen))
    counts = np.full(len(chosen), centres // len(chosen))
    counts[: centres % len(chosen)] += 1
    rates = {chip.id: dict(chip.flops)["fp16"] / 1e15 for chip in chips() if chip.id in shares}
    for i, chip in enumerate(chosen):
        of_group = pflops * weight[i] / weight.sum()
        cards = max(8, round(of_group / counts[i] / rates[chip] / 8) * 8)
        price = round(rates[chip] * CNY_PER_PFLOPS_HOUR * draw.lognormal(0, PRICE_SIGMA), 2)
        wanted = EAST_DEMAND if region in EAST else 1.0
        demand = wanted * cards * rates[chip] * draw.lognormal(0, DEMAND_SIGMA)
        yield Group(f"{name}-{i}", where, region, int(counts[i]), chip, cards, price, gbps, max(1, round(demand * 10)))


def main() -> None:
    found = groups()
    rates = {chip.id: dict(chip.flops).get("fp16", 0) / 1e15 for chip in chips()}
    total = sum(group.count * group.cards * rates[group.chip] for group in found)
    write = sys.stdout.write
    write("# Made by make_nation.py, which says of each figure whether it is public or assumed.\n")
    write(f"# {sum(group.count for group in found)} centres, {len({group.chip for group in found})} chips, ")
    write(f"{total / 1e6:.3f} million PFLOPS at FP16 (dense, nominal)\n")
    write("name: nation\nseed: 1\nlength: 1d\nengine: online\n\n")
    write("sites: { start_delay: 30s, stragglers: 2%, straggler_factor: 1.5 }\n\ncentres:\n")
    for group in found:
        nominal = rates[group.chip] * 1000
        pool = f"{{ chip: {group.chip}, cards: {group.cards}, price: {group.price_cny}CNY/h, "
        pool += f"speed: [{nominal * MEASURED:.4g}TFLOPS@fp16] }}"
        write(f"  - {{ name: {group.name}, count: {group.count}, {group.where}, bandwidth: {group.gbps}Gbps, ")
        write(f"power_by_hour: {POWER}, ")
        write(f"pools: [{pool}] }}\n")
    write("\ncustomers: # one at home in every centre\n")
    for group in found:
        write(f"  - {{ name: of-{group.name}, one_per: {group.name} }}\n")
    write("\nworkloads:\n")
    write("  - name: training\n")
    write(f"    fitted: {{ like: venus, jobs_per_day: {JOBS_PER_DAY} }}\n")
    write("    reference_chip: h800-sxm # as many cards as the trace had, of today's generation; assumed\n")
    write("    ask: compute # of so many cards; their number and kind are Yunhe's choice\n")
    write("    near: { share: 10%, rtt: 20ms } # assumed\n")
    write("    data: { share: 30%, size: 100GiB } # assumed\n")
    write("    stay_in_region: 5% # assumed\n")
    write("    customers:\n")
    for group in found:
        write(f"      of-{group.name}: {min(group.demand, 1_000_000)}\n")


if __name__ == "__main__":
    main()
