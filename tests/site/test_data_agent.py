"""A lease's data through the whole agent: told to the hub, taken up again after a kill, safe from the job."""

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.fake_hub import FakeHub, cancel_lease, start_lease
from tests.site.conftest import SiteProcess, supervisors, wait_for
from tests.site.data_servers import LOCAL, Web, WebFile, web_server
from yunhe.core.lifecycle import EndReason
from yunhe.site.settings import DriverSettings
from yunhe.site.settings.data import DataSettings
from yunhe.wire.link import DataInput, Delivery, LeaseMoved, LeaseStaging, MovedFile

MakeSite = Callable[..., SiteProcess]
BIG = os.urandom(4_000_000)
SHA = hashlib.sha256(BIG).hexdigest()
WAIT_S = 60.0  # everything else on this machine may be busy
DATA = DataSettings(allow_networks=LOCAL, retry_first_ms=20, retry_cap_ms=100, tries=3, report_ms=50)


@pytest.fixture
def web() -> Iterator[Web]:
    with web_server() as server:
        server.files["big"] = WebFile(BIG)
        yield server


@pytest.fixture
def site(make_site: MakeSite) -> SiteProcess:
    return make_site(data=DATA).start()


def staging(hub: FakeHub, lease_id: str) -> list[LeaseStaging]:
    return [report for report in hub.reports(lease_id, "staging") if isinstance(report, LeaseStaging)]


def moved(hub: FakeHub, lease_id: str) -> list[LeaseMoved]:
    return [report for report in hub.reports(lease_id, "moved") if isinstance(report, LeaseMoved)]


def kinds(hub: FakeHub, lease_id: str) -> list[str]:
    """Without repeats of one kind."""
    found = [report.kind for report in hub.reports(lease_id)]
    return [kind for index, kind in enumerate(found) if index == 0 or found[index - 1] != kind]


def test_data_comes_before_the_job_and_goes_after_it(hub: FakeHub, site: SiteProcess, web: Web) -> None:
    inputs = (DataInput(url=web.url + "big", path="in/big.bin", size_bytes=len(BIG), sha256=SHA),)
    deliveries = (Delivery(path="out.bin", url=web.url + "put/out.bin"),)
    command = ("sh", "-c", "sha256sum in/big.bin; head -c 1000000 in/big.bin > out.bin")
    hub.tell(start_lease("a", command, inputs=inputs, outputs=("out.bin",), deliveries=deliveries))
    end = hub.wait_end("a", timeout_s=WAIT_S)
    assert (end.reason, end.exit_code, end.detail) == (EndReason.EXITED, 0, "")
    assert hub.site.logs["a.1"].decode().split()[0] == SHA
    assert web.put["put/out.bin"] == BIG[:1_000_000] == bytes(hub.site.outputs["a.1/out.bin"])
    came, went = moved(hub, "a")
    assert (came.phase, came.files) == ("in", (MovedFile(path="in/big.bin", size_bytes=len(BIG), sha256=SHA),))
    assert (went.phase, [file.problem for file in went.files]) == ("out", [""])
    assert went.files[0].sha256 == hashlib.sha256(BIG[:1_000_000]).hexdigest()
    assert [kind for kind in kinds(hub, "a") if kind not in ("staging", "usage")][:2] == ["moved", "started"]
    assert staging(hub, "a")[0].phase == "in" and staging(hub, "a")[-1].phase == "out"
    wait_for(lambda: not (site.data_dir / "leases" / "a.1").exists(), WAIT_S)
    wait_for(lambda: not list((site.data_dir / "data" / "leases").iterdir()), WAIT_S)


@pytest.mark.parametrize("isolation", ["auto", "processes"])
def test_a_job_cannot_change_what_is_cached(hub: FakeHub, make_site: MakeSite, web: Web, isolation: str) -> None:
    driver = DriverSettings(cores_milli=1000, memory_bytes=512 << 20, isolation=isolation)
    site = make_site(data=DATA, driver=driver).start()
    inputs = (DataInput(url=web.url + "big", path="big.bin", sha256=SHA),)
    spoil = "chmod 666 big.bin; echo spoilt > big.bin; mv big.bin other; echo spoilt >> other; chown 0 other; echo end"
    hub.tell(start_lease("a", ("sh", "-c", spoil), inputs=inputs))
    assert hub.wait_end("a", timeout_s=WAIT_S).reason is EndReason.EXITED and b"end" in hub.site.logs["a.1"]
    cached = site.data_dir / "data" / "content" / SHA
    assert cached.read_bytes() == BIG and cached.stat().st_mode & 0o777 == 0o444 and cached.stat().st_uid == os.getuid()
    hub.tell(start_lease("b", ("sha256sum", "big.bin"), inputs=inputs))
    hub.wait_end("b", timeout_s=WAIT_S)
    assert hub.site.logs["b.1"].decode().split()[0] == SHA and web.gets("big") == 1


