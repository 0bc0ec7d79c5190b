"""The job API and the state API of a Ray dashboard, each call bounded in time and in the size of its answer."""

import asyncio
import json
import logging
import ssl
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from yunhe.core.errors import InvalidInput, Unavailable
from yunhe.site.drivers.contract import LeaseKey
from yunhe.site.drivers.nodes.verdict import Stage
from yunhe.site.settings import RaySettings

log = logging.getLogger(__name__)

MAX_ANSWER_BYTES = 64 * 1024 * 1024  # about 50,000 jobs
MAX_SAID = 200
NODES = 10_000
EXISTS = "already exists"
STAGES = {
    "PENDING": Stage.WAITING,
    "RUNNING": Stage.RUNNING,
    "STOPPED": Stage.OVER,
    "SUCCEEDED": Stage.OVER,
    "FAILED": Stage.OVER,
}


@dataclass(frozen=True, slots=True)
class RayJob:
    """One job of this site as Ray lists it. `asked`: the resources in its request."""

    state: str
    message: str
    ended_utc_ms: int  # by the head's clock; 0: not ended
    asked: Mapping[str, float]

    @property
    def stage(self) -> Stage:
        return STAGES.get(self.state, Stage.UNCLEAR)

    @property
    def word(self) -> str:
        return f"Ray says {self.state}: {self.message}"[:MAX_SAID]


@dataclass(frozen=True, slots=True)
class Listing:
    """All jobs of this site at one moment; `asked` is monotonic s when the question was put."""

    asked: float
    jobs: Mapping[LeaseKey, RayJob] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Submitted:
    """`known`: Ray has it. Otherwise `refusal` says why not, or it is not known (empty)."""

    known: bool
    refusal: str = ""


