"""A private Slurm for tests and benchmarks: the one that the demo starts too."""

from yunhe.apps.local_engines.slurm import CALL_S, CONFIGURATION, INSTALL, PACKAGES, PROGRAMS, Cluster, Shape, missing

__all__ = ["CALL_S", "CONFIGURATION", "INSTALL", "PACKAGES", "PROGRAMS", "Cluster", "Shape", "missing"]
