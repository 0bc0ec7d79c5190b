"""PageRank of Python's standard library: which module do the others lean on?

The graph is real and made here: every top-level module of this Python is parsed, and each import is a link. The power
iteration is checked against the exact solution of the linear system (Page and Brin, 1998, damping 0.85).
"""

import ast
import sys
import sysconfig
from pathlib import Path

import numpy as np

DAMPING, TOLERANCE = 0.85, 1e-12
LARGEST_FILE = 60_000  # bytes; keeps the parsing short


def imports(tree: ast.Module) -> set[str]:
    """Top-level names that a module imports, wherever the import stands."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.split(".")[0])
    return found


def graph() -> dict[str, set[str]]:
    library = Path(sysconfig.get_paths()["stdlib"])
    links = {}
    for path in sorted(library.glob("*.py")):
        # Debian's Python links some files to places outside its library, which a job need not see.
        if path.is_file() and path.stat().st_size <= LARGEST_FILE and path.stem in sys.stdlib_module_names:
            tree = ast.parse(path.read_text(encoding="utf-8", errors="replace"))
            links[path.stem] = (imports(tree) & sys.stdlib_module_names) - {path.stem}
    return links


def transitions(links: dict[str, set[str]], names: list[str]) -> np.ndarray:
    """Column-stochastic: column j spreads the weight of module j over what it imports."""
    index = {name: i for i, name in enumerate(names)}
    matrix = np.zeros((len(names), len(names)))
    for name, targets in links.items():
        for target in targets:
            matrix[index[target], index[name]] = 1 / len(targets)
    matrix[:, matrix.sum(axis=0) == 0] = 1 / len(names)  # a module that imports nothing leads anywhere
    return matrix


def main() -> int:
    links = graph()
    names = sorted(set(links).union(*links.values()))
    count = len(names)
    print(f"{count} modules, {sum(map(len, links.values()))} imports", flush=True)
    spread = transitions(links, names)
    rank = np.full(count, 1 / count)
    change, steps = 1.0, 0
    while change > TOLERANCE and steps < 500:
        following = DAMPING * spread @ rank + (1 - DAMPING) / count
        change = float(np.abs(following - rank).sum())
        rank, steps = following, steps + 1
    exact = np.linalg.solve(np.eye(count) - DAMPING * spread, np.full(count, (1 - DAMPING) / count))
    difference = float(np.abs(rank - exact).max())
    print(f"{steps} steps; sum {rank.sum():.9f}; furthest from the exact solution {difference:.1e}")
    best = np.argsort(-rank)[:10]
    for i in best:
        print(f"  {names[i]:<16} {rank[i]:.4f}")
    return 0 if count > 100 and difference < 1e-9 and "sys" in [names[i] for i in best[:3]] else 1


if __name__ == "__main__":
    sys.exit(main())
