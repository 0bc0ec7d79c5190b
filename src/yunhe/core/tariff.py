"""What compute costs: price splits in integer micro-CNY. Pure; every part is rounded up by itself."""

from dataclasses import dataclass

from yunhe.core.rounding import ceil_div

_MILLI_MS_PER_UNIT_HOUR = 1_000 * 3_600_000
_MWH_PER_KWH = 1_000_000
_BYTES_PER_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Price:
    """A price split, micro-CNY."""

    compute: int
    energy: int
    transfer: int
    line: int

    @property
    def total(self) -> int:
        return self.compute + self.energy + self.transfer + self.line


def price(
    *,
    price_microcny_per_unit_hour: int,
    milli: int,
    wall_ms: int,
    energy_mwh: int,
    power_price_microcny_per_kwh: int,
    data_bytes: int,
    transfer_microcny_per_gib: int,
) -> Price:
    """The price of `milli` thousandths of a unit for `wall_ms`, with `energy_mwh` milliwatt-hours at the meter.

    Each part is rounded up to a whole micro-CNY.  `line` is 0: no circuit is booked with a task yet.
    """
    return Price(
        compute=ceil_div(price_microcny_per_unit_hour * milli * wall_ms, _MILLI_MS_PER_UNIT_HOUR),
        energy=ceil_div(energy_mwh * power_price_microcny_per_kwh, _MWH_PER_KWH),
        transfer=ceil_div(data_bytes * transfer_microcny_per_gib, _BYTES_PER_GIB),
        line=0,
    )