def test_a_killed_agent_goes_on_where_it_was(hub: FakeHub, site: SiteProcess, web: Web) -> None:
    web.pause_s = 0.02
    hub.tell(start_lease("a", ("sha256sum", "big.bin"), inputs=(DataInput(url=web.url + "big", path="big.bin"),)))
    wait_for(lambda: web.sent_bytes > 1_000_000, WAIT_S)
    site.kill()
    partial = wait_for(lambda: list((site.data_dir / "data" / "partial").glob("*/bytes")), WAIT_S)[0]
    size = wait_for(lambda: _steady(partial), WAIT_S)
    web.pause_s = 0
    before = web.sent_bytes
    site.start()
    assert hub.wait_end("a", timeout_s=WAIT_S).reason is EndReason.EXITED
    assert hub.site.logs["a.1"].decode().split()[0] == SHA
    assert 0 < size < len(BIG) and web.sent_bytes - before <= len(BIG) - size + (1 << 17)


def _steady(path: Path) -> int:
    """The size of a file to which nobody writes any more: its lock is free."""
    import fcntl  # noqa: PLC0415 - only here

    with open(path.parent / "lock", "rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0
    return path.stat().st_size


def test_an_input_that_is_not_there_is_told_and_nothing_starts(hub: FakeHub, site: SiteProcess, web: Web) -> None:
    good = DataInput(url=web.url + "big", path="a")
    hub.tell(start_lease("a", ("true",), inputs=(good, DataInput(url=web.url + "none", path="b"))))
    end = hub.wait_end("a", timeout_s=WAIT_S)
    assert (end.reason, end.detail) == (
        EndReason.DATA_IN_FAILED,
        "run.inputs[1]: the server answers 404 Not Found",
    )
    web.status = 503
    hub.tell(start_lease("b", ("true",), inputs=(DataInput(url=web.url + "other", path="a"),)))
    end = hub.wait_end("b", timeout_s=WAIT_S)
    assert end.reason is EndReason.DATA_UNREACHABLE and "tried 3 times" in end.detail
    assert any("503" in report.problem for report in staging(hub, "b"))
    assert "started" not in kinds(hub, "a") + kinds(hub, "b") and not supervisors(site.data_dir)


def test_a_cancelled_lease_fetches_no_more(hub: FakeHub, site: SiteProcess, web: Web) -> None:
    web.pause_s = 0.2
    hub.tell(start_lease("a", ("true",), inputs=(DataInput(url=web.url + "big", path="a"),)))
    wait_for(lambda: web.sent_bytes > 100_000, WAIT_S)
    hub.tell(cancel_lease("a", EndReason.CANCELLED))
    assert hub.wait_end("a", timeout_s=WAIT_S).reason is EndReason.CANCELLED
    sent = web.sent_bytes
    assert sent < len(BIG)


def test_a_failed_delivery_is_no_failed_job(hub: FakeHub, site: SiteProcess, web: Web) -> None:
    web.status = 403
    deliveries = (Delivery(path="out", url=web.url + "put/out"),)
    hub.tell(start_lease("a", ("sh", "-c", "echo 42 > out"), outputs=("out",), deliveries=deliveries))
    end = hub.wait_end("a", timeout_s=WAIT_S)
    assert (end.reason, end.exit_code) == (EndReason.EXITED, 0)
    [went] = moved(hub, "a")
    assert went.files[0].problem == "out: the server answers 403 Forbidden"
    assert bytes(hub.site.outputs["a.1/out"]) == b"42\n"


def test_a_killed_agent_delivers_what_it_had_not(hub: FakeHub, site: SiteProcess, web: Web) -> None:
    web.pause_s = 0.05
    deliveries = (Delivery(path="out", url=web.url + "put/out"),)
    command = ("sh", "-c", "head -c 3000000 /dev/zero > out")
    hub.tell(start_lease("a", command, outputs=("out",), deliveries=deliveries))
    wait_for(lambda: web.taken_bytes > 500_000, WAIT_S)
    site.kill()
    assert "put/out" not in web.put and not hub.reports("a", "ended")
    web.pause_s = 0
    site.start()
    assert hub.wait_end("a", timeout_s=WAIT_S).exit_code == 0
    assert len(web.put["put/out"]) == 3_000_000 == len(hub.site.outputs["a.1/out"])
    assert [file.problem for report in moved(hub, "a") for file in report.files] == [""]


def test_what_is_too_large_for_the_hub_goes_to_its_url_alone(hub: FakeHub, site: SiteProcess, web: Web) -> None:
    deliveries = (Delivery(path="out", url=web.url + "put/out"),)
    command = ("sh", "-c", "head -c 100000 /dev/zero > out")
    hub.tell(start_lease("a", command, outputs=("out",), deliveries=deliveries, output_cap_bytes=1000))
    end = hub.wait_end("a", timeout_s=WAIT_S)
    assert (end.exit_code, end.detail) == (0, "")
    assert len(web.put["put/out"]) == 100_000 and not hub.site.outputs


def test_an_engine_without_folders_gives_data_back(hub: FakeHub, make_site: MakeSite) -> None:
    make_site(engine="fake", data=DATA).start()
    hub.tell(start_lease("a", ("exit", "0"), inputs=(DataInput(url="s3://lab/x", path="x"),)))
    end = hub.wait_end("a", timeout_s=WAIT_S)
    assert end.reason is EndReason.SPAWN_FAILED and "takes no data files" in end.detail
