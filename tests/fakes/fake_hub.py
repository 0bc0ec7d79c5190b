"""The hub's side of the link in memory, for tests of the site: real messages, real signatures, a real server."""

import asyncio
import hashlib
import json
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from pydantic import ValidationError

from yunhe.core.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    NotFound,
    StaleMessage,
    TooLarge,
    Unavailable,
    YunheError,
)
from yunhe.wire import problem, signing
from yunhe.wire.link import (
    CHECKPOINT_PATH,
    CancelLease,
    CertifyNow,
    Enrol,
    Enrolled,
    Hello,
    LeaseEnded,
    Report,
    SiteInstruction,
    StartLease,
    Sync,
    SyncAnswer,
    UsageReport,
    Welcome,
)


@dataclass
class SiteMemory:
    """What the fake hub knows of its one site."""

    public_key: str = ""
    approved: bool = True
    epoch_issued: int = 0
    epoch_used: int = 0
    poll_no: int = 0
    report_seq: int = 0
    reports: list[Report] = field(default_factory=list)
    duplicates: int = 0
    instructions: list[SiteInstruction] = field(default_factory=list)
    syncs: list[Sync] = field(default_factory=list)
    snapshots: list[Sync] = field(default_factory=list)
    logs: dict[str, bytearray] = field(default_factory=dict)
    outputs: dict[str, bytearray] = field(default_factory=dict)
    bundles: dict[str, bytes] = field(default_factory=dict)
    log_cap: int = 1 << 30


