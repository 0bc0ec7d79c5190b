"""A lease's folder on the shared disk. Besides what every driver of a cluster keeps there:

plan.json    in   the options of sbatch, and what the step needs beyond spec.json
ranks/N.json out  use of one slot of a gang, and how it ended
ranks/stop   out  the signal that the step has the ranks give to their processes, as a number
"""

import json
import shutil
from pathlib import Path
from typing import TypedDict

from yunhe.site.drivers.lease_dir import remove_tree
from yunhe.site.drivers.nodes.folder import PLAN, LeaseFolder


class Plan(TypedDict):
    """plan.json."""

    options: list[str]  # of sbatch: leases that have the same ones may go as one array
    slots: int
    cores: int  # of one slot
    pool: str
    milli: int  # units and memory of the lease, as the hub counts them
    memory_bytes: int


class StepFolder(LeaseFolder):
    """Of a lease that a step supervises."""

    def furnish(self) -> None:
        """Ranks need room for their records."""
        (self.path / "ranks").mkdir()
        (self.path / "ranks" / "stop").touch()  # a file that is there already is seen to change sooner than a new one

    def plan(self) -> Plan:
        text: Plan = json.loads((self.path / PLAN).read_text(encoding="utf-8"))
        return text


def remove(path: Path) -> None:
    """Quickly where that goes; a job may have left what is harder to remove."""
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return
    except (OSError, RecursionError):
        remove_tree(path)
