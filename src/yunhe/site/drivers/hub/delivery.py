"""Outputs of an order below on their way up: fetched whole into this site's folder, checked, then read from there."""

import asyncio
import os
import re
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from yunhe.core.errors import NotFound
from yunhe.site.drivers.contract import Output
from yunhe.site.drivers.hub.lower import LowerHub
from yunhe.wire.api import OutputView
from yunhe.wire.link import MAX_MOVED_FILES, MovedFile

SHA256 = re.compile(r"[0-9a-f]{64}")


class Outputs:
    """Of one order that has ended."""

    def __init__(self, lower: LowerHub, order_id: str, folder: Path) -> None:
        self._lower = lower
        self._order_id = order_id
        self._folder = folder
        self._files: dict[str, Path] = {}

    async def fetch(self, wanted: Sequence[str], cap_bytes: int) -> tuple[Output, ...]:
        """The wanted files, and all files of wanted folders, that fit the cap together. Raises the lower hub's errors;
        a repeat fetches only what is not here yet."""
        there = [output for output in await self._lower.outputs(self._order_id) if _sound(output)]
        found: list[Output] = []
        taken: set[str] = set()
        for path in wanted:
            files = [
                output for output in there if output.stored and _within(output.path, path) and output.path not in taken
            ]
            if not files:
                found.append(Output(path, missing="not there"))
            for output in files:
                taken.add(output.path)
                if output.size_bytes > cap_bytes:
                    found.append(Output(output.path, missing="over the output cap"))
                    continue
                cap_bytes -= output.size_bytes
                await self._fetch(output)
                found.append(Output(output.path, output.size_bytes, output.sha256))
        return tuple(found)

    async def _fetch(self, output: OutputView) -> None:
        # Named by content: a path of the job is never a path of this site.
        target = self._folder / output.sha256
        if not await asyncio.to_thread(target.exists):
            await self._lower.download(self._order_id, output, target)
        self._files[output.path] = target

    def read(self, path: str, offset: int, limit: int) -> bytes:
        """Raises NotFound for what was not fetched, OSError for what cannot be read."""
        file = self._files.get(path)
        if file is None:
            raise NotFound(f"output {path!r} was not fetched")
        fd = os.open(file, os.O_RDONLY)
        try:
            return os.pread(fd, limit, offset)
        finally:
            os.close(fd)


def moved(outputs: Sequence[OutputView]) -> tuple[MovedFile, ...]:
    """What became below of the outputs that have a URL."""
    found = []
    for one in outputs:
        if one.url and (_sound(one) or one.problem):
            try:
                told = {"path": one.path, "size_bytes": max(0, one.size_bytes), "sha256": one.sha256}
                found.append(MovedFile.model_validate({**told, "problem": one.problem[:200]}))
            except ValidationError:  # no name that this site could tell
                continue
    return tuple(found[:MAX_MOVED_FILES])


def _sound(output: OutputView) -> bool:
    """The lower hub's word names a file here and counts against the cap, so it has to be what it seems."""
    return output.size_bytes >= 0 and SHA256.fullmatch(output.sha256) is not None


def _within(path: str, wanted: str) -> bool:
    top = wanted.rstrip("/")
    return path == top or path.startswith(f"{top}/")
