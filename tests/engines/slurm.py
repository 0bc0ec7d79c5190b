"""A private Slurm for tests and benchmarks: the one that the demo starts too."""

from yunhe.apps.local_engines.slurm import CONFIGURATION, INSTALL, PACKAGES, PROGRAMS, Cluster, Shape, missing

__all__ = ["CONFIGURATION", "INSTALL", "PACKAGES", "PROGRAMS", "Cluster", "Shape", "missing"]
