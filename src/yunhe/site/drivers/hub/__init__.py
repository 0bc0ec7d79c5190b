"""A hub below as the engine of a site: leases become orders there, over its public API, and nothing else."""
