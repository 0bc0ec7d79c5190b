"""A private Ray for tests and benchmarks: the one that the demo starts too."""

from yunhe.apps.local_engines.ray import Head, Shape, missing

__all__ = ["Head", "Shape", "missing"]
