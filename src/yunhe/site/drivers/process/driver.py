"""Jobs as processes of this host. One supervisor per job; it outlives this driver and the agent."""

import asyncio
import hashlib
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import Sequence
from pathlib import Path

from yunhe.core.lifecycle import EndReason
from yunhe.site import certify, discover
from yunhe.site.crash import CrashPoint, no_crash
from yunhe.site.drivers.contract import Isolation, Job, LeaseKey, Phase, SpawnFailed, Status
from yunhe.site.drivers.lease_dir import LeaseDir, LeaseFiles, remove_tree
from yunhe.site.drivers.process import cgroups, sandbox
from yunhe.site.drivers.process.isolation import FIRST_UID, Hold, probe
from yunhe.site.drivers.process.local_use import LocalUse
from yunhe.site.drivers.process.secrets import JobSecrets, give_up_unbegun
from yunhe.site.drivers.saved import Saved
from yunhe.site.settings import DriverSettings
from yunhe.site.supervisor.leftovers import remove_of
from yunhe.site.supervisor.records import Cgroup, Spec
from yunhe.site.supervisor.seat import NAME
from yunhe.wire.link import PoolDigest, PoolReport

log = logging.getLogger(__name__)
SUPERVISOR = Path(__file__).parents[2] / "supervisor"
LOCK_FILE = "agent.lock"  # held by the agent of a data directory while it lives
PATH = "/usr/local/bin:/usr/bin:/bin"
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
ALIVE_TRIES = 40
TRY_PAUSE_S = 0.05


