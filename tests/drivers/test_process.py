"""The process driver with real processes: what a job may not do, and what is said when it ends."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.drivers.conftest import QUICK, Harness, process_harness
from tests.site.conftest import small_disk
from yunhe.core.lifecycle import EndReason
from yunhe.site.drivers.contract import Job, Phase
from yunhe.site.drivers.process.driver import SUPERVISOR
from yunhe.wire.link import CheckpointPlan

PYTHON = ("python3", "-c")


def living(mark: str) -> list[int]:
    """Processes with this text in their command line."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                words = Path(f"/proc/{name}/cmdline").read_bytes()
            except OSError:
                continue
            if mark.encode() in words and int(name) != os.getpid():
                found.append(int(name))
    return found


# --- ends -----------------------------------------------------------------------------------------------------------


def test_an_unknown_command_is_the_jobs_own_failure(processes: Harness) -> None:
    status, log = processes.do("a", ("no-such-program",))
    assert (status.reason, status.exit_code) == (EndReason.EXITED, 127)
    assert "no-such-program" in log


def test_a_signal_is_told_as_shells_do(processes: Harness) -> None:
    status, _ = processes.do("a", ("sh", "-c", "kill -SEGV $$"))
    assert (status.reason, status.exit_code) == (EndReason.EXITED, 128 + signal.SIGSEGV)


def test_memory_over_the_limit_is_said_so(processes: Harness) -> None:
    code = "import time\nx = bytearray(200 << 20)\nfor i in range(0, len(x), 4096): x[i] = 1\ntime.sleep(20)"
    status, _ = processes.do("a", (*PYTHON, code), slot_memory_bytes=48 << 20)
    assert status.reason is EndReason.MEMORY_LIMIT
    assert "48" in status.detail.replace(str(48 << 20), "48") and "memory" in status.detail
    assert status.totals is not None
    assert status.totals.sampled is ("cgroup v" not in processes.isolation.text)
    assert status.totals.peak_memory_bytes >= 40 << 20
    assert status.totals.wall_ms < 15_000


def test_memory_within_the_limit_is_measured(processes: Harness) -> None:
    code = "import time\nx = bytearray(30 << 20)\nfor i in range(0, len(x), 4096): x[i] = 1\ntime.sleep(0.3)"
    status, _ = processes.do("a", (*PYTHON, code))
    assert status.exit_code == 0
    assert status.totals is not None and 30 << 20 <= status.totals.peak_memory_bytes <= 64 << 20


def test_cpu_time_is_the_kernels(processes: Harness) -> None:
    code = "import time\nwhile time.process_time() < 0.4: pass"
    status, _ = processes.do("a", (*PYTHON, code))
    assert status.totals is not None and 350 <= status.totals.cpu_ms <= 1_500


def test_cpu_of_ended_children_counts(processes: Harness) -> None:
    busy = "import time\nwhile time.process_time() < 0.2: pass"
    code = f"import subprocess, sys\nfor _ in range(2): subprocess.run([sys.executable, '-c', {busy!r}])"
    status, _ = processes.do("a", (*PYTHON, code))
    assert status.totals is not None and status.totals.cpu_ms >= 380


def test_a_job_that_ignores_sigterm_is_killed(processes: Harness) -> None:
    command = ("sh", "-c", 'trap "" TERM; echo ready; while :; do sleep 0.05; done')
    status, _ = processes.do("a", command, run_limit_ms=300)
    assert (status.reason, status.exit_code) == (EndReason.TIME_LIMIT, 137)
    assert status.totals is not None and status.totals.wall_ms < 300 + QUICK.term_grace_ms + 2_000


def test_sigterm_gives_time_to_save(processes: Harness) -> None:
    code = (
        "import signal, sys, time\n"
        "def save(*_):\n print('saved', flush=True)\n sys.exit(9)\n"
        "signal.signal(signal.SIGTERM, save)\nprint('ready', flush=True)\ntime.sleep(30)"
    )
    key = processes.submit("a", (*PYTHON, code))
    while b"ready" not in processes.log(key):
        time.sleep(0.01)
    processes.run(processes.driver.cancel(key, EndReason.CANCELLED))
    status = processes.ended(key)
    assert (status.reason, status.exit_code) == (EndReason.CANCELLED, 9)
    assert b"saved" in processes.log(key)


def test_nothing_of_the_tree_is_left(processes: Harness) -> None:
    mark = f"314{time.time_ns() % 10**9}"
    escape = f"setsid sh -c 'trap \"\" TERM HUP; sleep {mark}' & setsid sleep {mark} & sleep 0.3; echo gone"
    status, log = processes.do("a", ("sh", "-c", escape))
    assert status.exit_code == 0 and "gone" in log
    assert living(mark) == []


