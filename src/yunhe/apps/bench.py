"""The benchmarks that come with the source: started as the program that they are."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import yunhe
from yunhe.core.errors import NotFound

SOURCE = Path(yunhe.__file__).parents[2]


def run(module: str, arguments: Sequence[str]) -> int:
    """`python -m benchmarks.MODULE ARGUMENTS...` on this terminal and in this folder; its exit status.

    Raises NotFound where Yunhe was installed without its source.
    """
    if not (SOURCE / "benchmarks" / "__main__.py").is_file():
        raise NotFound("the benchmarks are not here", hint="they come with the source of Yunhe: run this in a checkout")
    path = os.pathsep.join(filter(None, (str(SOURCE), os.environ.get("PYTHONPATH"))))
    command = (sys.executable, "-m", f"benchmarks.{module}", *arguments)
    return subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, check=False).returncode
