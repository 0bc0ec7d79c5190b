"""Private engines on this machine, for the demo, the tests and the benchmarks: one folder each, on 127.0.0.1 alone."""
