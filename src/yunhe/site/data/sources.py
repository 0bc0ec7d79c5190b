"""Where inputs come from, opened at an offset. Runs in the transfer's own process, which blocks."""

import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import httpx

from yunhe.site.data.failure import Blame, TransferFailed
from yunhe.site.data.stores import open_store, store_path

READ_BYTES = 1 << 20
MAX_REDIRECTS = 5
MAX_VALIDATOR = 500  # longer names of content are of no use to anybody
CONNECT_S = 10.0
READ_S = 30.0
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})  # HTTP statuses after which another try makes sense


@dataclass(frozen=True, slots=True)
class Opened:
    """A source that answers from byte `offset` on: where it was asked to begin, or 0.

    `size` None: unknown before its end. `validator` names this very content; empty: the source has no such name.
    `unchanged`: it is what `known` named, and nothing is read.
    """

    offset: int
    size: int | None
    validator: str
    chunks: Iterator[bytes]
    unchanged: bool = False


class Source(Protocol):
    def open(self, offset: int, validator: str, known: str) -> AbstractContextManager[Opened]:
        """From `offset` on if the content is still the one that `validator` names ("": whatever it is).

        `known` names content that is here already ("": none); it is looked at when `offset` is 0.
        """
        ...


@dataclass(frozen=True, slots=True)
class Access:
    """What this site gives a transfer: folders for `file:` URLs, options of the URL's store, known SFTP servers."""

    folders: tuple[str, ...] = ()
    options: Mapping[str, Any] | None = None
    known_hosts: str = ""


def source_of(url: str, access: Access) -> Source:
    """The scheme was checked when the order was taken; here it decides. Raises TransferFailed."""
    match urlsplit(url).scheme:
        case "http" | "https":
            return HttpSource(url, http_client(url, access))
        case "file":
            return FileSource(url, access.folders)
        case "s3" | "sftp":
            return StoreSource(url, lambda: open_store(url, access.options, access.known_hosts))
        case scheme:
            raise TransferFailed(Blame.SITE, f"this site reads no {scheme[:20]!r} URLs")


# --- http ---------------------------------------------------------------------------------------------------------


def http_client(url: str, access: Access) -> httpx.Client:
    """Options: `bearer`, or `username` and `password`; they go to the URL's own origin, never along a redirect."""
    options = access.options or {}
    auth = (options["username"], options.get("password", "")) if "username" in options else None
    headers = {"Authorization": f"Bearer {options['bearer']}"} if "bearer" in options else {}

    def stay_private(response: httpx.Response) -> None:
        if not (response.has_redirect_location and url.startswith("https:")):
            return
        if response.url.join(response.headers["Location"]).scheme != "https":
            raise TransferFailed(Blame.ORDER, "it leads from https to an address without TLS")

    return httpx.Client(
        headers={"Accept-Encoding": "identity", **headers},
        auth=auth,
        follow_redirects=True,
        max_redirects=MAX_REDIRECTS,
        timeout=httpx.Timeout(READ_S, connect=CONNECT_S),
        trust_env=False,
        event_hooks={"response": [stay_private]},
    )


def check_status(response: httpx.Response) -> None:
    """Raises TransferFailed for anything but success."""
    if response.is_success:
        return
    blame = Blame.LUCK if response.status_code in PASSING else Blame.ORDER
    raise TransferFailed(blame, f"the server answers {response.status_code} {response.reason_phrase}".rstrip())


class HttpSource:
    def __init__(self, url: str, client: httpx.Client) -> None:
        self._url = url
        self._client = client

    @contextmanager
    def open(self, offset: int, validator: str, known: str) -> Iterator[Opened]:
        headers = _conditions(offset, validator, known)
        with self._client, self._client.stream("GET", self._url, headers=headers) as response:
            if response.status_code == 304 and "If-None-Match" in headers:
                yield Opened(0, None, known, iter(()), unchanged=True)
                return
            if response.status_code == 416:
                raise TransferFailed(Blame.CHANGED, "the source has become shorter")
            check_status(response)
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise TransferFailed(Blame.ORDER, "the server sends it compressed only")
            begin, size = _extent(response, offset)
            yield Opened(begin, size, _validator(response), response.iter_raw())


