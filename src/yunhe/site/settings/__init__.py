"""Every setting of a site: unit in the name, default, and why that default. One module per owner."""

from yunhe.site.settings.agent import SiteSettings
from yunhe.site.settings.hub import LowerHubSettings
from yunhe.site.settings.kubernetes import KubernetesSettings
from yunhe.site.settings.lending import LendSettings
from yunhe.site.settings.process import DriverSettings
from yunhe.site.settings.ray import RaySettings
from yunhe.site.settings.slurm import SlurmSettings

__all__ = [
    "DriverSettings",
    "KubernetesSettings",
    "LendSettings",
    "LowerHubSettings",
    "RaySettings",
    "SiteSettings",
    "SlurmSettings",
]
