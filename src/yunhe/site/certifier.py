"""Measures the site when the hub says so, and sends the certificate; shows a rate when it is asked to."""

import asyncio
import logging
import os
import platform
import time
from functools import partial
from importlib.metadata import version

from yunhe.core.errors import StorageFull, YunheError
from yunhe.site.certify import network, prove
from yunhe.site.certify.results import result
from yunhe.site.drivers.contract import Driver, Isolation, abilities
from yunhe.site.link import Link
from yunhe.site.recorder import Recorder
from yunhe.site.settings import SiteSettings
from yunhe.wire.link import BenchmarkResult, Certificate, Proof, ProveNow

log = logging.getLogger(__name__)
VERSION = version("yunhe")
RETRY_S = 1.0
REVEAL_LIMIT_S = 60.0  # a hub that has not answered by then is away, and asks anew
PROBE_BYTES = 1024 * 1024
PROBES = 5


class Certifier:
    """`wanted` is set by each certify instruction; capacity is offered by certificate only, never before."""

    def __init__(self, settings: SiteSettings, driver: Driver, recorder: Recorder, link: Link) -> None:
        self._settings = settings
        self._driver = driver
        self._recorder = recorder
        self._link = link
        self.isolation = Isolation(0, "")
        self.wanted = asyncio.Event()
        self._asked: ProveNow | None = None
        self._holding: tuple[str, asyncio.Future[ProveNow]] | None = None  # what the site is ready for, and what counts
        self._bell = asyncio.Event()

    def take_up(self) -> None:
        """After a restart: an instruction that was taken and not answered."""
        if self._recorder.marks.certify_seq > self._recorder.marks.certified_seq:
            self.wanted.set()

    def prove(self, asked: ProveNow) -> None:
        """Answer this challenge next, instead of one that was not begun; or the one that waits for it."""
        if self._holding is not None and asked.after == self._holding[0] and not self._holding[1].done():
            self._holding[1].set_result(asked)
            return
        self._asked = asked
        self._bell.set()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as loops:
            loops.create_task(self._certify_always())
            loops.create_task(self._prove_always())

    async def _certify_always(self) -> None:
        while True:
            await self.wanted.wait()
            self.wanted.clear()
            await self._certify(self._recorder.marks.certify_seq)

    async def _prove_always(self) -> None:
        while True:
            await self._bell.wait()
            self._bell.clear()
            asked, self._asked = self._asked, None
            if asked is None:
                continue
            ready = partial(self._ready, asked) if asked.hold else None
            proof = await prove(self._driver, self._settings.site_id, asked, ready)
            if proof.error:
                log.warning("the hub's challenge is not answered: %s", proof.error)
            try:
                await self._recorder.proof(proof)
            except StorageFull as error:  # the hub asks again
                log.error("the answer to the hub's challenge is lost: %s", error)

    async def _ready(self, asked: ProveNow) -> ProveNow:
        """Say so to the hub; what it answers is what counts. Raises TimeoutError."""
        self._holding = asked.challenge, asyncio.get_running_loop().create_future()
        try:
            await self._recorder.proof(Proof(seq=0, challenge=asked.challenge, ready=True))
            async with asyncio.timeout(REVEAL_LIMIT_S):
                return await self._holding[1]
        finally:
            self._holding = None

    async def _certify(self, seq: int) -> None:
        try:
            pools = await self._driver.certify()
        except (YunheError, OSError, ValueError, KeyError, TypeError) as error:  # also what it printed may be anything
            log.error("the benchmark failed, only nominal rates are reported: %r", error)
            pools = await self._driver.discover()
        able = abilities(self._driver)
        certificate = Certificate(
            seq=0,
            tested_utc_ms=time.time_ns() // 1_000_000,
            tier=self.isolation.tier,
            isolation=self.isolation.text,
            software=software(),
            # A pool behind another hub says itself what its engine can do.
            pools=tuple(pool.model_copy(update={"abilities": pool.abilities if pool.hubs else able}) for pool in pools),
            network=await self._network(),
        )
        try:
            await self._recorder.certificate(certificate, seq)
        except StorageFull as error:
            log.error("the certificate waits: %s", error)
            self.wanted.set()
            await asyncio.sleep(RETRY_S)

    async def _network(self) -> tuple[BenchmarkResult, ...]:
        found = list(await network.round_trips(self._settings.hub_url, self._settings.peers))
        chunk, rates = os.urandom(PROBE_BYTES), []
        try:
            for _ in range(PROBES):
                start = time.perf_counter()
                await self._link.probe(chunk)
                rates.append(len(chunk) / (time.perf_counter() - start))
        except YunheError as error:  # a certificate is worth having without it
            log.info("the rate to the hub is not measured: %s", error)
        else:
            found.append(result("rate_hub", rates, "B/s"))
        return tuple(found)


def software() -> str:
    """What measured."""
    return f"yunhe {VERSION}, Python {platform.python_version()}, {platform.platform()}"[:500]
