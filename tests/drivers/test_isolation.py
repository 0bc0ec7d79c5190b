"""An attacker inside a job: what it may see of the host, of the agent and of other jobs, and what it may leave behind.

`held` runs a test in every way of holding jobs that promises to keep tenants apart (tier 1 and more): the best one of
this host, a sandbox without control groups, and a user per job without a sandbox (an agent that is root). Control
groups of version 2 cannot be tried on a host that has version 1 or a mix; `test_cgroups.py` has their files.
"""

import os
import shutil
import signal
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.drivers.conftest import process_harness
from tests.drivers.harness import QUICK, Harness
from yunhe.core.lifecycle import EndReason
from yunhe.site.drivers.contract import Job, LeaseKey, Phase, SpawnFailed

PYTHON = ("python3", "-c")
SMALL: dict[str, Any] = {"slot_milli": 100}
ROOT = os.geteuid() == 0


def made_by(tmp_path: Path, isolation: str, **changes: Any) -> Harness:
    return process_harness(tmp_path, QUICK.model_copy(update={"isolation": isolation, **changes}))


@pytest.fixture(params=["auto", "sandbox", "processes"])
def held(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Harness]:
    made = made_by(tmp_path, request.param)
    try:
        if made.isolation.tier < 1:
            pytest.skip(f"nothing keeps jobs apart here: {made.isolation.text}")
        yield made
    finally:
        made.close()


@pytest.fixture
def victim(held: Harness) -> LeaseKey:
    """A job of another tenant that runs, with a file, a variable and a secret of its own."""
    plain = held.job(
        "victim",
        ("sh", "-c", "echo private-file > mine; chmod 644 mine; echo private-tmp > /tmp/mine; echo up; exec sleep 30"),
        env={"MINE": "private-env"},
        secrets=("MINE",),
        tenant="other",
        **SMALL,
    )
    held.run(held.driver.submit(Job(plain.lease, plain.contact_ms, {}, {"MINE": b"private-secret"})))
    wait(lambda: b"up" in held.log(plain.key))
    return plain.key


def wait(what: Any, timeout_s: float = 15) -> None:
    until = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < until, "nothing came"
        time.sleep(0.01)


def stop(held: Harness, key: LeaseKey) -> None:
    held.run(held.driver.cancel(key, EndReason.CANCELLED))
    held.ended(key)


