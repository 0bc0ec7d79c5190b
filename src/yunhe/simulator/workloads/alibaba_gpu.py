"""Reader of the node and task lists of Alibaba's GPU cluster trace of 2023 ("openb"; Weng et al., ATC'23)."""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TextIO

from yunhe.core.errors import InvalidInput, TooLarge
from yunhe.core.placement.packing.values import WHOLE, Need, Node

NODE_COLUMNS = ("sn", "cpu_milli", "memory_mib", "gpu", "model")
TASK_COLUMNS = ("name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli")
TIMES = ("creation_time", "deletion_time", "scheduled_time")

MAX_LINES = 10_000_000
MAX_TEXT = 256
MAX_CPU_MILLI = 100_000_000  # 100,000 cores of one host
MAX_MEMORY_MIB = 2**30  # 1 PiB of one host
MAX_CARDS = 64
MAX_TIME_S = 2**33
MIB = 2**20


@dataclass(frozen=True, slots=True)
class TraceTask:
    """One line of a task list. Times are seconds from the start of the trace, None where the list has none."""

    name: str
    need: Need
    created_s: int | None
    ended_s: int | None


def read_nodes(file: TextIO, source: str) -> Iterator[Node]:
    """Line by line. `source` names the file in errors.

    Raises InvalidInput or TooLarge naming line and field.
    """
    for line in _lines(file, source, NODE_COLUMNS):
        cards, model = line.whole("gpu", MAX_CARDS), line.text("model", may_be_empty=True)
        if cards and not model:
            line.refuse("model", "a node with cards names their model")
        cpu = line.whole("cpu_milli", MAX_CPU_MILLI)
        yield Node(line.text("sn"), cpu, line.whole("memory_mib", MAX_MEMORY_MIB) * MIB, cards, model if cards else "")


def read_tasks(file: TextIO, source: str) -> Iterator[TraceTask]:
    """Line by line. `gpu_spec` and the times may be missing as columns: any model, no times.

    Raises InvalidInput or TooLarge naming line and field.
    """
    for line in _lines(file, source, TASK_COLUMNS):
        cards, milli = line.whole("num_gpu", MAX_CARDS), line.whole("gpu_milli", WHOLE)
        if cards > 1 and milli != WHOLE:
            line.refuse("gpu_milli", "of several cards all 1000 milli are taken")
        if bool(cards) != bool(milli):
            line.refuse("gpu_milli", "cards without milli, or milli without cards")
        models = frozenset(filter(None, line.text("gpu_spec", may_be_empty=True).split("|")))
        created, ended = (line.time(column) for column in TIMES[:2])
        if created is not None and ended is not None and ended < created:
            line.refuse("deletion_time", "ends before it begins")
        cpu, memory = line.whole("cpu_milli", MAX_CPU_MILLI), line.whole("memory_mib", MAX_MEMORY_MIB) * MIB
        yield TraceTask(
            line.text("name"), Need(cpu, memory, cards, milli, models if cards else frozenset()), created, ended
        )


class _Line:
    def __init__(self, row: Mapping[str | None, object], where: str) -> None:
        self._row = row
        self._where = where

    def refuse(self, field: str, reason: str) -> None:
        raise InvalidInput(f"{self._where}: {reason}", field=field)

    def text(self, field: str, *, may_be_empty: bool = False) -> str:
        value = self._row.get(field) or ""
        if not isinstance(value, str) or len(value) > MAX_TEXT:
            raise TooLarge(f"{self._where}: more than {MAX_TEXT} characters", field=field)
        if not value and not may_be_empty:
            self.refuse(field, "is missing")
        return value

    def whole(self, field: str, most: int) -> int:
        text = self.text(field)
        # Digits and nothing else: int() would take "1_0", and float() "nan".
        if not text.isascii() or not text.removeprefix("-").isdigit():
            self.refuse(field, f"{text!r} is no whole number")
        value = int(text)
        if value < 0:
            self.refuse(field, f"{value} is negative")
        if value > most:
            raise TooLarge(f"{self._where}: {value} is more than {most}", field=field)
        return value

    def time(self, field: str) -> int | None:
        return self.whole(field, MAX_TIME_S) if self._row.get(field) else None


def _lines(file: TextIO, source: str, columns: tuple[str, ...]) -> Iterator[_Line]:
    reader = csv.DictReader(file, strict=True)
    try:
        missing = [column for column in columns if column not in (reader.fieldnames or ())]
        if missing:
            raise InvalidInput(f"{source} line 1: the columns {', '.join(columns)} are needed", field=missing[0])
        for row in reader:
            where = f"{source} line {reader.line_num}"
            if reader.line_num > MAX_LINES:
                raise TooLarge(f"{where}: at most {MAX_LINES} lines", field=columns[0])
            if None in row:
                raise InvalidInput(f"{where}: more values than columns", field=columns[-1])
            yield _Line(row, where)
    except csv.Error as error:
        raise InvalidInput(f"{source} line {reader.reader.line_num}: {error}", field=columns[0]) from error
