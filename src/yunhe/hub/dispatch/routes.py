"""The agent's side of the hub: hello, sync, logs, outputs, bundles; and the customer's view of logs and outputs."""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Annotated, TypeVar

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Path, Query, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel

from yunhe.core.errors import NotFound, Refused, Unavailable
from yunhe.core.supply import SiteState
from yunhe.hub.accounts.service import Accounts, Principal
from yunhe.hub.catalogue import service as catalogue
from yunhe.hub.dispatch import checkpoints, outputs, sync
from yunhe.hub.dispatch.blobs import Blobs
from yunhe.hub.dispatch.polling import SYNC, Gate, Polling, SignedRequest, same_site
from yunhe.hub.orders import views
from yunhe.hub.orders.model import Placement
from yunhe.hub.platform.context import Platform
from yunhe.hub.platform.disk import DiskGuard
from yunhe.wire.api import OutputList
from yunhe.wire.link import CHECKPOINT_PATH, Hello, Welcome

T = TypeVar("T")

LOG_RECHECK_S = 0.25
MAX_FOLLOW_MS = 30_000

LeaseId = Annotated[str, Path(max_length=80, pattern=r"^ord_[0-9a-f]+\.[0-9]+$")]
Epoch = Annotated[int, Path(ge=1, le=2**31)]
Offset = Annotated[int, Query(ge=0, le=2**50)]
OutputPath = Annotated[str, Query(min_length=1, max_length=200)]


class Size(BaseModel):
    """How many bytes the hub has."""

    size: int


