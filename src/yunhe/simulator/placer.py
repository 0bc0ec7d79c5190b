"""What a simulated network asks of whoever decides for it."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from yunhe.core.demand import Shape
from yunhe.core.supply import Site
from yunhe.simulator.in_line import Waiting


class Placement(NamedTuple):
    number: int  # of the order
    pool: int  # position in the network's pools
    milli: int
    memory_bytes: int


class Placer(Protocol):
    """Decides for one network (the whole, or one island)."""

    def hold(self, shape: Shape, now_ms: int) -> int | None:
        """The most that an order can cost, micro-CNY; None: no place takes it."""
        ...

    def add(self, order: Waiting, now_ms: int) -> Sequence[Placement]:
        """A new order, or one whose delay has passed; what could be placed at once."""
        ...

    def release(self, pool: int, milli: int, memory_bytes: int, customer: int) -> None:
        """Units are free again."""
        ...

    def decide(self, now_ms: int) -> Sequence[Placement]:
        """Whatever of the open orders can be placed now."""
        ...

    def change_sites(self, sites: Sequence[Site]) -> None:
        """Prices, carbon or states of sites are others now; all sites of the network are given."""
        ...

    @property
    def open(self) -> int:
        """Orders that wait."""
        ...

    @property
    def wake_ms(self) -> int | None:
        """When an order that waits for a better hour is asked again."""
        ...

    rounds: int  # decisions that looked at the queue