def job_pid(held: Harness, key: LeaseKey) -> int:
    """The victim's own process, as the host numbers it."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if f"YUNHE_LEASE={key}".encode() in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                return int(name)
        except OSError:
            continue
    raise AssertionError("the victim's process is not found")


# --- reading --------------------------------------------------------------------------------------------------------


def test_a_job_reads_nothing_of_another_job(held: Harness, victim: LeaseKey) -> None:
    pid, folder = job_pid(held, victim), held.lease_dir(victim)
    script = (
        f"cd {folder} && cat job/mine env spec.json log ../*/job/mine; ls {folder} /dev/shm/*;"
        f"cat {folder}/job/mine {folder}/env {folder}/spec.json {folder}/log;"
        f"cat /proc/{pid}/environ /proc/{pid}/cwd/mine /proc/{pid}/root/tmp/mine /proc/{pid}/maps;"
        f"ls /proc/{pid}/fd/ /proc/{pid}/root;"
        "cat /proc/[0-9]*/environ /proc/[0-9]*/cwd/mine | tr '\\0' '\\n' | grep private-;"
        "find / -xdev -name mine -exec cat {} + 2>/dev/null; cat /run/secrets/* /dev/shm/*/*; cat /tmp/mine; true"
    )
    status, log = held.do("attacker", ("sh", "-c", script), **SMALL)
    assert status.exit_code == 0
    assert "private" not in log, log
    stop(held, victim)


def test_a_job_reads_nothing_of_the_agent(held: Harness) -> None:
    data = held.data_dir
    for name, text in (("site.toml", "toml-secret"), ("spool.sqlite", "spool-secret"), ("contact", "1")):
        (data / name).write_text(text)
        (data / name).chmod(0o600)
    script = (
        f"cat {data}/key {data}/site.toml {data}/spool.sqlite; ls {data} {data}/leases; echo x > {data}/contact;"
        f"echo x >> {data}/paused; cat /proc/{os.getpid()}/environ /proc/{os.getpid()}/maps;"
        f"ls /proc/{os.getpid()}/fd/;"
        f"ln {data}/key hard; ln -s {data}/key soft; cat hard soft; mv {data} moved; true"
    )
    status, log = held.do("a", ("sh", "-c", script), **SMALL)
    assert status.exit_code == 0
    assert "secret" not in log, log
    assert (data / "contact").read_text() == "1" and not (data / "paused").exists()


def test_files_of_the_host_stay_closed(held: Harness) -> None:
    script = "cat /etc/shadow /root/.profile; ls /root; id; cat /proc/kcore /dev/mem | head -c 10; dmesg; true"
    _, log = held.do("a", ("sh", "-c", script), **SMALL)
    assert "root:" not in log and "uid=0" not in log, log


# --- touching -------------------------------------------------------------------------------------------------------


def test_a_job_signals_and_traces_nobody(held: Harness, victim: LeaseKey) -> None:
    pid, supervisor = job_pid(held, victim), held.supervisor_pid(victim)
    code = (
        "import ctypes, os, signal\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        f"for pid in ({pid}, {supervisor}, {os.getpid()}):\n"
        " for what in (lambda: os.kill(pid, signal.SIGKILL), lambda: os.kill(pid, signal.SIGSTOP),\n"
        "              lambda: open(f'/proc/{pid}/mem', 'r+b'), lambda: os.setpriority(os.PRIO_PROCESS, pid, 19),\n"
        "              lambda: open(f'/proc/{pid}/oom_score_adj', 'w').write('1000')):\n"
        "  try:\n   what()\n   print('DONE', pid)\n  except OSError:\n   pass\n"
        " if libc.ptrace(16, pid, 0, 0) == 0: print('TRACED', pid)\n"
        "try:\n os.kill(-1, signal.SIGKILL)\nexcept OSError: pass\nprint('here')"
    )
    _, log = held.do("attacker", (*PYTHON, code), **SMALL)
    assert "DONE" not in log and "TRACED" not in log, log
    assert held.status(victim).phase is Phase.STARTED
    assert Path(f"/proc/{pid}").exists() and Path(f"/proc/{supervisor}").exists()
    stop(held, victim)


def test_a_job_does_not_become_more_than_it_is(held: Harness) -> None:
    """No capability, no set-user-id program that works, no device, no limit raised, no file system mounted."""
    code = (
        "import ctypes, os, resource, subprocess\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "def tried(name, what):\n"
        " try:\n  what()\n  print('DONE', name)\n except (OSError, ValueError): pass\n"
        "for cap in ('CapEff', 'CapPrm'):\n"
        " line = next(l for l in open('/proc/self/status') if l.startswith(cap))\n"
        " print(cap, int(line.split()[1], 16))\n"
        "tried('setuid', lambda: os.setuid(0))\n"
        "tried('setgroups', lambda: os.setgroups([0]))\n"
        "tried('node', lambda: os.mknod('disk', 0o60666, os.makedev(8, 0)))\n"
        "tried('mem', lambda: os.mknod('mem', 0o20666, os.makedev(1, 1)))\n"
        "tried('chown', lambda: (open('f', 'w').close(), os.chown('f', 0, 0)))\n"
        "tried('chroot', lambda: os.chroot('/usr'))\n"
        "for name in ('RLIMIT_CORE', 'RLIMIT_FSIZE'):\n"
        " number = getattr(resource, name)\n"
        " tried(name, lambda: resource.setrlimit(number, (resource.getrlimit(number)[1] + 4096,) * 2))\n"
        "tried('nice', lambda: os.setpriority(os.PRIO_PROCESS, 0, -5))\n"
        "if libc.mount(b'none', b'/mnt', b'tmpfs', 0, None) == 0: print('DONE mount')\n"
        "for path in ('/sys/fs/cgroup', '/proc/sys/kernel/hostname', '/proc/sysrq-trigger', '/sys/kernel'):\n"
        " for folder, _, files in os.walk(path) if os.path.isdir(path) else [('/', [], [path])]:\n"
        "  for f in files:\n"
        "   if os.access(os.path.join(folder, f), os.W_OK): print('WRITES', os.path.join(folder, f))\n"
        "for program in ('su', 'mount', 'passwd'):\n"
        " done = subprocess.run([program, '-c', 'id -u'], capture_output=True, stdin=subprocess.DEVNULL)\n"
        " if done.stdout.strip() == b'0': print('ROOT by', program)\n"
    )
    _, log = held.do("a", (*PYTHON, code), **SMALL)
    assert "CapEff 0\nCapPrm 0\n" in log, log
    for word in ("DONE", "WRITES", "ROOT", "Traceback"):
        assert word not in log, log


@pytest.mark.skipif(not ROOT, reason="needs root to look at what a set-user-id file could do")
def test_a_set_user_id_file_of_a_job_is_of_the_jobs_own_user(held: Harness) -> None:
    script = "cp /bin/cat kept; chmod 6755 kept; ls -ln kept"
    key = held.submit("a", ("sh", "-c", script), **SMALL)
    held.ended(key)
    info = (held.lease_dir(key) / "job" / "kept").stat()
    assert info.st_uid >= 0x70000000 and info.st_gid >= 0x70000000
    # Nobody but the agent even gets to it.
    assert stat.S_IMODE(held.data_dir.stat().st_mode) == 0o700


# --- network --------------------------------------------------------------------------------------------------------


@pytest.fixture
def listening() -> Iterator[int]:
    """A service of the host on its loopback."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


