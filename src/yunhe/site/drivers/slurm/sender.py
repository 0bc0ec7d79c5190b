"""What goes to the controller: leases that come together and want the same go as one job array."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence

from yunhe.core.errors import Unavailable
from yunhe.site.background import Background
from yunhe.site.crash import CrashPoint
from yunhe.site.drivers.contract import LeaseKey
from yunhe.site.drivers.slurm.batches import Batches
from yunhe.site.drivers.slurm.client import JobLine, SlurmClient
from yunhe.site.drivers.slurm.plan import Planner
from yunhe.site.drivers.slurm.verdict import Memory

log = logging.getLogger(__name__)
COMMANDS = 4  # at a time: slurmctld takes them one after the other
ARRAY_MAX = 1_000  # below Slurm's default of MaxArraySize
QUIET_S = 0.005  # no other lease came for so long
GATHER_S = 0.1  # and the first one waits no longer than this

Options = tuple[str, ...]


class Sender:
    """`wanted` leaves out leases that were stopped meanwhile; `refused` is told those that Slurm does not take."""

    def __init__(
        self,
        client: SlurmClient,
        batches: Batches,
        planner: Planner,
        wanted: Callable[[Sequence[LeaseKey]], list[LeaseKey]],
        refused: Callable[[LeaseKey, str], None],
        crash_point: CrashPoint,
    ) -> None:
        self._client, self._batches, self._planner = client, batches, planner
        self._wanted, self._refused, self._crash_point = wanted, refused, crash_point
        self._waiting: dict[Options, dict[LeaseKey, Memory]] = {}
        self._news = asyncio.Event()
        self._commands = asyncio.Semaphore(COMMANDS)
        self._background = Background("the Slurm driver")

    def place(self, key: LeaseKey, memory: Memory, options: Sequence[str]) -> None:
        """It goes within moments; that it went is seen in `memory`."""
        memory.placing = True
        self._waiting.setdefault(tuple(options), {})[key] = memory
        self._news.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._news.wait()
            await self._commands.acquire()  # while all are busy, more leases gather
            await self._quiet()
            options = next(iter(self._waiting))
            leases = self._waiting.pop(options)
            for key in list(leases)[ARRAY_MAX:]:
                self._waiting.setdefault(options, {})[key] = leases.pop(key)
            if not self._waiting:
                self._news.clear()
            self._background.start(self._place_all(leases, options))

    async def _quiet(self) -> None:
        until = time.monotonic() + GATHER_S
        count = -1
        while count != (count := sum(map(len, self._waiting.values()))) and time.monotonic() < until:
            await asyncio.sleep(QUIET_S)

    async def _place_all(self, leases: dict[LeaseKey, Memory], options: Options) -> None:
        try:
            await self._place(list(leases), leases, options)
        finally:
            self._commands.release()
            for memory in leases.values():
                memory.placing = False
                memory.placed = time.monotonic()
                memory.missed_since = None

    async def _place(self, keys: list[LeaseKey], leases: dict[LeaseKey, Memory], options: Options) -> str:
        """One sbatch for all; why it is refused, or nothing. Without a clear answer, jobs are looked for by name."""
        name, keys = await asyncio.to_thread(self._make, keys)
        if not keys:
            return ""
        path = self._batches.path(name)
        words = [*options, f"--chdir={path}", f"--output={path}/slurm.out"]
        words += [f"--array=0-{len(keys) - 1}"] if len(keys) > 1 else []
        submitted = await self._client.submit(name, words, self._planner.script(path))
        if len(keys) == 1 or not submitted.refusal:  # an array that is refused is tried in parts
            for key in keys:
                leases[key].tries += 1
        self._crash_point("driver.asked")
        if submitted.number is not None:
            for key in keys:
                leases[key].acknowledged = True
            await asyncio.to_thread(self._batches.note_number, name, submitted.number)
        elif submitted.refusal and len(keys) == 1:
            await asyncio.to_thread(self._refused, keys[0], submitted.refusal)
        elif submitted.refusal:
            # Perhaps it is only the array that is too large: for this Slurm, or for what its user may have.
            refusal = await self._place(keys[:1], leases, options)
            half = (len(keys) + 1) // 2
            for part in (keys[1:half], keys[half:]):
                if refusal:
                    await asyncio.to_thread(self._refuse_all, part, refusal)
                else:
                    await self._place(part, leases, options)
        return submitted.refusal

    def _make(self, keys: Sequence[LeaseKey]) -> tuple[str, list[LeaseKey]]:
        wanted = self._wanted(keys)
        return (self._batches.make(wanted) if wanted else ""), wanted

    def _refuse_all(self, keys: Sequence[LeaseKey], refusal: str) -> None:
        for key in keys:
            self._refused(key, refusal)

    # --- cancels --------------------------------------------------------------------------------------------------

    def cancel(self, batch: str) -> None:
        """All of it: none of its leases is wanted any more."""
        self._background.start(self._told(batch, lambda: self._client.cancel(batch)))

    def stop(self, job: JobLine) -> None:
        """One that runs."""
        self._background.start(self._told(job.id, lambda: self._client.stop(job)))

    async def _told(self, what: str, command: Callable[[], Coroutine[object, object, None]]) -> None:
        try:
            async with self._commands:
                await command()
        except Unavailable as error:  # the step sees the link, and what is left over is looked at again
            log.warning("%s: %s", what, error)

    async def close(self) -> None:
        await self._background.close()
