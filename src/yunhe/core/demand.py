"""What a customer asks for, as plain values.

Units are in the field names: `flops` is FLOP/s, `flop` is FLOP, `_milli` is 1/1000 of a pool's unit (a core
or a card), `_us` is microseconds, `_ms` milliseconds, `_microcny` 1e-6 CNY.
"""

from dataclasses import dataclass, field
from enum import StrEnum


class Precision(StrEnum):
    """Arithmetic precisions that compute is stated at; a quantity without one means nothing."""

    FP64 = "fp64"
    FP32 = "fp32"
    TF32 = "tf32"
    BF16 = "bf16"
    FP16 = "fp16"
    FP8 = "fp8"
    INT8 = "int8"


class Preference(StrEnum):
    """What to optimise among the places that fit."""

    COST = "cost"
    SPEED = "speed"
    CARBON = "carbon"


@dataclass(frozen=True, slots=True)
class Compute:
    """A compute rate: `flops` FLOP/s (or OP/s for INT8), dense, at `precision`."""

    flops: int
    precision: Precision


@dataclass(frozen=True, slots=True)
class Work:
    """A total amount of compute: `flop` FLOP at `precision`."""

    flop: int
    precision: Precision


class LatencyKind(StrEnum):
    ONE_WAY = "one_way"
    RTT = "rtt"


@dataclass(frozen=True, slots=True)
class LatencyBound:
    """At most `limit_us` between the site and `place` (a place id of facts/places)."""

    place: str
    limit_us: int
    kind: LatencyKind


class Ability(StrEnum):
    """What an engine can do for a job beyond running it; not every engine can do all."""

    SECRETS = "secrets"  # deliver them by file
    DATA = "data"  # bring inputs from URLs, and outputs to them
    CHECKPOINTS = "checkpoints"  # keep what a job saves, and give it back to the next attempt
    NETWORK = "network"  # let the job open connections


@dataclass(frozen=True, slots=True)
class Requirement:
    """Hard constraints on the place of ONE task of an order, and what it consumes there.

    A task is `slots` equal slots at one pool (a gang), never split across sites.  Its size is stated by exactly
    one of: `cores_milli` per slot (CPU pools), `cards` per slot with or without `chip` (accelerator pools),
    `compute` (a rate for the whole task), `work` (an amount to be done before the order's deadline: the
    rate, so the number of units, is Yunhe's choice).  Hashable: orders of one shape are one class.
    """

    cores_milli: int | None = None
    cards: int | None = None
    compute: Compute | None = None
    work: Work | None = None
    chip: str | None = None
    slots: int = 1
    memory_bytes: int = 0  # host memory per slot
    card_memory_bytes: int = 0  # memory of each card
    latency: tuple[LatencyBound, ...] = ()
    bandwidth_bps: int = 0  # the site's network capacity
    data_at: str | None = None  # place id where the input data lies
    data_bytes: int = 0
    residency: frozenset[str] = field(default_factory=frozenset)  # allowed regions (facts names), empty: any
    tier: int = 0  # minimum security tier of the site
    max_carbon_g_per_kwh: int | None = None  # of the site's grid
    sites: frozenset[str] = field(default_factory=frozenset)  # allowed site ids, empty: any
    pools: frozenset[str] = field(default_factory=frozenset)  # allowed pool ids, empty: any
    stacks: frozenset[str] = field(default_factory=lambda: frozenset({"cpu"}))  # software stacks with a command
    operators: frozenset[str] = field(default_factory=frozenset)  # that the pool's stack must have been seen to run
    abilities: frozenset[Ability] = frozenset()  # of the pool's engine


AS_LONG_AS_IT_MAY = 2**60  # ms of patience: bounded by the deadline alone


@dataclass(frozen=True, slots=True)
class Terms:
    """How long, by when, for how much, and what matters most."""

    run_limit_ms: int  # wall time of one task, enforced
    deadline_ms: int | None = None  # UTC ms, for the whole order
    budget_microcny: int | None = None  # for the whole order
    preference: Preference = Preference.COST
    array: int = 1  # independent tasks
    start_ms: int | None = None  # UTC ms, not before: until then it is a booking (see `placement.calendar`)
    patience_ms: int = 0  # how long after it came it may wait for a better hour (see `placement.when`)
    spot: bool = False  # cheaper, and ended whenever an order that is not needs its units


@dataclass(frozen=True, slots=True)
class Shape:
    """Everything that placement looks at; equal shapes are placed as one class."""

    requirement: Requirement
    terms: Terms
