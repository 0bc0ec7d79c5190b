"""Secrets of a job: files of its own in memory, and nowhere else, whoever dies when."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.drivers.conftest import process_harness
from tests.drivers.harness import QUICK, Harness
from tests.fakes.fake_hub import start_lease
from yunhe.core.lifecycle import EndReason
from yunhe.site.drivers.contract import Job, LeaseKey, Phase
from yunhe.site.drivers.process.driver import SUPERVISOR

VALUE = b"correct horse \xf0\x9f\x90\x8e battery\nstaple\n"
LOOK = 'cd "$YUNHE_SECRETS"; stat -c "%a %n" . *; cat TOKEN; '


def with_secrets(harness: Harness, lease_id: str, script: str, **changes: Any) -> Job:
    plain = harness.job(lease_id, ("sh", "-c", script), secrets=("TOKEN", "KEY"), **changes)
    return Job(plain.lease, plain.contact_ms, plain.files, {"TOKEN": VALUE, "KEY": b"k" * 8192})


def start(harness: Harness, lease_id: str, script: str, **changes: Any) -> LeaseKey:
    job = with_secrets(harness, lease_id, script, **changes)
    harness.run(harness.driver.submit(job))
    return job.key


def until_said(harness: Harness, key: LeaseKey, text: bytes) -> None:
    end = time.monotonic() + 15
    while text not in harness.log(key):
        assert time.monotonic() < end, (harness.log(key), harness.status(key))
        time.sleep(0.01)


def in_memory(data_dir: Path) -> list[Path]:
    """Folders of this agent's jobs, as the driver names them."""
    tag = hashlib.sha256(str(data_dir).encode()).hexdigest()[:16]
    return list(Path("/dev/shm").glob(f"yunhe-{tag}-*"))


