"""One shape at some pools: what the constraints are evaluated on."""

from collections.abc import Callable, Hashable
from functools import cached_property

from yunhe.core.demand import LatencyBound, Shape
from yunhe.core.lines import in_kind
from yunhe.core.placement.board import UNKNOWN_US, Board
from yunhe.core.placement.columns import Array, Bools, Ints
from yunhe.core.placement.cost import Costs, costs
from yunhe.core.placement.sizing import Sizes, by_compute, sizes


class Look:
    """`pools` are positions; every array here has one element for each of them."""

    def __init__(self, board: Board, shape: Shape, now_ms: int, pools: Ints | None = None) -> None:
        """`pools` None: all of them."""
        self.board = board
        self.shape = shape
        self.need = shape.requirement
        self.now_ms = now_ms
        self.everywhere = pools is None
        self.pools = board.all if pools is None else pools
        self.by_compute = by_compute(shape.requirement)

    def take(self, at: Ints) -> "Look":
        """The same shape at some of these pools; what was computed is taken along."""
        some = Look(self.board, self.shape, self.now_ms, self.pools[at])
        if "sizes" in self.__dict__:
            some.__dict__["sizes"] = Sizes._make(column[at] for column in self.sizes)
        if "costs" in self.__dict__:
            some.__dict__["costs"] = Costs._make(column[at] for column in self.costs)
        return some

    def forget(self) -> None:
        """Sizes and costs, most of what a look keeps, are computed anew when somebody asks again."""
        for name in ("sizes", "costs", "accelerator", "short", "sized"):
            self.__dict__.pop(name, None)

    @cached_property
    def sizes(self) -> Sizes:
        return sizes(self.shape, self.board, self.pools, self.now_ms)

    @cached_property
    def costs(self) -> Costs:
        return costs(self.shape, self.board, self.pools, self.sizes, self.now_ms)

    def of(self, column: Array) -> Array:
        """A column of all pools, here."""
        return column if self.everywhere else column[self.pools]

    def mask(self, key: Hashable, make: Callable[[], Bools]) -> Bools:
        """Flags of all pools that other shapes share, here."""
        return self.of(self.board.mask(key, make))

    @cached_property
    def accelerator(self) -> Bools:
        return self.of(self.board.columns.accelerator)

    @cached_property
    def short(self) -> Bools:
        """The task takes more units than the whole pool has."""
        return self.sizes.milli > self.of(self.board.columns.capacity)

    @cached_property
    def sized(self) -> Bools:
        """Where the task's units are known and of the pool's kind, so that sizes may be compared."""
        right = self.sizes.known & ~self.accelerator if self.wants_cores else self.sizes.known
        if self.need.cards is not None:
            right = right & self.accelerator
        return right & ~self.short if self.by_compute else right

    @property
    def wants_cores(self) -> bool:
        """Cores are asked for, or nothing at all."""
        need = self.need
        return need.cores_milli is not None or (need.cards is None and need.chip is None and not self.by_compute)

    @property
    def remaining_ms(self) -> int:
        """Time that a task has if it starts now: its run limit, and no longer than until the deadline."""
        terms = self.shape.terms
        if terms.deadline_ms is None:
            return terms.run_limit_ms
        return min(terms.run_limit_ms, terms.deadline_ms - self.now_ms)

    def latency_us(self, bound: LatencyBound, pool: int) -> int | None:
        """What `bound` is compared with at position `pool` of the board, in its own kind."""
        one_way = int(self.board.one_way_us(bound.place)[pool])
        return None if one_way == UNKNOWN_US else in_kind(one_way, bound.kind)
