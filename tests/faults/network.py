"""A whole network as processes of their own: hubs, three sites behind bad links, and what watches them."""

import asyncio
import os
import random
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from tests.faults import plan as limits
from tests.faults.parts import Part
from tests.faults.plan import FaultPlan
from tests.faults.postgresql import Cluster
from tests.faults.proxy import Odds, Proxy
from tests.faults.witness import Witness
from yunhe.apps import crash_points
from yunhe.apps.site import JoinRequest, join, load_settings
from yunhe.core.policy import Policy
from yunhe.hub.platform.settings import HubSettings
from yunhe.sdk.client import Client
from yunhe.site.settings import DriverSettings
from yunhe.wire.api import OrganisationRequest

SITES = (("north", "zhangjiakou"), ("east", "yrd_demo"), ("south", "guian"))
CUSTOMER = "lab"
DEPOSIT_CNY = 1_000
START_S = 30.0
CERTIFY_S = 90.0
MEMORY = 2 << 30


@dataclass
class SiteParts:
    name: str
    site_id: str
    home: Path
    proxy: Proxy
    agent: Part


@dataclass
class FaultNetwork:
    """Started by `start`, chaos from then on is somebody else's; `stop` ends everything that lives."""

    plan: FaultPlan
    witness: Witness
    dice: random.Random
    database: Cluster | None = None
    hubs: list[Part] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)
    sites: list[SiteParts] = field(default_factory=list)
    customers: Proxy | None = None
    customer_key: str = ""
    operator_key: str = ""
    database_url: str = ""

    # --- start --------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        folder = self.plan.folder
        if self.plan.postgresql:
            self.database = Cluster(folder / "postgresql")
            await self.database.start()
            self.database_url = self.database.url
        else:
            self.database_url = f"sqlite:///{folder}/hub/hub.db"
        for number in range(self.plan.replicas):
            await self._start_hub(number)
        self.customers = await self._proxy("customers")
        self.operator_key = (folder / "hub" / "operator.key").read_text().strip()
        with Client(self.hub_url, self.operator_key) as operator:
            self._make_accounts(operator)
            for name, cluster in SITES:
                await self._start_site(operator, name, cluster)
            await self._wait_active(operator)

    @property
    def hub_url(self) -> str:
        return f"http://127.0.0.1:{self.ports[0]}"

    def operator(self) -> Client:
        return Client(self.hub_url, self.operator_key)

    async def _start_hub(self, number: int) -> None:
        home = self.plan.folder / "hub"
        home.mkdir(exist_ok=True, mode=0o700)
        port = free_port()
        settings = HubSettings(
            database_url=self.database_url,
            data_dir=home,
            port=port,
            poll_hold_ms=limits.POLL_HOLD_MS,
            disconnect_limit_ms=limits.DISCONNECT_LIMIT_MS,
            disconnect_grace_ms=limits.DISCONNECT_GRACE_MS,
            silent_after_ms=limits.SILENT_AFTER_MS,
            overdue_grace_ms=limits.OVERDUE_GRACE_MS,
            leader_ttl_ms=limits.LEADER_TTL_MS,
            certify_prove_ms=0,  # the machine has other things to do
            policy=Policy(),
        )
        file = self.plan.folder / f"hub-{number}.json"
        file.write_text(settings.model_dump_json())
        hub = Part(f"hub {number}", "yunhe.apps.hub:main", [str(file)], self.plan.folder / f"hub-{number}.log", {})
        self.hubs.append(hub)
        self.ports.append(port)
        hub.start()
        await _until(lambda: answers(port), START_S, f"{hub.name} does not answer; see {hub.log}")

    async def _proxy(self, name: str) -> Proxy:
        proxy = Proxy(name, random.Random(f"{self.plan.seed}/{name}"), Odds(), lambda: self.ports)
        proxy.calm = True
        await proxy.start()
        return proxy

    def _make_accounts(self, operator: Client) -> None:
        for name in (CUSTOMER, *(name for name, _ in SITES)):
            operator.create_organisation(OrganisationRequest(id=name, name=name))
        operator.deposit(CUSTOMER, f"{DEPOSIT_CNY}CNY", "deposit")
        self.customer_key = operator.create_key(CUSTOMER, "tester", "customer").key

    async def _start_site(self, operator: Client, name: str, cluster: str) -> None:
        home = self.plan.folder / f"site-{name}"
        request = JoinRequest(
            hub_url=self.hub_url,
            token=operator.enrolment_token(name).token,
            name=name,
            data_dir=home,
            cluster=cluster,
            driver=DriverSettings(
                # Each site says that it has the whole machine: many jobs run at once, and hardly load it.
                cores_milli=1000 * min(4, len(os.sched_getaffinity(0))),
                memory_bytes=min(MEMORY, psutil.virtual_memory().total // 2),
                expose=(self.witness.folder,),
                usage_write_ms=300,
                claim_wait_ms=1_500,
                term_grace_ms=500,
            ),
            extra={
                "request_timeout_ms": 1_500,
                "backoff_first_ms": 50,
                "backoff_cap_ms": 1_000,
                "sweep_ms": 500,
                "usage_interval_ms": 400,
                "snapshot_interval_ms": 3_000,
                "log_interval_ms": 200,
                "flush_limit_ms": 4_000,
            },
        )
        joined = await asyncio.to_thread(join, request)
        operator.approve(joined.site_id)
        proxy = await self._proxy(name)
        arguments = ["--data-dir", str(home), "--hub-url", proxy.url]
        agent = Part(f"agent {name}", "yunhe.apps.site:main", arguments, self.plan.folder / f"site-{name}.log", {})
        agent.start()
        self.sites.append(SiteParts(name, load_settings(home).site_id, home, proxy, agent))

    async def _wait_active(self, operator: Client) -> None:
        def active() -> bool:
            views = operator.sites()
            return len(views) == len(SITES) and all(view.state == "active" and view.connected for view in views)

        await _until(active, CERTIFY_S, "not all sites were certified in time")

    # --- calm and stop --------------------------------------------------------------------------------------------

    def arm(self) -> None:
        """From their next start on, processes die at their crash points."""
        for hub in self.hubs:
            hub.set_env(crash_points.VARIABLE, f"*={self.plan.hub_crash}")
        for site in self.sites:
            site.agent.set_env(crash_points.VARIABLE, f"*={self.plan.site_crash}")
            site.proxy.calm = False
        if self.customers is not None:
            self.customers.calm = False

    def disarm(self) -> None:
        """No more bad luck; what is armed still has to be started again, which the caller does."""
        for part in self.parts:
            part.set_env(crash_points.VARIABLE, "")
        for proxy in self.proxies:
            proxy.calm = True

    @property
    def parts(self) -> list[Part]:
        return [*self.hubs, *(site.agent for site in self.sites)]

    @property
    def proxies(self) -> list[Proxy]:
        return [*(site.proxy for site in self.sites), *([self.customers] if self.customers else [])]

    async def stop(self) -> None:
        """Agents first; the hubs and the database last."""
        await asyncio.gather(*(site.agent.stop() for site in self.sites))
        await asyncio.gather(*(hub.stop() for hub in self.hubs))
        for proxy in self.proxies:
            await proxy.stop()

    async def stop_database(self) -> None:
        if self.database is not None:
            await self.database.stop()


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=2).is_success
    except httpx.HTTPError:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _until(true: Callable[[], bool], seconds: float, otherwise: str) -> None:
    until = time.monotonic() + seconds
    while not await asyncio.to_thread(true):
        if time.monotonic() > until:
            raise TimeoutError(otherwise)
        await asyncio.sleep(0.1)
