"""One run of a scenario, in parts that can be stopped between, written down, and gone on with.

run = Run.fresh(scenario, folder)   or   Run.resumed(state, ...)
while run.go_on(events): ...        progress, checkpoints and Ctrl-C are the caller's
run.result()
"""

import gc
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from yunhe.core.errors import InvalidInput
from yunhe.simulator.build import Network, build
from yunhe.simulator.events import State, Timeline
from yunhe.simulator.islands import islands, whole
from yunhe.simulator.order import ARRIVE
from yunhe.simulator.placer import Placer
from yunhe.simulator.placing import AtOnce, Rounds
from yunhe.simulator.result import Document, document
from yunhe.simulator.scenario import Scenario
from yunhe.simulator.work import Stream
from yunhe.simulator.world import Islands, World

STATE_FORMAT = 2
EVENTS_PER_COLLECTION = 1_000_000
# What a pickle that was cut off, is of an older program, or is none, raises.
_BROKEN = (pickle.UnpicklingError, EOFError, AttributeError, ImportError, LookupError, TypeError, ValueError)


@dataclass(frozen=True, slots=True)
class Saved:
    """All of a run that is under way."""

    format: int
    scenario_sha256: str
    seed: int
    world: World
    timeline: State


class Run:
    def __init__(self, scenario: Scenario, world: World, streams: list[Stream]) -> None:
        self.scenario = scenario
        self.world = world
        self._streams = streams
        self.end_ms = scenario.start + scenario.length

    @classmethod
    def fresh(cls, scenario: Scenario, folder: Path) -> Self:
        """`folder`: where the paths of traces begin. Raises InvalidInput for a scenario that cannot be built."""
        network = build(scenario)
        streams = [Stream(scenario, network, i, folder) for i in range(len(scenario.workloads))]
        placers, island_of = make_placers(scenario, network)
        world = World(scenario, network, placers, island_of)
        world.begin()
        for stream in streams:
            world.timeline.feed(ARRIVE, stream)
        return cls(scenario, world, streams)

    @classmethod
    def resumed(cls, scenario: Scenario, folder: Path, state: bytes) -> Self:
        """Go on from `saved`. Raises InvalidInput where the state is of another scenario or seed.

        The state is a pickle, which can do anything when it is read: only states that one wrote oneself are to be.
        """
        try:
            saved = pickle.loads(state)
        except _BROKEN as error:
            raise InvalidInput("is broken", field="state", hint="start afresh") from error
        if not isinstance(saved, Saved) or saved.format != STATE_FORMAT:
            raise InvalidInput("is no state of this version", field="state", hint="start afresh")
        if saved.scenario_sha256 != scenario.digest() or saved.seed != scenario.seed:
            raise InvalidInput("is the state of another scenario or seed", field="state", hint="start afresh")
        world = saved.world
        streams = [Stream(scenario, world.network, i, folder) for i in range(len(scenario.workloads))]
        world.resume(saved.timeline, [(ARRIVE, stream) for stream in streams])
        return cls(scenario, world, streams)

    def go_on(self, events: int) -> bool:
        """Handle so many events at most; False: the run is over."""
        with _collecting_the_young(self.world.timeline):
            more = self.world.timeline.run(until_ms=self.end_ms, at_most=events)
        if more:
            return True
        self.world.finish(self.end_ms)
        return False

    def saved(self) -> bytes:
        timeline = self.world.timeline.state()
        saved = Saved(STATE_FORMAT, self.scenario.digest(), self.scenario.seed, self.world, timeline)
        return pickle.dumps(saved, pickle.HIGHEST_PROTOCOL)

    @property
    def share_done(self) -> float:
        """By the time that has passed, 0 to 1."""
        return min(1.0, (self.world.timeline.now_ms - self.scenario.start) / self.scenario.length)

    def result(self) -> Document:
        return document(self.world)


@contextmanager
def _collecting_the_young(timeline: Timeline) -> Iterator[None]:
    """Python's collector looks at all that lives again and again, a sixth of a run's time, and what a run drops is
    freed without it.  So it looks at what is new, at the end, and at everything once in a million events."""
    was, before = gc.isenabled(), timeline.events // EVENTS_PER_COLLECTION
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
            gc.collect(1 if timeline.events // EVENTS_PER_COLLECTION == before else 2)


def make_placers(scenario: Scenario, network: Network) -> tuple[list[Placer], Islands]:
    """One that decides for the whole network, or one for each centre that is somebody's home."""
    parts, island_of = [whole(network.supply)], None
    if scenario.network == "off":
        homes = sorted({customer.home for customer in network.customers if customer.home is not None})
        parts = islands(network.supply, homes)
        island_of = {home: i for i, home in enumerate(homes)}
    engine = AtOnce if scenario.engine == "online" else Rounds
    placers: list[Placer] = [
        engine(part, network.customers, network.policy, scenario.seed, scenario.round_orders) for part in parts
    ]
    return placers, island_of
