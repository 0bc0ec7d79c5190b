"""Accounts for tenants on a real Slurm: a job of one tenant as attacker on another's, on its records and on the agent.

The agent is a user of its own without any right but one: to become one of the accounts, as a line in sudoers gives it.
Where sudo is not installed, a copy of setpriv that only the agent's group may run stands for it. Accounts are made for
the time of these tests.
"""

import grp
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.drivers.conftest import SlurmHarness
from tests.engines import slurm
from yunhe.core.lifecycle import EndReason
from yunhe.site.drivers.contract import Checkpoints, Job, LeaseKey, Phase, SpawnFailed
from yunhe.wire.link import CheckpointPlan

AGENT, GROUP, ACCOUNTS = "yunhe-t-agent", "yunhe-t-accounts", ("yunhe-t-a", "yunhe-t-b")
SUDOERS = Path("/etc/sudoers.d/yunhe-tests")


def why_not() -> str:
    if os.geteuid() != 0:
        return "only root can make accounts for a test"
    if not all(map(shutil.which, ("useradd", "userdel", "groupadd", "groupdel", "setpriv"))):
        return "useradd and setpriv are not here: apt-get install passwd util-linux"
    return slurm.missing()


pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")


class Place(NamedTuple):
    """A site of an agent that is not root."""

    folder: Path
    command: tuple[str, ...]
    uid: int


def call(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, timeout=30)


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    folder = Path(tempfile.mkdtemp(prefix="yunhe-tenants-"))
    try:
        call("groupadd", GROUP)
        call("useradd", "-M", "-U", "-s", "/bin/sh", AGENT)
        for name in ACCOUNTS:
            call("useradd", "-M", "-U", "-G", GROUP, "-s", "/bin/sh", name)
            call("usermod", "-a", "-G", name, AGENT)
        agent = pwd.getpwnam(AGENT)
        folder.chmod(0o755)
        os.chown(folder, agent.pw_uid, agent.pw_gid)
        yield Place(folder, means(folder, agent.pw_gid), agent.pw_uid)
    finally:
        SUDOERS.unlink(missing_ok=True)
        for name in (AGENT, *ACCOUNTS):
            subprocess.run(["userdel", name], capture_output=True, check=False, timeout=30)
        subprocess.run(["groupdel", GROUP], capture_output=True, check=False, timeout=30)
        shutil.rmtree(folder)


def means(folder: Path, gid: int) -> tuple[str, ...]:
    """How the agent becomes an account."""
    if sudo := shutil.which("sudo"):
        SUDOERS.write_text(f"Defaults:{AGENT} !syslog\n{AGENT} ALL=(%{GROUP}) NOPASSWD: ALL\n")
        SUDOERS.chmod(0o440)
        return (sudo, "-n", "-u", "{user}", "--")
    copy = folder / "become"
    shutil.copy(str(shutil.which("setpriv")), copy)
    os.chown(copy, 0, gid)
    copy.chmod(0o4750)
    return (str(copy), "--reuid={user}", "--regid={user}", "--init-groups", "--")


class Site(SlurmHarness):
    """Everything happens as the agent's user, what the engine starts too."""

    def __init__(self, cluster: slurm.Cluster, place: Place, **changes: Any) -> None:
        shared = place.folder / "shared"
        shared.mkdir(mode=0o700, exist_ok=True)
        changes = {"tenant_group": GROUP, "tenant_command": place.command, "shared_dir": shared, **changes}
        super().__init__(cluster, place.folder, python="/usr/bin/python3", **changes)
        self.shared = shared
        (self.data_dir / "key").write_text("secret of the agent")
        (self.data_dir / "key").chmod(0o600)

    def lease_dir(self, key: LeaseKey) -> Path:
        return self.shared / "leases" / str(key)


