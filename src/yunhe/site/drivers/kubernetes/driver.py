"""Jobs of a Kubernetes cluster, behind the contract that all drivers keep."""

import asyncio
import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter

from yunhe.core.errors import Unavailable
from yunhe.core.lifecycle import EndReason
from yunhe.site.crash import CrashPoint, no_crash
from yunhe.site.drivers.contract import Isolation, Job, LeaseKey, Output, SpawnFailed, Status
from yunhe.site.drivers.kubernetes.client import Refusal
from yunhe.site.drivers.kubernetes.held import Held
from yunhe.site.drivers.kubernetes.keeper import Keeper
from yunhe.site.drivers.kubernetes.manifest import Planner, grace_of, job_name, site_tag, size_of
from yunhe.site.drivers.kubernetes.record import Intent, Record
from yunhe.site.drivers.kubernetes.supply import KubePool, check_settings, held_by_others, pools
from yunhe.site.drivers.kubernetes.tenant import namespace_of
from yunhe.site.drivers.lease_dir import replace_text
from yunhe.site.settings import DriverSettings, KubernetesSettings
from yunhe.site.supervisor.records import boottime_ms, read_text
from yunhe.wire.link import PoolDigest, PoolReport

log = logging.getLogger(__name__)
SYNC_WAIT_S = 5.0
REPORTS = TypeAdapter(tuple[PoolReport, ...])


