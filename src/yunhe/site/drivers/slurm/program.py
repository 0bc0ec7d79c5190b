"""What nodes run, copied to the shared disk: they need no Yunhe, and an upgrade leaves jobs that wait alone."""

import compileall
import hashlib
import os
import shlex
import shutil
from pathlib import Path

PACKAGE = Path(__file__).parents[3]  # yunhe
NAMES = ("start.py", "step.py", "rank.py")
FOLDERS = ("", "site", "site/drivers", "site/drivers/slurm")


def _files() -> list[Path]:
    names = [PACKAGE / folder / "__init__.py" for folder in FOLDERS]
    here = PACKAGE / "site/drivers/slurm"
    return [*names, *sorted((PACKAGE / "site/supervisor").glob("*.py")), *(here / name for name in NAMES)]


class Program:
    """The copy under `folder`, named after its contents."""

    def __init__(self, folder: Path) -> None:
        digest = hashlib.sha256()
        for path in _files():
            digest.update(f"{path.relative_to(PACKAGE)}\0".encode() + path.read_bytes() + b"\0")
        self._root = folder / digest.hexdigest()[:16]

    @property
    def start(self) -> Path:
        return self._root / "yunhe/site/drivers/slurm/start.py"

    @property
    def rank(self) -> Path:
        return self._root / "yunhe/site/drivers/slurm/rank.py"

    def install(self) -> None:
        """Whole or not at all; does nothing when it is there."""
        if self.start.exists():
            return
        tmp = self._root.with_name(f"{self._root.name}.{os.getpid()}")
        for path in _files():
            target = tmp / "yunhe" / path.relative_to(PACKAGE)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        # For the agent's own version of Python; another one compiles at each start where the folder is not its user's.
        compileall.compile_dir(tmp, quiet=2, stripdir=str(tmp))
        try:
            tmp.rename(self._root)
        except OSError:
            shutil.rmtree(tmp)
            if not self.start.exists():
                raise

    def script(self, python: str, batch: Path, news: Path) -> str:
        """The batch script of every lease of a batch."""
        words = [python, "-I", "-S", str(self.start), str(batch), str(news)]
        return f"#!/bin/sh\nexec {' '.join(shlex.quote(word) for word in words)}\n"
