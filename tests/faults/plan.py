"""What one fault run does: everything that can be chosen, and what came of it."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

# Short limits, so that minutes of bad luck fit into seconds. The order of the limits is that of real ones:
# poll hold < silent < disconnect limit < lost (limit + grace).
POLL_HOLD_MS = 1_200
SILENT_AFTER_MS = 2_000
DISCONNECT_LIMIT_MS = 4_000
DISCONNECT_GRACE_MS = 2_000
OVERDUE_GRACE_MS = 4_000
LEADER_TTL_MS = 3_000


@dataclass(frozen=True, slots=True)
class Every:
    """A mishap comes again after a time drawn between the two, in seconds; 0: never."""

    from_s: float
    to_s: float


@dataclass(frozen=True, slots=True)
class FaultPlan:
    seed: int
    orders: int
    folder: Path
    postgresql: bool = False
    orders_per_s: float = 6.0
    cut_max_s: float = 10.0
    stop_max_s: float = 9.0
    away_max_s: float = 10.0  # how long an agent stays away after a kill, now and then
    calm_s: float = 150.0  # after the last mishap everything has to end in this time
    hub_crash: float = 0.002  # probability at each crash point of a hub
    site_crash: float = 0.001
    kill_hub: Every = Every(5, 14)
    kill_agent: Every = Every(2, 5)
    kill_database: Every = Every(8, 16)
    kill_supervisor: Every = Every(4, 9)
    cut_link: Every = Every(2, 6)
    stop_hub: Every = Every(8, 20)
    stop_agent: Every = Every(8, 16)

    @property
    def replicas(self) -> int:
        return 2 if self.postgresql else 1


@dataclass
class Summary:
    """Printed at the end, whatever came of it."""

    seed: int
    database: str
    orders: int = 0
    tasks: int = 0
    states: Counter[str] = field(default_factory=Counter)
    kills: Counter[str] = field(default_factory=Counter)
    mishaps: Counter[str] = field(default_factory=Counter)
    attempts: int = 0
    repeated: int = 0  # attempts after the first
    ends: Counter[str] = field(default_factory=Counter)  # attempts by the reason of their end
    runs_seen: int = 0
    charged_ms: int = 0
    disputed_ms: int = 0
    postings: int = 0
    seconds: float = 0.0
    violations: list[str] = field(default_factory=list)

    def text(self) -> str:
        def counts(counter: Counter[str]) -> str:
            return ", ".join(f"{name} {n}" for name, n in sorted(counter.items())) or "none"

        lines = [
            f"seed {self.seed} on {self.database}: {self.orders} orders, {self.tasks} tasks, {self.seconds:.0f} s",
            f"  orders ended   {counts(self.states)}",
            f"  killed         {counts(self.kills)}",
            f"  links          {counts(self.mishaps)}",
            f"  attempts       {self.attempts}, {self.repeated} of them repeats; ended: {counts(self.ends)}",
            f"  runs witnessed {self.runs_seen}",
            f"  run time       {self.charged_ms} ms charged, {self.disputed_ms} ms disputed",
            f"  postings       {self.postings}",
            f"  violations     {len(self.violations)}",
        ]
        return "\n".join([*lines, *(f"    {text}" for text in self.violations)])