class KubernetesDriver:
    """`data_dir` holds `contact` (written by the agent) and `leases/`; no job sees any of it.

    With a folder that agent and nodes share it is a `SharedKubernetesDriver`."""

    def __init__(
        self,
        driver: DriverSettings,
        kubernetes: KubernetesSettings,
        site_id: str,
        data_dir: Path,
        crash_point: CrashPoint = no_crash,
    ) -> None:
        self._driver, self._kubernetes = driver, kubernetes
        self.delivers_secrets = kubernetes.deliver_secrets
        self._crash_point = crash_point
        self._data_dir = data_dir.absolute()
        self._leases = self._data_dir / "leases"
        self._tag = site_tag(site_id)
        self._keeper = Keeper(
            kubernetes, self._tag, self._leases, driver.term_grace_ms, self._silent_ms, self._on_begin
        )
        self._engine = self._keeper.engine
        self._pools: tuple[KubePool, ...] = ()  # as the hub was told

    # --- open and close -------------------------------------------------------------------------------------------

    async def open(self) -> Isolation:
        """The server need not answer yet. Raises InvalidInput for settings or credentials that cannot be used."""
        check_settings(self._kubernetes)
        await asyncio.to_thread(self._keeper.restore)
        self._engine.open()
        self._engine.background.start(self._keeper.tend())
        self._engine.background.start(self._engine.measure())
        try:
            if await self._engine.synced(SYNC_WAIT_S):
                await self._engine.learn()
            else:
                log.warning("Kubernetes has not answered yet: nothing is known of its jobs")
        except (Unavailable, Refusal) as error:
            log.warning("Kubernetes does not say what it can do: %s", error)
        enforced = self._kubernetes.network_enforced
        network = "enforced (stated by the site)" if enforced else "where the cluster enforces them"
        version = self._engine.version or "(not heard yet)"
        text = f"Kubernetes {version}: container limits, no root, a namespace per tenant; network policies {network}"
        return Isolation(2 if enforced else 1, text[:200])

    async def close(self) -> None:
        """Jobs go on, up to their deadlines."""
        await self._engine.close()

    def _silent_ms(self, contact_ms: int) -> int:
        """For how long the hub may not have heard of a lease that came at `contact_ms`."""
        text = (read_text(str(self._data_dir / "contact")) or "").strip()
        return boottime_ms() - max(contact_ms, int(text) if text.isdigit() else 0)

    def _on_begin(self, held: Held) -> None:
        held.record.mark("started")

    # --- supply -----------------------------------------------------------------------------------------------------

    async def discover(self) -> tuple[PoolReport, ...]:
        """Nodes that take pods. Raises Unavailable before the server has ever answered, InvalidInput for settings."""
        check_settings(self._kubernetes)
        alone = not self._engine.opened  # `yunhe site join` looks before there is a site
        if alone:
            self._engine.open()
        try:
            if await self._engine.synced(SYNC_WAIT_S):
                await self._engine.learn()
                self._pools = pools(self._engine.nodes.items.values(), self._kubernetes, self._driver)
                reports = tuple(pool.report for pool in self._pools)
                if not alone:
                    await asyncio.to_thread(self._keep, reports)
                return reports
        except Refusal as refusal:
            raise Unavailable(f"Kubernetes refuses: {refusal.message}") from refusal
        finally:
            if alone:
                await self._engine.close()
        return await asyncio.to_thread(self._kept)

    def _keep(self, reports: tuple[PoolReport, ...]) -> None:
        replace_text(self._data_dir / "kubernetes-pools.json", json.dumps(REPORTS.dump_python(reports, mode="json")))

    def _kept(self) -> tuple[PoolReport, ...]:
        """Jobs need an agent that speaks for them, also while the cluster is away."""
        try:
            reports = REPORTS.validate_json((self._data_dir / "kubernetes-pools.json").read_bytes())
        except FileNotFoundError:
            why = self._engine.trouble_text or "no answer"
            raise Unavailable(f"Kubernetes: {why}", hint="try `kubectl get nodes` with the same kubeconfig") from None
        log.warning("the nodes of the last time are taken: Kubernetes does not answer")
        return reports

    async def foreign(self) -> tuple[PoolDigest, ...]:
        """Raises Unavailable while nothing is known."""
        if not self._engine.fresh(time.monotonic()):
            raise Unavailable("the watch of pods is broken")
        there = pools(self._engine.nodes.items.values(), self._kubernetes, self._driver)
        return held_by_others(self._pools or there, there, self._engine.claims)

    async def certify(self) -> tuple[PoolReport, ...]:
        """Nominal rates: which image could measure is not for the driver to guess."""
        return await self.discover()

    # --- jobs -------------------------------------------------------------------------------------------------------

    async def submit(self, job: Job) -> None:
        """One try; what gets no clear answer is made again by the same name, later."""
        if job.key in self._keeper.held:
            return
        if not self._pools or not self._engine.version:
            await self.discover()
        pool = next((one for one in self._pools if one.report.name == job.lease.pool), None)
        if pool is None:
            raise SpawnFailed(f"this site has no pool {job.lease.pool!r}")
        held = await self._prepared(job, pool)
        self._crash_point("driver.prepared")
        refusal = await self._keeper.place(held, self._pools)
        self._crash_point("driver.launched")
        if refusal:
            await self._keeper.drop(held)
            raise SpawnFailed(f"Kubernetes refuses it: {refusal}")

    async def _prepared(self, job: Job, pool: KubePool) -> Held:
        """Raises SpawnFailed. From here on an agent that is killed finds the lease again."""
        lease, engine = job.lease, self._engine
        planner = Planner(self._driver, self._kubernetes, self._tag, engine.client.minor, engine.kueue)
        namespace = namespace_of(self._kubernetes.namespace_prefix, lease.tenant)
        grace_ms = grace_of(job, self._driver)
        left_ms = lease.disconnect_limit_ms - self._silent_ms(job.contact_ms) - grace_ms
        objects = planner.plan(job, pool, namespace, max(1, left_ms // 1000))
        shared = self._kubernetes.shared_dir
        intent = Intent(
            namespace=namespace,
            name=job_name(self._tag, job.key),
            slots=lease.slots,
            cpu_milli=size_of(job, pool).cpu_milli,
            run_limit_ms=lease.run_limit_ms,
            disconnect_limit_ms=lease.disconnect_limit_ms,
            contact_ms=job.contact_ms,
            log_cap_bytes=lease.log_cap_bytes,
            grace_ms=grace_ms,
            secret=bool(job.files) and shared is None,
            secrets=bool(job.secrets),
        )
        record = Record(self._leases, job.key)
        try:
            await asyncio.to_thread(record.prepare, intent)
            await asyncio.to_thread(self._fill, job)
        except OSError as error:
            raise SpawnFailed(f"the job's folder cannot be made: {error}") from error
        return self._keeper.hold(Held(job.key, intent, record, objects, tenant=lease.tenant))

    async def observe(self, keys: Sequence[LeaseKey]) -> dict[LeaseKey, Status]:
        return await self._keeper.look(keys)

    async def changed(self, timeout_ms: int) -> frozenset[LeaseKey]:
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                await self._keeper.bell.wait()
        except TimeoutError:
            return frozenset()
        self._keeper.bell.clear()
        news, self._keeper.news = frozenset(self._keeper.news), set()
        return news

    async def cancel(self, key: LeaseKey, reason: EndReason) -> None:
        """The pods get SIGTERM, and SIGKILL after the grace; a server that is away is told when it is back."""
        held = self._keeper.held.get(key)
        if held is None:
            return
        try:
            await self._keeper.stop(held, reason)
        except (Unavailable, Refusal) as error:
            log.warning("%s: %s", key, error)

    async def logs(self, key: LeaseKey, offset: int, limit: int) -> bytes:
        """Raises Unavailable when the rest of an ended lease's log cannot be had now."""
        held = self._keeper.held.get(key)
        if held is None:
            return b""
        try:
            await self._keeper.take_log(held, at_once=held.end is not None)
        except Unavailable:
            if held.end is not None:
                raise
        return await asyncio.to_thread(held.record.read_log, offset, limit)

    # --- what a job leaves needs a folder that pods and agent share: see `shared` ------------------------------------

    def _fill(self, job: Job) -> None:
        """What is on a disk before the job is asked for. Raises OSError."""

    async def outputs(self, key: LeaseKey, wanted: Sequence[str], cap_bytes: int) -> tuple[Output, ...]:
        return tuple(Output(path, missing="this site shares no folder with its nodes") for path in wanted)

    async def read_output(self, key: LeaseKey, path: str, offset: int, limit: int) -> bytes:
        return b""

    async def known(self) -> frozenset[LeaseKey]:
        return frozenset(self._keeper.held)

    async def forget(self, key: LeaseKey) -> None:
        held = self._keeper.held.get(key)
        if held is not None:
            await self._keeper.drop(held)
