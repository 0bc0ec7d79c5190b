"""The agent against a hub: what it runs, what it reports, and how often, whatever happens to either."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.fake_hub import FakeHub, cancel_lease, certify_now, start_lease
from tests.site.conftest import SiteProcess, fill_disk, small_disk, supervisors, wait_for
from yunhe.apps import site as app
from yunhe.core.errors import Conflict, Forbidden, InvalidInput, NotFound
from yunhe.core.lifecycle import EndReason
from yunhe.site.settings import DriverSettings
from yunhe.wire.link import Certificate, LeaseEnded, Report

MakeSite = Callable[..., SiteProcess]
SLEEP = ("sleep", "30")


def ends(hub: FakeHub, lease_id: str) -> list[LeaseEnded]:
    return [r for r in hub.reports(lease_id, "ended") if isinstance(r, LeaseEnded)]


def check_reports(reports: list[Report]) -> None:
    """Contiguous, one end per lease epoch, one final usage for each that started, none for the others."""
    assert [report.seq for report in reports] == list(range(1, len(reports) + 1))
    keys = {(r.lease_id, r.epoch) for r in reports if not isinstance(r, Certificate)}
    for key in keys:
        mine = [r for r in reports if not isinstance(r, Certificate) and (r.lease_id, r.epoch) == key]
        kinds = [r.kind for r in mine]
        assert kinds.count("ended") == 1 and kinds[-1] == "ended", kinds
        usage = [r for r in mine if r.kind == "usage"]
        if kinds[0] != "started":
            assert kinds == ["ended"]
            continue
        assert kinds.count("started") == 1
        assert [u.n for u in usage] == list(range(len(usage)))
        assert [u.final for u in usage] == [False] * (len(usage) - 1) + [True]
        assert [u.from_ms for u in usage] == [0, *(u.to_ms for u in usage[:-1])]
        assert all(u.totals.wall_ms == u.to_ms for u in usage)


# --- a lease --------------------------------------------------------------------------------------------------------


def test_a_lease_runs_end_to_end(hub: FakeHub, site: SiteProcess) -> None:
    files = {"job.py": "print('hello')\nopen('out/r.txt', 'w').write('42')\n", "out/.keep": ""}
    bundle = hub.add_bundle(files)
    hub.tell(start_lease("a", ("python3", "job.py"), bundle_sha256=bundle, outputs=("out/r.txt",)))
    end = hub.wait_end("a")
    assert (end.reason, end.exit_code, end.detail) == (EndReason.EXITED, 0, "")
    assert bytes(hub.site.logs["a.1"]) == b"hello\n"
    assert bytes(hub.site.outputs["a.1/out/r.txt"]) == b"42"
    check_reports(hub.site.reports)
    last = hub.usage("a")[-1]
    assert last.to_ms == last.totals.wall_ms > 0
    assert last.totals.cpu_ms > 0 and last.totals.peak_memory_bytes > 0
    wait_for(lambda: not (site.data_dir / "leases" / "a.1").exists())


def test_usage_is_reported_while_it_runs(hub: FakeHub, site: SiteProcess) -> None:
    hub.tell(start_lease("a", ("sleep", "1.5")))
    hub.wait_end("a")
    usage = hub.usage("a")
    assert len(usage) >= 3
    check_reports(hub.site.reports)


def test_the_log_travels_while_it_runs(hub: FakeHub, site: SiteProcess) -> None:
    hub.tell(start_lease("a", ("sh", "-c", "echo first; sleep 20")))
    hub.wait(lambda: bytes(hub.site.logs.get("a.1", b"")) == b"first\n", 5)
    hub.tell(cancel_lease("a", EndReason.CANCELLED))
    end = hub.wait_end("a")
    assert (end.reason, end.exit_code) == (EndReason.CANCELLED, 143)


def test_many_leases_and_their_reports(hub: FakeHub, site: SiteProcess) -> None:
    hub.tell(*(start_lease(f"a{i}", ("sh", "-c", f"echo {i}; exit {i % 3}"), slot_milli=50) for i in range(30)))
    for i in range(30):
        assert hub.wait_end(f"a{i}", timeout_s=40).exit_code == i % 3
        assert bytes(hub.site.logs[f"a{i}.1"]) == f"{i}\n".encode()
    check_reports(hub.site.reports)


def test_a_job_over_its_memory_is_told_in_words(hub: FakeHub, site: SiteProcess) -> None:
    code = "x = bytearray(300 << 20)\nfor i in range(0, len(x), 4096): x[i] = 1\nimport time; time.sleep(9)"
    hub.tell(start_lease("a", ("python3", "-c", code), slot_memory_bytes=32 << 20))
    end = hub.wait_end("a")
    assert end.reason is EndReason.MEMORY_LIMIT and "more than 33554432 bytes of memory" in end.detail


def test_a_start_with_its_cancel_in_one_batch_never_runs(hub: FakeHub, site: SiteProcess) -> None:
    hub.wait(lambda: hub.site.syncs)
    hub.tell(start_lease("a", ("touch", "ran")), cancel_lease("a", EndReason.CANCELLED))
    assert hub.wait_end("a").reason is EndReason.CANCELLED
    assert [r.kind for r in hub.reports("a")] == ["ended"]
    assert not (site.data_dir / "leases" / "a.1").exists()


def test_what_the_pool_cannot_hold_is_refused_by_the_site(hub: FakeHub, site: SiteProcess) -> None:
    hub.tell(start_lease("a", SLEEP, slot_milli=5_000), start_lease("b", SLEEP, pool="gpu"))
    assert hub.wait_end("a").reason is EndReason.SPAWN_FAILED
    assert "no pool 'gpu'" in hub.wait_end("b").detail
    check_reports(hub.site.reports)


def test_a_bundle_that_is_not_what_it_says_starts_nothing(hub: FakeHub, site: SiteProcess) -> None:
    good = hub.add_bundle({"a": "b"})
    hub.site.bundles[good] += b" "
    evil = hub.add_bundle({"../../key": "x"})
    hub.tell(start_lease("a", SLEEP, bundle_sha256=good), start_lease("b", SLEEP, bundle_sha256=evil))
    hub.tell(start_lease("c", SLEEP, bundle_sha256="0" * 64))
    for lease_id, words in (("a", "hash"), ("b", "inside the job's folder"), ("c", "no such bundle")):
        end = hub.wait_end(lease_id)
        assert end.reason is EndReason.SPAWN_FAILED and words in end.detail


def test_missing_outputs_are_named(hub: FakeHub, site: SiteProcess) -> None:
    hub.tell(start_lease("a", ("true",), outputs=("nothing.txt",)))
    assert hub.wait_end("a").detail == "output nothing.txt: not there"


def test_a_large_output_travels_in_chunks(hub: FakeHub, site: SiteProcess) -> None:
    command = ("sh", "-c", "head -c 3500000 /dev/urandom > big; sha256sum big")
    hub.tell(start_lease("a", command, outputs=("big",)))
    assert hub.wait_end("a").detail == ""
    assert len(hub.site.outputs["a.1/big"]) == 3_500_000


# --- the site's own will --------------------------------------------------------------------------------------------


def test_a_paused_site_takes_nothing_new_and_lets_the_rest_run(hub: FakeHub, site: SiteProcess) -> None:
    hub.tell(start_lease("a", ("sleep", "1")))
    hub.wait(lambda: hub.reports("a", "started"))
    app.pause(site.data_dir)
    hub.wait(lambda: not hub.site.syncs[-1].accepting)
    hub.tell(start_lease("b", SLEEP))
    end = hub.wait_end("b")
    assert end.reason is EndReason.SITE_REFUSED and "paused" in end.detail
    assert hub.wait_end("a").exit_code == 0
    app.resume(site.data_dir)
    hub.wait(lambda: hub.site.syncs[-1].accepting)
    hub.tell(start_lease("c", ("true",)))
    assert hub.wait_end("c").exit_code == 0


def test_only_allowed_programs_run(hub: FakeHub, make_site: MakeSite) -> None:
    site = make_site()
    settings = site.data_dir / "site.toml"
    settings.write_text('allow_programs = ["python*"]\n' + settings.read_text())
    site.start()
    hub.tell(start_lease("a", ("sh", "-c", "id")), start_lease("b", ("python3", "-c", "pass")))
    assert hub.wait_end("a").reason is EndReason.SITE_REFUSED
    assert hub.wait_end("b").exit_code == 0


# --- the link -------------------------------------------------------------------------------------------------------


def test_reports_do_not_wait_for_a_held_poll(hub: FakeHub, site: SiteProcess) -> None:
    hub.hold_ms = 20_000
    hub.wait(lambda: hub.site.syncs and hub.site.syncs[-1].wait_ms > 0)
    started = time.monotonic()
    hub.tell(start_lease("a", ("true",)))
    hub.wait_end("a")
    assert time.monotonic() - started < 15


def test_reports_survive_a_hub_that_is_away(hub: FakeHub, site: SiteProcess) -> None:
    hub.tell(start_lease("a", ("sh", "-c", "echo before; sleep 0.5; echo after")))
    hub.wait(lambda: hub.reports("a", "started"))
    hub.down = True
    time.sleep(1.5)
    assert not ends(hub, "a")
    hub.down = False
    assert hub.wait_end("a").exit_code == 0
    hub.wait(lambda: bytes(hub.site.logs["a.1"]) == b"before\nafter\n")
    check_reports(hub.site.reports)


def test_answers_that_get_lost_change_nothing(hub: FakeHub, site: SiteProcess) -> None:
    hub.lose_answers = 3
    hub.tell(start_lease("a", ("sh", "-c", "echo once >> runs; cat runs")))
    hub.wait_end("a")
    assert bytes(hub.site.logs["a.1"]) == b"once\n"
    hub.lose_answers = 2
    hub.tell(start_lease("b", ("true",)))
    hub.wait_end("b")
    check_reports(hub.site.reports)


def test_a_start_that_arrives_after_its_disconnect_limit_never_runs(hub: FakeHub, make_site: MakeSite) -> None:
    make_site(poll_wait_ms=500).start()
    hub.wait(lambda: hub.site.syncs)
    hub.delay_answer_s = 1.5
    hub.tell(start_lease("a", ("true",), disconnect_limit_ms=1_000))
    end = hub.wait_end("a")
    assert end.reason is EndReason.DISCONNECTED
    assert [r.kind for r in hub.reports("a")] == ["ended"]


def test_a_hub_that_takes_no_logs_cannot_hold_up_the_end(hub: FakeHub, make_site: MakeSite) -> None:
    make_site(flush_limit_ms=500).start()
    hub.refuse_blobs = True
    hub.tell(start_lease("a", ("echo", "x")))
    end = hub.wait_end("a")
    assert end.exit_code == 0 and "not delivered" in end.detail


def test_a_hub_that_caps_logs_earlier_is_told_once(hub: FakeHub, site: SiteProcess) -> None:
    hub.site.log_cap = 3
    hub.tell(start_lease("a", ("echo", "longer")))
    assert "log refused" in hub.wait_end("a").detail


def test_silence_for_the_disconnect_limit_ends_the_job_even_without_an_agent(hub: FakeHub, site: SiteProcess) -> None:
    hub.tell(start_lease("a", SLEEP, disconnect_limit_ms=3_000))
    hub.wait(lambda: hub.reports("a", "started"))
    time.sleep(4.0)  # polls shorter than the limit keep it alive
    assert not ends(hub, "a")
    site.kill()
    wait_for(lambda: not supervisors(site.data_dir))
    site.start()
    assert hub.wait_end("a").reason is EndReason.DISCONNECTED
    check_reports(hub.site.reports)


def test_snapshots_come_with_each_epoch_and_when_wanted(hub: FakeHub, site: SiteProcess) -> None:
    hub.tell(start_lease("a", SLEEP))
    hub.wait(lambda: hub.reports("a", "started"))
    site.stop()
    site.start()
    snapshot = hub.wait(lambda: [s for s in hub.site.snapshots if s.epoch == 2])[0]
    assert [(lease.lease_id, lease.epoch, lease.started) for lease in snapshot.leases] == [("a", 1, True)]
    before = len(hub.site.snapshots)
    hub.want_snapshot = True
    hub.wait(lambda: len(hub.site.snapshots) > before)
    hub.tell(cancel_lease("a", EndReason.CANCELLED))
    hub.wait_end("a")


def test_a_lease_given_up_while_it_waits_for_its_files_never_runs(hub: FakeHub, site: SiteProcess) -> None:
    hub.hold_bundles = True
    hub.tell(start_lease("a", ("true",), bundle_sha256=hub.add_bundle({"a": "b"})))
    hub.wait(lambda: hub.site.syncs and hub.site.syncs[-1].applied_seq == 1)
    hub.tell(cancel_lease("a", EndReason.LOST))
    hub.wait(lambda: hub.site.syncs[-1].applied_seq == 2)
    hub.hold_bundles = False
    assert hub.wait_end("a").reason is EndReason.LOST
    assert [r.kind for r in hub.reports("a")] == ["ended"]


def test_a_killed_agent_leaves_no_control_groups(hub: FakeHub, site: SiteProcess) -> None:
    hub.wait(lambda: hub.site.syncs)

    def groups() -> list[Path]:
        own = Path("/proc/self/cgroup").read_text()
        bases = {Path("/sys/fs/cgroup") / line.split(":")[1] for line in own.splitlines()}
        bases |= {Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified")}
        tag = hashlib.sha256(str(site.data_dir).encode()).hexdigest()[:6]
        return [path for base in bases for path in base.glob(f"yunhe-*-{tag}")]

    if "cgroup v" not in site.text():
        pytest.skip(f"no control groups here: {site.text()}")
    assert groups()
    site.kill()
    wait_for(lambda: not groups())


def test_a_lease_that_only_the_hub_knows_is_told_as_lost(hub: FakeHub, site: SiteProcess) -> None:
    hub.tell(cancel_lease("ghost", EndReason.LOST))
    assert hub.wait_end("ghost").reason is EndReason.LOST
    hub.tell(cancel_lease("other", EndReason.CANCELLED), start_lease("a", ("true",)))
    hub.wait_end("a")
    assert not hub.reports("other")


# --- epochs ---------------------------------------------------------------------------------------------------------


def test_an_agent_that_was_followed_by_another_stops(hub: FakeHub, site: SiteProcess) -> None:
    hub.wait(lambda: hub.site.syncs)
    hub.tell(start_lease("a", ("sleep", "3")))
    hub.wait(lambda: hub.reports("a", "started"))
    hub.site.epoch_issued += 1
    assert site.process is not None
    assert site.process.wait(10) == app.EXIT_SUPERSEDED
    assert "stops speaking" in site.text()
    assert len(supervisors(site.data_dir)) == 1, "its jobs go on"


def test_a_copied_site_cannot_speak(hub: FakeHub, site: SiteProcess, tmp_path: Path) -> None:
    hub.wait(lambda: hub.site.syncs)
    site.stop()
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-a", str(site.data_dir), str(copy)], check=True)
    site.start()
    hub.wait(lambda: hub.site.epoch_used == 2)
    site.stop()
    clone = SiteProcess(copy).start()
    assert clone.process is not None
    assert clone.process.wait(10) == app.EXIT_SUPERSEDED


def test_a_copied_site_leaves_the_originals_jobs_alone(hub: FakeHub, site: SiteProcess, tmp_path: Path) -> None:
    hub.tell(start_lease("a", ("sleep", "3")))
    hub.wait(lambda: hub.reports("a", "started"))
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-a", str(site.data_dir), str(copy)], check=True)
    site.stop()
    site.start()
    hub.wait(lambda: hub.site.epoch_used == 2)
    clone = SiteProcess(copy).start()
    assert clone.process is not None
    assert clone.process.wait(10) == app.EXIT_SUPERSEDED
    assert hub.wait_end("a").reason is EndReason.EXITED
    check_reports(hub.site.reports)


def test_a_moved_site_goes_on(hub: FakeHub, site: SiteProcess, tmp_path: Path) -> None:
    hub.wait(lambda: hub.site.syncs)
    site.stop()
    moved = tmp_path / "moved"
    subprocess.run(["cp", "-a", str(site.data_dir), str(moved)], check=True)
    there = SiteProcess(moved).start()
    hub.tell(start_lease("a", ("true",)))
    assert hub.wait_end("a").exit_code == 0
    assert there.stop() == 0


@pytest.mark.parametrize("reached", [True, False])
def test_a_crash_around_the_first_poll_of_an_epoch_locks_nobody_out(
    hub: FakeHub, make_site: MakeSite, reached: bool
) -> None:
    """Whether or not the hub saw the first poll, the next agent of this site may speak."""
    site = make_site().start()
    hub.wait(lambda: hub.site.syncs)
    site.kill()
    # The spool has noted epoch 1 as heard; as after a crash between its note and the answer it did not.
    script = (
        "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); "
        "db.execute(\"UPDATE mark SET value = 0 WHERE name = 'epoch_heard'\"); db.commit()"
    )
    subprocess.run([sys.executable, "-c", script, str(site.data_dir / "spool.sqlite")], check=True)
    hub.site.epoch_used = 1 if reached else 0
    site.start()
    hub.wait(lambda: hub.site.epoch_used == 2)


def test_two_agents_on_one_folder(hub: FakeHub, site: SiteProcess) -> None:
    hub.wait(lambda: hub.site.syncs)
    second = SiteProcess(site.data_dir).start()
    assert second.process is not None
    assert second.process.wait(10) == app.EXIT_RUNNING


def test_a_site_waits_for_its_approval(hub: FakeHub, make_site: MakeSite) -> None:
    hub.site.approved = False
    site = make_site().start()
    wait_for(lambda: "waits for the operator's approval" in site.text())
    assert not hub.site.syncs
    hub.site.approved = True
    hub.wait(lambda: hub.site.syncs)


# --- crashes of the agent -------------------------------------------------------------------------------------------


def test_a_killed_agent_finds_its_jobs_again(hub: FakeHub, site: SiteProcess) -> None:
    hub.tell(
        start_lease("a", ("sh", "-c", "echo one; sleep 1.2; echo two"), slot_milli=100),
        start_lease("b", ("sh", "-c", "echo short >> runs; cat runs; exit 5"), slot_milli=100),
        start_lease("c", SLEEP, slot_milli=100),
    )
    hub.wait(lambda: hub.reports("a", "started") and hub.reports("c", "started"))
    site.kill()
    time.sleep(1.5)
    site.start()
    assert hub.wait_end("a").exit_code == 0
    assert hub.wait_end("b").exit_code == 5
    assert bytes(hub.site.logs["a.1"]) == b"one\ntwo\n"
    assert bytes(hub.site.logs["b.1"]) == b"short\n"
    hub.tell(cancel_lease("c", EndReason.CANCELLED))
    assert hub.wait_end("c").reason is EndReason.CANCELLED
    check_reports(hub.site.reports)


def test_kills_at_any_moment_lose_and_double_nothing(hub: FakeHub, site: SiteProcess, tmp_path: Path) -> None:
    count = 24
    hub.tell(*(start_lease(f"a{i}", ("sh", "-c", f"echo {i} >> runs; cat runs"), slot_milli=50) for i in range(count)))
    for pause in (0.35, 0.45, 0.55, 0.4, 0.5, 0.6):
        time.sleep(pause)
        site.kill()
        site.start()
    for i in range(count):
        assert hub.wait_end(f"a{i}", timeout_s=40).exit_code == 0
        assert bytes(hub.site.logs[f"a{i}.1"]) == f"{i}\n".encode()
    check_reports(hub.site.reports)


def test_a_killed_supervisor_is_told(hub: FakeHub, site: SiteProcess) -> None:
    hub.tell(start_lease("a", SLEEP))
    hub.wait(lambda: hub.reports("a", "started"))
    (pid,) = supervisors(site.data_dir)
    os.kill(pid, signal.SIGKILL)
    end = hub.wait_end("a")
    assert end.reason is EndReason.SUPERVISOR_LOST
    check_reports(hub.site.reports)


def test_a_job_without_trace_after_a_restart_is_told_as_lost(hub: FakeHub, site: SiteProcess) -> None:
    hub.tell(start_lease("a", SLEEP))
    hub.wait(lambda: hub.usage("a"))
    site.kill()
    (pid,) = supervisors(site.data_dir)
    os.kill(pid, signal.SIGKILL)
    subprocess.run(["rm", "-r", str(site.data_dir / "leases" / "a.1")], check=True)
    site.start()
    assert hub.wait_end("a").reason is EndReason.SUPERVISOR_LOST
    check_reports(hub.site.reports)


def test_stopping_leaves_jobs_running(hub: FakeHub, site: SiteProcess) -> None:
    hub.tell(start_lease("a", ("sleep", "2")))
    hub.wait(lambda: hub.reports("a", "started"))
    assert site.stop() == 0
    assert len(supervisors(site.data_dir)) == 1
    site.start()
    assert hub.wait_end("a").exit_code == 0


def test_an_embedded_site_takes_its_jobs_along(hub: FakeHub, make_site: MakeSite) -> None:
    site = make_site().start("--stop-jobs-on-exit")
    hub.tell(start_lease("a", SLEEP))
    hub.wait(lambda: hub.reports("a", "started"))
    assert site.stop() == 0
    assert ends(hub, "a")[0].reason is EndReason.SUPERVISOR_LOST
    assert supervisors(site.data_dir) == []
    check_reports(hub.site.reports)


# --- a full disk ----------------------------------------------------------------------------------------------------


def test_a_full_disk_refuses_work_and_loses_nothing(hub: FakeHub, make_site: MakeSite, tmp_path: Path) -> None:
    disk = tmp_path / "site0"
    with small_disk(disk, "12m"):
        site = make_site(min_free_bytes=4 << 20).start()
        hub.tell(start_lease("a", ("sh", "-c", "sleep 2; echo fine"), slot_milli=100))
        hub.wait(lambda: hub.reports("a", "started"))
        fill_disk(disk / "ballast")
        hub.wait(lambda: not hub.site.syncs[-1].accepting)
        hub.tell(start_lease("b", SLEEP, slot_milli=100))
        assert hub.wait_end("a").reason in (EndReason.EXITED, EndReason.DISK_FULL)
        (disk / "ballast").unlink()
        hub.wait(lambda: hub.site.syncs[-1].accepting)
        assert hub.wait_end("b").reason is EndReason.SITE_REFUSED
        hub.tell(start_lease("c", ("true",), slot_milli=100))
        assert hub.wait_end("c").exit_code == 0
        check_reports(hub.site.reports)
        site.stop()


# --- certification --------------------------------------------------------------------------------------------------


def test_the_site_is_measured_when_told(hub: FakeHub, site: SiteProcess) -> None:
    hub.wait(lambda: hub.site.syncs)
    assert not [r for r in hub.site.reports if isinstance(r, Certificate)], "not before"
    started = time.monotonic()
    hub.tell(certify_now())
    certificate = hub.wait(lambda: [r for r in hub.site.reports if isinstance(r, Certificate)], 60)[0]
    (pool,) = certificate.pools
    assert (pool.name, pool.capacity_milli, pool.memory_bytes) == ("cpu", 1000, 512 << 20)
    measured = {rate.precision: rate.measured_flops for rate in pool.rates}
    assert measured["fp64"] > 10**8 and measured["fp32"] > measured["fp64"]
    assert {b.name for b in pool.benchmarks} == {"gemm_fp64", "gemm_fp32", "memory_bandwidth", "disk_write"}
    assert all(b.value > 0 and b.repeats >= 3 for b in pool.benchmarks)
    assert time.monotonic() - started < 30
    assert not (site.data_dir / "leases").exists() or not list((site.data_dir / "leases").glob("certify*"))


def test_a_certificate_that_was_asked_for_comes_after_a_crash(hub: FakeHub, make_site: MakeSite) -> None:
    site = make_site().start()
    hub.wait(lambda: hub.site.syncs)
    hub.tell(certify_now())
    hub.wait(lambda: hub.site.syncs[-1].applied_seq == 1)
    site.kill()
    site.start()
    hub.wait(lambda: [r for r in hub.site.reports if isinstance(r, Certificate)], 60)


# --- the fake engine ------------------------------------------------------------------------------------------------


def test_the_fake_engine_ends_leases_without_starting_anything(hub: FakeHub, make_site: MakeSite) -> None:
    site = make_site(engine="fake").start()
    count = 500
    hub.tell(*(start_lease(f"a{i}", ("python3", "x.py")) for i in range(count)))
    hub.wait(lambda: sum(r.kind == "ended" for r in hub.site.reports) == count, 30)
    check_reports(hub.site.reports)
    assert supervisors(site.data_dir) == []


# --- joining --------------------------------------------------------------------------------------------------------


def request(hub: FakeHub, data_dir: Path, token: str = "good", driver: DriverSettings | None = None) -> app.JoinRequest:
    return app.JoinRequest(
        hub_url=hub.url,
        token=token,
        name="n",
        data_dir=data_dir,
        cluster="zhangjiakou",
        driver=driver or DriverSettings(),
    )


def test_joining_makes_a_key_that_only_the_owner_reads(hub: FakeHub, tmp_path: Path) -> None:
    folder = tmp_path / "s"
    assert app.join(request(hub, folder)).site_id == "site-1"
    assert (folder / "key").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert app.load_settings(folder).site_id == "site-1"
    with pytest.raises(Conflict, match="already"):
        app.join(request(hub, folder))


def test_a_join_that_failed_can_be_repeated_with_the_same_key(hub: FakeHub, tmp_path: Path) -> None:
    folder = tmp_path / "s"
    with pytest.raises(Forbidden):
        app.join(request(hub, folder, token="bad"))
    key = (folder / "key").read_bytes()
    app.join(request(hub, folder))
    assert (folder / "key").read_bytes() == key


def test_what_cannot_be_a_site_is_said_before_the_token_is_used(hub: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="usable here"):
        app.join(request(hub, tmp_path / "s", driver=DriverSettings(cores_milli=10**9)))
    assert hub.site.public_key == ""
    for call in (app.load_settings, app.pause, app.resume):
        with pytest.raises(NotFound, match="not the data directory"):
            call(tmp_path / "nowhere")


def test_settings_that_cannot_be_read_name_the_place(hub: FakeHub, tmp_path: Path) -> None:
    folder = tmp_path / "s"
    app.join(request(hub, folder))
    good = (folder / "site.toml").read_text()
    (folder / "site.toml").write_text(good + "\nsurprise = 1\n")
    with pytest.raises(InvalidInput, match="surprise"):
        app.load_settings(folder)
    (folder / "site.toml").write_text(good.replace("=", ":", 1))
    with pytest.raises(InvalidInput, match="site.toml"):
        app.load_settings(folder)
