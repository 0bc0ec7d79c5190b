"""Which driver runs the jobs of a site: one entry per engine. Its settings are the table of `SiteSettings` that has
the engine's name.

Each driver is imported by its own entry: an agent is small because it carries the one that it runs.
"""

from collections.abc import Callable

from yunhe.site.crash import CrashPoint, no_crash
from yunhe.site.drivers.contract import Driver
from yunhe.site.settings import SiteSettings

FAKE_MILLI = 1_000_000
FAKE_MEMORY_BYTES = 1 << 44


def make_driver(settings: SiteSettings, crash_point: CrashPoint = no_crash) -> Driver:
    """The driver of the site's engine; nothing is opened yet."""
    return ENGINES[settings.engine](settings, crash_point)


def _fake(settings: SiteSettings, crash_point: CrashPoint) -> Driver:
    from yunhe.site.drivers.fake import FakeDriver  # noqa: PLC0415

    del crash_point
    driver = settings.driver
    cores, memory = driver.cores_milli or FAKE_MILLI, driver.memory_bytes or FAKE_MEMORY_BYTES
    return FakeDriver(driver.pool, cores, memory, settings.fake_run_ms)


def _hub(settings: SiteSettings, crash_point: CrashPoint) -> Driver:
    from yunhe.site.drivers.hub.driver import HubDriver  # noqa: PLC0415
    from yunhe.site.drivers.hub.upper import Upper  # noqa: PLC0415

    upper = Upper(settings.hub_url, settings.site_id, settings.ca_file, settings.request_timeout_ms)
    return HubDriver(settings.hub, upper, settings.data_dir, crash_point)


def _process(settings: SiteSettings, crash_point: CrashPoint) -> Driver:
    from yunhe.site.drivers.process.driver import ProcessDriver  # noqa: PLC0415

    return ProcessDriver(settings.driver, settings.site_id, settings.data_dir, crash_point)


def _ray(settings: SiteSettings, crash_point: CrashPoint) -> Driver:
    from yunhe.site.drivers.ray.driver import RayDriver  # noqa: PLC0415

    return RayDriver(settings.driver, settings.ray, settings.site_id, settings.data_dir, crash_point)


def _slurm(settings: SiteSettings, crash_point: CrashPoint) -> Driver:
    from yunhe.site.drivers.slurm.driver import SlurmDriver  # noqa: PLC0415

    return SlurmDriver(settings.driver, settings.slurm, settings.site_id, settings.data_dir, crash_point)


def _kubernetes(settings: SiteSettings, crash_point: CrashPoint) -> Driver:
    from yunhe.site.drivers.kubernetes.driver import KubernetesDriver  # noqa: PLC0415
    from yunhe.site.drivers.kubernetes.shared import SharedKubernetesDriver  # noqa: PLC0415

    kind = KubernetesDriver if settings.kubernetes.shared_dir is None else SharedKubernetesDriver
    return kind(settings.driver, settings.kubernetes, settings.site_id, settings.data_dir, crash_point)


ENGINES: dict[str, Callable[[SiteSettings, CrashPoint], Driver]] = {
    "fake": _fake,
    "hub": _hub,
    "kubernetes": _kubernetes,
    "process": _process,
    "ray": _ray,
    "slurm": _slurm,
}
