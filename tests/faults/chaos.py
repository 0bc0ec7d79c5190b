"""Bad luck on a seeded schedule: kills, stops and cuts until it is told to end."""

import asyncio
import math
import os
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.faults.network import FaultNetwork
from tests.faults.parts import Part
from tests.faults.plan import Every


class Chaos:
    def __init__(self, network: FaultNetwork, seed: int) -> None:
        self._network = network
        self._plan = network.plan
        self._dice = random.Random(f"{seed}/chaos")
        self.did: Counter[str] = Counter()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        plan = self._plan
        mishaps: list[tuple[Every, Callable[[], Awaitable[None]]]] = [
            (plan.kill_hub, self._kill_hub),
            (plan.kill_agent, self._kill_agent),
            (plan.kill_supervisor, self._kill_supervisor),
            (plan.cut_link, self._cut),
            (plan.stop_agent, self._stop_agent),
            (plan.stop_hub, self._stop_hub),
        ]
        if self._network.database is not None:
            mishaps.append((plan.kill_database, self._kill_database))
        for every, mishap in mishaps:
            if every.to_s:
                self._tasks.append(asyncio.create_task(self._again(every, mishap)))

    async def end(self) -> None:
        """No more of it; what is stopped goes on, what is cut heals."""
        for task in self._tasks:
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        for part in (*self._network.hubs, *(site.agent for site in self._network.sites)):
            part.send(signal.SIGCONT)
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _again(self, every: Every, mishap: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(self._dice.uniform(every.from_s, every.to_s))
            await mishap()

    def _short(self, longest_s: float) -> float:
        """Mostly short (even on a logarithmic scale), one in four nearly as long as can be."""
        if self._dice.random() < 0.25:
            return self._dice.uniform(0.6, 1.0) * longest_s
        return math.exp(self._dice.uniform(math.log(0.1), math.log(longest_s)))

    # --- kills ------------------------------------------------------------------------------------------------------

    async def _kill_hub(self) -> None:
        if self._dice.choice(self._network.hubs).kill():
            self.did["hub"] += 1

    async def _kill_agent(self) -> None:
        agent = self._dice.choice(self._network.sites).agent
        away_s = self._short(self._plan.away_max_s) if self._dice.random() < 0.3 else self._dice.uniform(0, 0.3)
        if agent.kill(away_s):
            self.did["agent"] += 1

    async def _kill_database(self) -> None:
        database = self._network.database
        assert database is not None
        self.did["database"] += 1
        await asyncio.to_thread(database.kill)
        await database.start()

    async def _kill_supervisor(self) -> None:
        """The process that watches one job: the site has to say that it is gone, and the job ends with it."""
        home = self._dice.choice(self._network.sites).home
        claims = sorted(home.glob("leases/*.*/claim"))
        alive = [path for path in claims if not (path.parent / "exit.json").exists()]
        if not alive:
            return
        try:
            pid = int(self._dice.choice(alive).read_text().split()[0])
            if b"supervisor" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
                self.did["supervisor"] += 1
        except (OSError, ValueError, IndexError):
            return  # it ended meanwhile

    # --- stops and cuts -----------------------------------------------------------------------------------------

    async def _cut(self) -> None:
        proxy = self._dice.choice(self._network.proxies)
        seconds = self._short(self._plan.cut_max_s)
        self._tasks.append(asyncio.create_task(proxy.cut(seconds)))

    async def _stop_agent(self) -> None:
        await self._stop(self._dice.choice(self._network.sites).agent, "agent stopped")

    async def _stop_hub(self) -> None:
        await self._stop(self._dice.choice(self._network.hubs), "hub stopped")

    async def _stop(self, part: Part, name: str) -> None:
        if not part.send(signal.SIGSTOP):
            return
        self.did[name] += 1
        await asyncio.sleep(self._short(self._plan.stop_max_s))
        part.send(signal.SIGCONT)
