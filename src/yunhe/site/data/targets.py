"""Where outputs go: the whole file under its name, or nothing. Runs in the transfer's own process, which blocks.

http, https   one PUT with its length and its SHA-256 (Repr-Digest, RFC 9530); from the start after a break
s3            one request, or a multipart upload that goes on with the part after the last that the store has
sftp, file    a file beside, named by the content, that grows and is renamed when it is whole
"""

import base64
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from yunhe.site.data.failure import Blame, TransferFailed
from yunhe.site.data.sources import READ_BYTES, Access, check_folder, check_status, file_path, http_client
from yunhe.site.data.stores import open_store, store_path

SINGLE_BYTES = 16 << 20  # an S3 object of at most so many bytes is one request
MAX_PARTS = 9_000  # S3 allows 10,000
Tell = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class Sent:
    """An output: open for reading, measured when the job had ended."""

    file: BinaryIO
    size: int
    sha256: str

    def chunks(self, offset: int, tell: Tell) -> Iterator[bytes]:
        """From `offset` to the measured size. Raises TransferFailed when the file is shorter."""
        self.file.seek(offset)
        while offset < self.size:
            chunk = self.file.read(min(READ_BYTES, self.size - offset))
            if not chunk:
                raise TransferFailed(Blame.SITE, "the output became shorter")
            yield chunk
            offset += len(chunk)
            tell(offset, self.size)


def send(url: str, sent: Sent, access: Access, state: Path, tell: Tell) -> None:
    """Put it there, over what is there. `state`: a file in which an upload remembers itself. Raises TransferFailed."""
    match urlsplit(url).scheme:
        case "http" | "https":
            _put(url, sent, access, tell)
        case "s3":
            _Multipart(open_store(url, access.options, ""), url, sent, state).run(tell)
        case "sftp":
            _send_sftp(open_store(url, access.options, access.known_hosts), store_path(url), sent, tell)
        case "file":
            _send_file(Path(file_path(url)), sent, access, tell)
        case scheme:
            raise TransferFailed(Blame.SITE, f"this site writes to no {scheme[:20]!r} URLs")


def abandon(access: Access, state: Path) -> None:
    """An upload that is given up leaves nothing behind: a store keeps, and bills, the parts of one that never ends."""
    begun = json.loads(state.read_text(encoding="utf-8"))
    store = open_store(begun["url"], access.options, "")
    _abort(store, _place(begun["url"]), begun["upload"])
    state.unlink()


def _put(url: str, sent: Sent, access: Access, tell: Tell) -> None:
    digest = base64.b64encode(bytes.fromhex(sent.sha256)).decode()
    headers = {"Content-Length": str(sent.size), "Repr-Digest": f"sha-256=:{digest}:"}
    with http_client(url, access) as client:
        check_status(client.put(url, content=sent.chunks(0, tell), headers=headers, follow_redirects=False))


# --- s3 -----------------------------------------------------------------------------------------------------------


def _place(url: str) -> dict[str, str]:
    bucket, _, key = store_path(url).partition("/")
    return {"Bucket": bucket, "Key": key}


def _abort(store: Any, at: dict[str, str], upload: str) -> None:
    """One that is over already is none to abort."""
    with suppress(FileNotFoundError):
        store.call_s3("abort_multipart_upload", **at, UploadId=upload)


