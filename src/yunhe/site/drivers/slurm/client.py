"""Slurm's commands, each bounded in time: a controller that hangs is one that does not answer."""

import asyncio
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from yunhe.core.errors import Unavailable
from yunhe.site.drivers.contract import LeaseKey
from yunhe.site.drivers.nodes.verdict import Stage
from yunhe.site.drivers.slurm.states import stage
from yunhe.site.settings import SlurmSettings

log = logging.getLogger(__name__)

Members = Callable[[str], Sequence[LeaseKey]]  # of a batch, in the order of their indices
PREFIX = "yunhe:"
# The name last: those of other jobs of this user may hold anything.
LISTED = "%F|%K|%T|%k|%j"
NODES = (
    "Partition:|,NodeList:|,CPUs:|,CPUsState:|,Memory:|,AllocMem:|,Available:|,StateLong:|,Gres:|,GresUsed:|,Features:|"
)
# Of the whole job. Energy in joules, which only some centres measure (AcctGatherEnergyType).
ACCOUNTED = "JobID,State,ElapsedRaw,End,ConsumedEnergyRaw,JobName"
ACCOUNT_DAYS = 30
NO_ENERGY = 1 << 62
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


@dataclass(frozen=True, slots=True)
class JobLine:
    """One job, or one element of a job array, as Slurm lists it."""

    batch: str
    number: int
    element: str  # its index in the array; empty: not an array
    state: str

    @property
    def id(self) -> str:
        return f"{self.number}_{self.element}" if self.element else str(self.number)

    @property
    def stage(self) -> Stage:
        return stage(self.state)


@dataclass(frozen=True, slots=True)
class AccountLine(JobLine):
    """As Slurm accounts for it, in whole seconds. `ran_s`: how long it held its nodes, suspensions left out."""

    ran_s: int = 0
    end_s: int = 0  # UTC
    energy_joules: int | None = None  # None: not measured

    def ran_ms(self, started_utc_ms: int) -> int:
        """How long it surely ran since then: what a prolog took before is left out, and so are begun seconds."""
        return max(0, min(self.ran_s * 1000 - 1000, self.end_s * 1000 - started_utc_ms))


@dataclass(frozen=True, slots=True)
class Listing:
    """All jobs of this site at one moment; `asked` is monotonic s when the question was put. `strays`: batches of this
    site that wait or run, and of which nothing is known here."""

    asked: float
    jobs: dict[LeaseKey, tuple[JobLine, ...]] = field(default_factory=dict)
    strays: frozenset[str] = frozenset()

    def of(self, key: LeaseKey) -> tuple[JobLine, ...]:
        return self.jobs.get(key, ())


Accounts = dict[LeaseKey, tuple[AccountLine, ...]]


@dataclass(frozen=True, slots=True)
class Submitted:
    """What sbatch said. `number` None: `refusal` says why not, or it is not known whether Slurm has it (empty)."""

    number: int | None
    refusal: str = ""


