"""A lease's folder on the shared disk. Besides what every driver of a cluster keeps there:

plan.json    in   the options of sbatch, and what the step needs beyond spec.json
ranks/N.json out  use of one slot of a gang, and how it ended
ranks/stop   out  the signal that the step has the ranks give to their processes, as a number
"""

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

from yunhe.site.drivers.lease_dir import remove_tree
from yunhe.site.drivers.nodes.folder import PLAN, LeaseFolder
from yunhe.site.supervisor.tenant import CLEAN

CLEAR = 'chmod -R u+rwX "$@"; find "$@" -mindepth 1 -delete'
CLEAR_S = 60.0


class Plan(TypedDict):
    """plan.json."""

    options: list[str]  # of sbatch: leases that have the same ones may go as one array
    slots: int
    cores: int  # of one slot
    pool: str
    milli: int  # units and memory of the lease, as the hub counts them
    memory_bytes: int
    become: list[str]  # in front of a command that shall run as the tenant's account; empty: there is none
    gid: int  # the account's group


class StepFolder(LeaseFolder):
    """Of a lease that a step supervises."""

    mode = 0o700

    def furnish(self, plan: Mapping[str, object]) -> None:
        """Ranks need room for their records. A tenant's account may enter, and write to `job` and `tmp` alone."""
        (self.path / "ranks").mkdir()
        (self.path / "ranks" / "stop").touch()  # a file that is there already is seen to change sooner than a new one

        if plan["become"]:
            hand_over(self.path, int(str(plan["gid"])))

    def plan(self) -> Plan:
        text: Plan = json.loads((self.path / PLAN).read_text(encoding="utf-8"))
        return text

    def become(self) -> list[str]:
        """Empty for a lease without a plan, which has no job either."""
        try:
            return self.plan()["become"]
        except (FileNotFoundError, KeyError):  # KeyError: of an agent before this version
            return []


def hand_over(path: Path, gid: int) -> None:
    """To a group, by a user who is in it. What is made there later is of that group too. Raises OSError."""
    for name in ("job", "tmp"):
        for folder, _, names in os.walk(path / name):
            os.chown(folder, -1, gid)
            os.chmod(folder, 0o2770)
            for file in (os.path.join(folder, name) for name in names):
                mode = stat.S_IMODE(os.stat(file).st_mode) & 0o700
                os.chown(file, -1, gid)
                os.chmod(file, mode | mode >> 3)
    for inner in (path / "ranks", path):  # itself last: until then it is closed
        os.chown(inner, -1, gid)
        os.chmod(inner, 0o2710)


def remove(path: Path, become: Sequence[str] = ()) -> None:
    """Quickly where that goes; a job may have left what is harder to remove, or what only its own user can."""
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return
    except (OSError, RecursionError):
        if become:
            words = [*become, "sh", "-c", CLEAR, "sh", str(path / "job"), str(path / "tmp")]
            subprocess.run(words, env=CLEAN, capture_output=True, check=False, timeout=CLEAR_S)
        remove_tree(path)
