"""Energy at the meter and carbon, as integers. `mwh` is milliwatt-hours here (never megawatt-hours).

Energy at the meter is IT energy times PUE (power usage effectiveness: facility power over IT power, The Green
Grid / ISO/IEC 30134-2).  Carbon is location-based: energy times the grid's average emission factor (GHG Protocol
Scope 2).  Everything is rounded up once, at the end, so that a sum is never less than what was used.
"""

from yunhe.core.rounding import ceil_div

_MS_PER_HOUR = 3_600_000


def full_load_mwh(pue_milli: int, watts_per_unit: int, milli: int, ms: int) -> int:
    """Energy of `milli` thousandths of a unit at full load for `ms`, in milliwatt-hours at the meter, rounded up.

    E = P_unit * units * t * PUE.  It bounds `busy_mwh` from above, so holds are sized by it.
    """
    # W * milli-units * ms * milli-PUE -> mWh: 1000 / (1000 * 3.6e6 * 1000)
    return ceil_div(watts_per_unit * milli * ms * pue_milli, 1_000 * _MS_PER_HOUR)


def busy_mwh(pue_milli: int, watts_per_unit: int, cpu_ms: int) -> int:
    """Energy of `cpu_ms` milliseconds of unit time (core time), in milliwatt-hours at the meter, rounded up.

    E = P_unit * busy time * PUE: a unit is taken to draw its full-load power while it is busy.
    """
    # W * ms * milli-PUE -> mWh: 1000 / (3.6e6 * 1000)
    return ceil_div(watts_per_unit * cpu_ms * pue_milli, _MS_PER_HOUR)


def carbon_mg(mwh: int, g_per_kwh: int, parts: int = 1) -> int:
    """Carbon dioxide in milligrams of `mwh` milliwatt-hours on a grid of `g_per_kwh` / `parts`, rounded up."""
    # mWh * g/kWh -> mg: 1000 / 1e6
    return ceil_div(mwh * g_per_kwh, 1_000 * parts)