def reach(port: int) -> tuple[str, ...]:
    code = (
        "import socket\n"
        f"for what, to in ((socket.AF_INET, ('127.0.0.1', {port})), (socket.AF_UNIX, '\\0yunhe-test-service')):\n"
        " s = socket.socket(what)\n s.settimeout(3)\n"
        " try:\n  s.connect(to)\n  print('reached', what.name)\n except OSError as e:\n  print('closed', what.name)"
    )
    return (*PYTHON, code)


def test_without_asking_a_job_reaches_no_service_of_the_host(sandboxed: Harness, listening: int) -> None:
    with socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind("\0yunhe-test-service")
        abstract.listen()
        _, log = sandboxed.do("a", reach(listening), **SMALL)
    assert log.split() == ["closed", "AF_INET", "closed", "AF_UNIX"]


def test_a_job_that_asked_shares_the_hosts_network_and_nothing_else(sandboxed: Harness, listening: int) -> None:
    """What docs/isolation.md says of it: the loopback and the abstract sockets of the host are open to it."""
    with socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind("\0yunhe-test-service")
        abstract.listen()
        _, log = sandboxed.do("a", reach(listening), network=True, **SMALL)
    assert log.split() == ["reached", "AF_INET", "reached", "AF_UNIX"]
    script = "cat /etc/resolv.conf; ls /etc/ssl/certs | wc -l; ls /root /home /sys; ls /proc | grep -c '^[0-9]'"
    _, log = sandboxed.do("b", ("sh", "-c", script), network=True, **SMALL)
    lines = log.splitlines()
    assert int(lines[-1]) < 8 and any("/root" in line for line in lines) and any("/sys" in line for line in lines), log
    if Path("/etc/resolv.conf").exists():
        assert "resolv.conf" not in log


def test_a_site_can_refuse_the_network(tmp_path: Path) -> None:
    made = made_by(tmp_path, "auto", allow_network=False)
    try:
        job = made.job("a", ("true",), network=True)
        with pytest.raises(SpawnFailed, match="gives jobs no network"):
            made.run(made.driver.submit(job))
        assert made.do("b", ("true",))[0].exit_code == 0
    finally:
        made.close()


# --- taking everything ----------------------------------------------------------------------------------------------


def test_a_full_tmp_is_the_jobs_own(sandboxed: Harness) -> None:
    """Its /tmp is memory of its own lease."""
    free = shutil.disk_usage("/tmp").free
    script = "head -c 200000000 /dev/zero > /tmp/a; df -k /tmp | tail -1; sleep 30"
    key = sandboxed.submit("a", ("sh", "-c", script), slot_memory_bytes=64 << 20, run_limit_ms=3_000)
    status = sandboxed.ended(key)
    assert status.reason in (EndReason.MEMORY_LIMIT, EndReason.TIME_LIMIT)
    assert abs(shutil.disk_usage("/tmp").free - free) < 150 << 20


def test_a_fork_bomb_leaves_room_for_others(held: Harness) -> None:
    bomb = held.submit("bomb", ("sh", "-c", "b() { b | b & }; b; sleep 30"), run_limit_ms=4_000, **SMALL)
    held.until(bomb, Phase.STARTED)
    status, log = held.do("other", ("sh", "-c", "sleep 0.2 & wait; echo fine"), **SMALL)
    assert (status.exit_code, log) == (0, "fine\n")
    held.ended(bomb)


# --- what is left ---------------------------------------------------------------------------------------------------


