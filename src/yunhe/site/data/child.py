"""One transfer as seen by the agent: a process that is watched, and killed when it hangs or is no longer wanted."""

import asyncio
import json
import os
import sys
from collections.abc import Callable
from typing import Any

from yunhe.site.data.failure import Blame, TransferFailed

LINE_BYTES = 64 * 1024
# Nothing of the agent's environment: a library would take proxies, accounts and endpoints from it.
ENVIRONMENT = {
    "PATH": os.defpath,
    "HOME": "/nonexistent",
    "LANG": "C.UTF-8",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
Progress = Callable[[int, int | None], None]  # bytes so far, of how many


async def run(job: dict[str, object], progress: Progress, stall_ms: int, fd: int | None = None) -> dict[str, Any]:
    """The child's answer. Raises TransferFailed. `fd` is handed on to the child. Cancelled: the child is killed."""
    try:
        process = await _start(fd)
    except OSError as error:
        raise TransferFailed(Blame.LUCK, f"no process can be started: {error.strerror}") from None
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(json.dumps(job).encode() + b"\n")  # stays open: its end is the end of the child
        return await _listen(process.stdout, progress, stall_ms)
    except TimeoutError:
        raise TransferFailed(Blame.LUCK, f"nothing came for {stall_ms // 1000} s") from None
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _start(fd: int | None) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-m",
        "yunhe.site.data.transfer",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,  # libraries write whole URLs there
        env=ENVIRONMENT,
        pass_fds=() if fd is None else (fd,),
        limit=LINE_BYTES,
    )


async def _listen(out: asyncio.StreamReader, progress: Progress, stall_ms: int) -> dict[str, Any]:
    while True:
        async with asyncio.timeout(stall_ms / 1000):
            try:
                line = await out.readline()
            except ValueError:
                raise TransferFailed(Blame.LUCK, "the transfer's process says too much") from None
        try:
            message = json.loads(line)
        except ValueError:
            raise TransferFailed(Blame.LUCK, "the transfer's process was killed") from None
        if "ok" in message:
            answer: dict[str, Any] = message["ok"]
            return answer
        if "failed" in message:
            raise TransferFailed(Blame(message["failed"]), message["text"])
        progress(message["done"], message["total"])
