"""The random numbers of Go's math/rand (before Go 1.20 seeded by hand), which published runs drew their orders from.

An additive lagged Fibonacci generator, x(n) = x(n-607) + x(n-273) modulo 2^64.  Its seeding mixes in the state that the
same recurrence reaches after 7.8e12 steps; that state is found here by a jump: z^N modulo z^607 - z^334 - 1.
"""

from functools import cache
from typing import TypeVar

import numpy as np
import numpy.typing as npt

LAG, TAP = 607, 273
STEPS = 7_800_000_000_000
_MASK = 2**64 - 1
_PRIME = 2**31 - 1

Item = TypeVar("Item")
Words = npt.NDArray[np.uint64]


class GoRandom:
    """`rand.New(rand.NewSource(seed))`: the same draws in the same order."""

    def __init__(self, seed: int) -> None:
        self._tap, self._feed = 0, LAG - TAP
        self._state = [
            word ^ mixed for word, mixed in zip(_words(seed % _PRIME or 89_482_311, 20), _far(), strict=True)
        ]

    def uint64(self) -> int:
        self._tap, self._feed = (self._tap - 1) % LAG, (self._feed - 1) % LAG
        drawn = (self._state[self._feed] + self._state[self._tap]) & _MASK
        self._state[self._feed] = drawn
        return drawn

    def below(self, bound: int) -> int:
        """`Intn`, for bounds below 2^31."""
        drawn = self._int31()
        if bound & (bound - 1) == 0:
            return drawn & (bound - 1)
        while drawn > _PRIME - 2**31 % bound:
            drawn = self._int31()
        return drawn % bound

    def shuffle(self, items: list[Item]) -> None:
        """`Shuffle`, in place."""
        for last in range(len(items) - 1, 0, -1):
            other = self._fraction(last + 1)
            items[last], items[other] = items[other], items[last]

    def permutation(self, count: int) -> list[int]:
        """`Perm`."""
        found = [0] * count
        for number in range(count):
            other = self.below(number + 1)
            found[number], found[other] = found[other], number
        return found

    def _int31(self) -> int:
        return (self.uint64() & (_MASK >> 1)) >> 32

    def _fraction(self, bound: int) -> int:
        """Go draws this way in `Shuffle` alone: Lemire's multiplication."""
        product = self._uint32() * bound
        while product % 2**32 < bound and product % 2**32 < 2**32 % bound:
            product = self._uint32() * bound
        return product >> 32

    def _uint32(self) -> int:
        return (self.uint64() & (_MASK >> 1)) >> 31


def _words(seed: int, shift: int) -> list[int]:
    """The 607 words that a multiplicative generator (Park and Miller) gives, three draws each."""
    words = []
    draw = seed
    for number in range(-20, LAG):
        draw = 48_271 * draw % _PRIME
        if number >= 0:
            word = draw << (2 * shift)
            draw = 48_271 * draw % _PRIME
            word ^= draw << shift
            draw = 48_271 * draw % _PRIME
            words.append((word ^ draw) & _MASK)
    return words


@cache
def _far() -> list[int]:
    """The state after STEPS steps from seed 1, in the order of the generator's array."""
    first = _words(1, 10)
    # Oldest first: the array is walked downwards from the feed.
    series = [first[(LAG - TAP - 1 - number) % LAG] for number in range(LAG)]
    for number in range(LAG, 2 * LAG):
        series.append((series[number - LAG] + series[number - TAP]) & _MASK)
    known, power = np.array(series, dtype=np.uint64), _power()
    state = [0] * LAG
    for number in range(LAG):
        state[(LAG - TAP - 1 - STEPS - number) % LAG] = int((power * known[number : number + LAG]).sum(dtype=np.uint64))
    return state


def _power() -> Words:
    """Coefficients of z^STEPS modulo z^607 - z^334 - 1, modulo 2^64."""
    power, z = np.zeros(LAG, dtype=np.uint64), np.zeros(LAG, dtype=np.uint64)
    power[0] = z[1] = 1
    for bit in f"{STEPS:b}":
        power = _times(power, power)
        if bit == "1":
            power = _times(power, z)
    return power


def _times(left: Words, right: Words) -> Words:
    product = np.zeros(2 * LAG - 1, dtype=np.uint64)
    for number in range(LAG):
        product[number : number + LAG] += left[number : number + 1] * right
    for degree in range(2 * LAG - 2, LAG - 1, -1):
        # Slices of one: numpy warns of the overflow of a single number, which is meant here.
        product[degree - TAP : degree - TAP + 1] += product[degree : degree + 1]
        product[degree - LAG : degree - LAG + 1] += product[degree : degree + 1]
    return product[:LAG]
