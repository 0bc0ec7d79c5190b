"""Drivers that take data files: they lie in the job's folder, cannot be spoilt, and what the job left can be opened."""

import hashlib
import os
from pathlib import Path

import pytest

from tests.drivers.conftest import Harness
from yunhe.core.lifecycle import EndReason
from yunhe.site.drivers.contract import DataDriver, Job
from yunhe.site.supervisor.records import boottime_ms

BODY = os.urandom(200_000)


@pytest.fixture
def cached(tmp_path: Path) -> Path:
    path = tmp_path / "cached"
    path.write_bytes(BODY)
    path.chmod(0o444)
    return path


def test_data_is_there_and_stays_as_it_is(harness: Harness, cached: Path) -> None:
    driver = harness.driver
    if not isinstance(driver, DataDriver):
        pytest.skip("this driver takes no data files")
    spoil = "sha256sum in/x; (chmod 666 in/x; echo spoilt > in/x) 2>/dev/null; cp in/x out; ln -s /etc/passwd link; :"
    job = harness.job("a", ("sh", "-c", spoil), files={"in/small": "text"})
    harness.run(driver.submit(Job(job.lease, boottime_ms(), job.files, data={"in/x": cached})))
    status = harness.ended(job.key)
    assert (status.reason, status.exit_code) == (EndReason.EXITED, 0)
    assert harness.log(job.key).decode().split()[0] == hashlib.sha256(BODY).hexdigest()
    assert cached.read_bytes() == BODY and cached.stat().st_uid == os.getuid()
    with open(harness.run(driver.open_output(job.key, "out")), "rb") as file:
        assert file.read(6) in (BODY[:6], b"spoilt")
    with pytest.raises(OSError):
        harness.run(driver.open_output(job.key, "link"))
