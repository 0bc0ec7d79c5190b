"""hub_rss_1000_agents: resident memory of a hub that holds the long polls of 1,000 agents.

The agents are in one process with 1,000 connections; each has a key of its own, signs its polls, and has shown a
certificate.  Counted are all processes of the hub: its own and the round's worker (pages that they share are
counted twice, so the true figure is a little lower).
"""

import time
from concurrent.futures import ThreadPoolExecutor

import httpx

from benchmarks import hubs
from benchmarks.fake_agents import Agent
from benchmarks.figure import Figure
from benchmarks.generator import Generator
from benchmarks.hubs import HubProcess
from benchmarks.scene import Scene

AGENTS, QUICK_AGENTS = 1_000, 200
REST_S, QUICK_REST_S = 10.0, 3.0
CONNECT_S = 120.0
CALLERS = 8


def measure(scene: Scene) -> Figure:
    folder = scene.subfolder("hub-rss")
    agents = QUICK_AGENTS if scene.quick else AGENTS
    with hubs.postgresql(scene.postgresql()) as url, hubs.hub(url, folder) as running:
        empty = sum(running.memory_mib())
        running.organisation("centre")
        with ThreadPoolExecutor(CALLERS) as callers:
            sites = list(callers.map(lambda n: running.enrol(f"site-{n:04d}", 64, number=n), range(agents)))
        scene.say(f"{agents} sites are enrolled")
        job = {
            "host": running.host,
            "port": running.port,
            "seconds": CONNECT_S + scene.seconds(REST_S, QUICK_REST_S),
            "agents": [Agent.to_job(site, certificate=True) for site in sites],
        }
        with Generator("hold", job) as load:
            scene.say(load.line())
            _until_held(running, agents)
            time.sleep(scene.seconds(REST_S, QUICK_REST_S))
            held = _held(running)
            main, helpers = running.memory_mib()
        scene.say(f"{held} polls are held: {main:.0f} MiB and {helpers:.0f} MiB in helpers")
        note = "" if agents == AGENTS else f"with {agents} agents only"
        return Figure(
            main + helpers,
            note=note,
            extra={"main_mib": round(main, 1), "helpers_mib": round(helpers, 1), "without_agents_mib": round(empty, 1)},
        )


def _held(running: HubProcess) -> int:
    """From the hub's own metrics."""
    for line in httpx.get(f"{running.url}/metrics", timeout=10).text.splitlines():
        if line.startswith("yunhe_held_polls "):
            return int(float(line.split()[1]))
    raise RuntimeError("the hub does not say how many polls it holds")


def _until_held(running: HubProcess, agents: int) -> None:
    until = time.monotonic() + CONNECT_S
    while _held(running) < agents:
        if time.monotonic() > until:
            raise RuntimeError(f"only {_held(running)} of {agents} polls are held")
        time.sleep(0.2)