@pytest.fixture
def as_agent(place: Place) -> Iterator[Place]:
    agent, root = pwd.getpwnam(AGENT), (os.getgroups(), os.getresuid(), os.getresgid())
    os.setgroups(os.getgrouplist(AGENT, agent.pw_gid))
    os.setresgid(agent.pw_gid, agent.pw_gid, 0)
    os.setresuid(agent.pw_uid, agent.pw_uid, 0)
    try:
        yield place
    finally:
        os.setresuid(*root[1])
        os.setresgid(*root[2])
        os.setgroups(root[0])
        for pid in (pid for name in ACCOUNTS for pid in processes(pwd.getpwnam(name).pw_uid)):
            os.kill(pid, signal.SIGKILL)  # of the job whose supervisor is killed: this Slurm has no control groups
        for name in ("site", "shared"):
            shutil.rmtree(place.folder / name, ignore_errors=True)


@pytest.fixture
def site(cluster: slurm.Cluster, as_agent: Place) -> Iterator[Site]:
    made = Site(cluster, as_agent)
    yield made
    made.close()


def sh(script: str) -> tuple[str, ...]:
    return ("sh", "-c", script)


# --- who runs what --------------------------------------------------------------------------------------------------


def test_each_tenant_has_an_account_for_good(site: Site) -> None:
    assert site.isolation.tier == 1 and GROUP in site.isolation.text
    seen = [site.do(f"a{n}", sh("id -un; id -g; umask"), tenant=tenant) for n, tenant in enumerate(("x", "y", "x"))]
    assert {status.exit_code for status, _ in seen} == {0}
    logs = [log.split() for _, log in seen]
    assert [log[0] for log in logs] == [ACCOUNTS[0], ACCOUNTS[1], ACCOUNTS[0]]
    assert logs[0][1:] == [str(pwd.getpwnam(ACCOUNTS[0]).pw_gid), "0007"]
    site.reopen()
    assert site.do("b", sh("id -un"), tenant="y")[1].strip() == ACCOUNTS[1]
    with pytest.raises(SpawnFailed, match="another tenant"):
        site.submit("c", ("true",), tenant="z")
    with pytest.raises(SpawnFailed, match="another tenant"):  # who says nothing of itself is a tenant like others
        site.submit("d", ("true",))


def test_a_job_keeps_what_a_job_has(site: Site) -> None:
    """Files, variables, outputs, the place that Slurm gave, an exit code, and nothing of the agent's variables."""
    os.environ["OF_THE_AGENT"] = "private"
    script = (
        'cat given/in; echo more >> given/in; echo "$WORD"; echo $SLURM_JOB_ID | grep -c .; echo $YUNHE_LEASE;'
        'env | grep -c -e OF_THE_AGENT -e SUDO; cd "$HOME"; cd "$TMPDIR" && echo $PWD; cd - >/dev/null;'
        "mkdir -m 700 out; (umask 077; echo forty-two > out/result); exit 3"
    )
    env = {"WORD": "it's $HOME\n`two` lines"}
    plain = site.job("a", sh(script), {"given/in": "hello\n"}, tenant="x", env=env, outputs=("out",))
    site.run(site.driver.submit(plain))
    status = site.ended(plain.key)
    del os.environ["OF_THE_AGENT"]
    log = site.log(plain.key).decode()
    assert (status.reason, status.exit_code) == (EndReason.EXITED, 3), log
    expected = f"hello\nit's $HOME\n`two` lines\n1\n{plain.key}\n0\n{site.lease_dir(plain.key)}/tmp\n"
    assert log == expected
    (output,) = site.run(site.driver.outputs(plain.key, ("out",), 1000))
    assert (output.path, output.size_bytes) == ("out/result", 10)
    assert site.run(site.driver.read_output(plain.key, "out/result", 0, 99)) == b"forty-two\n"


