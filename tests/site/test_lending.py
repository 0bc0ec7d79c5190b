"""Beside the centre's own users: hours and shares, which leases go, and what a real job keeps when it does."""

import io
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.fakes.agent import cpu_pool
from tests.fakes.fake_hub import FakeHub, start_lease
from tests.site.conftest import SiteProcess, wait_for
from yunhe.apps import site as site_app
from yunhe.cli.main import main
from yunhe.core.errors import InvalidInput
from yunhe.core.lifecycle import EndReason
from yunhe.core.reclaim import choose, waste
from yunhe.site.discover import Share
from yunhe.site.drivers.contract import LeaseKey
from yunhe.site.drivers.process.local_use import LocalUse
from yunhe.site.drivers.saved import Saved, newest_ns, place
from yunhe.site.lending import Lent, digests, to_give_back
from yunhe.site.settings import DriverSettings, LendSettings, SiteSettings
from yunhe.wire.link import CHECKPOINT_PATH, Checkpoint, CheckpointPlan, LeaseEnded, PoolDigest

GIB = 1 << 30
MakeSite = Callable[..., SiteProcess]


# --- hours and shares -----------------------------------------------------------------------------------------------


def utc(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("hours", "at", "expected"),
    [
        (("20:00-07:00",), "2026-11-18T11:59", False),  # 19:59 in Shanghai, a Wednesday
        (("20:00-07:00",), "2026-11-18T12:00", True),
        (("20:00-07:00",), "2026-11-18T22:59", True),
        (("20:00-07:00",), "2026-11-18T23:00", False),
        (("Mon-Fri 20:00-07:00",), "2026-11-20T20:00", True),  # Saturday 04:00: the night that began on Friday
        (("Mon-Fri 20:00-07:00",), "2026-11-21T13:00", False),  # Saturday 21:00
        (("Mon-Fri 20:00-07:00",), "2026-11-22T20:00", False),  # Monday 04:00: the night began on Sunday
        (("Mon-Fri 20:00-07:00", "Sat,Sun 00:00-24:00"), "2026-11-21T13:00", True),
        (("fri-mon 00:00-24:00",), "2026-11-22T04:00", True),
        (("fri-mon 00:00-24:00",), "2026-11-23T17:00", False),  # Tuesday 01:00
        ((), "2026-11-18T04:00", True),
    ],
)
def test_the_hours_are_those_of_the_zone(hours: tuple[str, ...], at: str, expected: bool) -> None:
    assert LendSettings(hours=hours, zone="Asia/Shanghai").open_at(utc(at)) is expected


def test_a_night_is_as_long_as_the_clocks_say_when_they_are_changed() -> None:
    """Berlin, 25 October 2026: at 03:00 it becomes 02:00 again."""
    policy = LendSettings(hours=("22:00-03:00",), zone="Europe/Berlin")
    assert policy.open_at(utc("2026-10-25T01:30"))  # 02:30, the second time
    assert not policy.open_at(utc("2026-10-25T02:00"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"hours": ("20-7",)},
        {"hours": ("25:00-07:00",)},
        {"hours": ("20:00-20:00",)},
        {"hours": ("Mon-Sol 20:00-21:00",)},
        {"zone": "Mars/Olympus"},
        {"zone": "../../etc/passwd"},
        {"share_percent": 101},
        {"pool_shares": ("cpu",)},
        {"pool_shares": ("cpu=200",)},
        {"give_back_ms": -1},
    ],
)
def test_what_no_policy_says_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        LendSettings.model_validate(wrong)


