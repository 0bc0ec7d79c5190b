"""Take more memory than was asked for, a little at a time, and say how much: the site has to end this.

Exits 0 at 512 MiB: then nobody held the limit.
"""

import sys
import time

STEP, MOST = 8 * 1024 * 1024, 512 * 1024 * 1024


def main() -> int:
    taken = []
    while len(taken) * STEP < MOST:
        taken.append(bytearray(b"\1") * STEP)  # written, so that it is really taken
        print(f"{len(taken) * STEP // 2**20} MiB", flush=True)
        time.sleep(0.05)
    return 0


if __name__ == "__main__":
    sys.exit(main())