def test_a_gang_runs_as_the_account_and_is_stopped_by_it(site: Site) -> None:
    script = "trap 'echo told $YUNHE_RANK; exit 0' TERM; id -un; echo $WORD; while :; do sleep 0.05; done"
    key = site.submit("a", sh(script), slots=2, slot_milli=500, tenant="x", env={"WORD": "up"})
    site.cluster.until(lambda: site.log(key).count(b"up\n") == 2, "start both ranks")
    site.run(site.driver.cancel(key, EndReason.CANCELLED))
    status = site.ended(key)
    lines = site.log(key).decode().splitlines()
    assert status.reason is EndReason.CANCELLED, lines
    assert {"told 0", "told 1"} <= set(lines) and lines.count(ACCOUNTS[0]) == 2


def test_a_checkpoint_goes_with_the_account(site: Site) -> None:
    script = "trap 'echo 7 > $YUNHE_CHECKPOINT/count; exit 0' USR1; echo up; while :; do sleep 0.05; done"
    plan = CheckpointPlan(signal="SIGUSR1", folder="kept", cap_bytes=1 << 20)
    plain = site.job("a", sh(script), tenant="x", checkpoint=plan)
    site.run(site.driver.submit(Job(plain.lease, plain.contact_ms, notice_ms=8_000)))
    site.cluster.until(lambda: b"up" in site.log(plain.key), "start")
    site.run(site.driver.cancel(plain.key, EndReason.PREEMPTED))
    assert site.ended(plain.key).reason is EndReason.PREEMPTED
    assert isinstance(site.driver, Checkpoints) and site.run(site.driver.kept_ms(plain.key, "kept")) > 0
    assert site.run(site.driver.read_output(plain.key, "kept/count", 0, 9)) == b"7\n"


def test_programs_of_the_site_run_with_the_interpreter_of_the_nodes(site: Site) -> None:
    """Certification asks the driver for it: the agent's own is nothing that an account could read."""
    status, log = site.do("a", (site.driver.python, "-c", "print(6 * 7)"))  # type: ignore[attr-defined]
    assert (status.exit_code, log) == (0, "42\n")
    assert json.loads((site.data_dir / "tenants.json").read_text()) == {"": ACCOUNTS[0]}


# --- attacks --------------------------------------------------------------------------------------------------------


@pytest.fixture
def victim(site: Site) -> LeaseKey:
    """A job of the first tenant that runs, careless with its own files."""
    script = "umask 0; echo private-file > mine; echo private-tmp > $TMPDIR/mine; echo up; exec sleep 60"
    key = site.submit("victim", sh(script), tenant="victim", env={"MINE": "private-env"}, slot_milli=500)
    site.cluster.until(lambda: b"up" in site.log(key), "start the victim")
    return key


def test_nothing_of_another_tenant_can_be_read(site: Site, victim: LeaseKey) -> None:
    folder = site.lease_dir(victim)
    script = (
        f"cat {folder}/job/mine {folder}/tmp/mine {folder}/spec.json {folder}/plan.json {folder}/env {folder}/job.env;"
        f"cat {folder}/log {folder}/usage.json {folder}/started.json; ls {folder} {folder}/job {site.shared}/leases;"
        "cat /proc/[0-9]*/environ /proc/[0-9]*/cwd/mine 2>/dev/null | tr '\\0' '\\n' | grep private-;"
        f"cd {folder}/job && cat mine; ln {folder}/job/mine hard; ln -s {folder}/job/mine soft; cat hard soft;"
        f"find {site.shared} -name mine -exec cat {{}} + 2>/dev/null; true"
    )
    status, log = site.do("attacker", sh(script), tenant="attacker", slot_milli=500)
    assert status.exit_code == 0 and "private" not in log, log
    (soft,) = site.run(site.driver.outputs(LeaseKey("attacker", 1), ("soft",), 1000))
    assert soft.missing