def test_a_fork_bomb_hits_its_limit(processes: Harness) -> None:
    code = (
        "import os, time\nmade = 0\ntry:\n for _ in range(400):\n  if os.fork() == 0:\n   time.sleep(20); os._exit(0)\n"
        "  made += 1\nexcept OSError as error:\n print('refused after', made, error, flush=True)\n os._exit(5)\n"
        "print('made', made, flush=True)\ntime.sleep(20)"
    )
    # Sampling counts shared pages of the copies more than once where the kernel does not tell: enough for all.
    status, log = processes.do("a", (*PYTHON, code), slot_memory_bytes=480 << 20)
    refused = status.exit_code == 5 and "refused after" in log
    stopped = status.exit_code == 137 and "processes" in status.detail
    assert refused or stopped, (status, log)


def test_a_full_file_limit_is_the_jobs_own_failure(tmp_path: Path) -> None:
    made = process_harness(tmp_path, QUICK.model_copy(update={"file_limit_bytes": 1 << 20}))
    try:
        status, _ = made.do("a", ("sh", "-c", "head -c 3000000 /dev/zero > big; ls -l big; exit 7"))
        assert (status.reason, status.exit_code) == (EndReason.EXITED, 7)
        assert (made.lease_dir(next(iter(made.keys))) / "job" / "big").stat().st_size == 1 << 20
    finally:
        made.close()


# --- logs -----------------------------------------------------------------------------------------------------------


def test_a_log_of_a_gibibyte_is_capped_and_cheap(processes: Harness) -> None:
    command = ("sh", "-c", "head -c 1073741824 /dev/zero; echo told >&2; exit 2")
    started = time.monotonic()
    status, log = processes.do("a", command, log_cap_bytes=100_000, run_limit_ms=60_000)
    assert (status.reason, status.exit_code) == (EndReason.EXITED, 2)
    assert len(log) <= 100_000 and "the log is capped at 100000 bytes" in log[-100:]
    assert "log capped" in status.detail
    assert time.monotonic() - started < 30


def test_bytes_that_are_no_text_are_kept(processes: Harness) -> None:
    key = processes.submit("a", ("sh", "-c", r"printf '\377\376\000ok'"))
    processes.ended(key)
    assert processes.log(key) == b"\xff\xfe\x00ok"


def test_both_streams_are_in_the_log_while_it_runs(processes: Harness) -> None:
    key = processes.submit("a", ("sh", "-c", "echo out; echo err >&2; sleep 20"))
    deadline = time.monotonic() + 10
    while processes.log(key) != b"out\nerr\n":
        assert time.monotonic() < deadline, processes.log(key)
        time.sleep(0.01)
    processes.run(processes.driver.cancel(key, EndReason.CANCELLED))
    processes.ended(key)


# --- gangs ----------------------------------------------------------------------------------------------------------


def test_a_gang_shares_its_folder_and_knows_its_ranks(processes: Harness) -> None:
    code = (
        "import os, pathlib, time\nrank, size = os.environ['YUNHE_RANK'], int(os.environ['YUNHE_SIZE'])\n"
        "pathlib.Path(f'r{rank}').write_text('x')\n"
        "while len(list(pathlib.Path('.').glob('r*'))) < size: time.sleep(0.01)\nprint('met', rank, flush=True)"
    )
    status, log = processes.do("a", (*PYTHON, code), slots=2, slot_milli=400)
    assert status.exit_code == 0
    assert sorted(log.split("\n"))[1:] == ["met 0", "met 1"]


def test_a_failing_member_ends_the_gang(processes: Harness) -> None:
    code = "import os, sys, time\nif os.environ['YUNHE_RANK'] == '1': sys.exit(6)\ntime.sleep(30)"
    started = time.monotonic()
    status, _ = processes.do("a", (*PYTHON, code), slots=3, slot_milli=300)
    assert (status.reason, status.exit_code) == (EndReason.EXITED, 6)
    assert time.monotonic() - started < 25