class RayClient:
    """`tag` marks the jobs of this site; others are none of ours."""

    def __init__(self, settings: RaySettings, tag: str) -> None:
        self._settings = settings
        self._prefix = f"yunhe-{tag}-"
        self._http: httpx.AsyncClient | None = None

    def id_of(self, key: LeaseKey) -> str:
        return f"{self._prefix}{key}"

    async def close(self) -> None:
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    async def version(self) -> str:
        return str(_field(await self._get("/api/version"), "ray_version"))

    async def nodes(self) -> list[object]:
        """As the state API lists them. Raises Unavailable, also when there are more than it gives out."""
        answer = _field(await self._get(f"/api/v0/nodes?detail=true&limit={NODES}"), "data")
        listed = _field(answer, "result")
        nodes = _field(listed, "result")
        total = _field(listed, "total")
        if not isinstance(nodes, list) or not isinstance(total, int) or len(nodes) < total:
            raise Unavailable("Ray did not list all its nodes")
        return nodes

    async def usage(self) -> tuple[int, dict[str, dict[str, float]]]:
        """The head's UTC ms of the report, and per node id what is used of each resource, by Ray's altered names."""
        status = _field(_field(await self._get("/api/cluster_status"), "data"), "clusterStatus")
        by_node: Any = _field(_field(status, "loadMetricsReport"), "usageByNode")
        try:
            used = {node: {name: float(pair[0]) for name, pair in usage.items()} for node, usage in by_node.items()}
            return int(float(str(_field(status, "time"))) * 1000), used
        except (AttributeError, IndexError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise Unavailable(f"Ray did not say what is in use: {type(error).__name__}") from error

    async def listing(self) -> Listing:
        """Every job of this site that Ray remembers, ended ones too, by one question."""
        asked = time.monotonic()
        listed = await self._get("/api/jobs/")
        if not isinstance(listed, list):
            raise Unavailable("Ray's list of jobs is none")
        jobs = {}
        for entry in listed:
            name = str(entry.get("submission_id") or "") if isinstance(entry, dict) else ""
            key = LeaseKey.parse(name.removeprefix(self._prefix)) if name.startswith(self._prefix) else None
            if key is not None:
                jobs[key] = _job(entry)
        return Listing(asked, jobs)

    async def submit(self, key: LeaseKey, request: Mapping[str, object]) -> Submitted:
        """Whoever gets no clear answer looks for the job by its id later."""
        try:
            status, text = await self._call("POST", "/api/jobs/", {**request, "submission_id": self.id_of(key)})
        except Unavailable as error:
            log.warning("%s", error)
            return Submitted(False)
        if status == 200 or EXISTS in text:
            return Submitted(True)
        said = text.strip().rpartition("\n")[2][-MAX_SAID:]
        if status in (400, 413, 422):
            return Submitted(False, said)
        log.warning("Ray answered %d to a job: %s", status, said)
        return Submitted(False)

    async def stop(self, key: LeaseKey) -> None:
        """Raises Unavailable. A job that Ray does not know is none to stop."""
        await self._change("POST", f"/api/jobs/{self.id_of(key)}/stop")

    async def delete(self, key: LeaseKey) -> None:
        """Ray forgets an ended job. Raises Unavailable."""
        await self._change("DELETE", f"/api/jobs/{self.id_of(key)}")

    async def _change(self, method: str, path: str) -> None:
        status, text = await self._call(method, path)
        if status not in (200, 404):
            raise Unavailable(f"Ray answered {status} to {method} {path}: {text[-MAX_SAID:]}")

    async def _get(self, path: str) -> object:
        status, text = await self._call("GET", path)
        if status in (401, 403):
            raise Unavailable(f"Ray refuses the token (HTTP {status})", hint="RAY_AUTH_TOKEN of this cluster")
        if status != 200:
            raise Unavailable(f"Ray answered {status} to {path.partition('?')[0]}")
        try:
            answer: object = json.loads(text)
        except ValueError:
            raise Unavailable(f"what answers at {self._settings.address} is not a Ray dashboard") from None
        return answer

    async def _call(self, method: str, path: str, body: object = None) -> tuple[int, str]:
        """Status and text. Raises Unavailable when time is up, nobody answers, or the answer has no end."""
        if self._http is None:
            self._http = await asyncio.to_thread(self._made)
        limit_s = self._settings.call_limit_ms / 1000
        try:
            async with asyncio.timeout(limit_s), self._http.stream(method, path, json=body) as answer:
                data = bytearray()
                async for chunk in answer.aiter_bytes():
                    data += chunk
                    if len(data) > MAX_ANSWER_BYTES:
                        raise Unavailable(f"Ray's answer to {path} is longer than {MAX_ANSWER_BYTES} bytes")
        except TimeoutError:
            raise Unavailable(f"Ray gave no answer in {limit_s:g} s") from None
        except httpx.HTTPError as error:
            text = f"Ray cannot be reached at {self._settings.address}: {type(error).__name__} {error}"
            raise Unavailable(text.rstrip()) from error
        return answer.status_code, data.decode(errors="replace")

    def _made(self) -> httpx.AsyncClient:
        settings = self._settings
        headers = {}
        if settings.token_file is not None:
            headers["Authorization"] = f"Bearer {read_token(settings.token_file)}"
        # Loading certificates takes a while: only where they are needed.
        verify: ssl.SSLContext | bool = False
        if settings.address.startswith("https"):
            verify = ssl.create_default_context(cafile=str(settings.ca_file) if settings.ca_file else None)
        return httpx.AsyncClient(
            base_url=settings.address,
            headers=headers,
            timeout=settings.call_limit_ms / 1000,
            verify=verify,
            trust_env=False,
            follow_redirects=False,  # the token goes to this address alone
        )


def read_token(path: Path) -> str:
    """Raises InvalidInput for a file that others can read, or that is empty."""
    try:
        mode, token = path.stat().st_mode, path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot be read: {type(error).__name__}", field=str(path)) from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise InvalidInput("others can read the token", field=str(path), hint=f"chmod 600 {path}")
    if not token:
        raise InvalidInput("has no token", field=str(path))
    return token


def _field(value: object, name: str) -> object:
    if not isinstance(value, dict) or name not in value:
        raise Unavailable(f"Ray's answer has no {name!r}")
    found: object = value[name]
    return found


def _job(entry: dict[str, object]) -> RayJob:
    metadata = entry.get("metadata")
    try:
        asked = json.loads(str(metadata["yunhe_resources"])) if isinstance(metadata, dict) else {}
    except (KeyError, ValueError):
        asked = {}
    numbers = asked.items() if isinstance(asked, dict) else ()
    ended = entry.get("end_time")
    return RayJob(
        state=str(entry.get("status")),
        message=str(entry.get("message") or ""),
        ended_utc_ms=ended if isinstance(ended, int) else 0,
        asked={str(name): float(value) for name, value in numbers if isinstance(value, int | float)},
    )
