"""Nodes as pools, each core and each card counted once; and what others than this site hold of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from yunhe.core.errors import InvalidInput
from yunhe.site.drivers.kubernetes.views import Claim, NodeView
from yunhe.site.drivers.nodes.chips import UNIT, mapped, pool_name, report, stated_chip
from yunhe.site.settings import DriverSettings, KubernetesSettings
from yunhe.wire.link import PoolDigest, PoolReport

# Labels that name a card's product: this one is the site's own word, the others are set by the vendors' discovery.
STATED = "yunhe-chip"
PRODUCTS = {
    "nvidia.com/gpu": ("nvidia.com/gpu.product",),
    "amd.com/gpu": ("amd.com/gpu.product-name", "beta.amd.com/gpu.product-name"),
    "huawei.com/Ascend910": ("node.kubernetes.io/npu.chip.name", "accelerator-type"),
}


@dataclass(frozen=True, slots=True)
class KubePool:
    """A pool, and how Kubernetes is asked for it. `device` empty: a pool of cores. `product`: label and value."""

    report: PoolReport
    device: str = ""
    product: tuple[str, str] | None = None
    cores_per_card: int = 0
    nodes: frozenset[str] = frozenset()


def pairs(texts: Iterable[str]) -> dict[str, str]:
    """NAME=VALUE, as settings write them."""
    return {text.partition("=")[0]: text.partition("=")[2] for text in texts}


def pools(nodes: Iterable[NodeView], kubernetes: KubernetesSettings, driver: DriverSettings) -> tuple[KubePool, ...]:
    """One pool of cores and one for each device and product, of the nodes that take pods and that the site offers."""
    wanted = pairs(kubernetes.node_selector).items()
    mine = sorted((n for n in nodes if n.ready and wanted <= dict(n.labels).items()), key=lambda n: n.name)
    free = [0 if n.cards_only else max(0, n.cpu_milli - UNIT * _card_cores(n, kubernetes)) for n in mine]
    found: list[KubePool] = []
    if sum(free):
        memory = sum(_memory(node, left) for node, left in zip(mine, free, strict=True))
        chip = stated_chip([kubernetes.cpu_chip or ""], card=False)
        having = frozenset(node.name for node, left in zip(mine, free, strict=True) if left)
        found.append(KubePool(report(driver.pool, chip, free, memory, driver), nodes=having))
    groups: dict[tuple[str, tuple[str, str] | None], list[NodeView]] = {}
    for node in mine:
        for device, _ in node.cards:
            groups.setdefault((device, _product(node, device)), []).append(node)
    found += [_cards(device, product, having, kubernetes, driver) for (device, product), having in groups.items()]
    return _named_apart(found)


def _cards(
    device: str,
    product: tuple[str, str] | None,
    nodes: Sequence[NodeView],
    kubernetes: KubernetesSettings,
    driver: DriverSettings,
) -> KubePool:
    called = product[1] if product else device
    chip = stated_chip([mapped(called, kubernetes.chips), called], card=True)
    each = min(cores_per_card(node, kubernetes) for node in nodes)
    units = [dict(node.cards)[device] * UNIT for node in nodes]
    memory = sum(
        _memory(node, cores_per_card(node, kubernetes) * milli) for node, milli in zip(nodes, units, strict=True)
    )
    made = report(pool_name(called), chip, units, memory, driver, called)
    return KubePool(made, device, product, each, frozenset(node.name for node in nodes))


def cores_per_card(node: NodeView, kubernetes: KubernetesSettings) -> int:
    """Cores of the node that go with each of its cards."""
    cards, cores = sum(count for _, count in node.cards), node.cpu_milli // UNIT
    if not cards:
        return 0
    return min(kubernetes.cores_per_card or max(1, cores // (2 * cards)), cores // cards)


def _card_cores(node: NodeView, kubernetes: KubernetesSettings) -> int:
    return cores_per_card(node, kubernetes) * sum(count for _, count in node.cards)


def _memory(node: NodeView, milli: int) -> int:
    """The share of the node's memory that goes with so many of its thousandths of cores. Bytes."""
    return node.memory_bytes * milli // max(1, node.cpu_milli)


def _product(node: NodeView, device: str) -> tuple[str, str] | None:
    labels = dict(node.labels)
    return next(((name, labels[name]) for name in (STATED, *PRODUCTS.get(device, ())) if labels.get(name)), None)


def _named_apart(found: Sequence[KubePool]) -> tuple[KubePool, ...]:
    """Two products may read the same once they are shortened."""
    taken: set[str] = set()
    made = []
    for pool in found:
        name, number = pool.report.name, 2
        while name in taken:
            name = f"{pool.report.name[:20]}-{number}"
            number += 1
        taken.add(name)
        copy = pool.report.model_copy(update={"name": name})
        made.append(KubePool(copy, pool.device, pool.product, pool.cores_per_card, pool.nodes))
    return tuple(made)


def held_by_others(
    told: Iterable[KubePool], now: Iterable[KubePool], claims: Iterable[Claim]
) -> tuple[PoolDigest, ...]:
    """Of each pool as the hub was told: what pods of others hold, and what is not there any more since then.

    A pod with cards holds cores that go with cards; one without holds cores that are offered as such.
    """
    there = {pool.report.name: pool.report for pool in now}
    everyone = list(claims)
    found = []
    for pool in told:
        name = pool.report.name
        current = there.get(name)
        milli = pool.report.capacity_milli - (current.capacity_milli if current else 0)
        memory = pool.report.memory_bytes - (current.memory_bytes if current else 0)
        for claim in everyone:
            if claim.node not in pool.nodes:
                continue
            if pool.device:
                milli += dict(claim.cards).get(pool.device, 0) * UNIT
                memory += claim.memory_bytes if dict(claim.cards).get(pool.device) else 0
            elif not claim.cards:
                milli += claim.cpu_milli
                memory += claim.memory_bytes
        capacity, most = pool.report.capacity_milli, pool.report.memory_bytes
        found.append(
            PoolDigest(
                name=name,
                foreign_milli=max(0, min(milli, capacity)),
                foreign_memory_bytes=max(0, min(memory, most)),
            )
        )
    return tuple(found)


def check_settings(kubernetes: KubernetesSettings) -> None:
    """Raises InvalidInput for settings that say only half of what they need."""
    if (kubernetes.shared_dir is None) != (kubernetes.shared_volume is None):
        raise InvalidInput("shared_dir and shared_volume go together", field="kubernetes.shared_volume")
    if kubernetes.cpu_chip and stated_chip([kubernetes.cpu_chip], card=False) is None:
        raise InvalidInput("the catalogue has no such processor", field="kubernetes.cpu_chip", hint="yunhe chips")
