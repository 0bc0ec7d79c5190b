"""Certification at the site: jobs that measure a pool, try its software stack, and show a rate to the hub."""

from yunhe.site.certify.job import certify, prove
from yunhe.site.certify.results import with_results

__all__ = ["certify", "prove", "with_results"]