LEAVE = """
import ctypes, os, signal, socket, tempfile, time
libc = ctypes.CDLL(None, use_errno=True)
print('shm', libc.shmget(MARK, 4096, 0o1600))
print('sem', libc.semget(MARK, 1, 0o1600))
print('msg', libc.msgget(MARK, 0o1600))
for folder in ('/tmp', '/var/tmp', '/dev/shm'):
    try:
        os.makedirs(folder + f'/yunhe-left-{MARK}/deep')
        open(folder + f'/yunhe-left-{MARK}/deep/file', 'w').write('x')
        open(folder + f'/yunhe-left-{MARK}-file', 'w').write('x')
        os.symlink('/etc', folder + f'/yunhe-left-{MARK}-link')
        s = socket.socket(socket.AF_UNIX); s.bind(folder + f'/yunhe-left-{MARK}-socket')
    except OSError as error:
        print(folder, error)
with tempfile.NamedTemporaryFile(delete=False) as file:
    print('tmp', os.path.dirname(file.name))
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        # Nothing that tells whose it is but its user: no environment, no terminal, its own session, another folder.
        os.execve('/bin/sh', ['sh', '-c', f'cd /; trap "" TERM HUP INT; while :; do sleep 0.{MARK}; done'], {})
    os._exit(0)
while not any(b'sleep 0.' + str(MARK).encode() in command(pid) for pid in os.listdir('/proc')): time.sleep(0.01)
print('left', flush=True)
"""


def leaving(mark: int, then: str = "") -> tuple[str, ...]:
    read = "def command(pid):\n try: return open(f'/proc/{pid}/cmdline', 'rb').read()\n except OSError: return b''\n"
    return (*PYTHON, f"MARK = {mark}\n{read}{LEAVE}{then}")


def daemons(mark: int) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"sh\0-c\0cd /") and f"sleep 0.{mark}".encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


def groups(held: Harness) -> int:
    layout = held.driver._hold.layout  # type: ignore[attr-defined]
    if layout is None:
        return 0
    bases = [base for _, base in layout.v1] + ([layout.v2] if layout.v2 else [])
    return max(len([path for path in base.iterdir() if path.is_dir()]) for base in bases)


def test_nothing_is_left_of_a_job_that_ended(held: Harness) -> None:
    mark = time.time_ns() % 10**9
    key = held.submit("a", leaving(mark), **SMALL)
    assert held.ended(key).exit_code == 0, held.log(key)
    log = held.log(key).decode()
    assert "left" in log and "tmp /tmp" in log and "Error" not in log and " -1\n" not in log, log
    assert daemons(mark) == []
    for folder in ("/tmp", "/var/tmp", "/dev/shm"):
        assert not list(Path(folder).glob(f"yunhe-left-{mark}*"))
    for kind in ("shm", "sem", "msg"):
        assert str(mark) not in Path(f"/proc/sysvipc/{kind}").read_text().split()
    held.run(held.driver.forget(key))
    held.keys.discard(key)
    assert not held.lease_dir(key).exists()
    wait(lambda: groups(held) <= 1)  # the seat that waits for the next job


def test_nothing_is_left_of_a_job_whose_supervisor_was_killed(held: Harness) -> None:
    mark = time.time_ns() % 10**9
    key = held.submit("a", leaving(mark, "time.sleep(30)"), **SMALL)
    wait(lambda: b"left" in held.log(key))
    os.kill(held.supervisor_pid(key), signal.SIGKILL)
    assert held.ended(key).reason is EndReason.SUPERVISOR_LOST
    wait(lambda: daemons(mark) == [])
    for folder in ("/tmp", "/var/tmp", "/dev/shm"):
        assert not list(Path(folder).glob(f"yunhe-left-{mark}*"))
    for kind in ("shm", "sem", "msg"):
        assert str(mark) not in Path(f"/proc/sysvipc/{kind}").read_text().split()


# --- outputs --------------------------------------------------------------------------------------------------------


