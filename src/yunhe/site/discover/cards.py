"""Cards of this machine by their vendors' tools, and the catalogue's chip for each: exact names, or "unknown"."""

import logging
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from yunhe.core.demand import Precision
from yunhe.facts.load import Chip, chips
from yunhe.facts.sites import card_watts
from yunhe.site.discover import tools
from yunhe.site.discover.tools import Found
from yunhe.wire.link import PoolReport, RateReport

log = logging.getLogger(__name__)

LIMIT_S = 15.0  # of one call; a driver that hangs must not hang the site
OUTPUT_CHARS = 1_000_000
MOST_CARDS = 1_024
WELL_KNOWN = ("/usr/local/bin", "/usr/bin", "/usr/sbin", "/opt/rocm/bin", "/opt/hyhal/bin", "/opt/mxdriver/bin")

# Names as the vendor's tool prints them, of what is one chip of the catalogue and no other. A name that stands for
# several products (a "310P3" is on three cards, an "MXC500" in two forms) is not here.
NAMES = {
    "Tesla V100-SXM2-32GB": "v100-sxm2-32g",
    "NVIDIA A100-SXM4-80GB": "a100-sxm-80g",
    "NVIDIA A800-SXM4-80GB": "a800-sxm-80g",
    "NVIDIA H100 80GB HBM3": "h100-sxm",
    "NVIDIA H800": "h800-sxm",
    "NVIDIA H20": "h20",
    "NVIDIA H200": "h200-sxm",
    "NVIDIA B200": "b200",
    "NVIDIA L40S": "l40s",
    "NVIDIA GeForce RTX 4090": "rtx4090",
    "NVIDIA GeForce RTX 5090": "rtx5090",
    "AMD Instinct MI250X": "mi250x",
    "AMD Instinct MI300X": "mi300x",
    "AMD Instinct MI300X OAM": "mi300x",
    "910A": "ascend-910a",
    "910B1": "ascend-910b1",
    "910B2": "ascend-910b2",
    "910B3": "ascend-910b3",
    "910B4": "ascend-910b4",
    "MLU370-X8": "mlu370-x8",
    "Z100": "hygon-z100",
    "K100_AI": "hygon-k100ai",
}
VISIBLE = {
    "cuda": "CUDA_VISIBLE_DEVICES",
    "rocm": "HIP_VISIBLE_DEVICES",
    "dtk": "HIP_VISIBLE_DEVICES",
    "cann": "ASCEND_RT_VISIBLE_DEVICES",
    "neuware": "MLU_VISIBLE_DEVICES",
    "maca": "MACA_VISIBLE_DEVICES",
}


@dataclass(frozen=True, slots=True)
class Card:
    """One card. `chip` None: no chip of the catalogue has exactly this name."""

    found: Found
    stack: str
    chip: Chip | None


@dataclass(frozen=True, slots=True)
class _Tool:
    """A vendor's tool: how it is called, in which stack its cards are used, and how its words are read."""

    words: tuple[str, ...]
    stack: str
    read: Callable[[str], list[Found]]


_AMD = ("--showproductname", "--showmeminfo", "vram", "--showdriverversion", "--showvbios", "--json")
TOOLS: tuple[tuple[_Tool, ...], ...] = (  # of each vendor the first that answers
    (
        _Tool(
            ("nvidia-smi", f"--query-gpu={tools.NVIDIA_FIELDS}", "--format=csv,noheader,nounits"), "cuda", tools.nvidia
        ),
    ),
    (_Tool(("npu-smi", "info"), "cann", tools.ascend),),
    (_Tool(("amd-smi", "static", "--json"), "rocm", tools.amd), _Tool(("rocm-smi", *_AMD), "rocm", tools.rocm)),
    (_Tool(("hy-smi", *_AMD), "dtk", tools.rocm),),
    (_Tool(("cnmon", "info"), "neuware", tools.cambricon),),
    (_Tool(("mx-smi",), "maca", tools.metax),),
)


def find_cards() -> tuple[Card, ...]:
    """Every card that some tool names. No tool, no answer in time, or words that make no sense: no cards of it."""
    cards: list[Card] = []
    for vendor in TOOLS:
        for tool in vendor:
            found = _ask(tool)
            if found:
                cards += [Card(one, tool.stack, _chip(one.name)) for one in found[:MOST_CARDS]]
                break
    return tuple(cards)


def _ask(tool: _Tool) -> list[Found]:
    path = shutil.which(tool.words[0], path=os.pathsep.join((os.environ.get("PATH", ""), *WELL_KNOWN)))
    if path is None:
        return []
    try:
        done = subprocess.run(
            [path, *tool.words[1:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LIMIT_S,
            env={**os.environ, "LC_ALL": "C"},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        log.warning("%s does not answer: %s", tool.words[0], error)
        return []
    text = done.stdout.decode(errors="replace")[:OUTPUT_CHARS]
    if done.returncode:
        log.warning("%s ended with %d: %s", tool.words[0], done.returncode, text[-200:].strip())
        return []
    try:
        return tool.read(text)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s said something else than is known of it: %s", tool.words[0], error)
        return []


def _chip(name: str) -> Chip | None:
    chip_id = NAMES.get(name)
    return next((chip for chip in chips() if chip.id == chip_id), None) if chip_id else None


def card_pools(cards: Sequence[Card], host_memory_bytes: int) -> tuple[PoolReport, ...]:
    """One pool per kind of card, with nominal rates of the catalogue; host memory is shared out by cards."""
    kinds: dict[tuple[str, str, int], list[Card]] = {}
    for card in cards:
        kinds.setdefault((card.stack, card.found.name, card.found.memory_bytes), []).append(card)
    pools = []
    for number, ((stack, name, memory), same) in enumerate(sorted(kinds.items(), key=lambda item: item[0])):
        chip, units = same[0].chip, 1000 * len(same)
        watts, source = card_watts(chip.id if chip else "unknown")
        pools.append(
            PoolReport(
                name=f"{stack}-{number}",
                kind_of_unit="card",
                chip=chip.id if chip else "unknown",
                chip_name=name[:120].replace("\0", ""),
                stack=stack,
                capacity_milli=units,
                memory_bytes=host_memory_bytes * len(same) // len(cards),
                card_memory_bytes=memory or (chip.memory_bytes if chip else None) or 0,
                max_slot_milli=units,
                watts_per_unit=watts,
                watts_source=source[:200],
                rates=_rates(chip),
            )
        )
    return tuple(pools)


def _rates(chip: Chip | None) -> tuple[RateReport, ...]:
    known = dict(chip.flops) if chip else {}
    wanted = known or dict.fromkeys((Precision.FP32, Precision.FP16))
    return tuple(RateReport(precision=precision, nominal_flops=flops) for precision, flops in wanted.items())
