"""Composition root of a certification by hand: the site's engine measures its pools now, and no hub is asked."""

import asyncio
import tempfile
import time
from pathlib import Path

from yunhe.apps.engines import make_driver
from yunhe.apps.site import load_settings
from yunhe.core.errors import InvalidInput
from yunhe.site.certifier import software
from yunhe.site.certify import network
from yunhe.site.settings import SiteSettings
from yunhe.wire.link import Certificate

SCRATCH = "measure"  # in the data directory of a cluster's site: its nodes see that folder


def measure(data_dir: Path | None) -> Certificate:
    """The certificate that the site would send; None: of this machine with all that it has.

    An agent may run beside it; then its jobs, and this, make each other slower. Raises NotFound when the folder is no
    site, Unavailable when the engine or the benchmark does not answer.
    """
    if data_dir is None:
        with tempfile.TemporaryDirectory(prefix="yunhe-certify-") as scratch:
            settings = SiteSettings(hub_url="", site_id="certify", name="certify", data_dir=Path(scratch))
            return asyncio.run(_measure(settings))
    settings = load_settings(data_dir)
    if settings.engine in ("hub", "fake"):
        raise InvalidInput(f"a site of engine {settings.engine} has nothing to measure", field="--data-dir")
    scratch_dir = settings.data_dir / SCRATCH
    scratch_dir.mkdir(mode=0o700, exist_ok=True)
    return asyncio.run(_measure(settings.model_copy(update={"data_dir": scratch_dir})))


async def _measure(settings: SiteSettings) -> Certificate:
    driver = make_driver(settings)
    isolation = await driver.open()
    try:
        pools = await driver.certify()
        found = await network.round_trips(settings.hub_url, settings.peers) if settings.hub_url else ()
    finally:
        await driver.close()
    return Certificate(
        seq=0,
        tested_utc_ms=time.time_ns() // 1_000_000,
        tier=isolation.tier,
        isolation=isolation.text,
        software=software(),
        pools=pools,
        network=found,
    )
