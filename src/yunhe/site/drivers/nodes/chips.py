"""Names that an engine has for its devices, and the catalogue. Exact matches only: no guesses."""

import re
from collections.abc import Sequence

from yunhe.core.demand import Precision
from yunhe.facts.load import Chip, chips
from yunhe.facts.sites import card_watts, core_watts
from yunhe.site.settings import DriverSettings
from yunhe.wire.link import PoolReport, RateReport

UNIT = 1000  # milli of one core or card
MAX_NAME = 24
ALWAYS = (Precision.FP64, Precision.FP32)  # named even where they are not known


def plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def pool_name(text: str) -> str:
    return plain(text)[:MAX_NAME].strip("-") or "pool"


def stated_chip(words: Sequence[str], card: bool) -> Chip | None:
    """The catalogue's chip that one of the words names exactly, by id or by name."""
    for word in map(plain, words):
        for chip in chips():
            if (chip.kind != "cpu") == card and word in (chip.id, plain(f"{chip.vendor} {chip.name}")):
                return chip
    return None


def mapped(name: str, stated: Sequence[str]) -> str:
    """What the site has stated for an engine's name, as "NAME=CHIP"; empty without."""
    return next((text.partition("=")[2] for text in stated if text.partition("=")[0] == name), "")


def report(
    name: str, chip: Chip | None, units: Sequence[int], memory_bytes: int, driver: DriverSettings, card: str = ""
) -> PoolReport:
    """A pool. `units`: milli-units of each node; `card`: the engine's name of the card, empty for cores."""
    watts, source = _watts(chip, bool(card), driver)
    return PoolReport(
        name=name,
        kind_of_unit="card" if card else "core",
        chip=chip.id if chip else "unknown",
        chip_name=(f"{chip.vendor} {chip.name}" if chip else card or "not named by the engine")[:120],
        stack=chip.stack if chip else "unknown" if card else "cpu",
        capacity_milli=sum(units),
        memory_bytes=memory_bytes,
        card_memory_bytes=(chip.memory_bytes or 0) if chip and card else 0,
        max_slot_milli=max(units),
        watts_per_unit=watts,
        watts_source=source[:200],
        rates=_rates(chip, 1 if card else (chip.cores if chip else None)),
    )


def _watts(chip: Chip | None, card: bool, driver: DriverSettings) -> tuple[int, str]:
    """IT power of one core or card at full load, and where the figure comes from."""
    if not card and driver.watts_per_core is not None:
        return driver.watts_per_core, "stated by the site"
    if card:
        return card_watts(chip.id if chip else "unknown")
    if chip and chip.cores and chip.watts:
        text = f"{chip.name}: {chip.watts} W / {chip.cores} cores, doubled for the rest of the server ({chip.source})"
        return -(-2 * chip.watts // chip.cores), text
    return core_watts()


def _rates(chip: Chip | None, units: int | None) -> tuple[RateReport, ...]:
    """Nominal, of one core or card: the catalogue's figure of the whole chip, divided by its `units`."""
    known = {rate: flops // units for rate, flops in chip.flops} if chip and units else {}
    return tuple(
        RateReport(precision=precision, nominal_flops=known.get(precision))
        for precision in Precision
        if precision in known or precision in ALWAYS
    )
