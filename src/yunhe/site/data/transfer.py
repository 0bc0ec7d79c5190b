"""One transfer: `python -m yunhe.site.data.transfer`, started by `child.py`. A job in, lines of JSON out.

stdin    one line, a Job; its end is the end of this process: an agent that is gone has no use for it
stdout   {"done": BYTES, "total": BYTES or null} as it goes on, then {"ok": {...}} or {"failed": BLAME, "text": ...}
"""

import json
import os
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx

from yunhe.site.data.failure import Blame, TransferFailed
from yunhe.site.data.guard import AddressRefused, Guard
from yunhe.site.data.layout import UPLOAD
from yunhe.site.data.receive import Wanted, receive
from yunhe.site.data.sources import Access, source_of
from yunhe.site.data.targets import Sent, abandon, send

TELL_S = 0.2
MAX_TEXT = 300


class _Teller:
    """Says how far it is, now and then: the agent takes silence for a transfer that hangs."""

    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self, done: int, total: int | None) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + TELL_S
            say({"done": done, "total": total})


def say(message: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def work(job: dict[str, Any]) -> dict[str, object]:
    """The answer to a job. Raises TransferFailed, and whatever the libraries raise."""
    access = Access(tuple(job["folders"]), job["options"], job["known_hosts"])
    folder, tell = Path(job["folder"]), _Teller()
    if job["direction"] == "in":
        wanted = Wanted(job["size"], job["sha256"], job["limit_bytes"], job["known"])
        return asdict(receive(source_of(job["url"], access), folder, wanted, tell))
    if job["direction"] == "abandon":
        abandon(access, folder / UPLOAD)
        return {}
    folder.mkdir(parents=True, exist_ok=True)
    with open(job["fd"], "rb") as file:
        send(job["url"], Sent(file, job["size"], job["sha256"]), access, folder / UPLOAD, tell)
    return {}


def judge(error: Exception, guard: Guard) -> TransferFailed:
    """What a library's error means. Its text is not told: it may hold the whole URL."""
    refusal = error if isinstance(error, AddressRefused) else guard.refusal
    if refusal is not None:
        return TransferFailed(Blame.ORDER if refusal.everywhere else Blame.SITE, str(refusal))
    if isinstance(error, TransferFailed):
        return error
    match error:
        case FileNotFoundError():
            return TransferFailed(Blame.ORDER, "there is no such file or folder")
        case PermissionError():
            return TransferFailed(Blame.ORDER, "access is denied")
        case httpx.UnsupportedProtocol() | httpx.TooManyRedirects() | httpx.InvalidURL():
            return TransferFailed(Blame.ORDER, "it redirects in circles or to another protocol")
    why = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
    return TransferFailed(Blame.LUCK, f"the connection failed: {why}"[:MAX_TEXT])


def _end_with_agent() -> None:
    while sys.stdin.buffer.read(1):
        pass
    os._exit(3)


def main() -> None:
    job: dict[str, Any] = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_agent, daemon=True).start()
    guard = Guard(job["allow_networks"])
    guard.install()
    try:
        say({"ok": work(job)})
    except Exception as error:  # noqa: BLE001 - the libraries have errors without number, and each is judged
        failure = judge(error, guard)
        say({"failed": failure.blame, "text": failure.text[:MAX_TEXT]})
    sys.stdout.flush()
    os._exit(0)  # connections in other threads may take their time to close


if __name__ == "__main__":
    main()
