"""What nodes run, copied to the shared disk: they need no Yunhe, and an upgrade leaves jobs that wait alone."""

import hashlib
import os
import shutil
from pathlib import Path

PACKAGE = Path(__file__).parents[3]  # yunhe
FOLDERS = ("", "site")
SUPERVISOR = Path("site/supervisor")


def _files() -> list[Path]:
    return [*(PACKAGE / folder / "__init__.py" for folder in FOLDERS), *sorted((PACKAGE / SUPERVISOR).glob("*.py"))]


class Program:
    """The copy under `folder`, named after its contents."""

    def __init__(self, folder: Path) -> None:
        digest = hashlib.sha256()
        for path in _files():
            digest.update(f"{path.relative_to(PACKAGE)}\0".encode() + path.read_bytes() + b"\0")
        self._root = folder / digest.hexdigest()[:16]

    @property
    def node(self) -> Path:
        """`yunhe.site.supervisor.node`."""
        return self._root / "yunhe" / SUPERVISOR / "node.py"

    @property
    def gang(self) -> Path:
        """`yunhe.site.supervisor.gang`."""
        return self._root / "yunhe" / SUPERVISOR / "gang.py"

    def install(self) -> None:
        """Whole or not at all; does nothing when it is there."""
        if self._root.exists():
            return
        tmp = self._root.with_name(f"{self._root.name}.{os.getpid()}")
        for path in _files():
            target = tmp / "yunhe" / path.relative_to(PACKAGE)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        try:
            tmp.rename(self._root)
        except OSError:
            shutil.rmtree(tmp)
            if not self._root.exists():
                raise
