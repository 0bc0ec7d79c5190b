"""A run's folder is one run's."""

import fcntl
import os
from pathlib import Path

import pytest

from tests.simulator.scenes import scenario
from yunhe.apps.simulator import RESULT, Prepared, simulate
from yunhe.core.errors import Conflict


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    prepared = Prepared(scenario(("length: 6h", "length: 1h")), "", tmp_path)
    other = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(Conflict, match="another run"):
        simulate(prepared, tmp_path, report=False)
    assert list(tmp_path.iterdir()) == []
    os.close(other)
    assert simulate(prepared, tmp_path, report=False).result is not None
    assert [path.name for path in tmp_path.iterdir()] == [RESULT]
