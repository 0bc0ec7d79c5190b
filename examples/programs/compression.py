"""Which compression pays? Sources of the standard library through zlib, bz2 and lzma: size, time, and back again."""

import bz2
import lzma
import sys
import sysconfig
import time
import zlib
from collections.abc import Callable
from pathlib import Path

AMOUNT = 1_500_000  # bytes of real text
Codec = tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]
CODECS: dict[str, Codec] = {
    "zlib": (lambda data: zlib.compress(data, 6), zlib.decompress),
    "bz2": (lambda data: bz2.compress(data, 9), bz2.decompress),
    "lzma": (lambda data: lzma.compress(data, preset=1), lzma.decompress),
}


def sample() -> bytes:
    library = Path(sysconfig.get_paths()["stdlib"])
    text = bytearray()
    for path in sorted(library.glob("*.py")):
        text += path.read_bytes()
        if len(text) >= AMOUNT:
            break
    return bytes(text[:AMOUNT])


def main() -> int:
    data = sample()
    print(f"{len(data):,} bytes of Python source", flush=True)
    good = len(data) == AMOUNT
    for name, (compress, decompress) in CODECS.items():
        start = time.process_time()
        small = compress(data)
        seconds = time.process_time() - start
        same = decompress(small) == data
        good = good and same and len(small) < len(data) / 3
        print(f"{name:<5} {len(small):>8,} bytes, {len(data) / len(small):.2f} times smaller, {seconds:.2f} s CPU")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