def test_the_hub_may_use_neither_what_others_hold_nor_what_is_not_lent() -> None:
    pool = cpu_pool(10_000, 100 * GIB)
    card = pool.model_copy(update={"name": "gpu", "kind_of_unit": "card", "capacity_milli": 5_000})
    certified = {"cpu": pool, "gpu": card}
    policy = LendSettings(
        share_percent=50, pool_shares=("gpu=70%",), hours=("20:00-07:00",), zone="UTC", longest_ms=3_600_000
    )
    quiet = (PoolDigest(name="cpu", busy_milli=3), PoolDigest(name="gpu"), PoolDigest(name="not certified"))
    cpu, gpu = digests(policy, certified, quiet, utc("2026-11-18T21:00"))
    assert (cpu.foreign_milli, cpu.foreign_memory_bytes, cpu.longest_ms, cpu.busy_milli) == (
        5_000,
        50 * GIB,
        3_600_000,
        3,
    )
    assert gpu.foreign_milli == 2_000  # 3.5 cards would be lent: three are
    busy = (PoolDigest(name="cpu", foreign_milli=8_000, foreign_memory_bytes=GIB, longest_ms=1_000),)
    (cpu,) = digests(policy, certified, busy, utc("2026-11-18T21:00"))
    assert (cpu.foreign_milli, cpu.foreign_memory_bytes, cpu.longest_ms) == (8_000, 50 * GIB, 1_000)
    (cpu,) = digests(policy, certified, busy, utc("2026-11-18T12:00"))
    assert (cpu.foreign_milli, cpu.foreign_memory_bytes) == (10_000, 100 * GIB)
    assert digests(LendSettings(), certified, quiet[:1], 0) == quiet[:1]


# --- which leases go ------------------------------------------------------------------------------------------------


def lent(n: int, milli: int, at_risk_ms: int, memory: int = 0, pool: str = "cpu") -> Lent:
    return Lent(LeaseKey(f"l{n:03}", 1), pool, milli, memory, at_risk_ms)


def test_the_youngest_since_its_checkpoint_goes_and_no_more_units_than_needed() -> None:
    old, saved, young = lent(1, 2_000, 90_000), lent(2, 2_000, 1_000), lent(3, 1_000, 5_000)
    assert choose([old, saved, young], 1_000, 0) == (saved,)
    assert choose([old, saved, young], 3_000, 0) == (saved, young)
    assert choose([old, saved, young], 4_000, 0) == (saved, old)
    assert choose([old, saved, young], 9_000, 0) == (saved, young, old)
    assert choose([old, saved, young], 0, 0) == ()
    assert choose([lent(1, 4_000, 0), lent(2, 1_000, 0)], 1_000, 0) == (lent(2, 1_000, 0),)


def test_leases_go_pool_by_pool_and_only_for_what_others_hold() -> None:
    certified = {"cpu": cpu_pool(4_000, 8 * GIB), "big": cpu_pool(8_000, 8 * GIB)}
    leases = [lent(1, 2_000, 10, GIB), lent(2, 2_000, 20, GIB), lent(3, 8_000, 0, GIB, "big")]
    full = (PoolDigest(name="cpu"), PoolDigest(name="big"))
    assert to_give_back(certified, full, leases) == ()
    wanted = (PoolDigest(name="cpu", foreign_milli=1_500), PoolDigest(name="big"))
    assert to_give_back(certified, wanted, leases) == (leases[0],)
    memory = (PoolDigest(name="cpu", foreign_memory_bytes=7 * GIB),)
    assert to_give_back(certified, memory, leases) == (leases[0],)
    smaller = {"cpu": cpu_pool(1_000, 8 * GIB)}  # certified again, with less: nobody else needs it
    assert to_give_back(smaller, (PoolDigest(name="cpu"),), leases[:2]) == ()


sizes = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 50), st.integers(0, 4)), max_size=8)


@settings(max_examples=300, deadline=None)
@given(sizes, st.integers(0, 40), st.integers(0, 12))
def test_what_goes_is_enough_and_nothing_of_it_is_needless(
    held: list[tuple[int, int, int]], units: int, memory: int
) -> None:
    leases = [lent(n, milli, at_risk, mem) for n, (milli, at_risk, mem) in enumerate(held)]

    def enough(some: object) -> bool:
        found = list(some)  # type: ignore[call-overload]
        return sum(x.milli for x in found) >= units and sum(x.memory_bytes for x in found) >= memory

    gone = choose(leases, units, memory)
    assert set(gone) <= set(leases) and len(set(gone)) == len(gone)
    assert gone == choose(list(reversed(leases)), units, memory) or not enough(leases)
    if not enough(leases):
        return
    assert enough(gone)
    for one in gone:
        assert not enough([other for other in gone if other is not one])
    if memory == 0 and gone:
        # The classic bound of the greedy cover: never more than twice the least work that has to be lost.
        least = min(
            sum(waste(x) for x in some)
            for n in range(len(leases) + 1)
            for some in combinations(leases, n)
            if enough(some)
        )
        assert sum(waste(x) for x in gone) <= 2 * least


