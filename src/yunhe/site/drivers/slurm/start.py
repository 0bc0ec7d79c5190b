"""The first lines of a step: `python -I -S start.py BATCH_DIR NEWS_DIR`.

Many jobs are short, and each has an interpreter of its own: what a step seldom needs is loaded when it is needed (it
takes a third of the time), and what it always needs comes compiled.
"""

import sys
from importlib.util import LazyLoader, find_spec, module_from_spec

SELDOM = ("base64", "shutil", "socket")  # secrets, what a job leaves behind, and hosts whose agent listens


def lazily(name: str) -> None:
    """As in the documentation of `LazyLoader`."""
    spec = find_spec(name)
    if spec is None or spec.loader is None:
        raise ImportError(name)
    spec.loader = LazyLoader(spec.loader)
    sys.modules[name] = module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])


if __name__ == "__main__":
    for seldom in SELDOM:
        lazily(seldom)
    sys.path.append(__file__.removesuffix("/yunhe/site/drivers/slurm/start.py"))
    from yunhe.site.drivers.slurm.step import main

    sys.exit(main())
