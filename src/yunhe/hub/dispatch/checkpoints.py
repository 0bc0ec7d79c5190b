"""What a preempted attempt saved, on its way to the site where the task goes on."""

import asyncio
import os
from pathlib import Path as File
from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Path, Query, Response

from yunhe.core.errors import NotFound
from yunhe.hub.dispatch import sync
from yunhe.hub.dispatch.blobs import Blobs
from yunhe.hub.dispatch.polling import Gate, Polling, SignedRequest
from yunhe.hub.orders import views
from yunhe.hub.platform.context import Platform
from yunhe.wire.link import CHECKPOINT_PATH, MAX_CHUNK_BYTES

LeaseId = Annotated[str, Path(max_length=80, pattern=r"^ord_[0-9a-f]+\.[0-9]+$")]
Epoch = Annotated[int, Path(ge=1, le=2**31)]


def router(polling: Polling, gate: Gate, blobs: Blobs) -> APIRouter:
    api = APIRouter(tags=["agent"])
    Signed = Annotated[SignedRequest, Depends(gate)]
    platform = polling.platform

    @api.get("/v1/agent/checkpoints/{lease_id}/{epoch}", response_class=Response)
    async def checkpoint(
        lease_id: LeaseId, epoch: Epoch, signed: Signed, offset: Annotated[int, Query(ge=0, le=2**50)] = 0
    ) -> Response:
        """Bytes from `offset` on of what attempt `epoch` saved, for the site that holds a later one."""
        await platform.read(lambda conn: _check_holds(conn, signed, lease_id, epoch))
        file = blobs.output_file(lease_id, epoch, CHECKPOINT_PATH)
        chunk = await asyncio.get_running_loop().run_in_executor(platform.readers, _part, file, offset)
        return Response(chunk, media_type="application/octet-stream")

    return api


def _check_holds(conn: sa.Connection, signed: SignedRequest, lease_id: str, epoch: int) -> None:
    sync.check_epoch(conn, signed.site_id, signed.epoch)
    held = [
        key
        for key, place in views.placements(conn, [lease_id]).items()
        if place.site_id == signed.site_id and place.end_reason is None
    ]
    if not any(later > epoch for _, later in held):
        raise NotFound(f"site {signed.site_id} holds no later attempt of {lease_id} than {epoch}")


def _part(file: File, offset: int) -> bytes:
    try:
        fd = os.open(file, os.O_RDONLY)
    except FileNotFoundError as error:
        raise NotFound("this checkpoint is not kept any more") from error
    try:
        return os.pread(fd, MAX_CHUNK_BYTES, offset)
    finally:
        os.close(fd)


async def forget_older(platform: Platform, blobs: Blobs, lease_id: str, epoch: int) -> None:
    """Attempt `epoch` saved its work here. Until its end is told the task would go on from the one before; what is
    older than that is of no use."""
    last = await platform.read(lambda conn: views.checkpoint_epoch(conn, lease_id))
    older = [n for n in range(1, epoch) if n != last]
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(platform.readers, blobs.forget_outputs, lease_id, older, CHECKPOINT_PATH)