def test_members_of_a_gang_reach_each_other_over_loopback(processes: Harness) -> None:
    code = (
        "import os, pathlib, socket, time\nif os.environ['YUNHE_RANK'] == '0':\n"
        " s = socket.create_server(('127.0.0.1', 0))\n"
        " pathlib.Path('p.tmp').write_text(str(s.getsockname()[1])); os.rename('p.tmp', 'p')\n"
        " c, _ = s.accept(); print(c.recv(10).decode())\n"
        "else:\n while not pathlib.Path('p').exists(): time.sleep(0.01)\n"
        " socket.create_connection(('127.0.0.1', int(pathlib.Path('p').read_text()))).send(b'hi')"
    )
    status, log = processes.do("a", (*PYTHON, code), slots=2, slot_milli=400)
    assert (status.exit_code, log) == (0, "hi\n")


# --- at most once, and what happens when the supervisor dies --------------------------------------------------------


def test_supervisors_spawned_twice_run_it_once(processes: Harness) -> None:
    key = processes.submit("a", ("sh", "-c", "echo ran >> runs; sleep 0.3; cat runs"))
    again = [
        subprocess.Popen([sys.executable, "-I", "-S", str(SUPERVISOR), str(processes.lease_dir(key))]) for _ in range(4)
    ]
    status = processes.ended(key)
    assert [process.wait(10) for process in again] == [0] * 4
    assert status.exit_code == 0 and processes.log(key) == b"ran\n"


def test_a_killed_supervisor_takes_its_job_along(processes: Harness) -> None:
    mark = f"271{time.time_ns() % 10**9}"
    key = processes.submit("a", ("sh", "-c", f"sleep {mark} & sleep {mark}"))
    processes.until(key, Phase.STARTED)
    deadline = time.monotonic() + 20
    while len(living(mark)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.1)
    os.kill(processes.supervisor_pid(key), signal.SIGKILL)
    status = processes.ended(key)
    assert status.reason is EndReason.SUPERVISOR_LOST
    assert status.started and status.totals is not None
    deadline = time.monotonic() + 20
    while living(mark):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_dead_launcher_is_replaced(processes: Harness) -> None:
    launcher = processes.driver._launcher  # type: ignore[attr-defined]
    os.kill(launcher.pid, signal.SIGKILL)
    launcher.wait(5)
    status, log = processes.do("a", ("echo", "again"))
    assert (status.exit_code, log) == (0, "again\n")


def test_a_supervisor_that_never_came_is_asked_for_again(tmp_path: Path) -> None:
    made = process_harness(tmp_path, QUICK.model_copy(update={"claim_wait_ms": 100}))
    try:
        launcher = made.driver._launcher  # type: ignore[attr-defined]
        os.kill(launcher.pid, signal.SIGSTOP)
        job = made.job("a", ("echo", "late"))
        made.run(made.driver.submit(job))
        time.sleep(0.15)
        assert made.status(job.key).phase is Phase.ACCEPTED
        os.kill(launcher.pid, signal.SIGCONT)
        assert made.ended(job.key).exit_code == 0
        assert made.log(job.key) == b"late\n"
    finally:
        made.close()


def test_the_supervisor_stands_alone(tmp_path: Path) -> None:
    """Nothing of Yunhe but its own modules, and nothing outside the standard library."""
    code = f"import sys, runpy\nsys.argv = ['x', {str(tmp_path)!r}]\n"
    code += f"try:\n runpy.run_path({str(SUPERVISOR)!r}, run_name='__main__')\nexcept FileNotFoundError: pass\n"
    code += "print([m for m in sys.modules if m.startswith('yunhe')])\n"
    code += "print([m for m, v in sys.modules.items() if 'site-packages' in str(getattr(v, '__file__', ''))])"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    ours, foreign = done.stdout.splitlines()
    own = "yunhe.site.supervisor"
    assert all(name in ("yunhe", "yunhe.site") or name.startswith(own) for name in eval(ours)), ours
    assert foreign == "[]"


# --- the hub is silent ----------------------------------------------------------------------------------------------


def test_a_job_ends_when_the_hub_is_silent_for_its_limit(processes: Harness) -> None:
    started = time.monotonic()
    status, _ = processes.do("a", ("sleep", "30"), disconnect_limit_ms=700)
    assert status.reason is EndReason.DISCONNECTED
    assert 0.4 < time.monotonic() - started < 20


def test_contact_with_the_hub_keeps_it_running(processes: Harness) -> None:
    contact = processes.data_dir / "contact"
    key = processes.submit("a", ("sleep", "30"), disconnect_limit_ms=2_000)
    until = time.monotonic() + 3
    while time.monotonic() < until:
        contact.write_text(f"{time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000:20}")
        assert processes.status(key).phase is not Phase.ENDED
        time.sleep(0.05)
    assert processes.ended(key).reason is EndReason.DISCONNECTED


