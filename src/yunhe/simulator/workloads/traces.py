"""Public traces, read line by line as they lie; plain or gzip.

| format   | columns                                            | origin                                     |
|----------|----------------------------------------------------|--------------------------------------------|
| venus    | job_id, arrival_s, service_sec, gpu_count          | Helios cluster Venus (SC'21)               |
| pai2020  | job_id, arrival_s, service_sec, gpu_count          | Alibaba PAI 2020 (NSDI'22)                 |
| philly   | timestamp, duration (s), num_gpus                  | Microsoft Philly (ATC'19); not in order    |
| azure    | TIMESTAMP, ContextTokens, GeneratedTokens          | Azure LLM inference 2023 (ISCA'24)         |
| mooncake | JSON lines: timestamp (ms), input_length, output_length | Mooncake (FAST'25)                    |

Further columns are passed over.  A line that is wrong is refused with its number and column.
"""

import csv
import gzip
import json
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TextIO

from yunhe.core.errors import InvalidInput
from yunhe.simulator.workloads.raw import MAX_AT_MS, MAX_CARDS, MAX_RUN_MS, RawJob

MAX_LINE_CHARS = 1_000_000
MAX_TOKENS = 10_000_000  # of one request

Row = Mapping[str, object]


def read_trace(kind: str, path: Path) -> Iterator[RawJob]:
    """The jobs of a trace in the order of its lines, one in memory at a time.

    Arrivals are ms since the first line (philly, azure) or since the trace's own zero.  Raises InvalidInput with the
    line and column, and where the file cannot be read.
    """
    columns, job = _FORMATS[kind]
    first_ms: int | None = None
    with _opened(path) as file:
        rows = _json_rows(file, path) if kind == "mooncake" else _csv_rows(file, path, columns)
        for line, row in rows:
            found = job(_Line(path, line, row))
            if kind in _BY_CLOCK:
                first_ms = found.at_ms if first_ms is None else first_ms
                found = found._replace(at_ms=found.at_ms - first_ms)
            yield found


class _Line:
    """The values of one line, checked as they are asked for."""

    def __init__(self, path: Path, number: int, row: Row) -> None:
        self._path = path
        self._number = number
        self._row = row

    def refuse(self, column: str, message: str) -> InvalidInput:
        return InvalidInput(f"{message} (line {self._number} of {self._path.name})", field=column)

    def number(self, column: str, most: float, least: float = 0.0) -> float:
        given = self._row.get(column)
        if given is None or isinstance(given, bool | list | dict):
            raise self.refuse(column, "is missing" if given is None else "is not a number")
        try:
            value = float(str(given))
        except ValueError as error:
            raise self.refuse(column, f"{str(given)[:40]!r} is not a number") from error
        if not math.isfinite(value):
            raise self.refuse(column, f"{str(given)[:40]!r} is not a finite number")
        if value < 0:
            raise self.refuse(column, f"{str(given)[:40]} is negative")
        if not least <= value <= most:
            bound = f"at most {most:,.0f}" if value > most else f"at least {least:,.0f}"
            raise self.refuse(column, f"{str(given)[:40]} is out of range: it is {bound}")
        return value

    def whole(self, column: str, most: int, least: int = 0) -> int:
        value = self.number(column, most, least)
        if value != int(value):
            raise self.refuse(column, f"{value} is not a whole number")
        return int(value)

    def ms(self, column: str, most_ms: int) -> int:
        """Seconds, as ms."""
        return round(self.number(column, most_ms / 1000) * 1000)

    def moment_ms(self, column: str) -> int:
        text = str(self._row.get(column) or "")
        try:
            # More than microseconds are no Python's date; the trace has 100 ns.
            at = datetime.fromisoformat(text.strip()[:26])
        except ValueError as error:
            raise self.refuse(column, f"{text[:40]!r} is not a date and time") from error
        return round((at.replace(tzinfo=None) - datetime(1970, 1, 1)).total_seconds() * 1000)


def _seconds(line: _Line) -> RawJob:
    run_ms = line.ms("service_sec", MAX_RUN_MS)
    return RawJob(line.ms("arrival_s", MAX_AT_MS), line.whole("gpu_count", MAX_CARDS, 1), max(1, run_ms))


def _philly(line: _Line) -> RawJob:
    run_ms = line.ms("duration", MAX_RUN_MS)
    return RawJob(line.moment_ms("timestamp"), line.whole("num_gpus", MAX_CARDS, 1), max(1, run_ms))


def _azure(line: _Line) -> RawJob:
    tokens = line.whole("ContextTokens", MAX_TOKENS) + line.whole("GeneratedTokens", MAX_TOKENS)
    return RawJob(line.moment_ms("TIMESTAMP"), 1, 1, tokens)


def _mooncake(line: _Line) -> RawJob:
    tokens = line.whole("input_length", MAX_TOKENS) + line.whole("output_length", MAX_TOKENS)
    return RawJob(line.whole("timestamp", MAX_AT_MS), 1, 1, tokens)


_BY_CLOCK = frozenset({"philly", "azure"})
_FORMATS: dict[str, tuple[Sequence[str], Callable[[_Line], RawJob]]] = {
    "venus": (("arrival_s", "service_sec", "gpu_count"), _seconds),
    "pai2020": (("arrival_s", "service_sec", "gpu_count"), _seconds),
    "philly": (("timestamp", "duration", "num_gpus"), _philly),
    "azure": (("TIMESTAMP", "ContextTokens", "GeneratedTokens"), _azure),
    "mooncake": (("timestamp", "input_length", "output_length"), _mooncake),
}


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    try:
        raw = path.open("rb")
    except OSError as error:
        raise InvalidInput(f"cannot be read: {error.strerror}", field=str(path)) from error
    with raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        try:
            if packed:
                with gzip.open(raw, "rt", encoding="utf-8", newline="") as file:
                    yield file
            else:
                with path.open("r", encoding="utf-8", newline="") as file:
                    yield file
        except (UnicodeDecodeError, EOFError, zlib.error, OSError) as error:
            raise InvalidInput(f"cannot be read: {error}", field=str(path)) from error


def _lines(file: TextIO, path: Path) -> Iterator[str]:
    """None longer than a line may be, whatever the file is."""
    number = 0
    while text := file.readline(MAX_LINE_CHARS + 1):
        number += 1
        if len(text) > MAX_LINE_CHARS:
            raise InvalidInput(f"has more than {MAX_LINE_CHARS:,} characters in line {number}", field=str(path))
        yield text


def _csv_rows(file: TextIO, path: Path, columns: Sequence[str]) -> Iterator[tuple[int, Row]]:
    csv.field_size_limit(MAX_LINE_CHARS)
    reader = csv.DictReader(_lines(file, path))
    try:
        missing = [name for name in columns if name not in (reader.fieldnames or ())]
        if missing:
            have = ", ".join(reader.fieldnames or ()) or "nothing"
            raise InvalidInput(f"{path.name} has no such column (line 1); it has {have[:200]}", field=missing[0])
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise InvalidInput(f"is no CSV: {error} (line {reader.line_num})", field=str(path)) from error


def _json_rows(file: TextIO, path: Path) -> Iterator[tuple[int, Row]]:
    for number, text in enumerate(_lines(file, path), 1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except ValueError as error:
            raise InvalidInput(f"is no JSON (line {number})", field=str(path)) from error
        if not isinstance(row, dict):
            raise InvalidInput(f"is no JSON object (line {number})", field=str(path))
        yield number, row
