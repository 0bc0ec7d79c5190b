"""Logs and outputs on their way to the hub, in chunks by offset: a repeat changes nothing there."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from yunhe.core.errors import Conflict, InvalidInput, StaleMessage, TooLarge, Unavailable, YunheError
from yunhe.site.checkpoints import Archive
from yunhe.site.contact import Contact
from yunhe.site.drivers.contract import Driver, LeaseKey, Output
from yunhe.site.link import Backoff, Link
from yunhe.site.settings import SiteSettings
from yunhe.wire.link import CHECKPOINT_PATH, MAX_CHUNK_BYTES, StartLease

Read = Callable[[str, int, int], Awaitable[bytes]]  # path, offset, limit


@dataclass(slots=True)
class LogSent:
    """How much of a log the hub has. None: to be asked (after a restart)."""

    size: int | None
    refused: str = ""
    chunks: int = 0  # taken by the hub, of the log and the outputs
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Uploads:
    def __init__(self, driver: Driver, link: Link, contact: Contact, settings: SiteSettings) -> None:
        self._driver = driver
        self._link = link
        self._contact = contact
        self._settings = settings

    async def push_log(self, key: LeaseKey, sent: LogSent) -> None:
        """Send what is new. Raises the link's errors; a log that the hub refuses for good is not tried again."""
        async with sent.turn:
            while not sent.refused:
                if sent.size is None:
                    sent.size = await self._link.log_size(*key)
                chunk = await self._driver.logs(key, sent.size, MAX_CHUNK_BYTES)
                if not chunk:
                    return
                try:
                    sent.size = await self._link.put_log(*key, sent.size, chunk)
                    sent.chunks += 1
                except StaleMessage:
                    raise
                except Conflict:
                    sent.size = await self._link.log_size(*key)
                except (TooLarge, InvalidInput) as error:
                    sent.refused = error.message

    async def finish(
        self, start: StartLease, sent: LogSent, wanted: Sequence[str], archive: Archive | None = None
    ) -> list[str]:
        """What is still here of an ended lease: its log, the `wanted` outputs, the archive of what it saved (which is
        marked when it was delivered). Notes on what did not get through.

        The time without any progress is bounded, but only while the hub answers polls: without a link the end cannot
        be told either.
        """
        key = LeaseKey(start.lease_id, start.epoch)
        limit_s = self._settings.flush_limit_ms / 1000
        spent_s, heard_ms, chunks = 0.0, self._contact.sent_ms, sent.chunks
        backoff = Backoff(self._settings.backoff_first_ms, 1000)
        notes: list[str] = []
        outputs: list[Output] | None = None
        while True:
            began = time.monotonic()
            try:
                async with asyncio.timeout(limit_s):
                    await self.push_log(key, sent)
                    if outputs is None:
                        outputs = (
                            list(await self._driver.outputs(key, wanted, start.output_cap_bytes)) if wanted else []
                        )
                    while outputs:
                        notes += await self._push_output(key, outputs[0], sent, partial(self._driver.read_output, key))
                        outputs.pop(0)
                    if archive is not None:
                        notes += await self._push_archive(key, archive, sent)
                break
            except (Unavailable, StaleMessage, TimeoutError) as error:
                await backoff.wait()
                if sent.chunks != chunks:
                    spent_s, chunks = 0.0, sent.chunks
                elif self._contact.sent_ms != heard_ms:
                    spent_s += time.monotonic() - began
                    heard_ms = self._contact.sent_ms
                if spent_s >= limit_s:
                    notes.append(f"log or outputs not delivered: {error or 'out of time'}")
                    break
            except YunheError as error:
                notes.append(f"log or outputs refused: {error.message}")
                break
            except OSError as error:
                notes.append(f"log or outputs cannot be read: {error.strerror}")
                break
        return [f"log refused: {sent.refused}", *notes] if sent.refused else notes

    async def _push_archive(self, key: LeaseKey, archive: Archive, sent: LogSent) -> list[str]:
        whole = Output(CHECKPOINT_PATH, archive.size_bytes, archive.sha256)
        notes = await self._push_output(key, whole, sent, archive.part)
        archive.delivered = not notes
        return notes

    async def _push_output(self, key: LeaseKey, output: Output, sent: LogSent, read: Read) -> list[str]:
        if output.missing:
            return [f"output {output.path}: {output.missing}"]
        offset = 0
        while True:
            chunk = await read(output.path, offset, MAX_CHUNK_BYTES)
            fields: dict[str, str | int] = {
                "path": output.path,
                "offset": offset,
                "total": output.size_bytes,
                "sha256": output.sha256,
            }
            try:
                size = await self._link.put_output(*key, chunk, fields)
                sent.chunks += 1
            except (TooLarge, InvalidInput) as error:
                return [f"output {output.path}: {error.message}"]
            if size >= output.size_bytes:
                return []
            if not chunk:
                return [f"output {output.path}: it became shorter"]
            offset = size if size > offset else offset + len(chunk)
