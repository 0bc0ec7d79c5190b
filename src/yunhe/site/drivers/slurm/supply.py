"""Partitions, nodes and GPUs of a cluster as pools, each node and each core of it counted once.

A pool is all that Slurm has there, whatever state its nodes are in. What takes no jobs now (others run there, the node
is down, drained or silent, the partition is closed) is held by others: so a node that goes or returns is known within
seconds, and not with the next certificate.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from yunhe.core.errors import InvalidInput
from yunhe.site.drivers.nodes.chips import MAX_NAME, UNIT, mapped, pool_name, report, stated_chip
from yunhe.site.settings import DriverSettings, SlurmSettings
from yunhe.wire.link import PoolDigest, PoolReport

MIB = 1024 * 1024
AWAY = (
    *("down", "drain", "fail", "error", "unknown", "maint", "reboot", "power", "no_respond", "future", "inval"),
    *("reserved", "blocked"),
)


@dataclass(frozen=True, slots=True)
class Node:
    """One node in one partition. `cards`: GRES, as "gpu:a100" or "gpu" -> how many; `cards_used` likewise."""

    partition: str
    default: bool
    name: str
    cores: int
    cores_idle: int
    memory_bytes: int
    memory_used_bytes: int
    opened: bool  # the partition starts jobs
    state: str
    cards: dict[str, int]
    cards_used: dict[str, int]
    features: tuple[str, ...]

    @property
    def up(self) -> bool:
        return self.opened and not (self.state.endswith("*") or any(word in self.state for word in AWAY))


@dataclass(frozen=True, slots=True)
class SlurmPool:
    """A pool, and how Slurm is asked for it. `card`: GRES, as "gpu:a100" or "gpu"; empty: a pool of cores."""

    report: PoolReport
    partition: str
    nodes: frozenset[str]
    card: str = ""
    cores_per_card: int = 0


class Held(NamedTuple):
    """Units and memory: of a lease as the hub counts them, or of what can be had of a node."""

    milli: int
    memory_bytes: int


NOTHING = Held(0, 0)


def parse_nodes(text: str) -> list[Node]:
    """The answer to `SlurmClient.nodes`. Raises InvalidInput for a line that is not one."""
    found = []
    for line in text.splitlines():
        try:
            partition, name, cores, by_use, memory, memory_used, *rest, _ = line.split("|")
            opened, state, gres, gres_used, features = rest
            _, idle, _, _ = by_use.split("/")  # allocated, idle, other, total
            numbers = [int(text) for text in (cores, idle, memory, memory_used)]
        except ValueError as error:
            raise InvalidInput(f"sinfo said {line[:200]!r}") from error
        found.append(
            Node(
                partition=partition.rstrip("*"),
                default=partition.endswith("*"),
                name=name,
                cores=numbers[0],
                cores_idle=numbers[1],
                memory_bytes=numbers[2] * MIB,
                memory_used_bytes=numbers[3] * MIB,
                opened=opened == "up",
                state=state.lower(),
                cards=dict(_cards(gres)),
                cards_used=dict(_cards(gres_used)),
                features=tuple(word for word in features.split(",") if word not in ("", "(null)")),
            )
        )
    return found


def _cards(gres: str) -> Iterator[tuple[str, int]]:
    """ "gpu:a100:2(S:0-1),gpu:h20:4,mps:100": the devices that are cards, with their types."""
    for text in re.sub(r"\([^)]*\)", "", gres).split(","):
        match text.split(":"):
            case ["gpu" | "npu" | "mlu" | "dcu" as name, kind, count] if count.isdecimal() and int(count):
                yield f"{name}:{kind}", int(count)
            case ["gpu" | "npu" | "mlu" | "dcu" as name, count] if count.isdecimal() and int(count):
                yield name, int(count)


def pools(nodes: Sequence[Node], slurm: SlurmSettings, driver: DriverSettings) -> tuple[SlurmPool, ...]:
    """For each partition its cores and its cards by type. Raises InvalidInput for a partition that is not there."""
    there = {node.partition for node in nodes}
    order = slurm.partitions or tuple(dict.fromkeys(n.partition for n in sorted(nodes, key=lambda n: not n.default)))
    for name in order:
        if name not in there:
            raise InvalidInput(f"Slurm has no partition {name!r}", field="partitions", hint=f"it has {sorted(there)}")
    seen: set[str] = set()
    found: list[SlurmPool] = []
    for partition in order:
        mine = [node for node in nodes if node.partition == partition and node.name not in seen]
        seen.update(node.name for node in mine)
        found += _of_partition(partition, mine, slurm, driver)
    return tuple(_named_apart(found))


def foreign(
    found: Sequence[SlurmPool], nodes: Sequence[Node], ours: Mapping[str, Held], slurm: SlurmSettings
) -> tuple[PoolDigest, ...]:
    """Of each pool, what a lease cannot have and our own running leases (`ours`, by pool) do not hold."""
    free = {(node.partition, node.name): _free_on(node, slurm) for node in nodes}
    digests = []
    for pool in found:
        there = (free.get((pool.partition, name), {}) for name in pool.nodes)
        left = [of_node.get(pool.card, NOTHING) for of_node in there]
        mine, whole = ours.get(pool.report.name, NOTHING), pool.report
        milli = whole.capacity_milli - sum(held.milli for held in left) - mine.milli
        memory = whole.memory_bytes - sum(held.memory_bytes for held in left) - mine.memory_bytes
        digests.append(PoolDigest(name=whole.name, foreign_milli=max(0, milli), foreign_memory_bytes=max(0, memory)))
    return tuple(digests)


def _free_on(node: Node, slurm: SlurmSettings) -> dict[str, Held]:
    """What a job can have of a node now, by card; of the cores that go with no card by "".

    A free card whose cores are taken is of no use, and neither is a core of a node without memory.
    """
    per = cores_per_card(node, slurm)
    memory = max(0, node.memory_bytes - node.memory_used_bytes) if node.up else 0
    cores = node.cores_idle if memory else 0
    free = {}
    for card, count in node.cards.items():
        units = max(0, min(count - node.cards_used.get(card, 0), cores // per))
        held = min(memory, node.memory_bytes * per * units // node.cores)
        free[card] = Held(units * UNIT, held)
        cores, memory = cores - units * per, memory - held
    own = node.cores - per * sum(node.cards.values())
    free[""] = Held(min(cores, own) * UNIT, min(memory, node.memory_bytes * own // max(1, node.cores)))
    return free


def cores_per_card(node: Node, slurm: SlurmSettings) -> int:
    """Cores of the node that go with each of its cards."""
    cards = sum(node.cards.values())
    if not cards:
        return 0
    return min(slurm.cores_per_card or max(1, node.cores // (2 * cards)), node.cores // cards)


def _of_partition(
    partition: str, nodes: Sequence[Node], slurm: SlurmSettings, driver: DriverSettings
) -> Iterator[SlurmPool]:
    free = [node.cores - cores_per_card(node, slurm) * sum(node.cards.values()) for node in nodes]
    if sum(free):
        memory = sum(n.memory_bytes * left // max(1, n.cores) for n, left in zip(nodes, free, strict=True))
        chip = stated_chip([word for node in nodes for word in node.features], card=False)
        made = report(pool_name(partition), chip, [left * UNIT for left in free], memory, driver)
        yield SlurmPool(made, partition, frozenset(node.name for node in nodes))
    for card in dict.fromkeys(card for node in nodes for card in node.cards):
        having = [node for node in nodes if card in node.cards]
        kind = card.rpartition(":")[2]
        features = [word for node in having for word in node.features]
        chip = stated_chip([mapped(kind, slurm.chips), kind, *features], card=True)
        memory = sum(n.memory_bytes * cores_per_card(n, slurm) * n.cards[card] // n.cores for n in having)
        units = [node.cards[card] * UNIT for node in having]
        made = report(pool_name(f"{partition}-{kind}"), chip, units, memory, driver, kind)
        names = frozenset(node.name for node in having)
        yield SlurmPool(made, partition, names, card, min(cores_per_card(node, slurm) for node in having))


def _named_apart(found: Sequence[SlurmPool]) -> Iterator[SlurmPool]:
    """Two partitions may read the same once they are shortened."""
    taken: set[str] = set()
    for pool in found:
        name, number = pool.report.name, 2
        while name in taken:
            name = f"{pool.report.name[: MAX_NAME - 4]}-{number}"
            number += 1
        taken.add(name)
        yield replace(pool, report=pool.report.model_copy(update={"name": name}))
