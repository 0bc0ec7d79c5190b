"""The protocol of the FGD paper: tasks in random order, one by one, none leaves, one that fits nowhere is skipped."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.placement import packers
from benchmarks.placement.go_random import GoRandom
from yunhe.core.errors import InvalidInput
from yunhe.core.placement.packing.fleet import Fleet
from yunhe.core.placement.packing.index import PackingIndex
from yunhe.core.placement.packing.packer import Packer
from yunhe.core.placement.packing.rule import LeastLoss
from yunhe.core.placement.packing.values import WHOLE, Need, Node
from yunhe.core.placement.packing.worth import WorthTable, typical, usable

LOAD = 1.3  # arrived cards over the cards there are, at the end
ELSEWHERE = 10  # draws that other parts of the published runs took before they numbered the nodes; found by trying
TYPICAL_SHARE = 0.95  # of all tasks: the typical ones make up that much

Placed = tuple[int, tuple[int, ...]] | None
Place = Callable[[Need], Placed]

PUBLISHED = ("Random", "DotProd", "Clustering", "Packing", "BestFit", "FGD")
OURS = "least loss"
LEARNING = "least loss, learning"


@dataclass(frozen=True, slots=True)
class Workload:
    """Nodes and tasks, both in the order of their names."""

    name: str
    nodes: tuple[Node, ...]
    tasks: tuple[Need, ...]

    @property
    def capacity_milli(self) -> int:
        return WHOLE * sum(node.cards for node in self.nodes)

    def counts(self) -> Mapping[Need, float]:
        """How often each need is in the list. Memory is left out, as the paper does."""
        return Counter(replace(task, memory_bytes=0) for task in self.tasks)


@dataclass(frozen=True, slots=True)
class Outcome:
    """In percent: cards allocated when 130 % have arrived, and idle cards that are fragments when 80 % have."""

    allocated: float
    fragmented: float


def drawn(workload: Workload, seed: int) -> tuple[list[Node], list[Need]]:
    """Nodes in the order that ties follow, and arrivals.

    The paper's simulator numbers the nodes at random before it compares their names, and draws more tasks from the
    list until one card more than LOAD would be asked for, or drops random ones.

    Raises InvalidInput where no task asks for cards: no number of them would come to LOAD.
    """
    if not any(task.cards for task in workload.tasks):
        raise InvalidInput(f"{workload.name}: no task asks for a card", field="num_gpu")
    draw = GoRandom(seed)
    draw.uint64()  # one that it prints
    tasks = list(workload.tasks)
    draw.shuffle(tasks)
    asked, goal = sum(task.total_milli for task in tasks), LOAD * workload.capacity_milli
    if asked > goal:
        while asked > goal:
            asked -= tasks.pop(draw.below(len(tasks))).total_milli
    else:
        while True:
            task = workload.tasks[draw.below(len(workload.tasks))]
            if asked + task.card_milli > goal:
                break
            tasks.append(task)
            asked += task.total_milli
    for _ in range(ELSEWHERE):
        draw.uint64()
    numbers = draw.permutation(len(workload.nodes))
    return [node for _, node in sorted(zip(numbers, workload.nodes, strict=True), key=lambda pair: pair[0])], tasks


def policy(name: str, fleet: Fleet, workload: Workload, seed: int) -> Place:
    """A policy by its name in the table, over an empty fleet."""
    if name == "Random":
        return packers.Random(seed, fleet).place
    if name == "Clustering":
        return packers.Clustering(fleet).place
    if name == "DotProd":
        return PackingIndex(fleet, packers.DotProduct()).place
    if name == "Packing":
        return PackingIndex(fleet, packers.Packing()).place
    if name == "BestFit":
        return PackingIndex(fleet, packers.BestFit()).place
    if name == "FGD":
        return PackingIndex(fleet, packers.Fgd(fragments(fleet, workload))).place
    return PackingIndex(fleet, LeastLoss(fleet, workload.counts())).place


def fragments(fleet: Fleet, workload: Workload) -> WorthTable:
    """What is no fragment for the typical tasks of the list."""
    return usable(fleet, typical(workload.counts(), TYPICAL_SHARE))


def replayed(workload: Workload, name: str, seed: int) -> Outcome:
    """One run. As published, both figures are means over the arrivals that round to that percentage."""
    nodes, arrivals = drawn(workload, seed)
    if name == LEARNING:
        packer = Packer(nodes)
        fleet, place = packer.fleet, packer.place
    else:
        fleet = Fleet(nodes)
        place = policy(name, fleet, workload, seed)
    return _walk(fleet, arrivals, place, fragments(fleet, workload))


def _walk(fleet: Fleet, arrivals: Sequence[Need], place: Place, table: WorthTable) -> Outcome:
    capacity = WHOLE * int(fleet.installed.sum())
    everywhere = np.arange(len(fleet.nodes))
    arrived = used = 0
    found: dict[int, list[float]] = defaultdict(list)
    for need in arrivals:
        arrived += need.total_milli
        if place(need) is not None:
            used += need.total_milli
        at = round(100 * arrived / capacity)
        if at == 130:
            found[at].append(100 * used / capacity)
        elif at == 80:
            found[at].append(100 - 100 * float(table.of(fleet, everywhere).sum()) / (capacity - used))
    return Outcome(float(np.mean(found[130])), float(np.mean(found[80])))