def test_a_lease_that_comes_too_late_never_runs(processes: Harness) -> None:
    job = processes.job("a", ("sh", "-c", "echo ran"), disconnect_limit_ms=1_000)
    late = type(job)(job.lease, job.contact_ms - 2_000)
    processes.run(processes.driver.submit(late))
    status = processes.ended(job.key)
    assert (status.reason, status.started, status.totals) == (EndReason.DISCONNECTED, False, None)
    assert processes.log(job.key) == b""


# --- walls ----------------------------------------------------------------------------------------------------------


def test_a_job_cannot_read_the_sites_secrets_or_other_leases(sandboxed: Harness) -> None:
    other = sandboxed.submit("other", ("sh", "-c", "echo private > mine; sleep 20"))
    sandboxed.until(other, Phase.STARTED)
    data = sandboxed.data_dir
    probe = f"cat {data}/key; ls {data}; ls {data}/leases; cat {sandboxed.lease_dir(other)}/job/mine; cat /etc/shadow"
    status, log = sandboxed.do("a", ("sh", "-c", probe), slot_milli=100)
    assert status.exit_code != 0
    assert "secret" not in log and "private" not in log and "root:" not in log
    sandboxed.run(sandboxed.driver.cancel(other, EndReason.CANCELLED))
    sandboxed.ended(other)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: without it jobs run as the agent's own user, tier 0 says so")
def test_without_a_sandbox_a_user_of_its_own_keeps_jobs_apart(tmp_path: Path) -> None:
    made = process_harness(tmp_path, QUICK.model_copy(update={"isolation": "processes"}))
    try:
        status, log = made.do(
            "a", ("sh", "-c", f"id -u; cat {made.data_dir}/key; kill -9 {os.getpid()}; echo survived")
        )
        assert "secret" not in log and "survived" in log
        assert int(log.split()[0]) >= 0x70000000
    finally:
        made.close()


def test_a_job_has_no_network(sandboxed: Harness) -> None:
    code = (
        "import os, socket\nfor to in ('127.0.0.1', 22), ('192.0.2.1', 80):\n s = socket.socket()\n s.settimeout(2)\n"
        " try: s.connect(to)\n except OSError as error: print(error)\n"
        "print(os.listdir('/sys/class/net') if os.path.exists('/sys/class/net') else 'no sysfs')"
    )
    status, log = sandboxed.do("a", (*PYTHON, code))
    assert status.exit_code == 0
    assert "unreachable" in log and "no sysfs" in log


def test_a_job_sees_only_its_own_processes_and_has_no_rights(sandboxed: Harness) -> None:
    probe = "ls /proc | grep -c '^[0-9]'; id -u; grep -E 'CapEff|NoNewPrivs' /proc/self/status; "
    probe += "touch /usr/x; mount -t tmpfs x /mnt; pwd; hostname"
    status, log = sandboxed.do("a", ("sh", "-c", probe))
    lines = log.splitlines()
    assert int(lines[0]) < 10
    assert int(lines[1]) != 0
    assert "CapEff:\t0000000000000000" in lines and "NoNewPrivs:\t1" in lines
    assert "Read-only file system" in log and "/job" in lines and "job" in lines


def test_the_environment_cannot_reach_around_the_walls(sandboxed: Harness) -> None:
    """LD_PRELOAD acts inside the sandbox, after the rights are gone; nothing outside sees the job's environment."""
    env = {"LD_PRELOAD": "/job/evil.so", "SECRET": "s3cret '\"$(id) `id`"}
    key = sandboxed.submit("a", ("sh", "-c", 'printf "%s" "$SECRET"; sleep 2'), env=env)
    sandboxed.until(key, Phase.STARTED)
    time.sleep(0.2)
    assert living("s3cret") == []
    status = sandboxed.ended(key)
    assert status.exit_code == 0
    assert "s3cret '\"$(id) `id`" in sandboxed.log(key).decode()


def test_a_temporary_folder_counts_as_memory(sandboxed: Harness) -> None:
    status, log = sandboxed.do("a", ("sh", "-c", "head -c 300000000 /dev/zero > /tmp/x"), slot_memory_bytes=64 << 20)
    assert status.reason is EndReason.MEMORY_LIMIT or "No space" in log


def test_outputs_follow_no_links_out_of_the_job(processes: Harness) -> None:
    secret = processes.data_dir / "key"
    script = f"ln -s {secret} a; ln -s {processes.data_dir} d; mkfifo f; "
    script += "mkdir deep; echo ok > deep/fine; ln -s /etc/passwd deep/l"
    key = processes.submit("a", ("sh", "-c", script))
    assert processes.ended(key).exit_code == 0
    wanted = ("a", "d/key", "d", "f", "deep")
    outputs = processes.run(processes.driver.outputs(key, wanted, 1 << 20))
    assert {output.path for output in outputs if not output.missing} == {"deep/fine"}
    assert len([output for output in outputs if output.missing]) == 5


