"""Leases that go to Slurm together. On the shared disk, `batches/ID/` holds

    leases     line i names the lease that element i of the job array runs; a batch of one is a plain job
    job        the number that Slurm gave, for people
    slurm.out  what Slurm itself says when a step cannot be started

ID is the name of the first lease; of its second batch, when Slurm lost the first one, with a number.
"""

import os
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

from yunhe.site.drivers.contract import LeaseKey
from yunhe.site.drivers.slurm.folder import remove


class Batches:
    """Everything but `members` and `names` may wait for the disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._members: dict[str, tuple[LeaseKey, ...]] = {}
        self._names: dict[LeaseKey, tuple[str, ...]] = {}  # the newest last

    def load(self, known: AbstractSet[LeaseKey]) -> None:
        """What an agent before left; what it had forgotten goes."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in sorted(os.listdir(self._folder)):
            try:
                lines = (self._folder / name / "leases").read_text().split()
            except FileNotFoundError:  # an agent that was killed had not given it to Slurm
                lines = []
            keys = tuple(key for line in lines if (key := LeaseKey.parse(line)) is not None)
            if known.isdisjoint(keys):
                remove(self._folder / name)
            else:
                self._keep(name, keys)

    def _keep(self, name: str, keys: tuple[LeaseKey, ...]) -> None:
        self._members[name] = keys
        for key in keys:
            self._names[key] = (*self._names.get(key, ()), name)

    def path(self, name: str) -> Path:
        return self._folder / name

    def members(self, name: str) -> Sequence[LeaseKey]:
        """In the order of their indices; empty for a batch that is not known."""
        return self._members.get(name, ())

    def names(self, key: LeaseKey) -> tuple[str, ...]:
        return self._names.get(key, ())

    def make(self, keys: Sequence[LeaseKey]) -> str:
        name, number = str(keys[0]), 1
        while name in self._members:
            number += 1
            name = f"{keys[0]}~{number}"
        path = self.path(name)
        path.mkdir(mode=0o700)
        (path / "leases").write_text("".join(f"{key}\n" for key in keys))
        self._keep(name, tuple(keys))
        return name

    def note_number(self, name: str, number: int) -> None:
        (self.path(name) / "job").write_text(f"{number}\n")

    def said(self, key: LeaseKey) -> str:
        """What Slurm complained of, of the newest batch of the lease."""
        for name in self.names(key)[-1:]:
            try:
                return (self.path(name) / "slurm.out").read_text(errors="replace").strip()[-200:]
            except FileNotFoundError:
                return ""
        return ""

    def forget(self, key: LeaseKey) -> None:
        """A batch of which no lease is known any more goes; without it, none of its elements starts anything."""
        for name in self._names.pop(key, ()):
            if not any(name in self._names.get(other, ()) for other in self.members(name)):
                self._members.pop(name, None)
                remove(self.path(name))
