"""Measured speed and size, each against a budget in `budgets.yaml`: `python -m benchmarks`, or `make bench`."""
