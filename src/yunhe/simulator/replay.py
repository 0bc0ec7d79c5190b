"""Rounds that a live hub recorded, decided again by the simulator's own way to a decision."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from yunhe.core.errors import InvalidInput
from yunhe.core.round import Plan
from yunhe.simulator.placing import decided
from yunhe.wire.rounds import from_line, to_line


@dataclass(frozen=True, slots=True)
class Replayed:
    """One round. `recorded` and `made` are its lines; equal bytes are equal decisions."""

    number: int
    recorded: bytes
    made: bytes
    orders: int
    plan: Plan

    @property
    def same(self) -> bool:
        return self.recorded == self.made


def replay(lines: Iterable[bytes]) -> Iterator[Replayed]:
    """Raises InvalidInput with the number of a line that is no round."""
    for number, line in enumerate(lines, 1):
        try:
            given = from_line(line)
        except InvalidInput as error:
            raise InvalidInput(f"{error.message} (line {number})", field=error.field) from error
        plan = decided(given.snapshot, given.policy, given.now_ms, given.seed)
        made = to_line(given._replace(plan=plan))
        yield Replayed(number, line, made, len(given.snapshot.queue.ids), plan)
