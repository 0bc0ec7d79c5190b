"""Measures the site when the hub says so, and sends the certificate."""

import asyncio
import logging
import platform
import time
from importlib.metadata import version

from yunhe.core.errors import StorageFull, YunheError
from yunhe.site.drivers.contract import Driver, Isolation
from yunhe.site.recorder import Recorder
from yunhe.wire.link import Certificate

log = logging.getLogger(__name__)
VERSION = version("yunhe")
RETRY_S = 1.0


class Certifier:
    """`wanted` is set by each certify instruction; capacity is offered by certificate only, never before."""

    def __init__(self, driver: Driver, recorder: Recorder) -> None:
        self._driver = driver
        self._recorder = recorder
        self.isolation = Isolation(0, "")
        self.wanted = asyncio.Event()

    def take_up(self) -> None:
        """After a restart: an instruction that was taken and not answered."""
        if self._recorder.marks.certify_seq > self._recorder.marks.certified_seq:
            self.wanted.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.wanted.wait()
            self.wanted.clear()
            await self._certify(self._recorder.marks.certify_seq)

    async def _certify(self, seq: int) -> None:
        try:
            pools = await self._driver.certify()
        except (YunheError, OSError) as error:
            log.error("the benchmark failed, only nominal rates are reported: %s", error)
            pools = await self._driver.discover()
        certificate = Certificate(
            seq=0,
            tested_utc_ms=time.time_ns() // 1_000_000,
            tier=self.isolation.tier,
            isolation=self.isolation.text,
            software=f"yunhe {VERSION}, Python {platform.python_version()}, {platform.platform()}"[:500],
            pools=pools,
        )
        try:
            await self._recorder.certificate(certificate, seq)
        except StorageFull as error:
            log.error("the certificate waits: %s", error)
            self.wanted.set()
            await asyncio.sleep(RETRY_S)
