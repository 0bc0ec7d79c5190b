"""A lease's folder on the disk that the agent shares with the nodes. Besides what the supervisor keeps there:

    plan.json    in   the options of sbatch, and what the step needs beyond spec.json
    ranks/N.json out  use of one slot of a gang, and how it ended
    ranks/stop   out  the step's word to the ranks that they shall end

The claim is a link, made once: by a step, or by the agent when no step shall ever run (`seal`). Locks do not reach from
host to host everywhere; whether a step lives is told by its records, which change while it does.
"""

import json
import os
import shutil
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from yunhe.core.lifecycle import EndReason
from yunhe.site.drivers.contract import LeaseKey
from yunhe.site.drivers.lease_dir import LeaseDir, remove_tree
from yunhe.site.supervisor.records import Spec, write_record

SEAL = "sealed"


class Plan(TypedDict):
    """plan.json."""

    options: list[str]  # of sbatch: leases that have the same ones may go as one array
    slots: int
    cores: int  # of one slot
    pool: str
    milli: int  # units and memory of the lease, as the hub counts them
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the folder says. `pulse` changes as long as the step lives."""

    prepared: bool
    claimed: bool = False
    started: bool = False
    ended_for: str = ""  # the reason in the exit record; empty: there is none
    cancel: str = ""  # the reason in the cancel link
    pulse: tuple[int, ...] = ()


def _pulse(folder: str, names: AbstractSet[str]) -> tuple[int, ...]:
    """Of what the step writes: each change is a sign of life, whatever the clocks of the hosts say."""
    found = [len(names)]
    for name in ("usage.json", "log"):
        if name in names:
            try:
                info = os.stat(f"{folder}/{name}")
            except FileNotFoundError:
                continue
            found += [info.st_mtime_ns, info.st_size, info.st_ino]
    return tuple(found)


class LeaseFolder(LeaseDir):
    """Reads and writes; everything here may wait for the disk."""

    def __init__(self, path: Path, news: Path) -> None:
        super().__init__(path)
        self._news = news

    def fill(self, spec: Spec, plan: Plan, files: Mapping[str, str], data: Mapping[str, Path]) -> None:
        """Everything that a step needs; plan.json last, so that a folder without it was never given to Slurm."""
        self.prepare(spec, "", files, None, data)
        (self.path / "ranks").mkdir()
        (self.path / "ranks" / "stop").touch()  # a file that is there already is seen to change sooner than a new one
        write_record(str(self.path / "plan.json"), dict(plan), sync=False)

    @property
    def prepared(self) -> bool:
        return (self.path / "plan.json").exists()

    def plan(self) -> Plan:
        text: Plan = json.loads((self.path / "plan.json").read_text(encoding="utf-8"))
        return text

    def evidence(self) -> Evidence:
        """By one look at the folder: there are many leases, and the disk may be far."""
        folder = str(self.path)
        try:
            names = set(os.listdir(folder))
        except FileNotFoundError:
            return Evidence(prepared=False)
        if "plan.json" not in names:
            return Evidence(prepared=False)
        end = self.record("exit.json") if "exit.json" in names else None
        claimed = "claim" in names
        return Evidence(
            prepared=True,
            claimed=claimed,
            started="started.json" in names,
            ended_for=str(end["reason"]) if end else "",
            cancel=self.cancel_reason() if "cancel" in names else "",
            pulse=_pulse(folder, names) if claimed else (),
        )

    def cancel_reason(self) -> str:
        try:
            return os.readlink(self.path / "cancel")
        except FileNotFoundError:
            return ""

    def cancel(self, reason: EndReason) -> None:
        """Leave the reason for the step; the first one counts."""
        try:
            os.symlink(reason.value, self.path / "cancel")
        except FileExistsError:
            return

    def seal(self, reason: EndReason, detail: str) -> bool:
        """Take the claim so that no step ever runs, and record the end. False: a step has it already."""
        tmp = self.path / f"claim.agent.{os.getpid()}"
        tmp.write_text(f"0 {SEAL}\n")
        try:
            os.link(tmp, self.path / "claim")
        except FileExistsError:
            # A seal of an agent that was killed before it wrote the end is as good as our own.
            if self.seat() != SEAL:
                return False
        finally:
            tmp.unlink()
        self._record_end({"started": False, "exit_code": None, "reason": reason.value, "detail": detail[:400]})
        return True

    def lose(self, reason: EndReason, detail: str) -> None:
        """The step is gone without an exit record: write one in its name, with the last totals known."""
        if self.seat() == SEAL:
            self.seal(reason, detail)
            return
        started = (self.path / "started.json").exists()
        totals = self.record("usage.json") or {"wall_ms": 0, "cpu_ms": 0, "peak_memory_bytes": 0, "sampled": True}
        said = "; ".join(text for text in (detail, self.said()) if text)
        end = {"started": started, "exit_code": None, "reason": reason.value, "detail": said[:400]}
        self._record_end({**totals, **end})

    def said(self) -> str:
        """What the step complained of."""
        try:
            return (self.path / "supervisor.err").read_text(errors="replace").strip()[-200:]
        except FileNotFoundError:
            return ""

    def _record_end(self, end: Mapping[str, object]) -> None:
        """A link, so that the first record of an end stays: the step's own or this one."""
        tmp = self.path / f"exit.agent.{os.getpid()}"
        with open(tmp, "w", encoding="utf-8") as file:
            json.dump(end, file)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(tmp, self.path / "exit.json")
        except FileExistsError:
            return
        finally:
            tmp.unlink()

    def tell(self, key: LeaseKey) -> None:
        """Leave word for `changed`, as a step does."""
        (self._news / str(key)).touch()


def remove(path: Path) -> None:
    """Quickly where that goes; a job may have left what is harder to remove."""
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return
    except (OSError, RecursionError):
        remove_tree(path)