def test_outputs_are_the_jobs_own_plain_files(held: Harness) -> None:
    """Links of both kinds to what is not the job's, devices, and a folder that becomes a link, come to nothing."""
    key_file = held.data_dir / "key"
    script = (
        f"ln -s {key_file} soft; ln {key_file} hard; ln /etc/shadow shadow; ln -s {held.data_dir} folder;"
        "mkdir -p real/deep; echo own > real/deep/file; ln -s ../../../.. real/deep/up;"
        "ln -s /proc/self/environ real/env;"
        "mknod node c 1 8; mkfifo pipe; ln real/deep/file twice; ln -s real alias; true"
    )
    key = held.submit("a", ("sh", "-c", script), **SMALL)
    assert held.ended(key).exit_code == 0
    wanted = ("soft", "hard", "shadow", "folder/key", "folder", "real", "alias/deep/file", "node", "pipe", "twice")
    outputs = held.run(held.driver.outputs(key, wanted, 1 << 20))
    assert {output.path for output in outputs if not output.missing} == {"real/deep/file", "twice"}
    for output in outputs:
        if not output.missing:
            assert held.run(held.driver.read_output(key, output.path, 0, 100)) == b"own\n"
    for path in ("soft", "folder/key", "real/deep/up/key", "../key", "real/../../../key"):
        with pytest.raises(OSError):
            held.run(held.driver.read_output(key, path, 0, 100))


def test_a_file_that_becomes_a_link_between_listing_and_reading_is_not_followed(held: Harness) -> None:
    key = held.submit("a", ("sh", "-c", "mkdir d; echo own > d/file"), **SMALL)
    held.ended(key)
    [output] = held.run(held.driver.outputs(key, ("d",), 1 << 20))
    folder = held.lease_dir(key) / "job"
    (folder / "d").rename(folder / "e")
    (folder / "d").symlink_to(held.data_dir)
    (held.data_dir / "file").write_text("secret")
    with pytest.raises(OSError):
        held.run(held.driver.read_output(key, output.path, 0, 100))


# --- tiers ----------------------------------------------------------------------------------------------------------


def test_each_way_states_its_tier(tmp_path: Path) -> None:
    tiers = {}
    for isolation in ("auto", "sandbox", "processes"):
        (tmp_path / isolation).mkdir()
        made = made_by(tmp_path / isolation, isolation)
        tiers[isolation] = made.isolation
        made.close()
    sandbox, kernel = "bubblewrap" in tiers["auto"].text, "cgroup v" in tiers["auto"].text
    apart = 1 if ROOT else 0
    assert tiers["auto"].tier == (2 if sandbox and kernel else 1 if sandbox else apart)
    assert tiers["sandbox"].tier == (1 if sandbox else apart)
    assert tiers["processes"].tier == apart
    assert ("a user per job" in tiers["processes"].text) is ROOT


def test_a_job_inherits_nothing_but_its_streams(held: Harness) -> None:
    """A descriptor of the supervisor's would let it hold a lock, or say in its place how it started and ended."""
    code = (
        "import os\n"
        "for fd in range(3, 256):\n"
        " try:\n  where = os.readlink(f'/proc/self/fd/{fd}')\n  os.fstat(fd)\n except OSError:\n  continue\n"
        " print('OPEN', fd, where)\n"
        ' try: os.write(fd, b\'{"spawn-error": "never started"}\\n\')\n'
        " except OSError: pass\n"
        "print(sorted(os.listdir('/proc/self/fd'), key=int)[:3], os.getppid() != 0)"
    )
    plain = held.job("a", (*PYTHON, code), secrets=("TOKEN",), **SMALL)
    held.run(held.driver.submit(Job(plain.lease, plain.contact_ms, {}, {"TOKEN": b"x"})))
    status = held.ended(plain.key)
    assert (status.reason, status.exit_code) == (EndReason.EXITED, 0), status
    assert "OPEN" not in held.log(plain.key).decode(), held.log(plain.key)


def test_all_that_a_sandboxed_job_can_write_to_has_a_size(sandboxed: Harness) -> None:
    """Memory file systems are memory of its lease, also where nothing but sampling watches it."""
    script = (
        "for d in / /dev /run /etc /usr /proc /dev/shm /tmp /job /run/secrets; do"
        " if touch $d/probe 2>/dev/null; then echo writes $d; fi; done; df -Pk /tmp /dev/shm | tail -n 2;"
        "python3 -c 'import multiprocessing; multiprocessing.Lock(); print(\"lock\")'; echo x > /dev/null && echo null"
    )
    status, log = sandboxed.do("a", ("sh", "-c", script), **SMALL)
    written = {line.split()[1] for line in log.splitlines() if line.startswith("writes")}
    assert written == {"/dev/shm", "/tmp", "/job"}, log
    sizes = [int(line.split()[1]) for line in log.splitlines() if line.startswith("tmpfs")]
    assert sizes == [64 << 10] * 2, log
    assert status.exit_code == 0 and "lock\nnull\n" in log