def test_nothing_of_the_agent_can_be_read_or_changed(site: Site) -> None:
    data, shared = site.data_dir, site.shared
    script = (
        f"cat {data}/key {data}/tenants.json; ls {data} {shared} {shared}/batches {shared}/news;"
        f"echo x > {shared}/beacon; touch {shared}/news/b.1; mv {shared}/leases {shared}/moved;"
        f"cat /proc/{os.getpid()}/environ; kill -9 {os.getpid()};"
        f"ln {data}/key hard; ln -s {data}/key soft; cat hard soft;"
        f"{sys.executable} -c pass; true"
    )
    status, log = site.do("a", sh(script), tenant="x", outputs=("soft", "hard"))
    assert status.exit_code == 0 and "secret of the agent" not in log and ACCOUNTS[0] not in log, log
    assert {file.missing != "" for file in site.run(site.driver.outputs(LeaseKey("a", 1), ("soft", "hard"), 999))} == {
        True
    }
    assert (shared / "leases").is_dir() and (shared / "beacon").read_text() != "x\n"


def test_neither_end_nor_use_can_be_forged(site: Site, victim: LeaseKey) -> None:
    """Not another's, and not one's own: up or down, before or after."""
    own, other = site.shared / "leases" / "liar.1", site.lease_dir(victim)
    end = '{"started":true,"exit_code":0,"reason":"exited","detail":"","wall_ms":1,"cpu_ms":1,"peak_memory_bytes":1}'
    names = "exit.json usage.json started.json cancel claim spec.json plan.json log job.env"
    script = (
        f"for d in {own} {other}; do for n in {names}; do echo '{end}' > $d/$n; rm -f $d/$n; ln -s x $d/$n;"
        f" mv $d/$n $d/$n.old; done; mv $d/job $d/gone; mkdir $d/ranks/0.json; done;"
        f"for p in {site.supervisor_pid(victim)} $(cut -d' ' -f1 {own}/claim) $PPID; do kill -9 $p; kill -STOP $p; "
        "done;"
        "(setsid sh -c 'i=0; while [ $i -lt 150000 ]; do i=$((i+1)); done' &) ; sleep 0.6; exit 5"
    )
    status, log = site.do("liar", sh(script), tenant="liar", slot_milli=500)
    assert (status.reason, status.exit_code) == (EndReason.EXITED, 5), log
    assert status.totals is not None and 600 <= status.totals.wall_ms < 15_000
    assert 50 <= status.totals.cpu_ms <= 15_000  # what it sent into the background is its own
    assert site.status(victim).phase is Phase.STARTED
    site.run(site.driver.cancel(victim, EndReason.CANCELLED))
    assert site.ended(victim).reason is EndReason.CANCELLED


@pytest.mark.parametrize("slots", [1, 2])
def test_variables_of_a_job_do_nothing_to_the_agents_user(site: Site, slots: int) -> None:
    """PATH, preloads and start-up files take hold behind the change of user, or not at all."""
    folder = site.shared / "leases" / "a.1" / "job"
    evil = "#!/bin/sh\nid -un >> $0.ran\nexec sleep 1\n"
    names = ("sudo", "env", "sh", "srun", "kill", "chmod", "id")
    env = {
        "PATH": f"{folder}/bin:/usr/bin:/bin",
        "LD_PRELOAD": f"{folder}/bin/evil.so",
        "BASH_ENV": f"{folder}/bin/sh",
        "ENV": f"{folder}/bin/sh",
        "PYTHONPATH": f"{folder}/bin",
        "SLURM_CONF": "/dev/null",
    }
    files = {f"bin/{name}": evil for name in names} | {"bin/evil.so": "x"}
    plain = site.job("a", ("/bin/sleep", "60"), files, tenant="x", env=env, slots=slots, slot_milli=500)
    site.run(site.driver.submit(plain))
    for name in names:
        (folder / "bin" / name).chmod(0o777)
    site.until(plain.key, Phase.STARTED)
    site.run(site.driver.cancel(plain.key, EndReason.CANCELLED))
    assert site.ended(plain.key).reason is EndReason.CANCELLED
    ran = {path.read_text() for path in (folder / "bin").glob("*.ran")}
    assert not any(AGENT in text for text in ran), ran


