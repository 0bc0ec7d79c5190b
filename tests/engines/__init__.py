"""Real engines for tests and benchmarks, started privately on this host and stopped again."""
