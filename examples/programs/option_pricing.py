"""Price a European call and put by simulation and hold the result against the closed formula (Black and Scholes, 1973).

Antithetic paths of a geometric Brownian motion. Exits 1 when a price is further than four standard errors from the
formula, or when call and put break their parity by more than that.
"""

import math
import sys

import numpy as np

SPOT, STRIKE, RATE, VOLATILITY, YEARS = 100.0, 105.0, 0.02, 0.25, 0.75
PATHS = 1_000_000


def normal_cdf(x: float) -> float:
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))


def black_scholes() -> tuple[float, float]:
    """(call, put)."""
    deviation = VOLATILITY * math.sqrt(YEARS)
    d1 = (math.log(SPOT / STRIKE) + (RATE + VOLATILITY**2 / 2) * YEARS) / deviation
    d2 = d1 - deviation
    discounted = STRIKE * math.exp(-RATE * YEARS)
    call = SPOT * normal_cdf(d1) - discounted * normal_cdf(d2)
    return call, call - SPOT + discounted


def estimate(payoffs: np.ndarray) -> tuple[float, float]:
    """Mean and standard error of the pairs' means."""
    pairs = payoffs.reshape(2, -1).mean(axis=0) * math.exp(-RATE * YEARS)
    return float(pairs.mean()), float(pairs.std(ddof=1) / math.sqrt(pairs.size))


def main() -> int:
    half = np.random.default_rng(11).standard_normal(PATHS // 2)
    normals = np.concatenate([half, -half])
    drift = (RATE - VOLATILITY**2 / 2) * YEARS
    final = SPOT * np.exp(drift + VOLATILITY * math.sqrt(YEARS) * normals)
    good = True
    for name, exact, payoffs in zip(
        ("call", "put"),
        black_scholes(),
        (np.maximum(final - STRIKE, 0), np.maximum(STRIKE - final, 0)),
        strict=True,
    ):
        price, error = estimate(payoffs)
        distance = abs(price - exact) / error
        good = good and distance < 4
        print(f"{name}: {price:.4f} +- {error:.4f}, formula {exact:.4f}, {distance:.2f} standard errors away")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
