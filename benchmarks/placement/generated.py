"""Made-up clusters and task lists, unlike each other and unlike the public ones.

Seeds 100 to 129 served to set the constants of Yunhe's packing rule; the table shows others.
"""

import numpy as np

from benchmarks.placement.replay import Workload
from yunhe.core.placement.packing.values import WHOLE, Need, Node

CARDS = 1_600  # about
GIB = 2**30


def generated(seed: int) -> Workload:
    """A cluster of two to six kinds of nodes; parts of cards in 3 to 20 sizes, whole cards, and tasks of cores alone.

    Sizes, shares, cores per card and models are drawn anew for each seed.
    """
    draw = np.random.default_rng((seed, 20231117))
    nodes = _nodes(draw)
    kinds, weights = _kinds(draw, sorted({node.model for node in nodes}))
    # Cores are asked for at 50 to 105 % of what there is when all cards are.
    asked = sum(weight * kind.total_milli for kind, weight in zip(kinds, weights, strict=True))
    cores = sum(weight * kind.cpu_milli for kind, weight in zip(kinds, weights, strict=True))
    there = sum(node.cpu_milli for node in nodes) / sum(WHOLE * node.cards for node in nodes)
    scale = draw.uniform(0.5, 1.05) * there * asked / cores
    most = max(node.cpu_milli for node in nodes)
    tasks = []
    for number in draw.choice(len(kinds), size=6_000, p=weights):
        kind = kinds[number]
        cpu = min(most, max(100, int(kind.cpu_milli * scale) // 100 * 100))
        tasks.append(Need(cpu, kind.memory_bytes, kind.cards, kind.card_milli, kind.models))
    return Workload(f"generated {seed}", tuple(nodes), tuple(tasks))


def _nodes(draw: np.random.Generator) -> list[Node]:
    nodes: list[Node] = []
    shares = draw.dirichlet(np.ones(int(draw.integers(2, 7))))
    for number, share in enumerate(shares.tolist()):
        cards = int(draw.choice([1, 2, 4, 8, 8]))
        cpu = cards * int(draw.choice([6, 8, 12, 16, 24, 32])) * WHOLE
        for _ in range(max(1, round(share * CARDS / cards))):
            nodes.append(Node(f"node-{len(nodes):04d}", cpu, cards * 96 * GIB, cards, f"M{number}"))
    return nodes


def _kinds(draw: np.random.Generator, models: list[str]) -> tuple[list[Need], list[float]]:
    """Kinds of tasks with their shares; cores are relative yet."""
    kinds, weights = [], []
    parts, alone = draw.uniform(0.2, 1.0), draw.uniform(0.0, 0.3)
    sizes = draw.choice(np.arange(5, 96), size=int(draw.integers(3, 21)), replace=False) * 10
    for size, weight in zip(sizes.tolist(), draw.dirichlet(np.full(len(sizes), 0.5)).tolist(), strict=True):
        for _ in range(2):
            kinds.append(Need(_cores(draw, size), 4 * GIB, 1, size, _some(draw, models)))
            weights.append((1 - alone) * parts * weight / 2)
    for cards, weight in zip((1, 2, 4, 8), (0.9, 0.05, 0.03, 0.02), strict=True):
        for _ in range(8):
            kinds.append(Need(_cores(draw, cards * WHOLE), cards * 8 * GIB, cards, WHOLE, _some(draw, models)))
            weights.append((1 - alone) * (1 - parts) * weight / 8)
    for _ in range(6):
        kinds.append(Need(_cores(draw, WHOLE), 8 * GIB))
        weights.append(alone / 6)
    total = sum(weights)
    return kinds, [weight / total for weight in weights]


def _cores(draw: np.random.Generator, milli: int) -> int:
    return int(1000 * (milli / WHOLE) ** 0.5 * draw.lognormal(2.0, 0.6))


def _some(draw: np.random.Generator, models: list[str]) -> frozenset[str]:
    """Any model mostly, now and then half of them."""
    if draw.random() < 0.85:
        return frozenset()
    return frozenset(draw.choice(models, size=(len(models) + 1) // 2, replace=False).tolist())
