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
    # What it costs to bring input data to a site, per GiB; 0 while no line is booked for them.
    transfer_microcny_per_gib: int = 0
    # A waiting order does not hold up others that fit; off: nobody passes in the pools that it waits for.
    backfill: bool = True
    # Starvation: an order that waited this long (ms) goes before the fair share of its priority, and what is free
    # in the pool where it lacks least is kept for it. Long against a usual run, so that it stays the exception.
    reserve_after_ms: int = 3_600_000
    # How many orders a round favours so, one per account at most: each can leave one pool idle while it fills up.
    max_reservations: int = 4
    # Only accounts whose use per weight is at most this percentage of the average of those that wait are favoured:
    # age must not turn the fair share into first come, first served.
    reserve_share_limit_percent: int = 200
    # What a unit of a spot order costs less than the site's price, in percent; its energy costs what it costs.
    spot_discount_percent: int = 50
    # For how many waiting orders a round ends spot leases, and how many leases (bounds the commit's transaction).
    max_rooms: int = 100
    max_preempted: int = 1_000
    # A job that is stopped at its limit is gone so long after it (ms): an order without a start of its own ends so long
    # before a booking, and a booking whose units are not back yet waits for them for so long.
    booking_margin_ms: int = 60_000
    # How many orders with a start of their own a round looks at: each asks the calendars of many pools.
    max_bookings: int = 200
    # An order that may wait for a better hour does so where it is expected to save this much of what it would cost (or
    # emit) now: hours of waiting for less are no bargain.
    least_saving_percent: int = 1
    # How many kinds of orders that may wait a round looks at in the hours to come; the others start at once.
    max_waits: int = 200
    # Largest number of tasks that one round assigns (bounds the commit's transaction).
    max_assignments: int = 5_000
    # From how many open orders times pools on a round's places are improved together by a linear program; smaller
    # rounds are over sooner without, and there is little to gain. Nation-wide they are 200 million.
    improve_from_pairs: int = 50_000_000