class _Multipart:
    def __init__(self, store: Any, url: str, sent: Sent, state: Path) -> None:
        self._store = store
        self._url = url
        self._at = _place(url)
        self._sent = sent
        self._state = state
        self._part_bytes = max(SINGLE_BYTES, -(-sent.size // MAX_PARTS))

    def run(self, tell: Tell) -> None:
        metadata = {"sha256": self._sent.sha256}
        if self._sent.size <= SINGLE_BYTES:
            body = b"".join(self._sent.chunks(0, tell))
            self._store.call_s3("put_object", **self._at, Body=body, Metadata=metadata)
            return
        upload, parts = self._take_up()
        if not upload:
            upload = self._store.call_s3("create_multipart_upload", **self._at, Metadata=metadata)["UploadId"]
            begun = {"url": self._url, "upload": upload, "sha256": self._sent.sha256}
            self._state.write_text(json.dumps(begun), encoding="utf-8")
        self._upload(upload, parts, tell)
        done = [{"PartNumber": number, "ETag": tag} for number, tag in sorted(parts.items())]
        self._store.call_s3("complete_multipart_upload", **self._at, UploadId=upload, MultipartUpload={"Parts": done})
        self._state.unlink(missing_ok=True)

    def _take_up(self) -> tuple[str, dict[int, str]]:
        """The upload that an earlier try began, and its whole parts at the store."""
        try:
            state = json.loads(self._state.read_text(encoding="utf-8"))
            if state["sha256"] != self._sent.sha256:
                _abort(self._store, self._at, state["upload"])
                return "", {}
            parts: dict[int, str] = {}
            marker = 0
            while True:
                page = self._store.call_s3("list_parts", **self._at, UploadId=state["upload"], PartNumberMarker=marker)
                for part in page.get("Parts", ()):
                    if part["Size"] == self._length(part["PartNumber"]):
                        parts[part["PartNumber"]] = part["ETag"]
                if not page.get("IsTruncated"):
                    return state["upload"], parts
                marker = page["NextPartNumberMarker"]
        except (FileNotFoundError, ValueError):  # nothing was begun, or the store has given it up
            return "", {}

    def _length(self, number: int) -> int:
        return min(self._part_bytes, self._sent.size - (number - 1) * self._part_bytes)

    def _upload(self, upload: str, parts: dict[int, str], tell: Tell) -> None:
        for number in range(1, -(-self._sent.size // self._part_bytes) + 1):
            offset = (number - 1) * self._part_bytes
            if number not in parts:
                self._sent.file.seek(offset)
                body = self._sent.file.read(self._length(number))
                if len(body) != self._length(number):
                    raise TransferFailed(Blame.SITE, "the output became shorter")
                answer = self._store.call_s3("upload_part", **self._at, UploadId=upload, PartNumber=number, Body=body)
                parts[number] = answer["ETag"]
            tell(offset + self._length(number), self._sent.size)


# --- sftp and file --------------------------------------------------------------------------------------------------


def _beside(path: str, sha256: str) -> str:
    """Where the content of this hash grows before it gets the name `path`."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/.{name[:100]}.{sha256[:16]}.part"


def _send_sftp(store: Any, path: str, sent: Sent, tell: Tell) -> None:
    beside = _beside(path, sent.sha256)
    try:
        there = int(store.info(beside)["size"])
    except FileNotFoundError:
        there = 0
    # A server may carry out the requests of one write in any order: only what came before the last one is sure.
    there = max(0, there - READ_BYTES) if there <= sent.size else 0
    store.makedirs(path.rpartition("/")[0] or "/", exist_ok=True)
    with store.open(beside, "r+b" if there else "wb") as file:
        file.seek(there)
        for chunk in sent.chunks(there, tell):
            file.write(chunk)
    if int(store.info(beside)["size"]) != sent.size:
        store.rm_file(beside)
        raise TransferFailed(Blame.LUCK, "the server kept another number of bytes")
    store.mv(beside, path)


def _send_file(path: Path, sent: Sent, access: Access, tell: Tell) -> None:
    check_folder(path.parent, access.folders, "writes")
    parent = path.parent.resolve()
    parent.mkdir(parents=True, exist_ok=True)
    beside = Path(_beside(str(parent / path.name), sent.sha256))
    fd = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    with open(fd, "r+b") as file:
        there = os.fstat(fd).st_size
        if there > sent.size:
            file.truncate(there := 0)
        file.seek(there)
        for chunk in sent.chunks(there, tell):
            file.write(chunk)
        file.flush()
        os.fsync(fd)
        file.seek(0)
        if hashlib.file_digest(file, "sha256").hexdigest() != sent.sha256:
            beside.unlink()
            raise TransferFailed(Blame.LUCK, "what was written there is not the output")
    beside.rename(parent / path.name)