# --- what a job saved -----------------------------------------------------------------------------------------------


def archive(tmp_path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    path = tmp_path / "saved.tar"
    with tarfile.open(path, "w") as tar:
        for header, data in members:
            header.size = len(data)
            tar.addfile(header, io.BytesIO(data))
    return path


def link(name: str, to: str) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.type, header.linkname = tarfile.SYMTYPE, to
    return header


@pytest.mark.parametrize(
    "evil", [tarfile.TarInfo("../out"), tarfile.TarInfo("/tmp/out"), tarfile.TarInfo("a/../../out"), link("a", "/etc")]
)
def test_an_archive_reaches_nothing_outside_its_folder(tmp_path: Path, evil: tarfile.TarInfo) -> None:
    job = tmp_path / "job"
    job.mkdir()
    with pytest.raises(OSError, match="no checkpoint has"):
        place(Saved("saved", archive(tmp_path, (evil, b""))), job)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["job", "saved.tar"]
    (tmp_path / "saved.tar").write_bytes(b"x" * 5_000)
    with pytest.raises(OSError, match="no archive"):
        place(Saved("other", tmp_path / "saved.tar"), job)


def test_only_finished_files_count_and_a_job_cannot_make_them_look_older(tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    (folder / "step-1").mkdir(parents=True)
    (folder / "step-2.tmp").mkdir()
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        assert newest_ns(fd, "nothing") == newest_ns(fd, "saved") == 0
        (folder / "step-2.tmp" / "data").write_text("half")
        (folder / "other.tmp").write_text("half")
        (folder / "loop").symlink_to("..")
        assert newest_ns(fd, "saved") == 0
        whole = folder / "step-1" / "data"
        whole.write_text("whole")
        at = newest_ns(fd, "saved")
        assert at > 0
        os.utime(whole, (1, 1))
        assert newest_ns(fd, "saved") >= at
    finally:
        os.close(fd)


# --- local users of a plain host ------------------------------------------------------------------------------------


def test_the_reserve_of_a_plain_host(tmp_path: Path) -> None:
    local = LocalUse(DriverSettings(), tmp_path)
    local.open(Share(4_000, 8 * GIB))
    assert local.look() == PoolDigest(name="cpu", powered_milli=4_000)
    (tmp_path / "reserve").write_text("1.5 2GiB\n")
    seen = local.look()
    assert (seen.foreign_milli, seen.foreign_memory_bytes) == (1_500, 2 * GIB)
    (tmp_path / "reserve").write_text("64")
    assert local.look().foreign_milli == 4_000
    for wrong in ("many", "-1", "nan", "1 2 3", "1 much", "1e400"):
        (tmp_path / "reserve").write_text(wrong)
        with pytest.raises(InvalidInput):
            local.look()


def test_what_others_do_on_a_plain_host_is_measured_and_the_sites_own_jobs_are_not_others(tmp_path: Path) -> None:
    (tmp_path / "leases" / "a.1").mkdir(parents=True)
    local = LocalUse(DriverSettings(local_use="measured"), tmp_path, average_ms=300)
    local.open(Share((os.cpu_count() or 1) * 1_000, 8 * GIB))
    assert local.look().busy_milli is None, "nothing is known yet"
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        wait_for(lambda: time.sleep(0.1) or local.look().foreign_milli >= 1_000)
        assert (local.look().busy_milli or 0) >= 1_000
        # An ended lease has used all that was used: nobody else did.
        (tmp_path / "leases" / "a.1" / "exit.json").write_text('{"cpu_ms": 1000000000}')
        assert local.look().foreign_milli == 0
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


# --- the whole way, with real jobs ----------------------------------------------------------------------------------

# Counts, saves each count, and says where it began. Goes on counting after SIGUSR1, as a training would.
COUNT = """
import os, signal, sys, time
folder = os.environ["YUNHE_CHECKPOINT"]
told = []
signal.signal(getattr(signal, sys.argv[1]), lambda *_: told.append(1))
path = os.path.join(folder, "count")
n = int(open(path).read()) if os.path.exists(path) else 0
print("from", n, flush=True)
end = n + int(sys.argv[2])
while n < end:
    time.sleep(0.02)
    n += 1
    if n % 5 == 0 or told:
        with open(path + ".tmp", "w") as file:
            file.write(str(n))
        os.rename(path + ".tmp", path)
    if told and sys.argv[1] == "SIGTERM":
        print("saved", n, flush=True)
        sys.exit(0)
"""
PLAN = CheckpointPlan(folder="saved", cap_bytes=1 << 20)
LONG = "100000"


def counting(hub: FakeHub, lease_id: str, signal: str = "SIGTERM", count: str = LONG, **changes: object) -> object:
    bundle = hub.add_bundle({"count.py": COUNT})
    plan = PLAN.model_copy(update={"signal": signal})
    command = ("python3", "count.py", signal, count)
    limits = {"run_limit_ms": 120_000, **changes}
    return start_lease(lease_id, command, bundle_sha256=bundle, checkpoint=plan, **limits)


def lending_site(make_site: MakeSite, **changes: object) -> SiteProcess:
    lend = LendSettings(give_back_ms=3_000)
    return make_site(foreign_interval_ms=50, lend=lend, **changes).start()


def reserve(site: SiteProcess, text: str) -> None:
    (site.data_dir / "reserve.new").write_text(text)
    (site.data_dir / "reserve.new").rename(site.data_dir / "reserve")


def log_of(hub: FakeHub, key: str) -> str:
    return bytes(hub.site.logs.get(key, b"")).decode()


def saved_count(hub: FakeHub, key: str) -> int:
    with tarfile.open(fileobj=io.BytesIO(bytes(hub.site.outputs[f"{key}/{CHECKPOINT_PATH}"]))) as tar:
        assert tar.getnames() == ["count"]
        member = tar.extractfile("count")
        assert member is not None
        return int(member.read())


def check_kept(hub: FakeHub, end: LeaseEnded) -> Checkpoint:
    kept = end.checkpoint
    assert kept is not None and kept.epoch == end.epoch
    [usage] = [u for u in hub.usage(end.lease_id) if u.final]
    assert 0 < kept.kept_ms <= usage.totals.wall_ms
    return kept


@pytest.mark.parametrize("signal", ["SIGTERM", "SIGUSR1"])
def test_a_job_is_told_saves_its_work_and_goes_on_from_it(hub: FakeHub, make_site: MakeSite, signal: str) -> None:
    site = lending_site(make_site)
    hub.tell(counting(hub, "lent-a", signal))  # type: ignore[arg-type]
    hub.wait(lambda: "from 0" in log_of(hub, "lent-a.1"))
    reserve(site, "1")
    end = hub.wait_end("lent-a")
    assert end.reason is EndReason.PREEMPTED
    kept = check_kept(hub, end)
    count = saved_count(hub, "lent-a.1")
    assert count > 0
    if signal == "SIGTERM":
        assert f"saved {count}" in log_of(hub, "lent-a.1") and end.exit_code == 0
    assert hub.site.syncs[-1].pools[0].foreign_milli == 1_000

    reserve(site, "0")
    hub.tell(counting(hub, "lent-a", signal, "10", epoch=2, restore=kept))  # type: ignore[arg-type]
    again = hub.wait_end("lent-a", epoch=2)
    assert (again.reason, again.exit_code, again.checkpoint) == (EndReason.EXITED, 0, None)
    assert f"from {count}\n" in log_of(hub, "lent-a.2")
    wait_for(lambda: not list((site.data_dir / "checkpoints").iterdir()))


def test_only_as_many_go_as_are_needed_and_the_one_with_the_least_to_lose(hub: FakeHub, make_site: MakeSite) -> None:
    site = lending_site(make_site)
    hub.tell(start_lease("lent-old", ("sleep", "60"), slot_milli=500))
    hub.wait(lambda: hub.reports("lent-old", "started"))
    hub.tell(counting(hub, "lent-saved", slot_milli=500))  # type: ignore[arg-type]
    hub.wait(lambda: (site.data_dir / "leases" / "lent-saved.1" / "job" / "saved" / "count").exists())
    reserve(site, "0.3")
    assert hub.wait_end("lent-saved").reason is EndReason.PREEMPTED
    assert hub.reports("lent-old", "ended") == []
    reserve(site, "1")
    end = hub.wait_end("lent-old")
    assert (end.reason, end.checkpoint) == (EndReason.PREEMPTED, None)


def test_outside_the_hours_nothing_is_lent_and_what_runs_is_given_back(hub: FakeHub, make_site: MakeSite) -> None:
    site = lending_site(make_site)
    hub.tell(counting(hub, "lent-a"))  # type: ignore[arg-type]
    hub.wait(lambda: (site.data_dir / "leases" / "lent-a.1" / "job" / "saved" / "count").exists())
    settings_file = site.data_dir / "site.toml"
    at = datetime.now(UTC)
    never = f"{(at.hour + 12) % 24:02}:00-{(at.hour + 12) % 24:02}:01"
    text = settings_file.read_text()
    new = settings_file.with_suffix(".new")
    new.write_text(text.replace("[lend]\n", f'[lend]\nhours = ["{never}"]\nzone = "UTC"\n'))
    new.rename(settings_file)
    end = hub.wait_end("lent-a")
    assert end.reason is EndReason.PREEMPTED
    check_kept(hub, end)
    hub.wait(lambda: hub.site.syncs[-1].pools[0].foreign_milli == 1_000)


def test_a_longer_run_than_the_site_lends_for_is_refused(hub: FakeHub, make_site: MakeSite) -> None:
    make_site(lend=LendSettings(longest_ms=60_000)).start()
    hub.tell(
        start_lease("lent-a", ("true",), run_limit_ms=60_001), start_lease("lent-b", ("true",), run_limit_ms=60_000)
    )
    assert hub.wait_end("lent-a").reason is EndReason.SITE_REFUSED
    assert hub.wait_end("lent-b").reason is EndReason.EXITED
    assert hub.site.syncs[-1].pools[0].longest_ms == 60_000


@pytest.mark.parametrize("point", ["runner.packed", "runner.saved", "link.after_answer=0.3,runner.packed"])
def test_an_agent_killed_while_it_gives_back_loses_and_doubles_nothing(
    hub: FakeHub, make_site: MakeSite, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    site = lending_site(make_site)
    hub.tell(counting(hub, "lent-a"))  # type: ignore[arg-type]
    hub.wait(lambda: (site.data_dir / "leases" / "lent-a.1" / "job" / "saved" / "count").exists())
    site.kill()
    reserve(site, "1")
    monkeypatch.setenv("YUNHE_CRASH_POINTS", f"{point}=1")
    site.start()
    assert site.process is not None
    assert site.process.wait(20) != 0
    monkeypatch.delenv("YUNHE_CRASH_POINTS")
    site.start()
    end = hub.wait_end("lent-a")
    assert end.reason is EndReason.PREEMPTED
    check_kept(hub, end)
    assert saved_count(hub, "lent-a.1") > 0
    hub.wait(lambda: not (site.data_dir / "leases" / "lent-a.1").exists())
    assert len([r for r in hub.reports("lent-a") if r.kind == "ended"]) == 1
    assert len([u for u in hub.usage("lent-a") if u.final]) == 1


def test_usage_records_say_how_much_of_it_is_saved(hub: FakeHub, make_site: MakeSite) -> None:
    lending_site(make_site)
    hub.tell(counting(hub, "lent-a"))  # type: ignore[arg-type]
    hub.wait(lambda: any(used.saved_ms for used in hub.usage("lent-a")))
    assert all(used.saved_ms <= used.to_ms + 1_000 for used in hub.usage("lent-a"))


def test_a_notice_outlives_the_agent(hub: FakeHub, make_site: MakeSite) -> None:
    """SIGUSR1 leaves the job running until the notice is over; the agent is gone all that time."""
    site = lending_site(make_site)
    hub.tell(counting(hub, "lent-a", "SIGUSR1"))  # type: ignore[arg-type]
    folder = site.data_dir / "leases" / "lent-a.1"
    hub.wait(lambda: (folder / "job" / "saved" / "count").exists())
    reserve(site, "1")
    hub.wait(lambda: (folder / "cancel").is_symlink())
    site.kill()
    wait_for(lambda: (folder / "exit.json").exists(), 15)
    reserve(site, "0")
    site.start()
    end = hub.wait_end("lent-a")
    assert end.reason is EndReason.PREEMPTED
    assert check_kept(hub, end).kept_ms > 1_500  # it went on saving while it had time


def test_a_checkpoint_that_is_not_what_was_promised_starts_nothing(hub: FakeHub, make_site: MakeSite) -> None:
    lending_site(make_site)
    hub.site.outputs[f"lent-a.1/{CHECKPOINT_PATH}"] = bytearray(b"not what was saved")
    wrong = Checkpoint(epoch=1, kept_ms=5, size_bytes=18, sha256="0" * 64)
    hub.tell(counting(hub, "lent-a", epoch=2, restore=wrong))  # type: ignore[arg-type]
    end = hub.wait_end("lent-a", epoch=2)
    assert end.reason is EndReason.SPAWN_FAILED and "hash" in end.detail
    missing = wrong.model_copy(update={"epoch": 7})
    hub.tell(counting(hub, "lent-b", epoch=8, restore=missing))  # type: ignore[arg-type]
    assert hub.wait_end("lent-b", epoch=8).reason is EndReason.SPAWN_FAILED


def test_a_checkpoint_over_the_cap_is_told_and_not_kept(hub: FakeHub, make_site: MakeSite) -> None:
    site = lending_site(make_site)
    plan = PLAN.model_copy(update={"cap_bytes": 10_000})
    write = 'head -c 20000 /dev/zero > "$YUNHE_CHECKPOINT/big"; exec sleep 60'
    hub.tell(start_lease("lent-a", ("sh", "-c", write), checkpoint=plan))
    hub.wait(lambda: (site.data_dir / "leases" / "lent-a.1" / "job" / "saved" / "big").exists())
    reserve(site, "1")
    end = hub.wait_end("lent-a")
    assert (end.reason, end.checkpoint) == (EndReason.PREEMPTED, None) and "larger than 10000" in end.detail


def test_the_command_changes_what_a_running_site_lends(
    hub: FakeHub, make_site: MakeSite, capfd: pytest.CaptureFixture[str]
) -> None:
    site = make_site(foreign_interval_ms=50).start()
    hub.wait(lambda: hub.site.syncs)
    where = ("site", "lend", "--data-dir", str(site.data_dir))
    said = ("--share", "50%", "--share", "gpu=70%", "--hours", "00:00-24:00", "--longest", "6h", "--give-back", "10s")
    assert main([*where, *said, "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert (told["share_percent"], told["pool_shares"], told["longest_ms"]) == (50, ["gpu=70%"], 21_600_000)
    hub.wait(
        lambda: (hub.site.syncs[-1].pools[0].foreign_milli, hub.site.syncs[-1].pools[0].longest_ms) == (500, 21_600_000)
    )
    assert main([*where, "--share", "all", "--longest", "any", "--hours", "always"]) == 0
    shown = capfd.readouterr().out
    assert "100%" in shown and "always" in shown and "10s" in shown
    hub.wait(lambda: (hub.site.syncs[-1].pools[0].foreign_milli, hub.site.syncs[-1].pools[0].longest_ms) == (0, None))
    for wrong in (
        ("--share", "120%"),
        ("--hours", "8-9"),
        ("--zone", "Mars/Olympus"),
        ("--share", "x"),
        ("--longest", "6"),
    ):
        assert main([*where, *wrong]) != 0
        assert capfd.readouterr().err


def test_what_else_a_site_is_stays_when_it_changes_what_it_lends(tmp_path: Path) -> None:
    before = SiteSettings.model_validate(
        {
            "hub_url": "http://hub",
            "site_id": "a-1",
            "name": "a",
            "data_dir": tmp_path,
            "data": {"stores": [{"prefix": "s3://lab/", "options_file": "/etc/lab.json", "tenants": ["lab"]}]},
        }
    )
    site_app._write(tmp_path, site_app._toml(before))
    policy = site_app.lend(tmp_path, {"share_percent": 50})
    assert site_app.load_settings(tmp_path) == before.model_copy(update={"lend": policy})
