"""Count the primes below ten million with a sieve, and the twins among them; both counts are known."""

import sys

import numpy as np

LIMIT = 10_000_000
PRIMES, TWINS = 664_579, 58_980  # OEIS A006880 and A007508


def sieve(limit: int) -> np.ndarray:
    """All primes below `limit`."""
    is_prime = np.ones(limit, dtype=bool)
    is_prime[:2] = False
    is_prime[4::2] = False
    for n in range(3, int(limit**0.5) + 1, 2):
        if is_prime[n]:
            is_prime[n * n :: 2 * n] = False
    return np.flatnonzero(is_prime)


def main() -> int:
    primes = sieve(LIMIT)
    twins = int((np.diff(primes) == 2).sum())
    print(f"below {LIMIT:,}: {len(primes):,} primes, the largest {primes[-1]:,}; {twins:,} pairs of twins")
    return 0 if (len(primes), twins) == (PRIMES, TWINS) else 1


if __name__ == "__main__":
    sys.exit(main())
