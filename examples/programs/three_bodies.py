"""Follow three equal masses around their figure of eight (Chenciner and Montgomery, 2000; start values by C. Simo).

Integrates Newton's equations with a symplectic method of fourth order (Yoshida, 1990) over three periods. The bodies
have to be back where they began, and the energy has to stay what it was; otherwise the exit status is 1.
"""

import sys

import numpy as np

PERIOD = 6.32591398
STEPS, PERIODS = 2_000, 3
POSITION = np.array([[0.97000436, -0.24308753], [-0.97000436, 0.24308753], [0.0, 0.0]])
SPEED = np.array([[0.466203685, 0.43236573], [0.466203685, 0.43236573], [-0.93240737, -0.86473146]])
CUBE_ROOT = 2 ** (1 / 3)
INNER, OUTER = 1 / (2 - CUBE_ROOT), -CUBE_ROOT / (2 - CUBE_ROOT)


def pull(position: np.ndarray) -> np.ndarray:
    apart = position[None, :, :] - position[:, None, :]
    distance = np.sqrt((apart**2).sum(axis=2)) + np.eye(3)
    return np.asarray((apart / distance[:, :, None] ** 3).sum(axis=1))


def energy(position: np.ndarray, speed: np.ndarray) -> float:
    pairs = ((0, 1), (0, 2), (1, 2))
    potential = sum(1 / float(np.linalg.norm(position[i] - position[j])) for i, j in pairs)
    return float((speed**2).sum() / 2) - potential


def main() -> int:
    position, speed = POSITION.copy(), SPEED.copy()
    before, step = energy(position, speed), PERIOD / STEPS
    for period in range(PERIODS):
        for _ in range(STEPS):
            for part in (INNER, OUTER, INNER):
                position += part * step / 2 * speed
                speed += part * step * pull(position)
                position += part * step / 2 * speed
        off = float(np.abs(position - POSITION).max())
        drift = abs(energy(position, speed) - before)
        print(f"period {period + 1}: {off:.1e} from the start, energy off by {drift:.1e}", flush=True)
    return 0 if off < 1e-4 and drift < 1e-8 else 1


if __name__ == "__main__":
    sys.exit(main())
