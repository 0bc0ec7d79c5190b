"""Proof of work done: a chain of exact integer matrix products that is fresh with every challenge.

    X_0 = B,    X_i = A[s_i] roll(X_{i-1}, r_i) mod p,    i = 1..steps

A[0..7] (n x n), B (n x width), s_i and r_i come from the challenge by SHAKE-256, so nobody can start before they know
it. Rolling the rows by r_i between two factors makes nearly all pairs of factors different, so that products of pairs
cannot be tabled. n p^2 stays within the integers that the precision represents exactly, so every machine gets the same
X_steps, whatever its library. The answer is a digest of each column, and the columns that the digests themselves choose
(Fiat and Shamir 1986): who computed half of the columns passes with a chance of 2^-64.

The check costs a `width`-th of the work (Freivalds 1977): a random combination of the opened columns goes through the
chain as a vector. A wrong column passes with a chance of p^-TRIALS.

This file is also the program's: a site puts its text beside the benchmark, so it imports nothing of Yunhe.
"""

import hashlib
from typing import Any, NamedTuple

import numpy as np

FACTORS = 8
OPENED = 64  # columns
DIGEST_BYTES = 16
TRIALS = 4  # columns of the secret matrix of the check: p^-4 is below 1e-9
MODULI = {"fp64": 4_194_301, "fp32": 181}  # primes p with N p^2 < 2^53 and 2^24
# What reducing and rolling add to the time of the products, as measured with OpenBLAS on one core: 5 % and 28 to 38 %.
BESIDE_PERCENT = {"fp64": 105, "fp32": 130}
VALUE_BYTES = {"fp64": 4, "fp32": 1}
N = 512
WIDTH = 512

Array = np.ndarray[Any, Any]


class Challenge(NamedTuple):
    """What is to be computed. `key` is the hub's random word with everything that it is bound to."""

    key: bytes
    precision: str  # one of MODULI
    n: int
    width: int
    steps: int

    @property
    def flop(self) -> int:
        """Of the matrix products alone; reductions and rolls are not counted."""
        return 2 * self.n * self.n * self.width * self.steps


class Answer(NamedTuple):
    digests: bytes  # DIGEST_BYTES of each column, in order
    columns: bytes  # the opened columns, one after the other, VALUE_BYTES little-endian per value


def factors(challenge: Challenge) -> Array:
    """A, as (FACTORS, n, n) float64."""
    n = challenge.n
    return _values(challenge, b"A", FACTORS * n * n).reshape(FACTORS, n, n)


def start(challenge: Challenge) -> Array:
    """B, as (n, width) float64."""
    return _values(challenge, b"B", challenge.n * challenge.width).reshape(challenge.n, challenge.width)


def turns(challenge: Challenge) -> list[tuple[int, int]]:
    """(s_i, r_i) of every step."""
    words = np.frombuffer(_stream(challenge, b"turns", 4 * challenge.steps), dtype="<u4")
    which, by = words % FACTORS, words // FACTORS % challenge.n
    return list(zip(which.tolist(), by.tolist(), strict=True))


def run(challenge: Challenge) -> Array:
    """X_steps by numpy, in the precision's own arithmetic; (n, width), values below p."""
    kind = np.float64 if challenge.precision == "fp64" else np.float32
    p = MODULI[challenge.precision]
    a, x = factors(challenge).astype(kind), start(challenge).astype(kind)
    rolled, product = np.empty_like(x), np.empty_like(x)
    for which, by in turns(challenge):
        rolled[by:], rolled[:by] = x[: challenge.n - by], x[challenge.n - by :]
        np.matmul(a[which], rolled, out=product)
        # product - p floor(product / p): exact, as the quotient is below half the distance of two floats from any
        # integer that it is not.
        np.floor(np.divide(product, kind(p), out=rolled), out=rolled)
        np.subtract(product, np.multiply(rolled, kind(p), out=rolled), out=x)
    return x


def answer(challenge: Challenge, x: Array) -> Answer:
    """The digests of all columns of X_steps and the columns that they open."""
    columns = np.ascontiguousarray(x.T).astype(f"<u{VALUE_BYTES[challenge.precision]}")
    digests = b"".join(_digest(challenge, column.tobytes()) for column in columns)
    return Answer(digests, columns[opened(challenge, digests)].tobytes())


def opened(challenge: Challenge, digests: bytes) -> list[int]:
    """The columns that have to be shown, by the digests of all."""
    words = np.frombuffer(_stream(challenge, b"open" + digests, 4 * OPENED), dtype="<u4")
    return [int(word) for word in words % challenge.width]


def check(challenge: Challenge, given: Answer, secret: bytes) -> str:
    """Why the answer is wrong; empty: it is right. `secret`: 32 random bytes that the answering side never sees."""
    n, size = challenge.n, VALUE_BYTES[challenge.precision]
    if len(given.digests) != DIGEST_BYTES * challenge.width or len(given.columns) != OPENED * n * size:
        return "an answer of another size"
    p = MODULI[challenge.precision]
    shown = opened(challenge, given.digests)
    for place, index in enumerate(shown):
        text = given.columns[place * n * size : (place + 1) * n * size]
        if _digest(challenge, text) != given.digests[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES]:
            return "a column that is not the one of its digest"
    columns = np.frombuffer(given.columns, dtype=f"<u{size}").reshape(OPENED, n).T.astype(np.float64)
    if columns.max() >= p:
        return "a value that is not reduced"
    words = np.frombuffer(hashlib.shake_256(secret).digest(4 * OPENED * TRIALS), dtype="<u4")
    mix = (words % p).astype(np.float64).reshape(OPENED, TRIALS)
    wanted = columns @ mix % p
    rows = np.ascontiguousarray((start(challenge)[:, shown] @ mix % p).T)
    a = factors(challenge)
    for which, by in turns(challenge):
        # Not by BLAS: for so few rows its threads wait for each other, long where other threads of this process use it.
        rows = np.einsum("ij,kj->ki", a[which], np.roll(rows, by, axis=1)) % p
    return "" if np.array_equal(rows.T, wanted) else "a product that is wrong"


def _values(challenge: Challenge, label: bytes, count: int) -> Array:
    words = np.frombuffer(_stream(challenge, label, 4 * count), dtype="<u4")
    return (words % MODULI[challenge.precision]).astype(np.float64)


def _stream(challenge: Challenge, label: bytes, size: int) -> bytes:
    head = f"{challenge.precision}/{challenge.n}/{challenge.width}/{challenge.steps}/".encode()
    return hashlib.shake_256(head + challenge.key + b"/" + label).digest(size)


def _digest(challenge: Challenge, text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=DIGEST_BYTES, key=challenge.key[:64]).digest()
