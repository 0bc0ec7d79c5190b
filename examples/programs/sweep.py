"""One task of a parameter sweep: how chaotic is the logistic map x -> r x (1 - x)?

Task i of 20 takes r = 3.05 + i/20 and prints the map's Lyapunov exponent: negative where it settles, positive where it
is chaotic. For r = 4, the last task, the exponent is ln 2 exactly, which is checked.
"""

import math
import os
import sys

STEPS, SETTLING = 60_000, 1_000


def lyapunov(r: float) -> float:
    x, total = 0.3456789, 0.0
    for step in range(SETTLING + STEPS):
        x = r * x * (1 - x)
        if step >= SETTLING:
            total += math.log(max(abs(r * (1 - 2 * x)), 1e-300))
    return total / STEPS


def main() -> int:
    index = int(os.environ.get("YUNHE_TASK_INDEX", "19"))
    r = 3.05 + index / 20
    exponent = lyapunov(r)
    print(f"task {index}: r {r:.2f}, exponent {exponent:+.4f}, {'chaotic' if exponent > 0 else 'settles'}")
    if index == 19:
        return 0 if abs(exponent - math.log(2)) < 0.01 else 1
    return 0 if -12 < exponent < math.log(2) else 1


if __name__ == "__main__":
    sys.exit(main())
