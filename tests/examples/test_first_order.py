"""The Python example, against a whole network on this machine."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from tests.law.sources import ROOT
from yunhe.apps.embedded import Network


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_first_order_runs_and_is_settled(tmp_path: Path) -> None:
    told: list[str] = []
    with Network(tmp_path, tmp_path / "data", told.append, free_port()) as network:
        environment = {"YUNHE_URL": network.url, "YUNHE_API_KEY": network.customer_key}
        result = subprocess.run(
            [sys.executable, str(ROOT / "examples" / "python" / "first_order.py")],
            cwd=tmp_path,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
    assert result.returncode == 0, result.stderr + "\n".join(told)
    lines = result.stdout.splitlines()
    assert sum(line.endswith("g CO2") for line in lines) == 3
    assert "  pi is about 3.14" in result.stdout
    assert " succeeded: 0.0000" in lines[-1]


def test_without_a_hub_it_says_what_to_do(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "python" / "first_order.py")],
        cwd=tmp_path,
        env=os.environ | {"YUNHE_URL": "http://127.0.0.1:9", "YUNHE_API_KEY": "no-such-key"},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert "127.0.0.1:9" in result.stderr
