"""What the vendors' tools print, read: one small function per tool, each on text of its documented shape.

A function raises ValueError, KeyError, TypeError or AttributeError for text of another shape; the caller takes that for
"not known".  Nothing is filled in that the tool did not say.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MIB = 1024 * 1024
NVIDIA_FIELDS = "index,name,memory.total,driver_version,vbios_version,mig.mode.current"


@dataclass(frozen=True, slots=True)
class Found:
    """One card as its tool names it. `memory_bytes` 0 and empty versions: the tool does not say."""

    index: int
    name: str
    memory_bytes: int = 0
    driver: str = ""
    firmware: str = ""


def nvidia(text: str) -> list[Found]:
    """`nvidia-smi --query-gpu=NVIDIA_FIELDS --format=csv,noheader,nounits`: memory in MiB.

    A card that is cut into parts (MIG) is not one card that a lease could have; it is left out.
    """
    found = []
    for line in filter(None, map(str.strip, text.splitlines())):
        index, name, memory, driver, vbios, mig = (cell.strip() for cell in line.split(","))
        if mig != "Enabled":
            found.append(Found(int(index), name, int(memory) * MIB, driver, vbios))
    return found


_ASCEND_NAME = re.compile(r"^\|\s*(\d+)\s+(\S+)\s*\|\s*\S+\s*\|")
_ASCEND_CHIP = re.compile(r"^\|\s*(\d+)(?:\s+\d+)?\s*\|\s*[0-9A-Fa-f:.]{10,}\s*\|(.*)\|\s*$")


def ascend(text: str) -> list[Found]:
    """`npu-smi info`: a table with two lines per chip; the last pair of the second is memory used / total in MB.

    The first line has the card's number and the chip's name; further chips of one card repeat both.
    """
    version = re.search(r"npu-smi\s+\S+\s+Version:\s*(\S+)", text)
    found: list[Found] = []
    name = ""
    for line in text.splitlines():
        if chip := _ASCEND_CHIP.match(line):
            memory = re.findall(r"(\d+)\s*/\s*(\d+)", chip.group(2))
            total = int(memory[-1][1]) * MIB if memory else 0
            if name:
                found.append(Found(len(found), name, total, version.group(1) if version else ""))
            name = ""
        elif named := _ASCEND_NAME.match(line):
            name = named.group(2)
    return found


def rocm(text: str) -> list[Found]:
    """`rocm-smi` and `hy-smi` with --json: an object "card0", "card1", ... and one "system". Memory in bytes."""
    tables: dict[str, dict[str, str]] = json.loads(text[text.index("{") :])
    system = _lower(tables.get("system", {}))
    found = []
    for key, table in tables.items():
        if not re.fullmatch(r"card\d+", key):
            continue
        card = _lower(table)
        found.append(
            Found(
                int(key[4:]),
                card.get("card series") or card["card model"],
                int(card.get("vram total memory (b)", "0")),
                card.get("driver version") or system.get("driver version", ""),
                card.get("vbios version", ""),
            )
        )
    return sorted(found, key=lambda one: one.index)


def _lower(table: Mapping[str, str]) -> dict[str, str]:
    """Releases of the tool differ in the letters of their keys ("Card series", "Card Series")."""
    return {key.lower(): str(value).strip() for key, value in table.items()}


def amd(text: str) -> list[Found]:
    """`amd-smi static --json`: a list of cards, or one under "gpu_data". Memory as {"value", "unit"}."""
    document = json.loads(text)
    cards: list[dict[str, Any]] = document["gpu_data"] if isinstance(document, dict) else document
    found = []
    for card in cards:
        size = card.get("vram", {}).get("size", {})
        scale = {"MB": MIB, "GB": 1024 * MIB}[size["unit"]] if size else 0
        found.append(
            Found(
                int(card["gpu"]),
                str(card["asic"]["market_name"]),
                int(size["value"]) * scale if size else 0,
                str(card.get("driver", {}).get("version", "")),
                str(card.get("vbios", {}).get("version", "")),
            )
        )
    return found


def cambricon(text: str) -> list[Found]:
    """`cnmon info`: a block "Card N" per card with lines "name : value"; memory in MiB under its own heading."""
    found = []
    for block in re.split(r"^Card\s+(?=\d+\s*$)", text, flags=re.MULTILINE)[1:]:
        index = int(block.split(None, 1)[0])
        name = _line(block, "Product Name")
        if not name:
            raise ValueError(f"card {index} has no product name")
        memory = re.search(r"Physical Memory Usage.*?Total\s*:\s*(\d+)\s*MiB", block, re.DOTALL)
        total = int(memory.group(1)) * MIB if memory else 0
        found.append(Found(index, name, total, _line(block, "Driver"), _line(block, "Firmware")))
    return found


def _line(block: str, name: str) -> str:
    match = re.search(rf"^\s*{re.escape(name)}\s*:\s*(.+?)\s*$", block, re.MULTILINE)
    return match.group(1) if match else ""


_METAX_NAME = re.compile(r"^\|\s*(\d+)\s+(\S.*?)\s*\|\s*[0-9a-fA-F]{4}:[0-9a-fA-F:.]+\s*\|")
_METAX_MEMORY = re.compile(r"(\d+)\s*/\s*(\d+)\s*MiB")


def metax(text: str) -> list[Found]:
    """`mx-smi`: a table with two lines per card; the second has memory used / total in MiB."""
    driver = re.search(r"Kernel Mode Driver Version:\s*(\S+)", text)
    bios = re.search(r"BIOS Version:\s*(\S+)", text)
    found: list[Found] = []
    named: tuple[int, str] | None = None
    for line in text.splitlines():
        if match := _METAX_NAME.match(line):
            named = int(match.group(1)), match.group(2)
        elif named and (memory := _METAX_MEMORY.search(line)):
            versions = driver.group(1) if driver else "", bios.group(1) if bios else ""
            found.append(Found(*named, int(memory.group(2)) * MIB, *versions))
            named = None
    return found


def lscpu_model(text: str) -> str:
    """`lscpu -J`: the field "Model name:"; nested in later releases. Empty where it is not said."""
    waiting: list[dict[str, Any]] = list(json.loads(text)["lscpu"])
    while waiting:
        item = waiting.pop(0)
        if item.get("field") == "Model name:" and item.get("data") not in (None, "-"):
            return str(item["data"]).strip()
        waiting += item.get("children", [])
    return ""
