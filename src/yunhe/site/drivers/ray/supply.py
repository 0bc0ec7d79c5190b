"""Nodes and accelerators of a Ray cluster as pools, and what others use of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from yunhe.core.errors import InvalidInput
from yunhe.site.drivers.nodes.chips import UNIT, mapped, plain, pool_name, report, stated_chip
from yunhe.site.drivers.ray.client import Listing
from yunhe.site.settings import DriverSettings, RaySettings
from yunhe.wire.link import PoolDigest, PoolReport

TYPED = ("GPU", "NPU", "TPU", "HPU", "neuron_cores")  # those that Ray finds by itself, with their types
CARDS = (*TYPED, "MLU", "DCU")  # resources that are cards wherever they are
TYPE = "accelerator_type:"
LEAST = 0.001  # of a type or of the mark of lent nodes: what Ray itself asks for to pin a job
SETTLED_MS = 2_000  # Ray's figures of use may still hold a job that ended so long before they were taken


@dataclass(frozen=True, slots=True)
class Node:
    """`resources`: as Ray counts them; cores and cards may be fractions."""

    id: str
    resources: Mapping[str, float]

    @property
    def cores(self) -> float:
        return self.resources.get("CPU", 0.0)

    @property
    def memory_bytes(self) -> int:
        return int(self.resources.get("memory", 0))

    def has(self, card: str) -> bool:
        return self.resources.get(card, 0) > 0

    def kind(self, card: str) -> str:
        """The accelerator type of its cards; empty where Ray names none, or may mean other cards of the node."""
        types = sorted(name.removeprefix(TYPE) for name in self.resources if name.startswith(TYPE))
        return types[0] if types and [name for name in TYPED if self.has(name)] == [card] else ""


@dataclass(frozen=True, slots=True)
class RayPool:
    """A pool, and how Ray is asked for it. `card`: the resource; `kind`: its accelerator type, or empty."""

    report: PoolReport
    nodes: tuple[str, ...]  # ids
    largest: float  # cores of the largest node
    largest_memory_bytes: int
    card: str = ""
    kind: str = ""
    cores_per_card: float = 0.0


def parse_nodes(listed: Sequence[object], lent: str | None) -> list[Node]:
    """Nodes that are alive, and lent. Raises InvalidInput for an answer that is none."""
    found = []
    for entry in listed:
        resources = entry.get("resources_total") if isinstance(entry, dict) else None
        if not isinstance(entry, dict) or not isinstance(entry.get("node_id"), str):
            raise InvalidInput(f"Ray said {str(entry)[:200]!r} of a node")
        if entry.get("state") != "ALIVE" or not isinstance(resources, dict):
            continue
        numbers = {str(name): float(value) for name, value in resources.items() if isinstance(value, int | float)}
        if lent is None or numbers.get(lent, 0) > 0:
            found.append(Node(str(entry["node_id"]), numbers))
    return sorted(found, key=lambda node: node.id)


def card_names(ray: RaySettings) -> tuple[str, ...]:
    """Resources that count as cards: the usual ones, and those that the site names a chip for."""
    return tuple(dict.fromkeys((*CARDS, *(text.partition("=")[0] for text in ray.chips))))


def pools(nodes: Sequence[Node], ray: RaySettings, driver: DriverSettings) -> tuple[RayPool, ...]:
    """Cores of all nodes, and cards by resource and accelerator type; each core and card counted once."""
    cards = card_names(ray)
    reserved = {node.id: _cores_per_card(node, cards, ray) for node in nodes}
    found = list(_cores(nodes, cards, reserved, driver))
    for card in cards:
        having = [node for node in nodes if node.has(card)]
        kinds = dict.fromkeys(node.kind(card) for node in having)
        # Ray cannot be asked for a card without a type where other nodes have typed ones.
        for kind in [kind for kind in kinds if kind] or kinds:
            mine = [node for node in having if node.kind(card) == kind]
            found.append(_cards(card, kind, mine, reserved, ray, driver))
    names = [pool.report.name for pool in found]
    if len(set(names)) < len(names):
        raise InvalidInput(f"two kinds of cards read the same: {sorted(names)}", field="chips")
    return tuple(found)


def _cores_per_card(node: Node, cards: Sequence[str], ray: RaySettings) -> float:
    count = sum(node.resources.get(card, 0) for card in cards)
    if not count:
        return 0.0
    return min(float(ray.cores_per_card or max(1, int(node.cores / (2 * count)))), node.cores / count)


def _cores(
    nodes: Sequence[Node], cards: Sequence[str], reserved: Mapping[str, float], driver: DriverSettings
) -> Iterator[RayPool]:
    free = [node.cores - reserved[node.id] * sum(node.resources.get(card, 0) for card in cards) for node in nodes]
    units = [int(cores * UNIT) for cores in free]
    if not any(units):
        return
    memory = sum(int(n.memory_bytes * left / max(n.cores, left)) for n, left in zip(nodes, free, strict=True) if left)
    yield RayPool(
        report(driver.pool, None, units, memory, driver),
        tuple(node.id for node in nodes),
        max(node.cores for node in nodes),
        max(node.memory_bytes for node in nodes),
    )


def _cards(
    card: str,
    kind: str,
    nodes: Sequence[Node],
    reserved: Mapping[str, float],
    ray: RaySettings,
    driver: DriverSettings,
) -> RayPool:
    name = kind or card
    chip = stated_chip([mapped(kind, ray.chips), mapped(card, ray.chips), kind, card], card=True)
    counts = [int(node.resources[card]) for node in nodes]
    memory = sum(
        int(node.memory_bytes * reserved[node.id] * count / node.cores)
        for node, count in zip(nodes, counts, strict=True)
        if node.cores
    )
    return RayPool(
        report(pool_name(plain(name)), chip, [count * UNIT for count in counts], memory, driver, card=name),
        tuple(node.id for node in nodes),
        max(node.cores for node in nodes),
        max(node.memory_bytes for node in nodes),
        card,
        kind,
        min(reserved[node.id] for node in nodes),
    )


def altered(name: str) -> str:
    """How the dashboard spells a resource in its figures of use: site_a -> siteA."""
    first, *rest = name.split("_")
    return first + "".join(word.title() for word in rest)


def foreign(
    found: Sequence[RayPool], usage: Mapping[str, Mapping[str, float]], taken_utc_ms: int, listing: Listing
) -> tuple[PoolDigest, ...]:
    """What others hold: all that is used, less what our own jobs asked for that had not ended by then."""
    ours = [job.asked for job in listing.jobs.values() if _held(job.ended_utc_ms, taken_utc_ms)]
    return tuple(_digest(pool, usage, ours) for pool in found)


def _digest(pool: RayPool, usage: Mapping[str, Mapping[str, float]], ours: Sequence[Mapping[str, float]]) -> PoolDigest:
    resource = pool.card or "CPU"
    mine = [asked for asked in ours if not pool.kind or f"{TYPE}{pool.kind}" in asked]
    used = sum(usage.get(node, {}).get(altered(resource), 0.0) for node in pool.nodes)
    milli = round((used - sum(asked.get(resource, 0.0) for asked in mine)) * UNIT)
    memory = 0
    if not pool.card:
        held = sum(usage.get(node, {}).get("memory", 0.0) for node in pool.nodes)
        memory = round(held - sum(asked.get("memory", 0.0) for asked in ours))
    return PoolDigest(
        name=pool.report.name,
        foreign_milli=min(pool.report.capacity_milli, max(0, milli)),
        foreign_memory_bytes=min(pool.report.memory_bytes, max(0, memory)),
    )


def missing(offered: Sequence[PoolReport], digests: Sequence[PoolDigest], found: Sequence[RayPool]) -> list[PoolDigest]:
    """With units that were offered and whose nodes are gone counted as held: nobody can have them now."""
    there, told = {pool.report.name: pool.report for pool in found}, {digest.name: digest for digest in digests}
    whole = []
    for before in offered:
        now, digest = there.get(before.name), told.get(before.name, PoolDigest(name=before.name))
        gone = max(0, before.capacity_milli - (now.capacity_milli if now else 0))
        gone_bytes = max(0, before.memory_bytes - (now.memory_bytes if now else 0))
        whole.append(
            PoolDigest(
                name=before.name,
                foreign_milli=min(before.capacity_milli, digest.foreign_milli + gone),
                foreign_memory_bytes=min(before.memory_bytes, digest.foreign_memory_bytes + gone_bytes),
            )
        )
    return whole


def _held(ended_utc_ms: int, taken_utc_ms: int) -> bool:
    return not ended_utc_ms or ended_utc_ms > taken_utc_ms - SETTLED_MS