def on_disk(folder: Path) -> list[Path]:
    """Files with any part of a value, the job's own log left out."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and path.name != "log":
            data = path.read_bytes()
            if b"correct horse" in data or b"Y29ycmVjdCBob3JzZ" in data or b"k" * 64 in data or b"a2tra2tr" in data:
                found.append(path)
    return found


def test_a_job_reads_its_secrets_as_files_of_its_own(processes: Harness) -> None:
    key = start(
        processes, "a", LOOK + "id -u; stat -c %u TOKEN; wc -c < KEY; echo x > KEY || echo read-only; env | cut -c-60"
    )
    assert processes.ended(key).exit_code == 0
    log = processes.log(key).decode()
    assert VALUE.decode() in log
    assert "700 .\n400 KEY\n400 TOKEN\n" in log
    lines = log.splitlines()
    uid = lines.index("staple") + 1
    assert lines[uid] == lines[uid + 1] and lines[uid + 2] == "8192"
    assert not any("correct" in line for line in lines[uid:])
    assert on_disk(processes.data_dir) == []


def test_secrets_are_gone_with_the_job(processes: Harness) -> None:
    key = start(processes, "a", LOOK + "sleep 30")
    until_said(processes, key, b"staple")
    assert on_disk(processes.data_dir) == []
    assert len(in_memory(processes.data_dir)) == (
        processes.isolation.tier == 0 or "bubblewrap" not in processes.isolation.text
    )
    processes.run(processes.driver.cancel(key, EndReason.CANCELLED))
    processes.ended(key)
    assert in_memory(processes.data_dir) == []


def test_a_job_that_locks_its_folder_does_not_keep_it(processes: Harness) -> None:
    key = start(processes, "a", 'cd "$YUNHE_SECRETS"; mkdir d; touch d/f; chmod 0 d .; echo done; exit 0')
    processes.ended(key)
    processes.run(processes.driver.forget(key))
    assert in_memory(processes.data_dir) == []


def test_secrets_are_gone_when_the_supervisor_was_killed(processes: Harness) -> None:
    key = start(processes, "a", LOOK + "sleep 30")
    until_said(processes, key, b"staple")
    os.kill(processes.supervisor_pid(key), signal.SIGKILL)
    assert processes.ended(key).reason is EndReason.SUPERVISOR_LOST
    assert in_memory(processes.data_dir) == []


def test_secrets_are_gone_when_agent_and_supervisor_were_killed(processes: Harness) -> None:
    """What the agent finds when it comes back; in a sandbox there is nothing to find."""
    key = start(processes, "a", LOOK + "sleep 30")
    until_said(processes, key, b"staple")
    os.kill(processes.supervisor_pid(key), signal.SIGKILL)
    launcher = processes.driver._launcher  # type: ignore[attr-defined]
    launcher.kill()
    launcher.wait(5)
    processes.reopen()
    assert in_memory(processes.data_dir) == []
    assert processes.ended(key).reason is EndReason.SUPERVISOR_LOST


def test_a_start_that_fails_leaves_none(tmp_path: Path) -> None:
    for isolation in ("auto", "processes"):
        (tmp_path / isolation).mkdir()
        made = process_harness(tmp_path / isolation, QUICK.model_copy(update={"isolation": isolation}))
        try:
            job = with_secrets(made, "a", "echo never", disconnect_limit_ms=1_000)
            late = Job(job.lease, job.contact_ms - 2_000, job.files, job.secrets)
            made.run(made.driver.submit(late))
            assert made.ended(job.key).reason is EndReason.DISCONNECTED
            assert in_memory(made.data_dir) == [] and on_disk(made.data_dir) == []
        finally:
            made.close()


def test_a_lease_that_had_not_begun_is_absent_for_the_next_agent(processes: Harness) -> None:
    """Its secrets were in the memory of the one that is gone; it is submitted again with them, and runs once."""
    launcher = processes.driver._launcher  # type: ignore[attr-defined]
    os.kill(launcher.pid, signal.SIGSTOP)
    job = with_secrets(processes, "a", LOOK)
    processes.run(processes.driver.submit(job))
    assert processes.status(job.key).phase is Phase.ACCEPTED
    assert on_disk(processes.data_dir) == []
    launcher.kill()
    launcher.wait(5)
    processes.reopen()
    assert processes.status(job.key).phase is Phase.ABSENT
    processes.run(processes.driver.submit(job))
    assert processes.ended(job.key).exit_code == 0
    assert VALUE in processes.log(job.key)


def test_a_supervisor_without_them_does_not_start_the_job(processes: Harness) -> None:
    """A launcher that died with the line: the driver asks again, with the secrets that it still holds."""
    launcher = processes.driver._launcher  # type: ignore[attr-defined]
    os.kill(launcher.pid, signal.SIGSTOP)
    job = with_secrets(processes, "a", LOOK)
    processes.run(processes.driver.submit(job))
    folder = str(processes.lease_dir(job.key))
    assert (
        subprocess.run([sys.executable, "-I", "-S", str(SUPERVISOR), folder], check=False, timeout=20).returncode == 0
    )
    assert not (processes.lease_dir(job.key) / "claim").exists()
    os.kill(launcher.pid, signal.SIGCONT)
    assert processes.ended(job.key).exit_code == 0
    assert VALUE in processes.log(job.key)


def test_every_process_of_a_gang_has_them(processes: Harness) -> None:
    job = with_secrets(processes, "a", 'wc -c < "$YUNHE_SECRETS/TOKEN"', slots=2, slot_milli=400)
    processes.run(processes.driver.submit(job))
    assert processes.ended(job.key).exit_code == 0
    assert processes.log(job.key).split() == [str(len(VALUE)).encode()] * 2


def test_a_job_without_secrets_has_no_folder_for_them(processes: Harness) -> None:
    status, log = processes.do("a", ("sh", "-c", 'echo "[$YUNHE_SECRETS]"; ls /run/secrets'))
    assert log.startswith("[]\n") and status.exit_code != 0


def test_nobody_else_of_the_host_sees_them(sandboxed: Harness) -> None:
    """Not in a command line, not in an environment, not in a descriptor that the job inherits."""
    key = start(sandboxed, "a", LOOK + "ls -l /proc/self/fd | grep -c memfd; sleep 30")
    until_said(sandboxed, key, b"staple\n0\n")
    for name in filter(str.isdigit, os.listdir("/proc")):
        for part in ("cmdline", "environ"):
            try:
                assert b"correct horse" not in Path(f"/proc/{name}/{part}").read_bytes()
            except (OSError, ProcessLookupError):
                continue
    other, log = sandboxed.do("b", ("sh", "-c", "ls -A /run/secrets /dev/shm"), slot_milli=100)
    assert "TOKEN" not in log
    sandboxed.run(sandboxed.driver.cancel(key, EndReason.CANCELLED))
    sandboxed.ended(key)
    del other


def test_a_jobs_values_are_in_no_representation() -> None:
    assert "hunter2" not in repr(Job(start_lease("a", ("true",)), 0, {}, {"A": b"hunter2"}))