class SlurmClient:
    """`tag` marks the jobs of this site; others of the same user are none of ours."""

    def __init__(self, settings: SlurmSettings, tag: str) -> None:
        self._limit_s = settings.command_limit_ms / 1000
        self._interval_s = settings.listing_interval_ms / 1000
        self._tag = tag
        self._turn = asyncio.Lock()
        self._next_turn = 0.0
        wanted = ("PATH", "HOME", "USER", "LOGNAME", "SLURM_CONF")
        # Nothing else: sbatch would hand it on to the job, and a SLURM_ variable of the agent's own is an option to it.
        self._environment = {name: os.environ[name] for name in wanted if name in os.environ}
        self._environment |= {"LC_ALL": "C", "SLURM_BITSTR_LEN": "0"}  # an array's indices are not to be cut short
        if settings.conf is not None:
            self._environment["SLURM_CONF"] = str(settings.conf)

    async def version(self) -> str:
        """As "22.05.8"; the controller is not asked."""
        return (await self._answer("sinfo", "--version")).strip().removeprefix("slurm ")

    async def nodes(self) -> str:
        """One line for each partition and node, in the order of `NODES`."""
        async with self._in_turn():
            return await self._answer("sinfo", "--noheader", "--Node", "--all", f"--Format={NODES}")

    async def listing(self, members: Members) -> Listing:
        """Every job of this site that Slurm remembers, ended ones too, by one question."""
        options = ("--noheader", "--all", "--array", "--states=all", f"--user={os.geteuid()}", f"--format={LISTED}")
        async with self._in_turn():
            asked = time.monotonic()
            text = await self._answer("squeue", *options)
        return parse_listing(text, self._tag, members, asked)

    async def accounted(self, batches: Sequence[str], members: Members) -> Accounts:
        """What the accounts say of these; the controller is not asked. Raises Unavailable, also without any."""
        names = ",".join(f"{PREFIX}{batch}" for batch in batches)
        text = await self._answer(
            *("sacct", "--noheader", "--parsable2", "--allocations", f"--user={os.geteuid()}", f"--name={names}"),
            *(f"--starttime=now-{ACCOUNT_DAYS}days", f"--format={ACCOUNTED}"),
            SLURM_TIME_FORMAT="%s",
        )
        return parse_accounts(text, members)

    @asynccontextmanager
    async def _in_turn(self) -> AsyncIterator[None]:
        """The controller gets one question at a time, and a pause after the start of each."""
        async with self._turn:
            await asyncio.sleep(self._next_turn - time.monotonic())
            self._next_turn = time.monotonic() + self._interval_s
            yield

    async def submit(self, batch: str, options: Sequence[str], script: str) -> Submitted:
        """sbatch; whoever gets no clear answer looks for the job by its name later."""
        marks = (f"--job-name={PREFIX}{batch}", f"--comment={self._tag}")
        try:
            code, out, said = await self._run(("sbatch", "--parsable", *marks, *options), script)
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

    async def cancel(self, batch: str) -> None:
        """All of it. By name, so that a number that Slurm has given to another job does no harm. Raises Unavailable."""
        await self._answer("scancel", "--quiet", f"--user={os.geteuid()}", f"--name={PREFIX}{batch}")

    async def stop(self, job: JobLine) -> None:
        """One that runs. Raises Unavailable.

        Never one that waits: with a name beside an index, scancel of 22.05 cancels every element that waits.
        """
        state = job.state if job.state in ("RUNNING", "SUSPENDED") else "RUNNING"
        name = f"--name={PREFIX}{job.batch}"
        await self._answer("scancel", "--quiet", f"--user={os.geteuid()}", name, f"--state={state}", job.id)

    async def _answer(self, *words: str, **environment: str) -> str:
        code, out, said = await self._run(words, **environment)
        if code != 0:
            raise Unavailable(f"{words[0]}: {said or f'status {code}'}")
        return out

    async def _run(self, words: Sequence[str], text: str = "", **environment: str) -> tuple[int, str, str]:
        """Exit status, output, and the last of the errors. Raises Unavailable when time is up or it is not there."""
        try:
            process = await asyncio.create_subprocess_exec(
                *words,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=self._environment | environment,
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
                with suppress(ProcessLookupError):  # it has ended by itself just now
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        said = errors.decode(errors="replace").strip()[-300:]
        assert process.returncode is not None
        return process.returncode, out.decode(errors="replace"), said


def parse_listing(text: str, tag: str, members: Members, asked: float = 0.0) -> Listing:
    found: dict[LeaseKey, list[JobLine]] = {}
    strays = set()
    for line in text.splitlines():
        number, element, state, comment, name = (*line.split("|", 4), "", "", "", "")[:5]
        if comment != tag or not name.startswith(PREFIX) or not number.isdecimal():
            continue
        job = JobLine(name.removeprefix(PREFIX), int(number), element if element.isdecimal() else "", state)
        keys, index = members(job.batch), int(job.element or 0)
        if index < len(keys):
            found.setdefault(keys[index], []).append(job)
        elif job.stage is not Stage.OVER:
            strays.add(job.batch)
    jobs = {key: tuple(sorted(of_key, key=lambda job: job.number)) for key, of_key in found.items()}
    return Listing(asked, jobs, frozenset(strays))


def parse_accounts(text: str, members: Members) -> Accounts:
    """Lines of "12_3|CANCELLED by 1000|61|1790000000|0|yunhe:BATCH", the newest last. Elements that never began stand
    together and tell nothing; an energy of nothing, of 0 and of more than there can be (Slurm's NO_VAL64) is none."""
    found: dict[LeaseKey, list[AccountLine]] = {}
    for line in text.splitlines():
        job_id, state, ran_s, end_s, joules, name = (*line.split("|", 5), *[""] * 5)[:6]
        number, _, element = job_id.partition("_")
        keys = members(name.removeprefix(PREFIX)) if name.startswith(PREFIX) else ()
        if not number.isdecimal() or not (element or "0").isdecimal() or not state or int(element or 0) >= len(keys):
            continue
        energy = int(joules) if joules.isdecimal() and 0 < int(joules) < NO_ENERGY else None
        ran, end = (int(text) if text.isdecimal() else 0 for text in (ran_s, end_s))
        job = AccountLine(name.removeprefix(PREFIX), int(number), element, state.split()[0], ran, end, energy)
        found.setdefault(keys[int(element or 0)], []).append(job)
    return {key: tuple(sorted(jobs, key=lambda job: job.number)) for key, jobs in found.items()}
