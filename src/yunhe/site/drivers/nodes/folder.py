"""A lease's folder on the disk that the agent shares with the nodes. Besides what the supervisor keeps there:

    plan.json    in   how the engine is asked for it; its presence says that it may have been asked

The claim is a link, made once: by a supervisor, or by the agent when none shall ever run (`seal`). Locks do not reach
from host to host everywhere; whether a supervisor lives is told by its records, which change while it does.
"""

import json
import os
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from yunhe.core.lifecycle import EndReason
from yunhe.site.drivers.contract import Job, LeaseKey
from yunhe.site.drivers.lease_dir import LeaseDir
from yunhe.site.drivers.saved import Saved
from yunhe.site.supervisor.records import Spec, write_record

SEAL = "sealed"
PLAN = "plan.json"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the folder says. `pulse` changes as long as the supervisor lives."""

    prepared: bool
    claimed: bool = False
    started: bool = False
    ended_for: str = ""  # the reason in the exit record; empty: there is none
    cancel: str = ""  # the reason in the cancel link
    pulse: tuple[int, ...] = ()


def _pulse(folder: str, names: AbstractSet[str]) -> tuple[int, ...]:
    """Of what the supervisor writes: each change is a sign of life, whatever the clocks of the hosts say."""
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

    def fill(self, spec: Spec, plan: Mapping[str, object], job: Job) -> None:
        """Everything that a supervisor needs; the plan last: a folder without it was never given to the engine."""
        saved = Saved(job.lease.checkpoint.folder, job.checkpoint) if job.lease.checkpoint else None
        self.prepare(spec, "", job.files, None, job.data, saved)
        self.furnish(plan)
        write_record(str(self.path / PLAN), plan, sync=False)

    def furnish(self, plan: Mapping[str, object]) -> None:
        """What else there has to be before the engine is asked."""

    @property
    def prepared(self) -> bool:
        return (self.path / PLAN).exists()

    def plan(self) -> Mapping[str, object]:
        value: dict[str, object] = json.loads((self.path / PLAN).read_text(encoding="utf-8"))
        return value

    def evidence(self) -> Evidence:
        """By one look at the folder: there are many leases, and the disk may be far."""
        folder = str(self.path)
        try:
            names = set(os.listdir(folder))
        except FileNotFoundError:
            return Evidence(prepared=False)
        if PLAN not in names:
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

    def notice_ms(self) -> int:
        """Time that the job has to save its work before a preemption stops it."""
        notice = (self.record("spec.json") or {}).get("notice")
        return int(notice[1]) if isinstance(notice, list) else 0

    def cancel_reason(self) -> str:
        try:
            return os.readlink(self.path / "cancel")
        except FileNotFoundError:
            return ""

    def cancel(self, reason: EndReason) -> None:
        """Leave the reason for the supervisor; the first one counts."""
        try:
            os.symlink(reason.value, self.path / "cancel")
        except FileExistsError:
            return

    def seal(self, reason: EndReason, detail: str) -> bool:
        """Take the claim so that no job ever runs, and record the end. False: a supervisor has it already."""
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

    def lose(self, reason: EndReason, detail: str, ran_ms: Callable[[int], int] | None = None) -> None:
        """The supervisor is gone without an exit record: write one in its name, with the last totals known. `ran_ms`:
        how long it ran since its start (UTC ms) by the engine's accounts; beyond its run limit nothing counts."""
        if self.seat() == SEAL:
            self.seal(reason, detail)
            return
        before, spec = self.status(), self.record("spec.json")
        totals = self.record("usage.json") or {"wall_ms": 0, "cpu_ms": 0, "peak_memory_bytes": 0, "sampled": True}
        if before.started_utc_ms and spec and ran_ms:
            accounted_ms = min(ran_ms(before.started_utc_ms), int(str(spec["run_limit_ms"])))
            totals["wall_ms"] = max(before.totals.wall_ms if before.totals else 0, accounted_ms)
        said = "; ".join(text for text in (detail, self.said()) if text)
        end = {"started": before.started, "exit_code": None, "reason": reason.value, "detail": said[:400]}
        self._record_end({**totals, **end})

    def said(self) -> str:
        """What the supervisor complained of."""
        try:
            return (self.path / "supervisor.err").read_text(errors="replace").strip()[-200:]
        except FileNotFoundError:
            return ""

    def _record_end(self, end: Mapping[str, object]) -> None:
        """A link, so that the first record of an end stays: the supervisor's own or this one."""
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

    def announce(self, key: LeaseKey) -> None:
        """Leave word for `changed`, as a supervisor does."""
        (self._news / str(key)).touch()