class ProcessDriver(LeaseFiles):
    """`data_dir` holds `leases/`, `contact` (written by the agent), and nothing that a job may read."""

    delivers_secrets = True
    yields_units = True

    def __init__(
        self, settings: DriverSettings, site_id: str, data_dir: Path, crash_point: CrashPoint = no_crash
    ) -> None:
        self._settings = settings
        self.gives_network = settings.allow_network
        self._crash_point = crash_point
        self._data_dir = data_dir.absolute()
        self._leases = self._data_dir / "leases"
        tag = hashlib.sha256(str(self._data_dir).encode()).hexdigest()[:16]
        self._group = f"yunhe-{site_id}-{tag[:6]}"
        self._notify = f"yunhe/{tag}"
        self._secrets = JobSecrets(tag)
        self._expose = sandbox.prefixes(settings.expose)
        self._hold = Hold(None, None, drop_uid=False, python=None)
        self._share = discover.Share(0, 0)
        self._local_use = LocalUse(settings, self._data_dir)
        self._launcher: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._news: set[LeaseKey] = set()
        self._bell = asyncio.Event()
        self._asked: dict[LeaseKey, float] = {}  # when a supervisor was asked for, monotonic seconds
        self._ended: dict[LeaseKey, Status] = {}

    # --- open and close -------------------------------------------------------------------------------------------

    async def open(self) -> Isolation:
        """Raises InvalidInput when the stated share is more than the machine has, OSError for an unusable folder."""
        await asyncio.to_thread(self._open)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind("\0" + self._notify)
        asyncio.get_running_loop().add_reader(self._socket, self._heard, self._socket)
        return self._hold.isolation

    def _open(self) -> None:
        self._share = discover.share(self._settings)
        self._local_use.open(self._share)
        self._leases.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._hold = probe(self._group, self._data_dir, self._settings.isolation, self._expose)
        if self._hold.layout:
            self._hold.layout.sweep()
            cgroups.share_limits(self._hold.layout, self._share.memory_bytes, self._share.milli)
        for key in self._folders():
            give_up_unbegun(self._folder(key))
        self._secrets.sweep(self._running)
        self._launch(b"")

    def _running(self, key: LeaseKey) -> bool:
        folder = self._folder(key)
        return folder.claimed and folder.supervisor_alive()

    async def close(self) -> None:
        """Supervisors and their jobs go on."""
        if self._socket:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
        if self._launcher and self._launcher.stdin:
            self._launcher.stdin.close()
            await asyncio.to_thread(self._launcher.wait)
        if self._hold.layout:
            await asyncio.to_thread(self._hold.layout.sweep)
            await asyncio.to_thread(self._hold.layout.remove_site)

    def _heard(self, sock: socket.socket) -> None:
        while True:
            try:
                text = sock.recv(200).decode(errors="replace")
            except BlockingIOError:
                return
            key = LeaseKey.parse(text)
            if key is not None:
                self._news.add(key)
                self._bell.set()

    # --- supply -----------------------------------------------------------------------------------------------------

    async def discover(self) -> tuple[PoolReport, ...]:
        return (await asyncio.to_thread(discover.cpu_pool, self._settings, self._share),)

    async def foreign(self) -> tuple[PoolDigest, ...]:
        return (await asyncio.to_thread(self._local_use.look),)

    async def certify(self) -> tuple[PoolReport, ...]:
        """The benchmark runs as a job of its own: same sandbox, same limits."""
        (pool,) = await self.discover()
        return (await certify.certify(self, pool),)

    # --- jobs -------------------------------------------------------------------------------------------------------

    def _folder(self, key: LeaseKey) -> LeaseDir:
        return LeaseDir(self._leases / str(key))

    async def submit(self, job: Job) -> None:
        await asyncio.to_thread(self._submit, job)

    def _submit(self, job: Job) -> None:
        folder = self._folder(job.key)
        if not folder.prepared:
            spec, env = self._spec(job)
            try:
                saved = Saved(plan.folder, job.checkpoint) if (plan := job.lease.checkpoint) else None
                folder.prepare(spec, sandbox.env_file(env), job.files, self._uid(job.key), job.data, saved=saved)
            except OSError as error:
                raise SpawnFailed(f"the job's folder cannot be made: {error}") from error
        self._crash_point("driver.prepared")
        if not folder.claimed:
            self._asked[job.key] = time.monotonic()
            self._secrets.hold(job.key, job.secrets)
            self._launch(self._secrets.line(folder, job.key))
        self._crash_point("driver.launched")

    def _uid(self, key: LeaseKey) -> int | None:
        """A user of its own for each lease where the agent may give one: jobs cannot touch each other's files.

        The folder is part of it: several sites of one host may know leases of the same name.
        """
        name = f"{self._data_dir}/{key}".encode()
        return FIRST_UID + (zlib.crc32(name) & 0x0FFFFFFF) if self._hold.drop_uid else None

    def _launch(self, lines: bytes) -> None:
        """Ask the launcher for supervisors; a launcher that died is replaced."""
        for _ in range(2):
            if self._launcher is None or self._launcher.poll() is not None:
                with open(self._data_dir / "launcher.err", "ab") as errors:
                    self._launcher = subprocess.Popen(
                        [
                            sys.executable,
                            "-I",
                            "-S",
                            str(SUPERVISOR),
                            "--launcher",
                            str(self._data_dir / LOCK_FILE),
                            *self._seat_dirs(),
                        ],
                        stdin=subprocess.PIPE,
                        stdout=errors,
                        stderr=errors,
                        start_new_session=True,
                        env={"PATH": PATH},
                    )
            assert self._launcher.stdin is not None
            try:
                self._launcher.stdin.write(lines)
                self._launcher.stdin.flush()
                return
            except BrokenPipeError:
                self._launcher = None
        raise SpawnFailed("the launcher of supervisors ends at once; see launcher.err")

    def _spec(self, job: Job) -> tuple[Spec, dict[str, str]]:
        """Raises SpawnFailed for a lease that this pool cannot hold."""
        lease, settings, hold = job.lease, self._settings, self._hold
        folder = self._folder(job.key).path
        milli = lease.slots * lease.slot_milli
        memory = lease.slots * lease.slot_memory_bytes or self._share.memory_bytes * milli // self._share.milli
        if lease.pool != settings.pool:
            raise SpawnFailed(f"this site has no pool {lease.pool!r}")
        if milli > self._share.milli or memory > self._share.memory_bytes:
            raise SpawnFailed(f"{milli} milli-cores and {memory} bytes are more than the pool has")
        uid = self._uid(job.key)
        env = self._env(job, folder)
        if hold.python is None and lease.slots > 1:
            raise SpawnFailed("gangs need a Python that the jobs' user can reach; there is none")
        if lease.network and not settings.allow_network:
            raise SpawnFailed("this site gives jobs no network (driver.allow_network)")
        argv = sandbox.gang(lease.command, lease.slots, hold.python or "")
        words: list[str] = []
        if hold.bwrap:
            wants = sandbox.Wants(memory, lease.network, bool(job.secrets))
            words = sandbox.argv(hold.bwrap, folder, self._expose, self._data_dir, wants)
            argv = sandbox.inside(argv, uid, settings.pids_limit, sandbox.SECRETS_INSIDE if job.secrets else "")
        limits = [("RLIMIT_CORE", 0), ("RLIMIT_FSIZE", settings.file_limit_bytes)]
        if uid is not None and not hold.layout:
            limits.append(("RLIMIT_NPROC", settings.pids_limit))
        spec = Spec(
            key=str(job.key),
            argv=argv,
            env={"PATH": PATH} if hold.bwrap else env,
            cwd=str(folder / "job"),
            sandbox=words,
            uid=None if hold.bwrap else uid,
            cgroup=self._cgroup(memory, milli),
            rlimits=limits,
            memory_limit_bytes=memory,
            pids_limit=settings.pids_limit,
            run_limit_ms=lease.run_limit_ms,
            disconnect_limit_ms=lease.disconnect_limit_ms,
            contact_ms=job.contact_ms,
            contact_path=str(self._data_dir / "contact"),
            term_grace_ms=settings.term_grace_ms,
            log_cap_bytes=lease.log_cap_bytes,
            sample_ms=settings.sample_ms,
            usage_write_ms=settings.usage_write_ms,
            notify=self._notify,
        )
        if job.secrets:
            spec["secrets"] = env["YUNHE_SECRETS"]
        if lease.checkpoint:
            spec["notice"] = (signal.Signals[lease.checkpoint.signal], job.notice_ms)
        return spec, env

    def _cgroup(self, memory: int, milli: int) -> Cgroup | None:
        layout = self._hold.layout
        return layout.lease(NAME, memory, milli, self._settings.pids_limit) if layout else None

    def _seat_dirs(self) -> list[str]:
        group = self._cgroup(0, 0)
        return group["dirs"] if group else []

    def _env(self, job: Job, folder: Path) -> dict[str, str]:
        sandboxed = self._hold.bwrap is not None
        home = sandbox.JOB_INSIDE if sandboxed else str(folder / "job")
        threads = str(max(1, job.lease.slot_milli // 1000))
        return {
            "PATH": f"{sys.prefix}/bin:{PATH}" if self._hold.python == sys.executable else PATH,
            "HOME": home,
            # A user of the job's own has no way through the agent's folder; what it leaves in /tmp is removed.
            "TMPDIR": "/tmp" if sandboxed or self._hold.drop_uid else str(folder / "tmp"),
            "USER": "job",
            "LANG": "C.UTF-8",
            **dict.fromkeys(THREADS, threads),
            **job.lease.env,
            "YUNHE_LEASE": str(job.key),
            "YUNHE_RANK": "0",
            "YUNHE_SIZE": str(job.lease.slots),
            **({"YUNHE_CHECKPOINT": f"{home}/{plan.folder}"} if (plan := job.lease.checkpoint) else {}),
            **({"YUNHE_SECRETS": self._secrets.folder(job.key, sandboxed)} if job.secrets else {}),
        }

    # --- what became of them ----------------------------------------------------------------------------------------

    async def observe(self, keys: Sequence[LeaseKey]) -> dict[LeaseKey, Status]:
        return await asyncio.to_thread(lambda: {key: self._observed(key) for key in keys})

    def _observed(self, key: LeaseKey) -> Status:
        """One folder that cannot be read says nothing about the job in it, and nothing about the others."""
        try:
            return self._observe(key)
        except (OSError, ValueError) as error:
            log.warning("%s: its folder cannot be read: %s", key, error)
            return Status(Phase.UNKNOWN)

    def _observe(self, key: LeaseKey) -> Status:
        if key in self._ended:
            return self._ended[key]
        folder = self._folder(key)
        claimed = folder.claimed
        if claimed:
            self._secrets.drop(key)
        alive = claimed and folder.supervisor_alive()
        status = folder.status()  # after the look at the lock: an end written meanwhile is seen
        if status.phase is Phase.ENDED:
            self._ended[key] = status
        elif claimed and not alive:
            self._kill_leftovers(key, folder)
            folder.record_loss()
            return self._observe(key)
        elif status.phase is Phase.ACCEPTED and not claimed:
            asked = self._asked.get(key, 0.0)
            if time.monotonic() - asked > self._settings.claim_wait_ms / 1000:
                self._asked[key] = time.monotonic()
                self._launch(self._secrets.line(folder, key))
        return status

    def _kill_leftovers(self, key: LeaseKey, folder: LeaseDir) -> None:
        """The job dies with its supervisor; this is for what got away, before the lease is told as ended."""
        self._remove_group(folder)
        if not self._hold.bwrap:
            remove_of(self._uid(key))
        self._secrets.remove(key)
        mark = f"YUNHE_LEASE={key}".encode()
        for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
            try:
                if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    os.kill(pid, 9)
            except (FileNotFoundError, PermissionError, ProcessLookupError):
                continue

    def _remove_group(self, folder: LeaseDir) -> None:
        """The groups of the seat that the claim names; usually its supervisor has done so."""
        seat = folder.seat()
        if self._hold.layout is None or seat is None:
            return
        for left in reversed(range(ALIVE_TRIES)):
            try:
                self._hold.layout.remove(seat)
                return
            except OSError:  # killed processes take a moment to leave the group
                if not left:
                    raise
                time.sleep(TRY_PAUSE_S)

    async def changed(self, timeout_ms: int) -> frozenset[LeaseKey]:
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                await self._bell.wait()
        except TimeoutError:
            return frozenset()
        self._bell.clear()
        news, self._news = frozenset(self._news), set()
        return news

    async def cancel(self, key: LeaseKey, reason: EndReason) -> None:
        folder = self._folder(key)
        if folder.prepared:
            folder.cancel(reason)

    async def logs(self, key: LeaseKey, offset: int, limit: int) -> bytes:
        return self._folder(key).log(offset, limit)

    async def tell(self, key: LeaseKey, name: str, text: str) -> None:
        await asyncio.to_thread(self._folder(key).tell, name, text)

    async def known(self) -> frozenset[LeaseKey]:
        return frozenset(await asyncio.to_thread(self._folders))

    def _folders(self) -> list[LeaseKey]:
        return [key for key in map(LeaseKey.parse, os.listdir(self._leases)) if key is not None]

    async def forget(self, key: LeaseKey) -> None:
        self._asked.pop(key, None)
        self._ended.pop(key, None)
        await asyncio.to_thread(self._forget, key)

    def _forget(self, key: LeaseKey) -> None:
        folder = self._folder(key)
        self._remove_group(folder)
        self._secrets.remove(key)
        if folder.path.exists():
            remove_tree(folder.path)
