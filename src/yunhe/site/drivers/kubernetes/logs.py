"""A lease's log, taken from its pods in pieces and kept at the agent.

The API has no offsets. It has times: each line comes with its own, to the nanosecond, and the next piece is asked for
from the second of the last line that is known. Of several ranks each line says whose it is.
"""

import asyncio
import json
import logging
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import httpx

from yunhe.core.errors import Unavailable
from yunhe.site.drivers.contract import LeaseKey
from yunhe.site.drivers.kubernetes.client import KubeClient, Refusal
from yunhe.site.drivers.kubernetes.record import Intent, Record
from yunhe.site.drivers.kubernetes.views import PodView
from yunhe.site.supervisor.records import write_record

log = logging.getLogger(__name__)
NOTE = "\n[yunhe: the log is capped at {} bytes; the rest was dropped]\n"
READERS = 8
STAMPED = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d) ")
BLOCK = 1 << 16


@dataclass(slots=True)
class _Mark:
    """Of a pod's last line that was taken: its second, its zone, the rest of its time, and how many had that time."""

    second: str = ""
    zone: str = ""
    fraction: str = ""
    same: int = 0

    @property
    def time(self) -> tuple[str, str]:
        return self.second, self.fraction


@dataclass(slots=True)
class _Log:
    record: Record
    cap: int
    size: int = 0
    marks: dict[str, _Mark] = field(default_factory=dict)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    asked_at: float = float("-inf")
    done: set[str] = field(default_factory=set)  # pods of which everything is here

    @property
    def full(self) -> bool:
        return self.size >= self.cap

    @classmethod
    def restored(cls, record: Record, cap: int) -> "_Log":
        """As the marks were last written; what the file has beyond is read again, the same."""
        one = cls(record, cap)
        try:
            kept = json.loads((record.path / "log.json").read_text())
        except FileNotFoundError:
            kept = {"size": 0, "marks": {}}
        one.size = kept["size"]
        one.marks = {uid: _Mark(*mark) for uid, mark in kept["marks"].items()}
        if record.log.exists():
            with open(record.log, "r+b") as file:
                file.truncate(one.size)
        return one

    def add(self, data: bytes) -> None:
        """Up to the cap, and then a note of that."""
        note = NOTE.format(self.cap).encode()
        if self.size + len(data) > self.cap - len(note):
            data = (data[: max(0, self.cap - len(note) - self.size)] + note)[: max(0, self.cap - self.size)]
            data = data.ljust(self.cap - self.size, b"\n")
        with open(self.record.log, "ab") as file:
            file.write(data)
        self.size += len(data)

    def keep(self) -> None:
        marks = {uid: (mark.second, mark.zone, mark.fraction, mark.same) for uid, mark in self.marks.items()}
        write_record(str(self.record.path / "log.json"), {"size": self.size, "marks": marks}, sync=False)


class _Lines:
    """Takes what is new out of one answer, and moves the pod's mark on."""

    def __init__(self, mark: _Mark, prefix: bytes) -> None:
        self._mark = mark
        self._known = (mark.time, mark.same)
        self._skipped = 0
        self._prefix = prefix
        self._rest = b""

    def take(self, chunk: bytes) -> bytes:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return b"".join(self._new(line + b"\n") for line in lines)

    def end(self) -> bytes:
        """The last line, where it has no end of its own."""
        return self._new(self._rest)

    def _new(self, line: bytes) -> bytes:
        found = STAMPED.match(line)
        if found is None:
            return b""  # the node's own words, as that a file is not there
        second, fraction, zone = (part.decode() for part in found.groups(default=b""))
        when, (known, same) = (second, fraction[1:].ljust(9, "0")), self._known
        if when < known:
            return b""
        if when == known and self._skipped < same:
            self._skipped += 1
            return b""
        mark = self._mark
        mark.same = mark.same + 1 if when == mark.time else 1
        mark.second, mark.fraction, mark.zone = when[0], when[1], zone
        return self._prefix + line[found.end() :]


class Logs:
    def __init__(self, client: KubeClient, log_ms: int) -> None:
        self._client = client
        self._pause_s = log_ms / 1000
        self._logs: dict[LeaseKey, _Log] = {}
        self._gate = asyncio.Semaphore(READERS)

    def forget(self, key: LeaseKey) -> None:
        self._logs.pop(key, None)

    async def take(self, key: LeaseKey, record: Record, intent: Intent, pods: Iterable[PodView], at_once: bool) -> None:
        """Fetch what is new. Raises Unavailable when the server does not give it now."""
        one = self._logs.get(key)
        if one is None:
            one = self._logs[key] = _Log.restored(record, intent.log_cap_bytes)
        async with one.turn:
            now = time.monotonic()
            if one.full or (not at_once and now - one.asked_at < self._pause_s):
                return
            one.asked_at = now
            for pod in sorted(pods, key=lambda pod: pod.rank):
                if pod.started_ms and pod.uid not in one.done and not one.full:
                    prefix = f"[{pod.rank}] ".encode() if intent.slots > 1 else b""
                    async with self._gate:
                        await self._take_pod(one, pod, prefix)

    async def _take_pod(self, one: _Log, pod: PodView, prefix: bytes) -> None:
        mark = one.marks.setdefault(pod.uid, _Mark())
        params = {"container": "job", "timestamps": "true"}
        if mark.second:
            params["sinceTime"] = f"{mark.second}{mark.zone}"
        path = f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}/log"
        before = one.size
        try:
            async with self._client.stream("GET", path, params) as response:
                await self._read(one, _Lines(mark, prefix), response, whole=pod.over)
        except Refusal as refusal:
            # The pod is gone, or its container is: what is not here will never be.
            if not pod.over and refusal.status != 404:
                raise Unavailable(f"Kubernetes does not give the log: {refusal.message}") from refusal
            log.info("%s: the end of its log is lost: %s", one.record.path.name, refusal.message)
        finally:
            if one.size != before:
                one.keep()
        if pod.over:
            one.done.add(pod.uid)

    async def _read(self, one: _Log, lines: _Lines, response: httpx.Response, whole: bool) -> None:
        """`whole`: nothing more comes. Else the rest of a line without an end comes later, with the same time."""
        gathered = b""
        async for chunk in response.aiter_bytes():
            gathered += lines.take(chunk)
            if len(gathered) >= BLOCK:
                one.add(gathered)
                gathered = b""
            if one.full:
                return
        if gathered := gathered + (lines.end() if whole else b""):
            one.add(gathered)