def test_cpu_is_held_to_its_share(sandboxed: Harness) -> None:
    if sandboxed.isolation.tier < 2:
        pytest.skip(f"no control groups here: {sandboxed.isolation.text}")
    code = "import time\nend = time.monotonic() + 1\nwhile time.monotonic() < end: pass\nprint(time.process_time())"
    _, log = sandboxed.do("a", (*PYTHON, code), slot_milli=200)
    assert float(log) < 0.5


def test_the_site_as_a_whole_is_held_to_its_share(sandboxed: Harness) -> None:
    """Two leases that the hub placed within the share, both busy: the group above them is limited as well."""
    if sandboxed.isolation.tier < 2:
        pytest.skip(f"no control groups here: {sandboxed.isolation.text}")
    layout = sandboxed.driver._hold.layout  # type: ignore[attr-defined]
    limits = dict(layout.v1)
    if layout.v2_limits:
        assert (layout.v2 / "cpu.max").read_text().split()[0] == "100000"
    else:
        assert (limits["cpu"] / "cpu.cfs_quota_us").read_text().strip() == "100000"
        assert int((limits["memory"] / "memory.limit_in_bytes").read_text()) == 512 << 20


# --- full disks -----------------------------------------------------------------------------------------------------


def test_a_full_disk_never_hangs_a_job(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "3m"):
        made = process_harness(tmp_path / "disk", QUICK)
        try:
            status, _ = made.do("a", ("sh", "-c", "head -c 20000000 /dev/zero; echo done; exit 0"))
            assert (status.reason, status.exit_code) == (EndReason.EXITED, 0)
            assert "log cut: No space left" in status.detail
            made.run(made.driver.forget(next(iter(made.keys))))
            status, _ = made.do("b", ("sh", "-c", "cat /dev/zero > fill || exit 1"))
            assert status.reason is EndReason.DISK_FULL, status
        finally:
            made.close()


# --- bookkeeping ----------------------------------------------------------------------------------------------------


def test_ended_jobs_leave_no_control_groups(sandboxed: Harness) -> None:
    layout = sandboxed.driver._hold.layout  # type: ignore[attr-defined]
    if layout is None:
        pytest.skip(f"no control groups here: {sandboxed.isolation.text}")
    keys = [sandboxed.submit(f"a{i}", ("true",), slot_milli=100) for i in range(3)]
    for key in keys:
        sandboxed.ended(key)
        sandboxed.run(sandboxed.driver.forget(key))
    time.sleep(0.3)
    left = [path for _, base in layout.v1 for path in base.iterdir() if path.is_dir()]
    assert len(left) <= len(layout.v1), left  # the seat that waits for the next job


def test_what_is_found_here_is_stated(sandboxed: Harness) -> None:
    """Tier 2 is only said with both halves; the text names them."""
    assert shutil.which("bwrap")
    assert "bubblewrap" in sandboxed.isolation.text
    assert (sandboxed.isolation.tier == 2) is ("cgroup v" in sandboxed.isolation.text)


def test_the_exit_record_says_it_all(processes: Harness) -> None:
    key = processes.submit("a", ("true",))
    processes.ended(key)
    record = json.loads((processes.lease_dir(key) / "exit.json").read_text())
    assert set(record) == {
        "started", "exit_code", "reason", "detail", "wall_ms", "cpu_ms", "peak_memory_bytes", "sampled",
    }  # fmt: skip


def test_a_notice_does_not_lengthen_the_run_limit(processes: Harness) -> None:
    plan = CheckpointPlan(signal="SIGUSR1", folder="kept", cap_bytes=1 << 20)
    deaf = ("sh", "-c", "trap '' USR1 TERM; echo up; while true; do sleep 0.1; done")
    job = processes.job("a", deaf, checkpoint=plan, run_limit_ms=2_000)
    processes.run(processes.driver.submit(Job(job.lease, job.contact_ms, notice_ms=3_600_000)))
    processes.until(job.key, Phase.STARTED)
    processes.run(processes.driver.cancel(job.key, EndReason.PREEMPTED))
    status = processes.ended(job.key)
    assert status.reason is EndReason.PREEMPTED
    assert status.totals is not None and 1_900 <= status.totals.wall_ms < 10_000
