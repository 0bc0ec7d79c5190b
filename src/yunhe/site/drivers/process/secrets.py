"""Secrets between the agent and a job's supervisor: in this process's memory until the supervisor has them."""

import base64
import json
import logging
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from yunhe.site.drivers.contract import LeaseKey, SpawnFailed
from yunhe.site.drivers.lease_dir import LeaseDir, remove_tree
from yunhe.site.drivers.process.sandbox import SECRETS_INSIDE

log = logging.getLogger(__name__)
MEMORY = Path("/dev/shm")  # without one


class JobSecrets:
    """`tag` is of this agent's data directory: its folders in memory are told from other agents'."""

    def __init__(self, tag: str) -> None:
        self._prefix = f"yunhe-{tag}-"
        self._held: dict[LeaseKey, str] = {}

    def hold(self, key: LeaseKey, values: Mapping[str, bytes]) -> None:
        if values:
            self._held[key] = json.dumps({name: base64.b64encode(value).decode() for name, value in values.items()})

    def drop(self, key: LeaseKey) -> None:
        """The supervisor has them, or nobody will."""
        self._held.pop(key, None)

    def line(self, folder: LeaseDir, key: LeaseKey) -> bytes:
        """What the launcher is told of a lease."""
        held = self._held.get(key)
        return (f"{folder.path}\0{held}\n" if held else f"{folder.path}\n").encode()

    def folder(self, key: LeaseKey, sandboxed: bool) -> str:
        """As the job sees it. Raises SpawnFailed where only a disk could hold it."""
        if sandboxed:
            return SECRETS_INSIDE
        if not _in_memory(MEMORY):
            raise SpawnFailed(f"this site cannot deliver secrets: no sandbox, and {MEMORY} is not in memory")
        return str(self._outside(key))

    def _outside(self, key: LeaseKey) -> Path:
        return MEMORY / f"{self._prefix}{key}"

    def remove(self, key: LeaseKey) -> None:
        """What a supervisor that was killed has left; the supervisor of a job that ends does so itself."""
        self.drop(key)
        folder = self._outside(key)
        if folder.exists():
            try:
                remove_tree(folder)
            except subprocess.CalledProcessError as error:
                log.warning("%s cannot be removed: %s", folder, error.stderr)

    def sweep(self, running: Callable[[LeaseKey], bool]) -> None:
        """After a start: folders of jobs that are gone."""
        for folder in MEMORY.glob(f"{self._prefix}*"):
            key = LeaseKey.parse(folder.name.removeprefix(self._prefix))
            if key is not None and not running(key):
                self.remove(key)


def give_up_unbegun(folder: LeaseDir) -> None:
    """A lease whose secrets were in the memory of an agent that is gone: it is as if it had never been submitted.

    Taking the claim first, so that a supervisor on its way finds it taken and does nothing.
    """
    record = folder.record("spec.json")
    if record is None or "secrets" not in record or folder.claimed:
        return
    claim = folder.path / f"claim.{os.getpid()}"
    claim.write_text(f"{os.getpid()} none\n")
    try:
        os.link(claim, folder.path / "claim")
    except FileExistsError:
        return
    finally:
        claim.unlink()
    remove_tree(folder.path)


def _in_memory(path: Path) -> bool:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, point, kind, *_ = line.split(" ")
        if point == str(path) and kind in ("tmpfs", "ramfs"):
            return True
    return False
