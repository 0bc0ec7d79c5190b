"""What a run is counted by. Memory depends on the network and on the number of time steps, never on the jobs.

Busy units are integrated exactly: each pool has its level and what its level came to since the last step.
"""

import math
from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from yunhe.core.lifecycle import EndReason
from yunhe.core.supply import Supply

Floats = npt.NDArray[np.floating[Any]]

CLASSES = ((1, "1 card"), (7, "2-7"), (8, "8"), (63, "9-63"), (10**9, "64 and more"))  # most cards, name
_MOST = [most for most, _ in CLASSES]
BINS = 512
_GROWTH = math.log(1.06)  # of a bin: quantiles are right to 6 %
_FIRST_MS = 10.0
NODE_MILLI = 8_000
MS_PER_HOUR = 3_600_000


def class_of(cards: int) -> int:
    return bisect_left(_MOST, cards)


@dataclass(slots=True)
class Histogram:
    """Durations in ms, by bins that grow by 6 %."""

    counts: list[int] = field(default_factory=lambda: [0] * BINS)
    total_ms: int = 0
    most_ms: int = 0
    number: int = 0

    def add(self, ms: int) -> None:
        place = 0 if ms < _FIRST_MS else min(BINS - 1, 1 + int(math.log(ms / _FIRST_MS) / _GROWTH))
        self.counts[place] += 1
        self.total_ms += ms
        self.number += 1
        if ms > self.most_ms:
            self.most_ms = ms

    def quantile_ms(self, share: float) -> int:
        """The lower end of the bin that holds it."""
        if not self.number:
            return 0
        wanted, seen = math.ceil(share * self.number), 0
        for place, count in enumerate(self.counts):
            seen += count
            if seen >= wanted:
                return 0 if place == 0 else min(self.most_ms, round(_FIRST_MS * math.exp((place - 1) * _GROWTH)))
        return self.most_ms


@dataclass(slots=True)
class Step:
    """What was true over one step of time."""

    at_ms: int  # its end
    busy_milli_ms: Floats  # of each site, accelerators
    by_chip_milli_ms: Floats  # of each chip of the tally
    energy_mwh: float
    carbon_g: float
    power_cny: float
    open_orders: int
    fragmented: float  # share of the free cards that lie in pools with less than a node of eight free
    charged_microcny: int
    charged_milli_ms: int


class Tally:
    """Counts of one run."""

    def __init__(self, supply: Supply, site_of: list[int], start_ms: int) -> None:
        pools = len(supply.pools)
        self.start_ms = start_ms
        self.under_way_flop: dict[str, int] = {}  # done by then of what was running
        self.counts: defaultdict[str, int] = defaultdict(int)
        self.ends: defaultdict[EndReason, int] = defaultdict(int)  # of attempts
        self.waits = [Histogram() for _ in CLASSES]
        self.flop: defaultdict[str, int] = defaultdict(int)  # useful work by precision
        self.useful_milli_ms = 0
        self.lost_milli_ms = 0  # of attempts that were nobody's use
        self.charged_microcny = 0
        self.energy_mwh = 0  # as charged: busy time at full load
        self.carbon_mg = 0
        self.spent: defaultdict[int, int] = defaultdict(int)  # micro-CNY by customer
        self.steps: list[Step] = []
        self._level = [0] * pools
        self._came_to = [0] * pools
        self._since = [start_ms] * pools
        self._last_charged = (0, 0)
        self._charged_milli_ms = 0
        self.capacity = np.array([pool.capacity_milli for pool in supply.pools], dtype=np.int64)
        self._accelerator = np.array([pool.stack != "cpu" for pool in supply.pools], dtype=bool)
        self._watts = np.array([pool.watts_per_unit for pool in supply.pools], dtype=np.float64)
        self._site_of = np.array(site_of, dtype=np.int64)
        self.chips = tuple(sorted({pool.chip for pool in supply.pools}))
        self._chip_of = np.array([self.chips.index(pool.chip) for pool in supply.pools], dtype=np.int64)

    def level(self, pool: int, milli: int, now_ms: int) -> None:
        """`milli` more (or less) of a pool are busy from now on."""
        level = self._level[pool]
        self._came_to[pool] += level * (now_ms - self._since[pool])
        self._since[pool] = now_ms
        self._level[pool] = level + milli

    def afresh(self, supply: Supply, now_ms: int, under_way_flop: dict[str, int]) -> "Tally":
        """Counts from now on, of the same network as busy as it is."""
        found = Tally(supply, self._site_of.tolist(), now_ms)
        found._level = list(self._level)
        found.under_way_flop = under_way_flop
        return found

    def charged(self, customer: int, microcny: int, milli_ms: int) -> None:
        self.charged_microcny += microcny
        self.spent[customer] += microcny
        self._charged_milli_ms += milli_ms

    def step(self, supply: Supply, now_ms: int, open_orders: int) -> None:
        """One step of time ends."""
        level = np.array(self._level, dtype=np.int64)
        busy = np.array(self._came_to, dtype=np.int64) + level * (now_ms - np.array(self._since, dtype=np.int64))
        self._came_to = [0] * len(level)
        self._since = [now_ms] * len(level)
        sites = supply.sites
        pue = np.array([site.pue_milli for site in sites])[self._site_of] / 1000
        carbon = np.array([site.carbon_g_per_kwh for site in sites])[self._site_of]
        price = np.array([site.power_price_microcny_per_kwh for site in sites])[self._site_of] / 1e6
        kwh = busy / 1000 / MS_PER_HOUR * self._watts * pue / 1000
        cards = np.where(self._accelerator, busy, 0)
        free = np.where(self._accelerator, self.capacity - level, 0)
        idle = int(free.sum())
        before_charged, before_milli_ms = self._last_charged
        self.steps.append(
            Step(
                at_ms=now_ms,
                busy_milli_ms=np.bincount(self._site_of, cards, len(sites)).astype(np.float32),
                by_chip_milli_ms=np.bincount(self._chip_of, busy, len(self.chips)).astype(np.float64),
                energy_mwh=float(kwh.sum()) * 1e6,
                carbon_g=float((kwh * carbon).sum()),
                power_cny=float((kwh * price).sum()),
                open_orders=open_orders,
                fragmented=float(free[free < NODE_MILLI].sum() / idle) if idle else 0.0,
                charged_microcny=self.charged_microcny - before_charged,
                charged_milli_ms=self._charged_milli_ms - before_milli_ms,
            )
        )
        self._last_charged = (self.charged_microcny, self._charged_milli_ms)
