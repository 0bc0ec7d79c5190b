"""What really ran, told by the jobs themselves and by nobody else.

Each job writes to one named pipe: a line when its code begins, one every 50 ms, one at its end. The pipe is exposed to
the sandbox read-only; the kernel lets a pipe be written there all the same. A killed job leaves no last line, so a run
lasts from its first line to the last one that was heard.
"""

import asyncio
import fcntl
import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

BEAT_MS = 50
PIPE_BYTES = 1 << 20
VARIABLE = "WITNESS"
HUSH = "HUSH"  # SHA-256 of the secret TOKEN, for orders that have one

# argv: seconds to run, exit status. Times are CLOCK_BOOTTIME in microseconds: one clock for all processes of the host.
PROGRAM = f"""
import os, sys, time
pipe = os.open(os.environ["{VARIABLE}"], os.O_WRONLY)
nonce = os.urandom(6).hex()
head = os.environ["YUNHE_LEASE"] + " " + os.environ["YUNHE_RANK"] + " " + nonce
def tell(word):
    os.write(pipe, f"{{word}} {{head}} {{time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000}}\\n".encode())
tell("start")
if "{HUSH}" in os.environ:
    from hashlib import sha256
    with open(os.environ["YUNHE_SECRETS"] + "/TOKEN", "rb") as file:
        if sha256(file.read()).hexdigest() != os.environ["{HUSH}"]:
            sys.exit(77)
print("begin", nonce, flush=True)
until = time.monotonic() + float(sys.argv[1])
while (left := until - time.monotonic()) > 0:
    time.sleep(min({BEAT_MS / 1000}, left))
    tell("beat")
print("end", nonce, flush=True)
open("result.txt", "w").write(nonce)
tell("end")
sys.exit(int(sys.argv[2]))
"""


@dataclass
class Run:
    """One process of a job. Times in microseconds of CLOCK_BOOTTIME."""

    task: str  # lease id: the same for all attempts
    epoch: int
    rank: int  # of a gang
    nonce: str
    start_us: int
    last_us: int
    ended: bool = False

    @property
    def wall_ms(self) -> int:
        return (self.last_us - self.start_us) // 1000


class Witness:
    """Hears all jobs; keeps every line in `folder`/witness.log for the autopsy."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
        self.folder = folder
        self.pipe = folder / "pipe"
        self.runs: dict[str, Run] = {}
        self._rest = b""
        self._fd = -1
        self._log = (folder / "witness.log").open("ab")

    def open(self) -> None:
        os.mkfifo(self.pipe)
        self.pipe.chmod(0o666)
        # Also open for writing: the pipe never ends, and no job waits for a reader.
        self._fd = os.open(self.pipe, os.O_RDWR | os.O_NONBLOCK)
        fcntl.fcntl(self._fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        asyncio.get_running_loop().add_reader(self._fd, self._hear)

    def close(self) -> None:
        if self._fd >= 0:
            self._hear()
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
        self._log.close()

    def _hear(self) -> None:
        while True:
            try:
                data = os.read(self._fd, 1 << 16)
            except BlockingIOError:
                return
            self._log.write(data)
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                self._note(line.decode())

    def _note(self, line: str) -> None:
        word, lease, rank, nonce, at = line.split()
        task, _, epoch = lease.rpartition(".")
        run = self.runs.get(nonce)
        if run is None:
            run = self.runs[nonce] = Run(task, int(epoch), int(rank), nonce, int(at), int(at))
        run.last_us = int(at)
        run.ended = word == "end"

    def of_tasks(self) -> dict[tuple[str, int], list[Run]]:
        """All runs of a task's rank, by their start."""
        found: dict[tuple[str, int], list[Run]] = defaultdict(list)
        for run in sorted(self.runs.values(), key=lambda r: r.start_us):
            found[run.task, run.rank].append(run)
        return found
