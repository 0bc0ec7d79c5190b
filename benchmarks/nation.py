"""A network of the size that the nation's is: 7,000 centres, 20,000 pools of 40 chips, some six million cards.

Sizes are made up so that the totals are right (1.88 million PFLOPS FP16 nominal); places, grid factors and chips are
those of the catalogue.  Load: jobs like those of three public traces, from a customer in every province.
"""

import random

from yunhe.facts.load import chips, places
from yunhe.simulator.scenario import Scenario, load

CENTRES = 7_000
POOLS = 20_000
PFLOPS = 1_880_000
GROUPS = 200  # of equal centres
SHARES = (("venus", 0.35), ("pai2020", 0.40), ("philly", 0.25))  # of the jobs


def scenario(jobs: int, engine: str, seed: int = 1, centres: int = CENTRES, hours: int = 24) -> Scenario:
    """One simulated day (or `hours` of it, with as many of the `jobs` a day)."""
    draw = random.Random(seed)
    groups = min(GROUPS, centres)
    usable = [chip for chip in chips() if chip.kind != "cpu" and any(p.value == "fp16" for p, _ in chip.flops)]
    cities = places()
    lines = [f"name: nation-{centres}", f"seed: {seed}", f"length: {hours}h", f"engine: {engine}", "round_every: 60s"]
    lines.append("centres:")
    sizes = _split(centres, groups)
    pools = _split(POOLS * centres // CENTRES, groups)
    for i, count in enumerate(sizes):
        city = cities[i % len(cities)]
        each = max(1, round(pools[i] / count))
        lines += [
            f"  - name: c{i:03d}",
            f"    place: {city.id}",
            f"    count: {count}",
            f"    bandwidth: {draw.choice((10, 40, 100))}Gbps",
            f"    power_price: 0.{draw.randint(30, 75)}CNY/kWh",
            "    pools:",
        ]
        for chip in draw.sample(usable, each):
            flops = {p.value: f for p, f in chip.flops}["fp16"] / 1e15
            cards = max(8, round(PFLOPS / POOLS / flops / 8 * draw.choice((0.25, 0.5, 1, 1, 2.25))) * 8)
            price = round(2 + 30 * flops * draw.uniform(0.7, 1.3), 2)
            lines.append(f"      - {{name: {chip.id}, chip: {chip.id}, cards: {cards}, price: {price}CNY/h}}")
    lines.append("customers:")
    # A customer per city; every second one has its users there.
    lines += [f"  - {{name: u-{city.id}, place: {city.id}}}" for city in cities]
    lines.append("workloads:")
    for like, share in SHARES:
        lines += [
            f"  - name: {like}",
            f"    fitted: {{like: {like}, jobs_per_day: {max(1, round(jobs * share))}}}",
            "    ask: compute",
            "    near: {share: 20%, rtt: 20ms}",
            "    stay_in_region: 5%",
        ]
    return load("\n".join(lines))


def _split(total: int, parts: int) -> list[int]:
    """`total` in `parts` whole numbers that differ by one at most."""
    return [total * (i + 1) // parts - total * i // parts for i in range(parts)]
