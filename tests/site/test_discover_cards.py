"""Cards by their vendors' tools: text of the shape that each tool documents, and programs that stand in for them."""

import json
from pathlib import Path

import pytest

from yunhe.facts.load import chips
from yunhe.site import discover
from yunhe.site.discover import cards, tools
from yunhe.site.discover.tools import Found

GIB = 1 << 30
MIB = 1 << 20

NVIDIA = """\
0, NVIDIA H100 80GB HBM3, 81559, 550.54.15, 96.00.74.00.01, Disabled
1, NVIDIA H100 80GB HBM3, 81559, 550.54.15, 96.00.74.00.01, Enabled
2, NVIDIA H100 PCIe, 81559, 550.54.15, 96.00.74.00.01, [N/A]
"""
ASCEND = """\
+------------------------------------------------------------------------------------------------+
| npu-smi 23.0.rc3                 Version: 23.0.rc3                                             |
+---------------------------+---------------+----------------------------------------------------+
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip                      | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+===========================+===============+====================================================+
| 0     910B3               | OK            | 91.2        41                0    / 0             |
| 0                         | 0000:C1:00.0  | 0           0    / 0          3161 / 65536         |
+===========================+===============+====================================================+
| 8     310P3               | OK            | NA          54                0    / 0             |
| 0     1                   | 0000:82:00.0  | 0           1701 / 21534                           |
+===========================+===============+====================================================+
+---------------------------+---------------+----------------------------------------------------+
| NPU     Chip              | Process id    | Process name             | Process memory(MB)      |
+===========================+===============+====================================================+
| 0       0                 | 2344321       | python                   | 120                     |
+===========================+===============+====================================================+
"""
ROCM = json.dumps(
    {
        "card1": {
            "Card Series": "AMD Instinct MI300X",
            "VRAM Total Memory (B)": "206141652992",
            "VBIOS version": "113",
        },
        "card0": {"Card series": "AMD Instinct MI210", "VRAM Total Memory (B)": "68702699520"},
        "system": {"Driver version": "6.7.0"},
    }
)
HYGON = "a line of warning\n" + json.dumps(
    {"card0": {"Card Series": "K100_AI", "VRAM Total Memory (B)": "68702699520", "Driver version": "6.2.26"}}
)
AMD = json.dumps(
    {
        "gpu_data": [
            {
                "gpu": 0,
                "asic": {"market_name": "AMD Instinct MI300X"},
                "vram": {"type": "HBM", "size": {"value": 196592, "unit": "MB"}},
                "driver": {"name": "amdgpu", "version": "6.12.12"},
            }
        ]
    }
)
CAMBRICON = """\
==============CNMON Report==============
Timestamp                          : Mon Sep 16 20:00:00 2024

Card 0
    Product Name                   : MLU370-X8
    Firmware                       : v1.1.4
    Driver                         : v5.10.22
    Physical Memory Usage          :
        Total                      : 49152 MiB
        Used                       : 0 MiB
Card 1
    Product Name                   : MLU590-M9
    Firmware                       : v1.2.0
    Driver                         : v5.10.22
"""
METAX = """\
mx-smi  version: 2.1.9
=================== MetaX System Management Interface Log ===================
+---------------------------------------------------------------------------------+
| MX-SMI 2.1.9                        Kernel Mode Driver Version: 2.9.8           |
| MACA Version: 2.27.0.9              BIOS Version: 1.20.3.0                      |
|------------------------------------+---------------------+----------------------+
| GPU         NAME                   | Bus-id              | GPU-Util             |
| Temp        Power                  | Memory-Usage        |                      |
|====================================+=====================+======================|
| 0           MXC500                 | 0000:0e:00.0        | 0%                   |
| 35C         56W                    | 914/65536 MiB       |                      |
+------------------------------------+---------------------+----------------------+
"""


