"""What this machine has, and which part of it the site offers."""

import math
import os
import platform
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from yunhe.core.demand import Precision
from yunhe.core.errors import InvalidInput
from yunhe.facts.load import Chip, chips
from yunhe.facts.sites import core_watts
from yunhe.site.discover import tools
from yunhe.site.settings import DriverSettings
from yunhe.wire.link import PoolReport, RateReport

# FLOP per cycle and core at FP64, dense, two fused multiply-add units: 2 units x 2 FLOP x lanes.
FP64_PER_CYCLE = (("avx512f", 32), ("fma", 16), ("avx", 8), ("asimd", 8), ("sse2", 4))
LSCPU_LIMIT_S = 5.0
GRADES = ("CPU", "Platinum", "Gold", "Silver", "Bronze")  # words that tables leave out and numbers imply


@dataclass(frozen=True, slots=True)
class Share:
    """What the site offers of this machine."""

    milli: int
    memory_bytes: int


def share(settings: DriverSettings) -> Share:
    """The stated share, or all that this process may use. Raises InvalidInput when more is stated than there is."""
    cores = usable_milli()
    memory = usable_memory()
    if settings.cores_milli is not None and settings.cores_milli > cores:
        raise InvalidInput(f"{settings.cores_milli} milli-cores stated, {cores} are usable here", field="cores_milli")
    if settings.memory_bytes is not None and settings.memory_bytes > memory:
        raise InvalidInput(f"{settings.memory_bytes} bytes stated, {memory} are usable here", field="memory_bytes")
    return Share(settings.cores_milli or cores, settings.memory_bytes or memory)


def usable_milli() -> int:
    """Cores of the affinity mask, less where this process's control group has a quota."""
    milli = len(os.sched_getaffinity(0)) * 1000
    for text in _own_files("cpu", "cpu.max"):
        quota, _, period = text.partition(" ")
        if quota.isdigit():
            milli = min(milli, int(quota) * 1000 // int(period))
    for quota, period in zip(
        _own_files("cpu", "cpu.cfs_quota_us"), _own_files("cpu", "cpu.cfs_period_us"), strict=True
    ):
        if quota.isdigit():
            milli = min(milli, int(quota) * 1000 // int(period))
    return milli


def usable_memory() -> int:
    """The machine's memory, less where this process's control group has a limit. Bytes."""
    total = re.search(r"^MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    memory = int(total.group(1)) * 1024 if total else 0
    limits = [*_own_files("memory", "memory.max"), *_own_files("memory", "memory.limit_in_bytes")]
    return min([memory, *(int(text) for text in limits if text.isdigit())])


def _own_files(controller: str, name: str) -> list[str]:
    """The contents of one control file from this process's group up to the root, both versions."""
    found = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        for base in (f"/sys/fs/cgroup/{controllers}", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"):
            folder = Path(base + path)
            while folder.is_relative_to(base):
                if (folder / name).is_file():
                    found.append((folder / name).read_text().strip())
                folder = folder.parent
            if found or controllers:
                break
    return found


def cpu_model() -> str:
    """As the hardware says it."""
    text = Path("/proc/cpuinfo").read_text()
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return (found.group(1).strip() if found else _lscpu() or platform.machine())[:120]


def _lscpu() -> str:
    """The model where the kernel does not print one (64-bit Arm)."""
    try:
        done = subprocess.run(
            ["lscpu", "-J"], capture_output=True, timeout=LSCPU_LIMIT_S, env={**os.environ, "LC_ALL": "C"}, check=True
        )
        return tools.lscpu_model(done.stdout.decode(errors="replace"))
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError):
        return ""


def nominal_fp64_flops() -> int | None:
    """FLOP/s of one core: cycles per second x lanes of the widest vector unit. None where the clock is unknown."""
    text = Path("/proc/cpuinfo").read_text()
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    words = set(flags.group(1).split()) if flags else set()
    per_cycle = next((flop for flag, flop in FP64_PER_CYCLE if flag in words), 0)
    fastest = Path("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq")
    if fastest.is_file():
        hertz = int(fastest.read_text()) * 1000
    else:
        clock = re.search(r"^cpu MHz\s*:\s*([\d.]+)$", text, re.MULTILINE)
        hertz = int(float(clock.group(1)) * 1e6) if clock else 0
    return hertz * per_cycle or None


def catalogued(model: str) -> Chip | None:
    """The catalogue's entry for exactly this CPU model; a near one would bring wrong figures.

    "AMD EPYC 9654 96-Core Processor" is "EPYC 9654 (96c)"; "AMD EPYC 9654P ..." is not.
    """
    words = [word for word in re.sub(r"\((?:R|TM|C)\)|@.*", " ", model).split() if word not in GRADES]
    for chip in chips():
        name = re.sub(r"\(.*\)", "", chip.name).split()
        if chip.kind == "cpu" and any(words[at : at + len(name)] == name for at in range(len(words))):
            return chip
    return None


def cpu_pool(settings: DriverSettings, offered: Share) -> PoolReport:
    """The CPU pool with nominal rates per core: of the catalogue, else from the clock and the vector units."""
    model = cpu_model()
    chip = catalogued(model)
    watts, source = _watts(settings, chip)
    return PoolReport(
        name=settings.pool,
        kind_of_unit="core",
        chip=chip.id if chip else "unknown",
        chip_name=model,
        stack="cpu",
        capacity_milli=offered.milli,
        memory_bytes=offered.memory_bytes,
        max_slot_milli=offered.milli,
        watts_per_unit=watts,
        watts_source=source,
        rates=tuple(
            RateReport(precision=precision, nominal_flops=_nominal(chip, precision))
            for precision in (Precision.FP64, Precision.FP32)
        ),
    )


def _nominal(chip: Chip | None, precision: Precision) -> int | None:
    """FLOP/s of one core; FP32 has twice the lanes of FP64."""
    if chip and chip.cores and (rate := chip.rate(precision)):
        return rate // chip.cores
    fp64 = nominal_fp64_flops()
    return fp64 and fp64 * (2 if precision is Precision.FP32 else 1)


def _watts(settings: DriverSettings, chip: Chip | None) -> tuple[int, str]:
    """IT power of one core at full load, and where the figure comes from."""
    if settings.watts_per_core is not None:
        return settings.watts_per_core, "stated by the site"
    if chip and chip.cores and chip.watts:
        text = f"{chip.name}: {chip.watts} W / {chip.cores} cores, doubled for the rest of the server ({chip.source})"
        return math.ceil(2 * chip.watts / chip.cores), text[:200]
    watts, source = core_watts()
    return watts, source[:200]
