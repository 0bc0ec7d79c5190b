"""The site's network: round trips and rates, by the site's own clock.

A round trip is the time in which the kernel opens a TCP connection: one packet there, one back. One way is taken for
half of it; no clocks are compared.
"""

import asyncio
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

from yunhe.site.certify.results import result
from yunhe.wire.link import BenchmarkResult

REPEATS = 7
LIMIT_S = 3.0
MOST_PEERS = 16
PORTS = {"http": 80, "https": 443}


async def round_trips(hub_url: str, peers: Sequence[str]) -> tuple[BenchmarkResult, ...]:
    """`rtt_hub` and `rtt_HOST:PORT` in us; who does not answer within the limit is left out."""
    parts = urlsplit(hub_url)
    asked: list[tuple[str, str, int]] = [("rtt_hub", parts.hostname or "", parts.port or PORTS.get(parts.scheme, 443))]
    for peer in peers[:MOST_PEERS]:
        at, _, number = peer.rpartition(":")
        asked.append((f"rtt_{peer}"[:40], at.strip("[]"), int(number)))
    found = []
    for name, host, port in asked:
        try:
            runs = [await _connect_us(host, port) for _ in range(REPEATS + 1)][1:]
        except (OSError, TimeoutError):
            continue
        found.append(result(name, runs, "us"))
    return tuple(found)


async def _connect_us(host: str, port: int) -> float:
    start = time.perf_counter()
    async with asyncio.timeout(LIMIT_S):
        _, writer = await asyncio.open_connection(host, port)
    took = (time.perf_counter() - start) * 1e6
    writer.close()
    return took