def _conditions(offset: int, validator: str, known: str) -> dict[str, str]:
    """A range only of the same content; nothing at all where the content is here already."""
    if offset:
        return {"Range": f"bytes={offset}-", **({"If-Range": validator} if validator else {})}
    return {"If-None-Match": known} if known.startswith('"') else {}


def _validator(response: httpx.Response) -> str:
    """A strong entity tag, else the time of the last change: what `If-Range` takes (RFC 9110, 13.1.5)."""
    tag: str = response.headers.get("ETag", "")
    found = tag if tag.startswith('"') else str(response.headers.get("Last-Modified", ""))
    return found if found.isascii() and len(found) <= MAX_VALIDATOR else ""


def _extent(response: httpx.Response, asked: int) -> tuple[int, int | None]:
    """(first byte, size of the whole file) of an answer."""
    if response.status_code != 206:
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isdecimal() else None
    span, _, total = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
    if span.partition("-")[0] != str(asked):
        raise TransferFailed(Blame.CHANGED, "the server sends another range than the one asked for")
    return asked, int(total) if total.isdecimal() else None


# --- file ---------------------------------------------------------------------------------------------------------


class FileSource:
    """A file of this host below one of `folders`, judged by where its descriptor really leads."""

    def __init__(self, url: str, folders: Sequence[str]) -> None:
        self._path = file_path(url)
        self._folders = folders

    @contextmanager
    def open(self, offset: int, validator: str, known: str) -> Iterator[Opened]:
        check_folder(Path(self._path), self._folders, "reads")
        try:
            file = open(os.open(self._path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0)  # a pipe would wait
        except FileNotFoundError:
            raise TransferFailed(Blame.SITE, "there is no such file at this site") from None
        with file:
            check_folder(Path(f"/proc/self/fd/{file.fileno()}"), self._folders, "reads")
            info = os.fstat(file.fileno())
            if not stat.S_ISREG(info.st_mode):
                raise TransferFailed(Blame.ORDER, "it is not a plain file")
            here = f"file:{info.st_dev}:{info.st_ino}:{info.st_size}:{info.st_mtime_ns}"
            if not offset and known == here:
                yield Opened(0, info.st_size, here, iter(()), unchanged=True)
                return
            begin = offset if validator in ("", here) else 0
            file.seek(begin)
            yield Opened(begin, info.st_size, here, iter(lambda: file.read(READ_BYTES), b""))


def file_path(url: str) -> str:
    """The path of a `file:` URL."""
    return unquote(urlsplit(url).path)


def check_folder(path: Path, folders: Sequence[str], verb: str) -> None:
    """Raises TransferFailed unless the path, links resolved, is below one of the folders."""
    real = path.resolve()
    if not any(real.is_relative_to(Path(folder).resolve()) for folder in folders):
        raise TransferFailed(Blame.SITE, f"this site {verb} no files there")


# --- s3 and sftp ----------------------------------------------------------------------------------------------------


class StoreSource:
    """By fsspec. The file is named by its entity tag, or by its size and the time of its last change."""

    def __init__(self, url: str, connect: Callable[[], Any]) -> None:
        self._path = store_path(url)
        self._connect = connect

    @contextmanager
    def open(self, offset: int, validator: str, known: str) -> Iterator[Opened]:
        store = self._connect()
        info = store.info(self._path)
        if info["type"] != "file":
            raise TransferFailed(Blame.ORDER, "it is not a file")
        size = int(info["size"])
        here = str(info.get("ETag") or f"{size}:{info.get('mtime')}")
        if not offset and known == here:
            yield Opened(0, size, here, iter(()), unchanged=True)
            return
        begin = offset if validator in ("", here) and offset <= size else 0
        with store.open(self._path, "rb") as file:
            file.seek(begin)
            yield Opened(begin, size, here, _exactly(file, size - begin))


def _exactly(file: Any, left: int) -> Iterator[bytes]:
    """Never past the end that was announced: a store may refuse to read there."""
    while left > 0:
        chunk = file.read(min(READ_BYTES, left))
        if not chunk:
            return
        left -= len(chunk)
        yield chunk
