"""The visible knobs of placement and pricing, each with its unit, default and reason."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Policy:
    # A nominal rate that no benchmark has confirmed counts for this share (dense GEMM rarely reaches nominal).
    nominal_derate_percent: int = 60
    # The operator's fee on compute and energy, in basis points of the charge.
    operator_fee_bps: int = 500
    # Fibre paths are longer than the great circle; see facts for the comparison with published latencies.
    route_factor_percent: int = 140
    # Energy reserved in a hold: the unit at full load for the whole run limit.
    transfer_microcny_per_gib: int = 0
    # Weight of waiting against price in the speed preference; see core.placement.score.
    backfill: bool = True
    # Largest number of tasks that one round assigns (bounds the commit's transaction).
    max_assignments: int = 5_000