class FakeHub:
    """`start()` serves on a free port of 127.0.0.1 in a thread; `stop()` ends it. `down` answers 503 to all."""

    def __init__(self, hold_ms: int = 2_000) -> None:
        self.site = SiteMemory()
        self.hold_ms = hold_ms
        self.down = False
        self.delay_answer_s = 0.0  # between what an answer says and its sending
        self.lose_answers = 0  # so many answers of polls are lost after their effect
        self.refuse_blobs = False
        self.hold_bundles = False
        self.want_snapshot = False  # said once, in the next answer
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self.port: int = sock.getsockname()[1]
        config = uvicorn.Config(self._app(), port=self.port, log_level="critical", lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._newest: dict[str, asyncio.Event] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.005)

    def stop(self) -> None:
        self._server.should_exit = True
        self._server.force_exit = True
        self._thread.join(10)

    # --- what tests say and ask -------------------------------------------------------------------------------------

    def tell(self, *instructions: SiteInstruction) -> None:
        """Append instructions, in one batch, with the next sequence numbers."""
        with self._changed:
            for one in instructions:
                seq = len(self.site.instructions) + 1
                self.site.instructions.append(one.model_copy(update={"seq": seq}))
        if self._loop:
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        for event in self._newest.values():
            event.set()

    def reports(self, lease_id: str, kind: str | None = None) -> list[Report]:
        with self._lock:
            found = [r for r in self.site.reports if getattr(r, "lease_id", None) == lease_id]
        return [r for r in found if kind is None or r.kind == kind]

    def wait(self, what: Any, timeout_s: float = 40.0) -> Any:
        """Until `what()` is true; its value. Fails the test after the timeout."""
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            value = what()
            if value:
                return value
            time.sleep(0.005)
        raise AssertionError(f"nothing within {timeout_s} s; reports: {self.site.reports[-5:]}")

    def wait_end(self, lease_id: str, epoch: int = 1, timeout_s: float = 40.0) -> LeaseEnded:
        def ended() -> LeaseEnded | None:
            ends = [r for r in self.reports(lease_id, "ended") if isinstance(r, LeaseEnded) and r.epoch == epoch]
            return ends[0] if ends else None

        end = self.wait(ended, timeout_s)
        assert isinstance(end, LeaseEnded)
        return end

    def usage(self, lease_id: str) -> list[UsageReport]:
        return [r for r in self.reports(lease_id, "usage") if isinstance(r, UsageReport)]

    def add_bundle(self, files: dict[str, str]) -> str:
        raw = json.dumps(files).encode()
        sha = hashlib.sha256(raw).hexdigest()
        self.site.bundles[sha] = raw
        return sha

    # --- the server ------------------------------------------------------------------------

    def _app(self) -> FastAPI:
        app = FastAPI()

        @app.exception_handler(YunheError)
        async def told(request: Request, error: YunheError) -> Response:
            body = problem.to_problem(error)
            return Response(body.model_dump_json(), body.status, media_type=problem.CONTENT_TYPE)

        @app.middleware("http")
        async def maybe_down(request: Request, call_next: Any) -> Response:
            if self.down:
                return Response("down", 503)
            response: Response = await call_next(request)
            return response

        app.post("/v1/agent/enrol")(self._enrol)
        app.post("/v1/agent/hello")(self._hello)
        app.post("/v1/agent/sync")(self._sync)
        app.put("/v1/agent/logs/{lease_id}/{epoch}")(self._put_log)
        app.get("/v1/agent/logs/{lease_id}/{epoch}")(self._log_size)
        app.put("/v1/agent/outputs/{lease_id}/{epoch}")(self._put_output)
        app.get("/v1/agent/checkpoints/{lease_id}/{epoch}")(self._checkpoint)
        app.get("/v1/agent/bundles/{sha256}")(self._bundle)
        return app

    async def _signed(self, request: Request) -> bytes:
        body = await request.body()
        target = request.scope["raw_path"].decode()
        if request.scope["query_string"]:
            target += "?" + request.scope["query_string"].decode()
        headers = request.headers
        message = signing.signed_bytes(
            request.method, target, headers[signing.SITE_HEADER], int(headers[signing.EPOCH_HEADER]), body
        )
        signing.verify(signing.load_public(self.site.public_key), message, headers[signing.SIGNATURE_HEADER])
        return body

    async def _enrol(self, request: Request) -> Response:
        wanted = Enrol.model_validate_json(await request.body())
        signing.verify(signing.load_public(wanted.public_key), wanted.token.encode(), wanted.proof)
        if wanted.token != "good":
            raise Forbidden("the token is not known", field="token")
        self.site.public_key = wanted.public_key
        return _json(Enrolled(site_id="site-1", state="pending"))

    async def _hello(self, request: Request) -> Response:
        hello = Hello.model_validate_json(await self._signed(request))
        if not self.site.approved:
            raise Forbidden("the site waits for the operator's approval")
        if hello.previous_epoch != self.site.epoch_used:
            raise StaleMessage(f"last epoch {self.site.epoch_used}, not {hello.previous_epoch}")
        self.site.epoch_issued += 1
        return _json(
            Welcome(
                epoch=self.site.epoch_issued,
                poll_hold_ms=self.hold_ms,
                report_seq=self.site.report_seq,
                hub_utc_ms=time.time_ns() // 1_000_000,
            )
        )

    async def _sync(self, request: Request) -> Response:
        self._loop = asyncio.get_running_loop()
        try:
            sync = Sync.model_validate_json(await self._signed(request))
        except ValidationError as error:
            raise InvalidInput(str(error)) from error
        self._take(sync)
        event = self._newest.pop(sync.site_id, None)
        if event:
            event.set()
        if sync.wait_ms and not self._after(sync.applied_seq):
            mine = self._newest[sync.site_id] = asyncio.Event()
            try:
                await asyncio.wait_for(mine.wait(), min(sync.wait_ms, self.hold_ms) / 1000)
            except TimeoutError:
                pass
            finally:
                if self._newest.get(sync.site_id) is mine:
                    del self._newest[sync.site_id]
        answer = SyncAnswer(
            epoch=sync.epoch,
            poll_no=sync.poll_no,
            report_seq=self.site.report_seq,
            want_snapshot=self.want_snapshot,
            instructions=self._after(sync.applied_seq),
        )
        self.want_snapshot = False
        if self.delay_answer_s and answer.instructions:
            await asyncio.sleep(self.delay_answer_s)
        if self.lose_answers:
            self.lose_answers -= 1
            return Response("lost", 502)
        return _json(answer)

    def _take(self, sync: Sync) -> None:
        site = self.site
        with self._lock:
            if sync.epoch != site.epoch_issued:
                raise StaleMessage(f"epoch {sync.epoch} was followed by {site.epoch_issued}")
            if sync.epoch == site.epoch_used and sync.poll_no <= site.poll_no:
                raise StaleMessage(f"poll {sync.poll_no} was followed by {site.poll_no}")
            site.epoch_used, site.poll_no = sync.epoch, sync.poll_no
            site.syncs.append(sync)
            if sync.leases is not None:
                site.snapshots.append(sync)
            for report in sync.reports:
                if report.seq == site.report_seq + 1:
                    site.report_seq += 1
                    site.reports.append(report)
                else:
                    site.duplicates += 1

    def _after(self, seq: int) -> tuple[SiteInstruction, ...]:
        return tuple(i for i in self.site.instructions if i.seq > seq)

    async def _put_log(self, lease_id: str, epoch: int, offset: int, request: Request) -> Response:
        return self._store(self.site.logs, f"{lease_id}.{epoch}", offset, await self._signed(request))

    async def _log_size(self, lease_id: str, epoch: int, request: Request) -> Response:
        await self._signed(request)
        return Response(json.dumps({"size": len(self.site.logs.get(f"{lease_id}.{epoch}", b""))}))

    async def _put_output(self, lease_id: str, epoch: int, request: Request) -> Response:
        query = request.query_params
        key = f"{lease_id}.{epoch}/{query['path']}"
        answer = self._store(self.site.outputs, key, int(query["offset"]), await self._signed(request))
        data = self.site.outputs[key]
        if len(data) == int(query["total"]) and hashlib.sha256(data).hexdigest() != query["sha256"]:
            raise InvalidInput("another hash", field="sha256")
        return answer

    async def _checkpoint(self, lease_id: str, epoch: int, offset: int, request: Request) -> Response:
        await self._signed(request)
        saved = self.site.outputs.get(f"{lease_id}.{epoch}/{CHECKPOINT_PATH}")
        if saved is None:
            raise NotFound("no such checkpoint")
        return Response(bytes(saved[offset : offset + 1000]))

    def _store(self, table: dict[str, bytearray], key: str, offset: int, chunk: bytes) -> Response:
        if self.refuse_blobs:
            return Response("no room", 507)
        data = table.setdefault(key, bytearray())
        if offset > len(data):
            raise Conflict(f"the next chunk starts at {len(data)}")
        fresh = chunk[len(data) - offset :]
        if len(data) + len(fresh) > self.site.log_cap:
            raise TooLarge("over the cap")
        data += fresh
        return Response(json.dumps({"size": len(data)}))

    async def _bundle(self, sha256: str, request: Request) -> Response:
        await self._signed(request)
        if self.hold_bundles:
            raise Unavailable("not now")
        if sha256 not in self.site.bundles:
            raise NotFound("no such bundle")
        return Response(self.site.bundles[sha256], media_type="application/json")


def _json(message: Any) -> Response:
    return Response(message.model_dump_json(), media_type="application/json")


def start_lease(lease_id: str, command: tuple[str, ...], **changes: Any) -> StartLease:
    """A start with small limits."""
    fields: dict[str, Any] = {
        "seq": 0,
        "lease_id": lease_id,
        "epoch": 1,
        "pool": "cpu",
        "slots": 1,
        "slot_milli": 500,
        "slot_memory_bytes": 64 << 20,
        "run_limit_ms": 20_000,
        "disconnect_limit_ms": 60_000,
        "command": command,
    }
    return StartLease(**{**fields, **changes})


def cancel_lease(lease_id: str, reason: Any, epoch: int = 1) -> CancelLease:
    return CancelLease(seq=0, lease_id=lease_id, epoch=epoch, reason=reason)


def certify_now() -> CertifyNow:
    return CertifyNow(seq=0)
