"""What this site knows of each order below, on its own disk: it outlives the agent, and the lower hub keeps the rest.

passed/LEASE.EPOCH/
  order      the whole order and its key, written before anything is sent     placed    its id below
  cancel     why this site stops it                                           refused   why there is no order below
  outputs/   files on their way up
"""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from yunhe.core.lifecycle import EndReason
from yunhe.site.drivers.contract import LeaseKey
from yunhe.wire.api import OrderSpec


@dataclass(frozen=True, slots=True)
class Order:
    """What is submitted below: `spec` is the whole text, so that a repeat says the same. Units in 1/1000, bytes."""

    key: str
    spec: str
    pool: str  # as it is offered above
    milli: int
    memory_bytes: int
    silence_ms: int  # the lease's disconnect limit
    made_utc_ms: int
    secret: bool = False  # it has secrets, which are masked in `spec`: no disk has them

    def message(self) -> OrderSpec:
        return OrderSpec.model_validate_json(self.spec)


class Record:
    """One lease's folder. Everything here may wait for the disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, order: Order) -> None:
        """Durable from here on. Raises OSError."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sync(self.path.parent)
        self._write("order", json.dumps(asdict(order)))

    def order(self) -> Order | None:
        """None where a crash left a folder without one: nothing of it was sent."""
        text = self._read("order")
        return Order(**json.loads(text)) if text else None

    @property
    def placed(self) -> str:
        return self._read("placed")

    def note_placed(self, order_id: str) -> None:
        self._write("placed", order_id)

    @property
    def cancel(self) -> EndReason | None:
        text = self._read("cancel")
        return EndReason(text) if text else None

    def note_cancel(self, reason: EndReason) -> None:
        self._write("cancel", reason.value)

    @property
    def refused(self) -> str:
        return self._read("refused")

    def note_refused(self, why: str) -> None:
        self._write("refused", why)

    @property
    def outputs(self) -> Path:
        return self.path / "outputs"

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def _write(self, name: str, text: str) -> None:
        """Whole or not at all, also when the host fails."""
        tmp = self.path / f"{name}.tmp"
        with open(os.open(tmp, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        tmp.rename(self.path / name)
        _sync(self.path)

    def _read(self, name: str) -> str:
        try:
            return (self.path / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""


def _sync(folder: Path) -> None:
    """The names in it are on the disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class Shelf:
    """All records of this site."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def prepare(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def of(self, key: LeaseKey) -> Record:
        return Record(self._folder / str(key))

    def all(self) -> Iterator[tuple[LeaseKey, Record]]:
        for path in sorted(self._folder.iterdir()):
            key = LeaseKey.parse(path.name)
            if key is not None:
                yield key, Record(path)
