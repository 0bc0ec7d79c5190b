"""A lease's data: its inputs before it is given to the engine, its outputs after it has ended. Part of the agent.

What fails by luck is tried again until several tries in a row brought nothing, or the time is over.
"""

import asyncio
import json
import logging
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from yunhe.core.lifecycle import EndReason
from yunhe.site.data import child
from yunhe.site.data.cache import Cache, Content, key_of
from yunhe.site.data.failure import Blame, TransferFailed
from yunhe.site.data.layout import UPLOAD
from yunhe.site.data.pace import Pace
from yunhe.site.data.progress import Progress
from yunhe.site.drivers.contract import DataDriver, Driver, LeaseKey, MovesData, Output, SpawnFailed
from yunhe.site.drivers.lease_dir import remove_tree
from yunhe.site.link import Backoff
from yunhe.site.settings import SiteSettings
from yunhe.site.settings.data import StoreSettings
from yunhe.wire.data import target_of
from yunhe.wire.invalid import readable
from yunhe.wire.link import MAX_MOVED_FILES, MAX_MOVED_PATH, DataInput, MovedFile, StartLease

log = logging.getLogger(__name__)
Result = TypeVar("Result")


def end_reason(failure: TransferFailed) -> EndReason:
    """Of an attempt whose inputs could not be had."""
    return EndReason.DATA_IN_FAILED if failure.blame is Blame.ORDER else EndReason.DATA_UNREACHABLE


@dataclass(frozen=True, slots=True)
class Fetched:
    """Inputs in the cache. `places`: path in the job's directory -> the cached file, which stays as it is."""

    places: dict[str, Path]
    files: tuple[MovedFile, ...]


@dataclass(frozen=True, slots=True)
class _Input:
    """One of a lease's inputs. `secret`: options of its store that the order brought along."""

    start: StartLease
    index: int
    item: DataInput
    secret: bytes | None


