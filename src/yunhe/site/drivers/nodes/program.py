"""What nodes run, copied to the shared disk: they need no Yunhe, and an upgrade leaves jobs that wait alone."""

import compileall
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

PACKAGE = Path(__file__).parents[3]  # yunhe
SUPERVISOR = "site/supervisor"


def _files(more: Sequence[str]) -> Iterator[Path]:
    """The supervisor and `more`, with the packages above them."""
    found = {*(PACKAGE / SUPERVISOR).glob("*.py"), *(PACKAGE / name for name in more)}
    for path in tuple(found):
        found.update(parent / "__init__.py" for parent in path.parents if PACKAGE in (parent, *parent.parents))
    yield from sorted(found)


class Program:
    """The copy under `folder`, named after its contents. `more`: files beside the supervisor's, from the package on."""

    def __init__(self, folder: Path, more: Sequence[str] = ()) -> None:
        self._more = tuple(more)
        digest = hashlib.sha256()
        for path in _files(self._more):
            digest.update(f"{path.relative_to(PACKAGE)}\0".encode() + path.read_bytes() + b"\0")
        self._root = folder / digest.hexdigest()[:16]

    def path(self, name: str) -> Path:
        """Of the copy of a file, as "site/supervisor/node.py"."""
        return self._root / "yunhe" / PurePath(name)

    def install(self) -> None:
        """Whole or not at all; does nothing when it is there."""
        if self._root.exists():
            return
        tmp = self._root.with_name(f"{self._root.name}.{os.getpid()}")
        for path in _files(self._more):
            target = tmp / "yunhe" / path.relative_to(PACKAGE)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        # For the agent's own version of Python; another one compiles at each start where the folder is not its user's.
        compileall.compile_dir(tmp, quiet=2, stripdir=str(tmp))
        try:
            tmp.rename(self._root)
        except OSError:
            shutil.rmtree(tmp)
            if not self._root.exists():
                raise
