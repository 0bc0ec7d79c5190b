"""What an agent finds of leases that it no longer holds, and what jobs can read."""

import tempfile
from pathlib import Path

from tests.drivers.conftest import QUICK, Harness, process_harness


def test_every_trace_is_known_until_it_is_forgotten(harness: Harness) -> None:
    key = harness.submit("a", harness.command(say="x"))
    harness.ended(key)
    harness.reopen()
    assert harness.run(harness.driver.known()) == {key}
    harness.run(harness.driver.forget(key))
    assert harness.run(harness.driver.known()) == frozenset()


def test_a_folder_under_tmp_can_be_exposed(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "data").write_text("here")
        made = process_harness(tmp_path, QUICK.model_copy(update={"expose": (folder,)}))
        try:
            status, log = made.do("a", ("cat", str(folder / "data")))
        finally:
            made.close()
    assert (status.exit_code, log) == (0, "here")
