"""What the kernel says about processes."""

import ctypes
import os

from yunhe.site.supervisor.records import read_text

PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")
PR_SET_DUMPABLE = 4
libc = ctypes.CDLL(None, use_errno=True)


def keep_memory_private() -> None:
    """No core dump, and no other process of this user may look into this one, nor into its forks until they exec."""
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def counter(path: str, prefix: str) -> int | None:
    """One number of a kernel file: the line starting with `prefix`, or the only one; None where it cannot be read."""
    for line in (read_text(path) or "").splitlines():
        if line.startswith(prefix):
            value = line[len(prefix) :].split()  # "123" or "123 kB"
            return int(value[0]) if value and value[0].isdigit() else None
    return None


def tree(pid: int) -> list[int]:
    """All descendants of `pid`, children before grandchildren."""
    found: list[int] = []
    queue = [pid]
    while queue:
        parent = queue.pop()
        try:
            tasks = os.listdir(f"/proc/{parent}/task")
        except OSError:
            continue
        for task in tasks:
            children = read_text(f"/proc/{parent}/task/{task}/children") or ""
            pids = [int(child) for child in children.split()]
            found.extend(pids)
            queue.extend(pids)
    return found


def send(pid: int, number: int) -> bool:
    """False: it belongs to another user."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return True
