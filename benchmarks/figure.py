"""What a benchmark promises (`budgets.yaml`) and what it found."""

import os
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import yaml

HERE = Path(__file__).parent
BUDGETS = HERE / "budgets.yaml"
LATEST = HERE / "results" / "latest.json"

Better = Literal["higher", "lower"]
Extra = str | int | float | None


@dataclass(frozen=True, slots=True)
class Budget:
    """One row of `budgets.yaml`. `budget` must be met, `goal` is what comes next, both in `unit`."""

    id: str
    measure: str
    unit: str
    better: Better
    budget: float
    goal: float
    calibration: str  # where and how the budget was found sensible
    peer: str  # what others do, measured beside it where it can be installed

    def met(self, value: float, bound: float) -> bool:
        return value >= bound if self.better == "higher" else value <= bound


@dataclass(slots=True)
class Figure:
    """What was found. `value` None: not measured, and `note` says why; `extra` are further figures beside it."""

    value: float | None
    note: str = ""
    extra: dict[str, Extra] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PeerFigure:
    """The same measure of a peer, in the same run. None: not measured, and `note` says why."""

    value: float | None
    note: str = ""


def load_budgets(path: Path = BUDGETS) -> dict[str, Budget]:
    """By id, in the order of the file."""
    rows = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {row["id"]: Budget(**row) for row in rows}


def as_row(budget: Budget, found: Figure, peer: PeerFigure, seed: int, machine: str) -> dict[str, Extra]:
    """One object of `results/latest.json`."""
    value = None if found.value is None else _rounded(found.value)
    met = None if value is None else budget.met(value, budget.budget)
    reached = None if value is None else budget.met(value, budget.goal)
    return {
        "id": budget.id,
        "value": value,
        "unit": budget.unit,
        "better": budget.better,
        "budget": budget.budget,
        "goal": budget.goal,
        "peer": budget.peer,
        "peer_value": None if peer.value is None else _rounded(peer.value),
        "seed": seed,
        "machine": machine,
        "budget_met": met,
        "goal_met": reached,
        "note": found.note,
        "peer_note": peer.note,
        **found.extra,
    }


def _rounded(value: float) -> float:
    return round(value, 3 if abs(value) < 10 else 1)


def machine() -> str:
    """What the figures were taken on: processor, cores, memory, system."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    system = f"{platform.system()} {platform.release()}"
    return f"{model}, {cores} cores, {memory:.0f} GiB, {system}, Python {platform.python_version()}"