def agent_router(polling: Polling, gate: Gate, blobs: Blobs, disk: DiskGuard) -> APIRouter:
    api = APIRouter(tags=["agent"])
    Signed = Annotated[SignedRequest, Depends(gate)]
    platform, settings = polling.platform, polling.platform.settings

    @api.post("/v1/agent/hello")
    async def hello(message: Hello, signed: Signed) -> Welcome:
        """A new agent epoch; the ones before may speak no more."""
        same_site(signed, message.site_id)
        site = await platform.read(lambda conn: catalogue.site(conn, message.site_id))
        if site.state is SiteState.PENDING:
            raise Unavailable(f"site {site.id} waits for the operator's approval", hint=f"yunhe site approve {site.id}")
        if site.state is SiteState.LEFT:
            await platform.read(lambda conn: sync.check_leaving(conn, site.id))
        epoch, report_seq = await platform.write(sync.greet, message)
        platform.signals.fire(("certify",))
        return Welcome(
            epoch=epoch,
            poll_hold_ms=settings.poll_hold_ms,
            report_seq=report_seq,
            hub_utc_ms=platform.clock.now_ms(),
        )

    # It has an express way (`polling.express`).
    @api.post(SYNC)
    async def poll(signed: Signed) -> Response:
        """One poll: reports in, instructions out; held while there is nothing to say."""
        return Response(await polling.poll(signed), media_type="application/json")

    @api.get("/v1/agent/bundles/{sha256}")
    async def bundle(sha256: Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")], signed: Signed) -> Response:
        """Files of an order, by content: a JSON object of path and text."""
        text = await platform.read(lambda conn: views.bundle(conn, sha256))
        return Response(text, media_type="application/json")

    @api.put("/v1/agent/probe")
    async def probe(signed: Signed) -> Size:
        """Bytes that nobody keeps: a site measures its way to the hub."""
        return Size(size=len(signed.body))

    @api.get("/v1/agent/logs/{lease_id}/{epoch}")
    async def log_size(lease_id: LeaseId, epoch: Epoch, signed: Signed) -> Size:
        await _check_lease(platform, signed, lease_id, epoch)
        return Size(size=blobs.log_size(lease_id, epoch))

    @api.put("/v1/agent/logs/{lease_id}/{epoch}")
    async def put_log(lease_id: LeaseId, epoch: Epoch, offset: Offset, signed: Signed) -> Size:
        disk.check()
        await _check_lease(platform, signed, lease_id, epoch)
        # A little above the cap: the note that the log was cut comes after it.
        cap = settings.log_cap_bytes + 4096
        size = await _in_thread(platform, lambda: blobs.append_log(lease_id, epoch, offset, signed.body, cap))
        platform.signals.fire((f"log:{lease_id}",))
        return Size(size=size)

    @api.get("/v1/agent/outputs/{lease_id}/{epoch}")
    async def output_size(lease_id: LeaseId, epoch: Epoch, path: OutputPath, signed: Signed) -> Size:
        await _check_lease(platform, signed, lease_id, epoch)
        return Size(size=blobs.output_size(lease_id, epoch, path))

    @api.put("/v1/agent/outputs/{lease_id}/{epoch}")
    async def put_output(
        lease_id: LeaseId,
        epoch: Epoch,
        path: OutputPath,
        offset: Offset,
        total: Annotated[int, Query(ge=0, le=2**50)],
        sha256: Annotated[str, Query(pattern=r"^[0-9a-f]{64}$")],
        signed: Signed,
    ) -> Size:
        disk.check()
        await _check_lease(platform, signed, lease_id, epoch)
        cap = settings.checkpoint_cap_bytes if path == CHECKPOINT_PATH else settings.output_cap_bytes
        await platform.read(lambda conn: outputs.check_room(conn, lease_id, path, total, cap))
        chunk = outputs.Chunk(lease_id, epoch, path, offset, signed.body, total, sha256)
        size = await _in_thread(platform, lambda: outputs.store_chunk(blobs, chunk))
        if size == total:
            await platform.write(outputs.record, chunk)
            if path == CHECKPOINT_PATH:
                await checkpoints.forget_older(platform, blobs, lease_id, epoch)
        return Size(size=size)

    return api


def customer_router(platform: Platform, accounts: Accounts, blobs: Blobs) -> APIRouter:
    api = APIRouter(tags=["orders"])
    Customer = Annotated[Principal, Depends(accounts.require("customer"))]

    @api.get("/v1/orders/{order_id}/logs", response_class=Response)
    async def logs(
        order_id: str,
        who: Customer,
        task: Annotated[int, Query(ge=0, le=100_000)] = 0,
        offset: Offset = 0,
        follow_ms: Annotated[int, Query(ge=0, le=MAX_FOLLOW_MS)] = 0,
        attempt: Annotated[int | None, Query(ge=1, le=2**31)] = None,
    ) -> Response:
        """Raw bytes from `offset` on, of the latest attempt or the one named.

        `Yunhe-Complete: true` when nothing more will come of the attempt, `Yunhe-Attempt` its number,
        `Yunhe-Latest-Attempt` the number to go on with, and `Yunhe-Size` how many bytes there are now.
        """
        until = time.monotonic() + follow_ms / 1000

        def place(conn: sa.Connection) -> tuple[str, int]:
            views.check_sees(conn, who, order_id)
            return views.lease_of_task(conn, order_id, task)

        lease_id, latest = await platform.read(place)
        if attempt is not None and attempt > latest:
            raise NotFound(f"task {task} has had {latest} attempts", field="attempt")
        with platform.signals.waiting(f"log:{lease_id}", f"order:{order_id}") as waiter:
            while True:
                waiter.rearm()
                epoch = latest if attempt is None else attempt
                over = epoch < latest or await platform.read(partial(views.task_over, lease_id=lease_id))
                chunk = await _in_thread(platform, partial(blobs.read_log, lease_id, epoch, offset))
                end = offset + len(chunk)
                if chunk or over or time.monotonic() >= until or platform.signals.closing:
                    size = blobs.log_size(lease_id, epoch)
                    headers = {
                        "Yunhe-Next-Offset": str(end),
                        "Yunhe-Size": str(size),
                        "Yunhe-Complete": str(over and end >= size).lower(),
                        "Yunhe-Attempt": str(epoch),
                        "Yunhe-Latest-Attempt": str(latest),
                    }
                    return Response(chunk, media_type="application/octet-stream", headers=headers)
                await waiter.wait(max(0.01, min(LOG_RECHECK_S, until - time.monotonic())))
                _, latest = await platform.read(place)

    @api.get("/v1/orders/{order_id}/outputs")
    async def list_outputs(order_id: str, who: Customer) -> OutputList:
        def read(conn: sa.Connection) -> OutputList:
            views.check_sees(conn, who, order_id)
            return OutputList(outputs=outputs.of_order(conn, order_id))

        return await platform.read(read)

    @api.get("/v1/orders/{order_id}/outputs/content", response_class=FileResponse)
    async def output(
        order_id: str, lease_id: Annotated[str, Query(max_length=80)], path: OutputPath, who: Customer
    ) -> FileResponse:
        def read(conn: sa.Connection) -> int:
            views.check_sees(conn, who, order_id)
            return outputs.epoch_of(conn, order_id, lease_id, path)

        file = blobs.output_file(lease_id, await platform.read(read), path)
        if not file.is_file():
            raise NotFound(f"output {path!r} of {lease_id} is no longer kept")
        return FileResponse(file, media_type="application/octet-stream")

    return api


async def _check_lease(platform: Platform, signed: SignedRequest, lease_id: str, epoch: int) -> None:
    """A site may send only what belongs to its own leases, only in its current epoch, and only until shortly after
    their end."""

    def read(conn: sa.Connection) -> Placement | None:
        sync.check_epoch(conn, signed.site_id, signed.epoch)
        return views.placements(conn, [lease_id]).get((lease_id, epoch))

    place = await platform.read(read)
    if place is None or place.site_id != signed.site_id:
        raise NotFound(f"site {signed.site_id} holds no lease {lease_id} epoch {epoch}")
    if place.ended_ms is not None and platform.clock.now_ms() - place.ended_ms > platform.settings.late_files_ms:
        raise Refused(f"{lease_id} epoch {epoch} is over: nothing more is kept of it")


async def _in_thread(platform: Platform, fn: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(platform.readers, fn)