def test_every_tool_is_read() -> None:
    h100 = Found(0, "NVIDIA H100 80GB HBM3", 81559 * MIB, "550.54.15", "96.00.74.00.01")
    assert tools.nvidia(NVIDIA) == [h100, Found(2, "NVIDIA H100 PCIe", 81559 * MIB, "550.54.15", "96.00.74.00.01")]
    assert tools.ascend(ASCEND) == [
        Found(0, "910B3", 65536 * MIB, "23.0.rc3"),
        Found(1, "310P3", 21534 * MIB, "23.0.rc3"),
    ]
    assert tools.rocm(ROCM) == [
        Found(0, "AMD Instinct MI210", 68702699520, "6.7.0"),
        Found(1, "AMD Instinct MI300X", 206141652992, "6.7.0", "113"),
    ]
    assert tools.rocm(HYGON) == [Found(0, "K100_AI", 68702699520, "6.2.26")]
    assert tools.amd(AMD) == [Found(0, "AMD Instinct MI300X", 196592 * MIB, "6.12.12")]
    assert tools.cambricon(CAMBRICON) == [
        Found(0, "MLU370-X8", 48 * GIB, "v5.10.22", "v1.1.4"),
        Found(1, "MLU590-M9", 0, "v5.10.22", "v1.2.0"),
    ]
    assert tools.metax(METAX) == [Found(0, "MXC500", 64 * GIB, "2.9.8", "1.20.3.0")]
    lscpu = {
        "lscpu": [
            {"field": "Vendor ID:", "data": "HiSilicon", "children": [{"field": "Model name:", "data": "Kunpeng-920"}]}
        ]
    }
    assert tools.lscpu_model(json.dumps(lscpu)) == "Kunpeng-920"


def test_every_name_is_one_chip_of_the_catalogue() -> None:
    known = {chip.id: chip for chip in chips()}
    assert set(cards.NAMES.values()) <= set(known)
    assert all(known[chip_id].kind != "cpu" for chip_id in cards.NAMES.values())


@pytest.fixture
def bin_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder in which tools are looked for, and the shell beside them."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "cat").symlink_to("/bin/cat")
    (folder / "sleep").symlink_to("/bin/sleep")
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(cards, "WELL_KNOWN", ())
    return folder


def install(folder: Path, name: str, text: str, before: str = "") -> None:
    (folder / f"{name}.txt").write_text(text)
    tool = folder / name
    tool.write_text(f"#!/bin/sh\n{before}\ncat {folder}/{name}.txt\n")
    tool.chmod(0o755)


def test_no_tool_means_no_cards(bin_dir: Path) -> None:
    assert discover.find_cards() == () and discover.card_pools((), GIB) == ()


def test_cards_become_pools_of_equal_ones_or_stay_unknown(bin_dir: Path) -> None:
    install(bin_dir, "nvidia-smi", NVIDIA)
    install(bin_dir, "rocm-smi", ROCM)
    install(bin_dir, "npu-smi", ASCEND)
    found = discover.find_cards()
    assert [(card.stack, card.chip.id if card.chip else None) for card in found] == [
        ("cuda", "h100-sxm"),
        ("cuda", None),
        ("cann", "ascend-910b3"),
        ("cann", None),
        ("rocm", None),
        ("rocm", "mi300x"),
    ]
    pools = {pool.chip_name: pool for pool in discover.card_pools(found, 6 * GIB)}
    h100, other = pools["NVIDIA H100 80GB HBM3"], pools["NVIDIA H100 PCIe"]
    assert (h100.chip, h100.capacity_milli, h100.stack, h100.memory_bytes) == ("h100-sxm", 1000, "cuda", GIB)
    assert h100.card_memory_bytes == 81559 * MIB and all(rate.nominal_flops for rate in h100.rates)
    assert other.chip == "unknown" and not any(rate.nominal_flops for rate in other.rates)
    assert len({pool.name for pool in pools.values()}) == len(pools) == 6


def test_the_newer_tool_of_a_vendor_comes_first(bin_dir: Path) -> None:
    install(bin_dir, "amd-smi", AMD)
    install(bin_dir, "rocm-smi", ROCM)
    assert [card.found.name for card in discover.find_cards()] == ["AMD Instinct MI300X"]


@pytest.mark.parametrize(
    ("text", "before"),
    [
        ("Unable to determine the device handle for GPU0000:01:00.0: Unknown Error", ""),
        ("", ""),
        ("{}", ""),
        (NVIDIA, "exit 9"),
        (NVIDIA, "sleep 30"),
    ],
)
def test_a_tool_that_fails_hangs_or_says_something_else_names_no_card(
    bin_dir: Path, monkeypatch: pytest.MonkeyPatch, text: str, before: str
) -> None:
    monkeypatch.setattr(cards, "LIMIT_S", 0.3)
    for name in ("nvidia-smi", "npu-smi", "amd-smi", "rocm-smi", "hy-smi", "cnmon", "mx-smi"):
        install(bin_dir, name, text, before)
    found = discover.find_cards()
    assert not found
