"""The round's own process. It imports the decision and nothing else of the hub, so it is small and starts at once.

Snapshots go to its standard input and plans come from its standard output, each with its length before it.  It ends
when its input ends: a hub that was killed leaves no worker behind.
"""

import asyncio
import gc
import pickle
import signal
import struct
import sys
import traceback
from asyncio.subprocess import PIPE, Process
from typing import BinaryIO

from yunhe.core.errors import Unavailable, YunheError
from yunhe.core.policy import Policy
from yunhe.core.round import Plan, Snapshot, plan_round

_LENGTH = struct.Struct("<Q")
_PROGRAM = "from yunhe.hub.matching.worker import main; main()"
_BUFFER_BYTES = 1 << 20


class RoundFailed(Exception):
    """The round itself broke; the text is the worker's traceback."""


class RoundWorker:
    """The hub's end. One question at a time."""

    def __init__(self) -> None:
        self._process: Process | None = None

    async def start(self) -> None:
        """So that the first round need not wait for it. A worker that has ended is started anew by the next `plan`."""
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", _PROGRAM, stdin=PIPE, stdout=PIPE, limit=_BUFFER_BYTES
            )

    def stop(self) -> None:
        """Also in the middle of a plan that nobody waits for any more."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.kill()

    async def plan(self, snapshot: Snapshot, policy: Policy, now_ms: int, seed: int, limit_s: float) -> Plan:
        """`core.round.plan_round` in the worker.

        Raises TimeoutError after `limit_s`, Unavailable when the worker has ended, RoundFailed for a mistake of ours.
        """
        question = await asyncio.to_thread(pickle.dumps, (snapshot, policy, now_ms, seed), pickle.HIGHEST_PROTOCOL)
        try:
            async with asyncio.timeout(limit_s):
                await self.start()
                answer = await self._ask(question)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            self.stop()
            raise Unavailable("the round's worker process ended", hint="another one is started") from error
        except BaseException:  # also when this task is cancelled
            self.stop()
            raise
        found = pickle.loads(answer)
        if isinstance(found, Plan):
            return found
        if isinstance(found, YunheError):
            raise found
        raise RoundFailed(str(found))

    async def _ask(self, question: bytes) -> bytes:
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        process.stdin.write(_LENGTH.pack(len(question)))
        process.stdin.write(question)
        await process.stdin.drain()
        (length,) = _LENGTH.unpack(await process.stdout.readexactly(_LENGTH.size))
        return await process.stdout.readexactly(length)


# --- in the worker ------------------------------------------------------------------------------------------------


def main() -> None:
    """Answer until the input ends."""
    # Ctrl-C on a terminal reaches the whole group; the hub itself ends its worker.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()  # what was imported is not walked again by every collection
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    while (question := _read(source)) is not None:
        answer = pickle.dumps(_answer(question), pickle.HIGHEST_PROTOCOL)
        try:
            sink.write(_LENGTH.pack(len(answer)))
            sink.write(answer)
            sink.flush()
        except BrokenPipeError:  # the hub has gone
            return


def _read(source: BinaryIO) -> bytes | None:
    """None at the end of the input, also in the middle of a question."""
    head = source.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    question = source.read(length)
    return question if len(question) == length else None


def _answer(question: bytes) -> Plan | YunheError | str:
    try:
        snapshot, policy, now_ms, seed = pickle.loads(question)
        return plan_round(snapshot, policy, now_ms, seed)
    except YunheError as error:
        return error
    except Exception:  # noqa: BLE001 - the hub logs it and goes on without a round
        return traceback.format_exc()