class Transfers:
    def __init__(self, settings: SiteSettings, driver: Driver) -> None:
        self._settings = settings.data
        self._min_free_bytes = settings.min_free_bytes
        self._driver = driver
        self._folder = settings.data.cache_dir or settings.data_dir / "data"
        self._cache = Cache(self._folder, settings.data.cache_limit_bytes)
        self._running = asyncio.Semaphore(settings.data.parallel)
        self._book = asyncio.Lock()  # content is found and pinned, or added and pinned, before another is dropped
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._busy: set[str] = set()

    async def open(self, held: Sequence[LeaseKey]) -> None:
        """`held`: the leases that the site knows; whatever others left is dropped."""
        await asyncio.to_thread(self._open, held)

    def _open(self, keys: Sequence[LeaseKey]) -> None:
        self._cache.open(keys)
        held = {str(key) for key in keys}
        uploads = self._folder / "uploads"
        uploads.mkdir(mode=0o700, exist_ok=True)
        for folder in uploads.iterdir():
            if folder.name not in held:
                remove_tree(folder)

    def check(self, start: StartLease) -> None:
        """Raises SpawnFailed when the engine has no folder for a job's data, and does not move it itself."""
        if (start.inputs or start.deliveries) and not isinstance(self._driver, DataDriver | MovesData):
            raise SpawnFailed("this site's engine takes no data files: neither run.inputs nor outputs with a url")

    async def release(self, key: LeaseKey) -> None:
        """The lease is over: its inputs may be dropped from the cache, its uploads are forgotten."""
        await asyncio.to_thread(self._cache.release, key)
        if self._uploads(key).exists():
            await asyncio.to_thread(remove_tree, self._uploads(key))

    # --- in -------------------------------------------------------------------------------------------------------

    async def fetch(self, start: StartLease, secrets: Mapping[str, bytes], progress: Progress) -> Fetched:
        """All inputs of a lease. Raises TransferFailed (ORDER or SITE) naming the input."""
        have: dict[str, Content] = {}
        limit_ms = self._settings.fetch_limit_ms
        try:
            async with asyncio.timeout(limit_ms / 1000), asyncio.TaskGroup() as group:
                for index, item in enumerate(start.inputs):
                    secret = secrets.get(item.secret, b"") if item.secret else None  # none came: it is refused
                    group.create_task(self._fetch(_Input(start, index, item, secret), have, progress))
        except TimeoutError:
            raise TransferFailed(Blame.SITE, f"run.inputs: not here after {limit_ms // 1000} s") from None
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        files = [
            MovedFile(path=item.path, size_bytes=have[item.path].size, sha256=have[item.path].sha256)
            for item in start.inputs
        ]
        return Fetched({path: self._cache.path(content.sha256) for path, content in have.items()}, tuple(files))

    async def _fetch(self, one: _Input, have: dict[str, Content], progress: Progress) -> None:
        field = f"run.inputs[{one.index}]"
        part = self._paced(progress.part(field, one.item.size_bytes))

        async def attempt() -> None:
            try:
                await self._obtain(one, have, part)
            except OSError as error:
                raise TransferFailed(Blame.LUCK, f"the site's cache cannot be used: {error.strerror}") from error

        await self._persist(field, attempt, progress)

    def _paced(self, part: child.Progress) -> Pace:
        return Pace(part, self._settings.least_bytes_per_s, self._settings.least_over_ms)

    async def _obtain(self, one: _Input, have: dict[str, Content], part: Pace) -> None:
        """Into `have`, pinned. An organisation's same content, and the same source, is fetched by one at a time."""
        item = one.item
        async with AsyncExitStack() as stack:
            mine = [f"content {item.sha256} {one.start.tenant}"] if item.sha256 else []
            for name in [*mine, f"source {self._source(one)}"]:
                await stack.enter_async_context(self._locks.setdefault(name, asyncio.Lock()))
            async with self._book:
                found = await asyncio.to_thread(self._cache.find, one.start.tenant, item.sha256)
                if found:
                    await self._pin(one, found, have)
            if not found:
                found = await self._download(one, have, part)
        if item.size_bytes is not None and found.size != item.size_bytes:
            raise TransferFailed(Blame.ORDER, f"it has {found.size} bytes, the order says {item.size_bytes}")
        part(found.size, found.size)

    async def _download(self, one: _Input, have: dict[str, Content], part: Pace) -> Content:
        item, tenant, source = one.item, one.start.tenant, self._source(one)
        job = await asyncio.to_thread(self._job, tenant, item.url, one.secret)
        known, sha256 = await asyncio.to_thread(self._cache.known, source)
        if item.sha256 not in ("", sha256):
            known = ""
        job |= {
            "direction": "in",
            "folder": str(self._cache.partial(source)),
            "folders": [str(path) for path in self._settings.read_folders],
            "size": item.size_bytes,
            "sha256": item.sha256,
            "limit_bytes": await asyncio.to_thread(self._room, source),
            "known": known,
        }
        self._busy.add(source)
        try:
            async with self._running:
                with part:
                    got = await child.run(job, part, self._settings.stall_ms)
            async with self._book:
                if got["unchanged"]:
                    content = await asyncio.to_thread(self._cache.take, tenant, sha256)
                else:
                    content = await asyncio.to_thread(self._cache.add, tenant, source, got["sha256"], got["validator"])
                if content is None:
                    raise TransferFailed(Blame.LUCK, "it was dropped from the cache just now")
                await self._pin(one, content, have)
                await asyncio.to_thread(self._cache.evict, self._busy)
        finally:
            self._busy.discard(source)
        return content

    def _room(self, source: str) -> int:
        """Bytes that this file may have: what the site allows, and what its disk has left for it."""
        disk = os.statvfs(self._folder)
        free = disk.f_bavail * disk.f_frsize + self._cache.partial_bytes(source)
        return max(0, min(self._settings.input_limit_bytes, free - self._min_free_bytes))

    async def _pin(self, one: _Input, content: Content, have: dict[str, Content]) -> None:
        have[one.item.path] = content
        await asyncio.to_thread(self._cache.pin, _key(one.start), dict(have))

    # --- out ------------------------------------------------------------------------------------------------------

    async def push(self, start: StartLease, progress: Progress) -> tuple[MovedFile, ...]:
        """Send every output that has a URL; one that does not get there is told with its problem."""
        if isinstance(self._driver, MovesData):
            return await self._driver.moved(LeaseKey(start.lease_id, start.epoch))
        found = await self._outputs(start)
        limit_ms = self._settings.push_limit_ms
        moved: dict[str, MovedFile] = {}
        for output, _ in found:
            problem = output.missing or f"not sent within {limit_ms // 1000} s"
            moved[output.path] = _moved(output, problem)
        try:
            async with asyncio.timeout(limit_ms / 1000), asyncio.TaskGroup() as group:
                for output, url in found:
                    if not output.missing:
                        group.create_task(self._push(start, output, url, moved, progress))
        except TimeoutError:
            pass  # those that are left have their problem
        return tuple(moved.values())

    async def _outputs(self, start: StartLease) -> list[tuple[Output, str]]:
        """(file, where it goes): a folder's files go below the folder's URL."""
        key = _key(start)
        found: list[tuple[Output, str]] = []
        room = self._settings.output_limit_bytes
        for delivery in start.deliveries:
            for output in await self._driver.outputs(key, (delivery.path,), room):
                room -= output.size_bytes
                if readable(output.path) != output.path or len(output.path) > MAX_MOVED_PATH:
                    output = replace(output, missing="its name is no text, or too long")
                found.append((output, "" if output.missing else target_of(delivery, output.path)))
        return found[:MAX_MOVED_FILES]

    async def _push(
        self, start: StartLease, output: Output, url: str, moved: dict[str, MovedFile], progress: Progress
    ) -> None:
        key = _key(start)
        part = self._paced(progress.part(output.path, output.size_bytes))

        async def attempt() -> None:
            job = await asyncio.to_thread(self._job, start.tenant, url, None)
            assert isinstance(self._driver, DataDriver)
            fd = await self._driver.open_output(key, output.path)
            job |= {
                "direction": "out",
                "folder": str(self._uploads(key) / key_of(output.path)),
                "folders": [str(path) for path in self._settings.write_folders],
                "size": output.size_bytes,
                "sha256": output.sha256,
                "fd": fd,
            }
            try:
                async with self._running:
                    with part:
                        await child.run(job, part, self._settings.stall_ms, fd)
            finally:
                os.close(fd)

        try:
            await self._persist(output.path, attempt, progress)
            moved[output.path] = _moved(output, "")
        except TransferFailed as failure:
            moved[output.path] = _moved(output, failure.text)
        except OSError as error:
            moved[output.path] = _moved(output, f"it cannot be read: {error.strerror}")

    async def abandon(self, start: StartLease) -> None:
        """Uploads of the lease that were begun and did not end are given up at their stores, as far as these answer."""
        for state in await asyncio.to_thread(lambda: list(self._uploads(_key(start)).glob(f"*/{UPLOAD}"))):
            try:
                url = json.loads(await asyncio.to_thread(state.read_text))["url"]
                job = await asyncio.to_thread(self._job, start.tenant, url, None)
                job |= {"direction": "abandon", "folder": str(state.parent), "folders": []}
                await child.run(job, lambda _done, _total: None, self._settings.abandon_limit_ms)
            except (TransferFailed, OSError, ValueError, KeyError) as error:
                log.warning("%s: an upload that was begun may be left at its store: %s", _key(start), error)

    def _uploads(self, key: LeaseKey) -> Path:
        return self._folder / "uploads" / str(key)

    # --- both -----------------------------------------------------------------------------------------------------

    async def _persist(self, name: str, attempt: Callable[[], Awaitable[Result]], progress: Progress) -> Result:
        """Until it is through. Raises TransferFailed (ORDER or SITE) naming what it is about."""
        backoff = Backoff(self._settings.retry_first_ms, self._settings.retry_cap_ms)
        tries, best = 0, 0
        while True:
            try:
                return await attempt()
            except TransferFailed as failure:
                if failure.blame in (Blame.ORDER, Blame.SITE):
                    raise TransferFailed(failure.blame, f"{name}: {failure.text}") from None
                if progress.done(name) > best:
                    tries, best = 0, progress.done(name)
                    backoff.reset()
                tries += 1
                if tries >= self._settings.tries:
                    raise TransferFailed(Blame.SITE, f"{name}: {failure.text}; tried {tries} times") from None
                progress.trouble(f"{name}: {failure.text}")
            await backoff.wait()

    def _job(self, tenant: str, url: str, secret: bytes | None) -> dict[str, object]:
        """What every transfer is told. Raises TransferFailed when the options of its store cannot be read."""
        return {
            "url": url,
            "options": self._stored(tenant, url) if secret is None else _options(secret, Blame.ORDER),
            "known_hosts": str(self._settings.known_hosts or ""),
            "allow_networks": list(self._settings.allow_networks),
        }

    def _source(self, one: _Input) -> str:
        """What the cache knows a URL by. Asked with other options it may be another server's, which calls another file
        by the same name: what an order's own options bring is its organisation's alone."""
        if one.secret is not None:
            return f"{one.item.url}\n{one.start.tenant}"
        store = self._store(one.start.tenant, one.item.url)
        return f"{one.item.url}\n\n{store.options_file}" if store else one.item.url

    def _store(self, tenant: str, url: str) -> StoreSettings | None:
        """The store of the longest prefix that the organisation may use."""
        fitting = [store for store in self._settings.stores if _below(url, store.prefix)]
        fitting = [store for store in fitting if not store.tenants or tenant in store.tenants]
        return max(fitting, key=lambda store: len(store.prefix), default=None)

    def _stored(self, tenant: str, url: str) -> dict[str, Any]:
        """The site's own options for the URL."""
        store = self._store(tenant, url)
        if store is None:
            return {}
        try:
            text = store.options_file.read_bytes()
        except OSError:
            raise TransferFailed(Blame.SITE, "the site's options of this store cannot be read") from None
        return _options(text, Blame.SITE)


def _key(start: StartLease) -> LeaseKey:
    return LeaseKey(start.lease_id, start.epoch)


def _options(text: bytes, blame: Blame) -> dict[str, Any]:
    """A JSON object of texts. Raises TransferFailed, without a word of what it is."""
    try:
        options = json.loads(text)
    except ValueError:
        options = None
    if not isinstance(options, dict) or not all(isinstance(value, str) for value in options.values()):
        raise TransferFailed(blame, "the options of its store are not a JSON object of texts")
    return options


def _below(url: str, prefix: str) -> bool:
    """`https://host` covers `https://host/a` and not `https://host.example`."""
    return url.startswith(prefix) and (prefix.endswith("/") or url[len(prefix) :][:1] in ("", "/"))


def _moved(output: Output, problem: str) -> MovedFile:
    return MovedFile(
        path=readable(output.path)[:MAX_MOVED_PATH],
        size_bytes=output.size_bytes,
        sha256=output.sha256,
        problem=readable(problem)[:200],
    )
