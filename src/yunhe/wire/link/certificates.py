"""What a site has and what it measured: the pools of a certificate, and the proof of a claim."""

from typing import Annotated, Literal

from pydantic import Field

from yunhe.core.demand import Ability, Precision
from yunhe.wire.link.parts import Challenge, Count, OperatorName, Version
from yunhe.wire.message import NO_NUL, Message
from yunhe.wire.origin import HubId


class BenchmarkResult(Message):
    """Median of `repeats` runs; spread is (max - min) / median in percent."""

    # "gemm_fp64", "gemm_fp32", "memory_bandwidth", "disk_write", ...
    name: Annotated[str, Field(max_length=40, pattern=NO_NUL)]
    value: Annotated[float, Field(ge=0, le=1e24, allow_inf_nan=False)]
    unit: Annotated[str, Field(max_length=20, pattern=NO_NUL)]  # "FLOP/s", "B/s"
    repeats: Annotated[int, Field(ge=1, le=1000)]
    spread_percent: Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]


class RateReport(Message):
    """FLOP/s of one whole unit."""

    precision: Precision
    nominal_flops: Count | None = None
    measured_flops: Count | None = None
    not_measured: Annotated[str, Field(max_length=200, pattern=NO_NUL)] = ""  # why, where it is not


class Missing(Message):
    """An operator that did not run, and what it said."""

    operator: OperatorName
    reason: Annotated[str, Field(max_length=200, pattern=NO_NUL)]


class StackReport(Message):
    """What of the pool's software stack was tried in a job of its own, and with which versions."""

    versions: Annotated[dict[Version, Version], Field(max_length=24)] = Field(default_factory=dict)
    operators: Annotated[tuple[OperatorName, ...], Field(max_length=64)] = ()  # ran, with the right result
    missing: Annotated[tuple[Missing, ...], Field(max_length=64)] = ()


class PoolReport(Message):
    """A discovered and tested pool. `name` is unique in the site; the hub's pool id is `site_id:name`."""

    name: Annotated[str, Field(min_length=1, max_length=24, pattern=r"^[a-z0-9][a-z0-9-]*$")]
    kind_of_unit: Literal["core", "card"]
    chip: Annotated[str, Field(max_length=40, pattern=NO_NUL)]  # catalogue id or "unknown"
    chip_name: Annotated[str, Field(max_length=120, pattern=NO_NUL)]  # as the hardware says it
    stack: Annotated[str, Field(max_length=16, pattern=NO_NUL)]
    capacity_milli: Count
    memory_bytes: Count
    card_memory_bytes: Count = 0
    max_slot_milli: Count
    watts_per_unit: Annotated[int, Field(ge=0, le=100_000)]
    watts_source: Annotated[str, Field(max_length=200, pattern=NO_NUL)] = "assumed"
    # Of a pool behind another hub: the hubs in between, the site's own first; what the site asks for a unit; and when
    # the figures were measured down there (0: with the certificate).
    hubs: Annotated[tuple[HubId, ...], Field(max_length=8)] = ()
    asking_microcny_per_unit_hour: Annotated[int, Field(ge=1, le=10**12)] | None = None
    tested_utc_ms: Count = 0
    rates: Annotated[tuple[RateReport, ...], Field(max_length=16)]
    benchmarks: Annotated[tuple[BenchmarkResult, ...], Field(max_length=32)] = ()
    abilities: Annotated[tuple[Ability, ...], Field(max_length=16)] = ()  # of the engine; said by the agent
    stack_check: StackReport | None = None  # None: not tried; an order that needs operators does not go there


class Certificate(Message):
    """What the site has, and what the benchmark measured. Replaces the one before."""

    kind: Literal["certificate"] = "certificate"
    seq: Count
    tested_utc_ms: Count
    tier: Annotated[int, Field(ge=0, le=5)]
    isolation: Annotated[str, Field(max_length=200, pattern=NO_NUL)]  # "bubblewrap + cgroup v1", "process groups"
    software: Annotated[str, Field(max_length=500, pattern=NO_NUL)]
    pools: Annotated[tuple[PoolReport, ...], Field(max_length=64)]
    # Of the site's own network: "rtt_hub", "rate_hub", "rtt_ADDRESS".
    network: Annotated[tuple[BenchmarkResult, ...], Field(max_length=32)] = ()


class Proof(Message):
    """The answer to a ProveNow, named by its challenge. A second one of the same challenge changes nothing."""

    kind: Literal["proof"] = "proof"
    seq: Count
    challenge: Challenge
    ready: bool = False  # no answer yet: all is ready for the challenge that counts
    digests: Annotated[str, Field(max_length=400_000)] = ""  # base64, see core.chain.Answer
    columns: Annotated[str, Field(max_length=400_000)] = ""
    error: Annotated[str, Field(max_length=300, pattern=NO_NUL)] = ""  # why there is none
