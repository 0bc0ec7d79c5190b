"""Look for record lengths of Collatz sequences, for as long as a minute: long enough to be cancelled midway."""

import sys
import time

SECONDS = 60


def length(n: int, known: dict[int, int]) -> int:
    """Steps from n down to 1 (3n + 1 when odd, half when even)."""
    path = []
    while n not in known:
        path.append(n)
        n = 3 * n + 1 if n & 1 else n >> 1
    steps = known[n]
    for value in reversed(path):
        steps += 1
        if value < 200_000:
            known[value] = steps
    return steps


def main() -> int:
    known, record, n = {1: 0}, 0, 1
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        n += 1
        steps = length(n, known)
        if steps > record:
            record = steps
            print(f"{n} takes {steps} steps", flush=True)
        if n % 2_000 == 0:
            time.sleep(0.05)  # it is here to be cancelled, not to heat the room
    return 0


if __name__ == "__main__":
    sys.exit(main())
