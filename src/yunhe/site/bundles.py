"""Files that jobs bring along, kept by content: the tasks of an array fetch them once."""

import asyncio
import hashlib
import json
from collections import OrderedDict
from pathlib import PurePosixPath

from yunhe.core.errors import InvalidInput
from yunhe.site.link import Link

KEEP = 64  # a bundle is at most about 1 MiB


class Bundles:
    def __init__(self, link: Link) -> None:
        self._link = link
        self._kept: OrderedDict[str, dict[str, str]] = OrderedDict()
        self._fetching: dict[str, asyncio.Task[dict[str, str]]] = {}

    def expect(self, sha256: str) -> None:
        """It will be wanted in a moment: ask for it now, while the spool is written."""
        if sha256 not in self._kept:
            self._fetch_once(sha256)

    def _fetch_once(self, sha256: str) -> asyncio.Task[dict[str, str]]:
        task = self._fetching.get(sha256)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._fetch(sha256))
            self._fetching[sha256] = task
            task.add_done_callback(lambda done: self._fetched(sha256, done))
        return task

    def _fetched(self, sha256: str, done: asyncio.Task[dict[str, str]]) -> None:
        self._fetching.pop(sha256, None)
        if not done.cancelled():
            done.exception()  # told to whoever waits in `get`; nobody may

    async def get(self, sha256: str) -> dict[str, str]:
        """Path -> text. Raises InvalidInput for a bundle that is not what its hash says, else the link's errors."""
        if sha256 in self._kept:
            self._kept.move_to_end(sha256)
            return self._kept[sha256]
        return await asyncio.shield(self._fetch_once(sha256))

    async def _fetch(self, sha256: str) -> dict[str, str]:
        raw = await self._link.bundle(sha256)
        if hashlib.sha256(raw).hexdigest() != sha256:
            raise InvalidInput("the bundle's content is not what its hash says", field="bundle_sha256")
        files = checked(raw)
        self._kept[sha256] = files
        while len(self._kept) > KEEP:
            self._kept.popitem(last=False)
        return files


def checked(raw: bytes) -> dict[str, str]:
    """The files of a bundle. Raises InvalidInput for anything but texts at paths inside the job's folder."""
    try:
        value = json.loads(raw)
    except ValueError as error:
        raise InvalidInput(f"the bundle is not JSON: {error}", field="bundle_sha256") from error
    if not isinstance(value, dict):
        raise InvalidInput("the bundle is not an object of path and text", field="bundle_sha256")
    files: dict[str, str] = {}
    for name, text in value.items():
        path = PurePosixPath(name)
        if not isinstance(text, str) or path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name:
            raise InvalidInput(f"the bundle has no text at a path inside the job's folder: {name!r}", field="files")
        files[name] = text
    return files