@pytest.mark.parametrize("slots", [1, 2])
def test_what_does_not_want_to_end_is_ended_and_removed(site: Site, slots: int) -> None:
    """Processes that ignore signals and leave their session, and folders that were closed to everybody."""
    script = (
        "trap '' TERM INT HUP; d=shut$YUNHE_RANK; mkdir -p $d/in; echo x > $d/in/file; chmod 0 $d/in $d;"
        "setsid sh -c 'trap \"\" TERM; echo up; while :; do sleep 0.1; done'"
    )
    key = site.submit("a", sh(script), tenant="x", slots=slots, slot_milli=500)
    site.cluster.until(lambda: site.log(key).count(b"up") == slots, "start")
    uid = pwd.getpwnam(ACCOUNTS[0]).pw_uid
    assert processes(uid)
    site.run(site.driver.cancel(key, EndReason.CANCELLED))
    assert site.ended(key, 60).reason is EndReason.CANCELLED
    site.cluster.until(lambda: not processes(uid), "end all of them")
    folder = site.lease_dir(key)
    site.run(site.driver.forget(key))
    assert not folder.exists()


def processes(uid: int) -> list[int]:
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.stat(f"/proc/{name}").st_uid == uid:
                found.append(int(name))
        except FileNotFoundError:
            continue
    return found


def test_a_supervisor_that_was_killed_leaves_no_lie(site: Site) -> None:
    """By the centre's administrator: the end is a loss, with what had been measured, and not a success."""
    key = site.submit("a", sh("echo up; exec sleep 60"), tenant="x")
    site.cluster.until(lambda: b"up" in site.log(key), "start")
    os.kill(site.supervisor_pid(key), signal.SIGKILL)
    status = site.ended(key, 30)
    assert status.reason is EndReason.SUPERVISOR_LOST and status.exit_code is None


# --- accounts that are refused --------------------------------------------------------------------------------------


def test_root_the_agent_and_strangers_are_refused(site: Site) -> None:
    kept = site.data_dir / "tenants.json"
    for name, word in (("root", "not in group"), ("nobody", "not in group"), (AGENT, "not in group")):
        kept.write_text(json.dumps({"x": name}))
        with pytest.raises(SpawnFailed, match=word):
            site.submit("a", ("true",), tenant="x")
    kept.write_text(json.dumps({"x": ACCOUNTS[0], "y": ACCOUNTS[0]}))
    with pytest.raises(SpawnFailed, match="two tenants"):
        site.submit("a", ("true",), tenant="x")
    kept.write_text("{")
    with pytest.raises(SpawnFailed, match="not JSON"):
        site.submit("a", ("true",), tenant="x")
    kept.write_text(json.dumps({"x": ACCOUNTS[1]}))  # the centre's own choice
    assert site.do("b", sh("id -un"), tenant="x")[1].strip() == ACCOUNTS[1]
    assert site.status(LeaseKey("a", 1)).phase is Phase.ABSENT


def test_root_and_the_agent_are_refused_as_members_too(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    real = grp.getgrnam(GROUP)

    def with_members(*members: str) -> None:
        monkeypatch.setattr(grp, "getgrnam", lambda _: real.__class__((GROUP, "x", real.gr_gid, list(members))))

    for name in ("root", AGENT):
        with_members(name)
        with pytest.raises(SpawnFailed, match="is root, or the agent"):
            site.submit("a", ("true",), tenant="x")
    with_members("nowhere-to-be-found")
    with pytest.raises(SpawnFailed, match="no account"):
        site.submit("a", ("true",), tenant="x")


def test_an_account_that_cannot_be_had_starts_nothing(cluster: slurm.Cluster, as_agent: Place) -> None:
    refusing = Site(cluster, as_agent, tenant_command=("/bin/false", "{user}"))
    with pytest.raises(SpawnFailed, match="nothing can be run as account"):
        refusing.submit("a", ("true",), tenant="x")
    refusing.close()
    nothing = Site(cluster, as_agent, tenant_command=("/usr/bin/env", "NAME={user}"))
    with pytest.raises(SpawnFailed, match="nothing can be run as account"):  # it would stay the agent's user
        nothing.submit("a", ("true",), tenant="x")
    nothing.close()
