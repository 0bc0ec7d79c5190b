"""What can hold a job on this host, found out by trying."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from yunhe.site.drivers.contract import Isolation
from yunhe.site.drivers.process import cgroups, sandbox
from yunhe.site.supervisor.leftovers import FIRST_UID as FIRST_UID

PROBE_BYTES = 64 * 1024 * 1024
PROBE_SECONDS = 20


@dataclass(frozen=True, slots=True)
class Hold:
    """`bwrap` None: no sandbox. `layout` None: no kernel limits. `drop_uid`: the agent is root, jobs are not.

    `python`: an interpreter that jobs can run; None where their user can reach none.
    """

    bwrap: str | None
    layout: cgroups.Layout | None
    drop_uid: bool
    python: str | None
    why_not: tuple[str, ...] = ()

    @property
    def isolation(self) -> Isolation:
        """Tiers as in docs/isolation.md. 2 needs both halves; a job that is only kept apart, by a sandbox or a user of
        its own, can still take its neighbours' memory."""
        tier = 2 if self.bwrap and self.layout else 1 if self.bwrap or self.drop_uid else 0
        limits = self.layout.text if self.layout else "sampled limits"
        walls = "bubblewrap" if self.bwrap else "a user per job, no sandbox" if self.drop_uid else "process groups"
        text = f"{walls} + {limits}"
        return Isolation(tier, "; ".join((text, *self.why_not))[:200])


def probe(site: str, data_dir: Path, wanted: str, expose: Sequence[Path]) -> Hold:
    """Really start a sandboxed program and really limit one. `wanted`: "auto", "sandbox" or "processes"."""
    root = os.geteuid() == 0
    reasons: list[str] = []
    bwrap = None
    if wanted != "processes":
        bwrap, reason = _try_sandbox(data_dir, expose, FIRST_UID if root else None)
        if reason:
            reasons.append(reason)
    layout = None
    if wanted == "auto":
        layout, reason = _try_cgroups(site)
        if reason:
            reasons.append(reason)
    python = sys.executable if bwrap else _python_for(FIRST_UID if root else None)
    return Hold(bwrap, layout, root, python, tuple(reasons))


def _python_for(uid: int | None) -> str | None:
    """This interpreter may lie in a folder that only its owner may enter."""
    for path in (sys.executable, shutil.which("python3", path="/usr/local/bin:/usr/bin:/bin")):
        try:
            if (
                path
                and not subprocess.run(
                    [path, "-I", "-S", "-c", ""], user=uid, group=uid, cwd="/", timeout=PROBE_SECONDS, check=False
                ).returncode
            ):
                return path
        except OSError:
            continue
    return None


def _try_sandbox(data_dir: Path, expose: Sequence[Path], uid: int | None) -> tuple[str | None, str]:
    path = shutil.which("bwrap")
    if path is None:
        return None, "no bubblewrap (apt-get install bubblewrap)"
    with tempfile.TemporaryDirectory(dir=data_dir) as folder:
        lease = Path(folder)
        (lease / "job").mkdir()
        (lease / "env").write_text("")
        (lease / "env").chmod(0o444)
        words = [
            *sandbox.argv(path, lease, expose, data_dir, sandbox.Wants(PROBE_BYTES)),
            "--",
            *sandbox.inside(["true"], uid, 64),
        ]
        try:
            done = subprocess.run(words, capture_output=True, timeout=PROBE_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            return None, f"bubblewrap: {error}"
    if done.returncode:
        return None, f"bubblewrap: {done.stderr.decode(errors='replace').strip()[:80]}"
    return path, ""


def _try_cgroups(site: str) -> tuple[cgroups.Layout | None, str]:
    layout = cgroups.find(site)
    if layout is None:
        return None, "no cgroup can be made here"
    group = layout.lease("probe", PROBE_BYTES, 100, 16)
    try:
        for folder in group["dirs"]:
            os.makedirs(folder, exist_ok=True)
        for path, value in group["limits"]:
            Path(path).write_text(value)
        join = "".join(f"echo 0 > {folder}/cgroup.procs; " for folder in group["dirs"])
        done = subprocess.run(["/bin/sh", "-ec", join], capture_output=True, timeout=PROBE_SECONDS, check=False)
        layout.remove("probe")
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, f"cgroups: {error}"[:80]
    if done.returncode:
        return None, f"cgroups: {done.stderr.decode(errors='replace').strip()[:80]}"
    return layout, ""
