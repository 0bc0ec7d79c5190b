"""Solve linear systems in two ways: dense by LU factorisation, sparse by conjugate gradients.

The dense one counts its work (2/3 n^3 + 2 n^2 FLOP for each system); the sparse one is the heat equation on a square
(five-point Laplacian, exact for the chosen solution). Exits 1 when a residual or an error is too large.
"""

import sys
import time

import numpy as np

DENSE, SYSTEMS = 900, 10
GRID = 128


def dense(rng: np.random.Generator) -> float:
    """Largest relative residual (Higham, 2002: backward error) of the systems."""
    worst = 0.0
    start = time.perf_counter()
    for _ in range(SYSTEMS):
        matrix, right = rng.standard_normal((DENSE, DENSE)), rng.standard_normal(DENSE)
        x = np.linalg.solve(matrix, right)
        scale = np.linalg.norm(matrix, np.inf) * np.linalg.norm(x, np.inf)
        worst = max(worst, float(np.linalg.norm(matrix @ x - right, np.inf) / scale))
    flop = SYSTEMS * (2 / 3 * DENSE**3 + 2 * DENSE**2)
    seconds = time.perf_counter() - start
    print(f"{SYSTEMS} systems of {DENSE}: {flop / 1e9:.1f} GFLOP in {seconds:.2f} s, residual {worst:.1e}", flush=True)
    return worst


def laplacian(u: np.ndarray) -> np.ndarray:
    """-(u_xx + u_yy) h^2 with u = 0 on the border."""
    padded = np.pad(u, 1)
    return 4 * u - padded[:-2, 1:-1] - padded[2:, 1:-1] - padded[1:-1, :-2] - padded[1:-1, 2:]


def heat() -> float:
    """Conjugate gradients (Hestenes and Stiefel, 1952); returns the largest error against the exact solution."""
    h = 1 / (GRID + 1)
    x, y = np.meshgrid(np.arange(1, GRID + 1) * h, np.arange(1, GRID + 1) * h)
    exact = x * (1 - x) * y * (1 - y)
    residual = 2 * (x * (1 - x) + y * (1 - y)) * h**2
    u, direction = np.zeros_like(exact), residual.copy()
    size = float((residual**2).sum())
    goal, steps = size * 1e-20, 0
    while size > goal and steps < 2_000:
        image = laplacian(direction)
        length = size / float((direction * image).sum())
        u += length * direction
        residual -= length * image
        following = float((residual**2).sum())
        direction = residual + following / size * direction
        size, steps = following, steps + 1
    error = float(np.abs(u - exact).max())
    print(f"heat equation on {GRID} x {GRID}: {steps} steps, error {error:.1e}")
    return error


def main() -> int:
    return 0 if dense(np.random.default_rng(5)) < 1e-14 and heat() < 1e-9 else 1


if __name__ == "__main__":
    sys.exit(main())
