"""Control groups of the process driver: where they can be made here, and what one lease's group looks like.

Version 2, version 1 and the mix of both (limits in version 1, kill and CPU time in version 2) are used as found.
Nothing is guessed by name: a layout counts only after `probe` made a group, set limits and ran a process in it.
"""

import errno
import os
from dataclasses import dataclass
from pathlib import Path

from yunhe.site.supervisor.records import Cgroup

PERIOD_US = 100_000  # the kernel's default period of a CPU quota
MIN_QUOTA_US = 1_000
V1_CONTROLLERS = ("memory", "cpu", "pids")
V2_CONTROLLERS = frozenset({"memory", "cpu", "pids"})


@dataclass(frozen=True, slots=True)
class Layout:
    """Folders in which a lease's groups are made: one per version 1 controller, one of version 2 (or none)."""

    text: str
    v1: tuple[tuple[str, Path], ...]  # controller, the site's folder
    v2: Path | None
    v2_limits: bool  # version 2 has the controllers

    def lease(self, name: str, memory_bytes: int, milli: int, pids: int) -> Cgroup:
        """The groups of one lease, for the supervisor to make, fill and remove."""
        dirs = [str(base / name) for _, base in self.v1]
        v1 = {controller: base / name for controller, base in self.v1}
        limits: list[tuple[str, str]] = []
        v2 = self.v2 / name if self.v2 else None
        quota = max(MIN_QUOTA_US, milli * PERIOD_US // 1000)
        if v2:
            dirs.append(str(v2))
        if self.v2_limits and v2:
            limits = [
                (f"{v2}/memory.max", str(memory_bytes)),
                (f"{v2}/cpu.max", f"{quota} {PERIOD_US}"),
                (f"{v2}/pids.max", str(pids)),
                *((str(path), value) for path, value in _swap_off(v2)),
            ]
            oom, peak = (f"{v2}/memory.events", "oom_kill "), [f"{v2}/memory.peak"]
        else:
            limits = [
                (f"{v1['memory']}/memory.limit_in_bytes", str(memory_bytes)),
                (f"{v1['cpu']}/cpu.cfs_period_us", str(PERIOD_US)),
                (f"{v1['cpu']}/cpu.cfs_quota_us", str(quota)),
                (f"{v1['pids']}/pids.max", str(pids)),
            ]
            oom, peak = (
                (f"{v1['memory']}/memory.oom_control", "oom_kill "),
                [f"{v1['memory']}/memory.max_usage_in_bytes"],
            )
        cpu = (f"{v2}/cpu.stat", "usage_usec ", 1_000) if v2 else (f"{v1['cpuacct']}/cpuacct.usage", "", 1_000_000)
        return Cgroup(
            dirs=dirs,
            limits=limits,
            procs=f"{dirs[0]}/cgroup.procs",
            kill=f"{v2}/cgroup.kill" if v2 and (v2.parent / "cgroup.kill").exists() else None,
            oom=oom,
            cpu=cpu,
            peak=peak,
        )

    def remove(self, name: str) -> None:
        """Kill what is left in a lease's groups and remove them. Missing ones are fine."""
        for path in (base / name for base in (*(base for _, base in self.v1), *((self.v2,) if self.v2 else ()))):
            for pid in pids_of(path):
                _kill(pid)
            try:
                path.rmdir()
            except FileNotFoundError:
                continue

    def sweep(self) -> None:
        """Remove groups without processes: seats of a launcher that was killed."""
        for base in (*(base for _, base in self.v1), *((self.v2,) if self.v2 else ())):
            for path in base.glob("*"):  # nothing where the folder itself is gone
                if path.is_dir() and not pids_of(path):
                    try:
                        path.rmdir()
                    except OSError as error:
                        if error.errno not in (errno.EBUSY, errno.ENOENT):
                            raise

    def remove_site(self) -> None:
        """The site's own folders, where no lease is left in them."""
        for path in (*(base for _, base in self.v1), *((self.v2,) if self.v2 else ())):
            try:
                path.rmdir()
            except OSError as error:
                if error.errno not in (errno.EBUSY, errno.ENOENT, errno.ENOTEMPTY):
                    raise


def _swap_off(v2: Path) -> list[tuple[Path, str]]:
    # Without swap accounting the file does not exist, and then there is no swap to limit.
    return [(v2 / "memory.swap.max", "0")] if (v2.parent / "memory.swap.max").exists() else []


def pids_of(path: Path) -> list[int]:
    try:
        return [int(pid) for pid in (path / "cgroup.procs").read_text().split()]
    except FileNotFoundError:
        return []


def _kill(pid: int) -> None:
    try:
        os.kill(pid, 9)
    except ProcessLookupError:
        return


def _mounts(mountinfo: str) -> dict[str, tuple[Path, str]]:
    """Controller (or "" for version 2) -> (mount point, the part of the hierarchy that is mounted)."""
    found: dict[str, tuple[Path, str]] = {}
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        fields, kind = left.split(), right.split()
        if kind[0] == "cgroup2":
            found[""] = (Path(fields[4]), fields[3])
        elif kind[0] == "cgroup":
            for controller in kind[2].split(","):
                found[controller] = (Path(fields[4]), fields[3])
    return found


def own_folders(mountinfo: str, own: str) -> dict[str, Path]:
    """This process's own group per controller ("" for version 2), as a folder."""
    mounts, folders = _mounts(mountinfo), {}
    for line in own.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            if controller in mounts:
                point, root = mounts[controller]
                inside = path.removeprefix(root.rstrip("/")) if root != "/" else path
                folders[controller] = point / inside.lstrip("/")
    return folders


def find(site: str) -> Layout | None:
    """A layout that could work here, with the site's own folders made; None: no cgroup can be written.

    Raises nothing for missing rights: not being allowed is an answer.
    """
    folders = own_folders(Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text())
    return layout_in(folders, site)


def layout_in(folders: dict[str, Path], site: str) -> Layout | None:
    """`folders`: this process's own group per controller, "" for version 2."""
    try:
        v2 = folders.get("")
        if v2 and V2_CONTROLLERS <= set((v2 / "cgroup.controllers").read_text().split()):
            return _v2_layout(v2, site)
        if not all(controller in folders for controller in V1_CONTROLLERS):
            return None
        names = list(V1_CONTROLLERS)
        if v2 is None:
            names.append("cpuacct")
        bases = tuple((name, _made(folders[name] / site)) for name in names)
        if v2 is None:
            return Layout("cgroup v1", bases, None, v2_limits=False)
        return Layout("cgroup v1", bases, _made(v2 / site), v2_limits=False)
    except OSError:
        return None


def _made(path: Path) -> Path:
    path.mkdir(exist_ok=True)
    return path


def _v2_layout(own: Path, site: str) -> Layout:
    """Version 2 gives controllers only to groups without processes of their own: the agent moves one level down."""
    enable = " ".join(f"+{name}" for name in sorted(V2_CONTROLLERS))
    if own.parent != own and pids_of(own) == [os.getpid()]:
        (_made(own / "agent") / "cgroup.procs").write_text(str(os.getpid()))
    (own / "cgroup.subtree_control").write_text(enable)
    base = _made(own / site)
    (base / "cgroup.subtree_control").write_text(enable)
    return Layout("cgroup v2", (), base, v2_limits=True)


def share_limits(layout: Layout, memory_bytes: int, milli: int) -> None:
    """Hold all leases of the site together to its stated share of the machine."""
    quota = max(MIN_QUOTA_US, milli * PERIOD_US // 1000)
    if layout.v2_limits and layout.v2:
        (layout.v2 / "memory.max").write_text(str(memory_bytes))
        (layout.v2 / "cpu.max").write_text(f"{quota} {PERIOD_US}")
        return
    for controller, base in layout.v1:
        if controller == "memory":
            (base / "memory.limit_in_bytes").write_text(str(memory_bytes))
        elif controller == "cpu":
            (base / "cpu.cfs_quota_us").write_text(str(quota))
