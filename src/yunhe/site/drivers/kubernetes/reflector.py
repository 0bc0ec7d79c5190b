"""One collection of objects, listed once and then watched: the watch is resumed where it ended, and only when the
server has forgotten that point (410 Gone) is the collection listed again."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Generic, TypeVar

import orjson

from yunhe.core.errors import Unavailable
from yunhe.site.drivers.kubernetes.client import PAGE, KubeClient, Object, Refusal

log = logging.getLogger(__name__)
View = TypeVar("View")
GONE = 410
PAUSE_FIRST_S, PAUSE_CAP_S = 0.05, 2.0
SLACK_S = 3.0  # beyond the watch's own length before its silence is a break


class Reflector(Generic[View]):
    """`view` makes what is kept of an object (uid, view), or None for one that does not matter here.

    `changed(uid, view, there)` is told everything: with `there` False the object is gone, and `view` is its last one.
    """

    def __init__(
        self,
        client: KubeClient,
        path: str,
        view: Callable[[Object], View | None],
        changed: Callable[[str, View, bool], None],
        watch_s: float,
        **params: str,
    ) -> None:
        self._client = client
        self._path = path
        self._view = view
        self._changed = changed
        self._watch_s = watch_s
        self._params = params
        self._version = ""
        self.trouble = ""  # why it is broken now
        self.items: dict[str, View] = {}
        self.heard = float("-inf")  # monotonic s: up to then `items` is what the server said
        self.lists = 0
        self.synced = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled."""
        pause = PAUSE_FIRST_S
        while True:
            try:
                if not self._version:
                    await self._list()
                await self._watch()
            except (Unavailable, Refusal) as error:
                if isinstance(error, Refusal) and error.status == GONE:
                    self._version = ""
                if not self.trouble:
                    log.warning("the watch of %s is broken: %s", self._path, error)
                self.trouble = str(error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, PAUSE_CAP_S)
                continue
            if self.trouble:
                log.info("the watch of %s is up again", self._path)
            self.trouble, pause = "", PAUSE_FIRST_S

    async def _list(self) -> None:
        """All pages, and only then a word to anyone: half a list would make the other half look gone."""
        found: dict[str, View] = {}
        page: dict[str, str] = {}
        while True:
            asked = time.monotonic()
            answer = await self._client.get(self._path, **self._params, limit=str(PAGE), **page)
            for item in answer.get("items") or ():
                view = self._seen(item)
                if view is not None:
                    found[item["metadata"]["uid"]] = view
            meta = answer.get("metadata") or {}
            if not meta.get("continue"):
                break
            page = {"continue": str(meta["continue"])}
        before, self.items = self.items, found
        self._version, self.heard = str(meta.get("resourceVersion", "")), asked
        self.lists += 1
        for uid, view in before.items():
            if uid not in found:
                self._changed(uid, view, False)
        for uid, view in found.items():
            if before.get(uid) != view:
                self._changed(uid, view, True)
        self.synced.set()

    async def _watch(self) -> None:
        """One watch, from the last version that was seen until the server ends it."""
        params = {
            **self._params,
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(max(1, round(self._watch_s))),
        }
        async with self._client.stream("GET", self._path, params, silence_s=self._watch_s + SLACK_S) as response:
            self.heard = time.monotonic()
            rest = b""
            async for chunk in response.aiter_bytes():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if line:
                        self._take(line)
                self.heard = time.monotonic()
        self.heard = time.monotonic()

    def _take(self, line: bytes) -> None:
        try:
            event = orjson.loads(line)
            kind, item = event["type"], event["object"]
            if kind == "ERROR":
                raise Refusal(int(item.get("code", 0)), str(item.get("message", ""))[:200])
            meta = item["metadata"]
            if kind != "BOOKMARK":
                self._apply(str(meta["uid"]), item, kind != "DELETED")
            self._version = str(meta["resourceVersion"])
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise Unavailable(f"Kubernetes: a watch event that cannot be read ({type(error).__name__})") from error

    def _seen(self, item: Object) -> View | None:
        """One object that cannot be read stays as it was, and does not hide the others."""
        try:
            return self._view(item)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            log.warning("%s: an object that cannot be read: %r", self._path, error)
            return self.items.get(str((item.get("metadata") or {}).get("uid")))

    def _apply(self, uid: str, item: Object, there: bool) -> None:
        view = self._seen(item)
        if view is None:  # it has stopped to matter, as a pod of others that has ended
            if (before := self.items.pop(uid, None)) is not None:
                self._changed(uid, before, False)
            return
        if there:
            self.items[uid] = view
        else:
            self.items.pop(uid, None)
        self._changed(uid, view, there)
