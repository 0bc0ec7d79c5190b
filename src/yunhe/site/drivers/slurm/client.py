"""Slurm's commands, each bounded in time: a controller that hangs is one that does not answer."""

import asyncio
import logging
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from yunhe.core.errors import Unavailable
from yunhe.site.drivers.contract import LeaseKey
from yunhe.site.drivers.slurm.states import Stage, stage
from yunhe.site.settings import SlurmSettings

log = logging.getLogger(__name__)

PREFIX = "yunhe:"
# The name last: those of other jobs of this user may hold anything.
LISTED = "%A|%T|%k|%j"
NODES = "%P|%N|%c|%m|%T|%G|%f"
# Said by commands that may have reached the controller, or will another time. Anything else is a refusal.
PASSING = (
    "unable to contact",
    "timed out",
    "standby mode",
    "connection refused",
    "temporarily unable",
    "temporarily unavailable",
    "zero bytes",
    "communication connection failure",
    "munge",
    "authentication",
    "unexpected message",
    "transport endpoint",
    "resolving controller",
    "in startup",
)


def name_of(key: LeaseKey) -> str:
    return f"{PREFIX}{key.lease_id}:{key.epoch}"


def key_of(name: str) -> LeaseKey | None:
    lease_id, _, epoch = name.removeprefix(PREFIX).rpartition(":")
    return LeaseKey(lease_id, int(epoch)) if name.startswith(PREFIX) and lease_id and epoch.isdecimal() else None


@dataclass(frozen=True, slots=True)
class JobLine:
    """One job as Slurm lists it."""

    number: int
    state: str

    @property
    def stage(self) -> Stage:
        return stage(self.state)


@dataclass(frozen=True, slots=True)
class Listing:
    """All jobs of this site at one moment; `asked` is monotonic s when the question was put."""

    asked: float
    jobs: dict[LeaseKey, tuple[JobLine, ...]] = field(default_factory=dict)

    def of(self, key: LeaseKey) -> tuple[JobLine, ...]:
        return self.jobs.get(key, ())


@dataclass(frozen=True, slots=True)
class Submitted:
    """What sbatch said. `number` None: `refusal` says why not, or it is not known whether Slurm has it (empty)."""

    number: int | None
    refusal: str = ""


class SlurmClient:
    """`tag` marks the jobs of this site; others of the same user are none of ours."""

    def __init__(self, settings: SlurmSettings, tag: str) -> None:
        self._limit_s = settings.command_limit_ms / 1000
        self._tag = tag
        wanted = ("PATH", "HOME", "USER", "LOGNAME", "SLURM_CONF")
        # Nothing else: sbatch would hand it on to the job, and a SLURM_ variable of the agent's own is an option to it.
        self._environment = {name: os.environ[name] for name in wanted if name in os.environ} | {"LC_ALL": "C"}
        if settings.conf is not None:
            self._environment["SLURM_CONF"] = str(settings.conf)

    async def version(self) -> str:
        """As "22.05.8"; the controller is not asked."""
        return (await self._answer("sinfo", "--version")).strip().removeprefix("slurm ")

    async def nodes(self) -> str:
        """One line for each partition and node, in the order of `NODES`."""
        return await self._answer("sinfo", "--noheader", "--Node", "--all", f"--format={NODES}")

    async def listing(self) -> Listing:
        """Every job of this site that Slurm remembers, ended ones too, by one question."""
        asked = time.monotonic()
        user = str(os.geteuid())
        text = await self._answer(
            "squeue", "--noheader", "--all", "--states=all", f"--user={user}", f"--format={LISTED}"
        )
        return Listing(asked, parse_listing(text, self._tag))

    async def submit(self, options: Sequence[str], script: str) -> Submitted:
        """sbatch; whoever gets no clear answer looks for the job by its name later."""
        try:
            code, out, said = await self._run(("sbatch", "--parsable", f"--comment={self._tag}", *options), script)
        except Unavailable as error:
            log.warning("%s", error)
            return Submitted(None)
        number = out.strip().partition(";")[0]
        if code == 0 and number.isdecimal():
            return Submitted(int(number))
        if code == 0 or any(word in said.lower() for word in PASSING):
            log.warning("sbatch: %s", said)
            return Submitted(None)
        return Submitted(None, said or f"sbatch ended with status {code}")

    async def cancel(self, key: LeaseKey, *options: str) -> None:
        """By name, so that a number that Slurm has given to another job does no harm. Raises Unavailable."""
        await self._answer("scancel", "--quiet", f"--user={os.geteuid()}", f"--name={name_of(key)}", *options)

    async def _answer(self, *words: str) -> str:
        code, out, said = await self._run(words)
        if code != 0:
            raise Unavailable(f"{words[0]}: {said or f'status {code}'}")
        return out

    async def _run(self, words: Sequence[str], text: str = "") -> tuple[int, str, str]:
        """Exit status, output, and the last of the errors. Raises Unavailable when time is up or it is not there."""
        try:
            process = await asyncio.create_subprocess_exec(
                *words,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=self._environment,
                start_new_session=True,
            )
        except OSError as error:
            raise Unavailable(f"{words[0]}: {error.strerror}") from error
        try:
            async with asyncio.timeout(self._limit_s):
                out, errors = await process.communicate(text.encode())
        except TimeoutError:
            raise Unavailable(f"{words[0]} gave no answer in {self._limit_s:g} s") from None
        finally:
            if process.returncode is None:
                # The whole group: a wrapper's children would keep the pipes open.
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        said = errors.decode(errors="replace").strip()[-300:]
        assert process.returncode is not None
        return process.returncode, out.decode(errors="replace"), said


def parse_listing(text: str, tag: str) -> dict[LeaseKey, tuple[JobLine, ...]]:
    found: dict[LeaseKey, list[JobLine]] = {}
    for line in text.splitlines():
        number, state, comment, name = (*line.split("|", 3), "", "", "")[:4]
        key = key_of(name)
        if key is not None and comment == tag and number.isdecimal():
            found.setdefault(key, []).append(JobLine(int(number), state))
    return {key: tuple(sorted(jobs, key=lambda job: job.number)) for key, jobs in found.items()}
