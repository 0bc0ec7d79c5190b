"""The connection to one cluster: its three watches, what the server can do, and requests for one lease."""

import asyncio
import logging
from collections.abc import Callable

from yunhe.core.errors import Unavailable
from yunhe.site.background import Background
from yunhe.site.drivers.kubernetes.client import KubeClient, Object, Refusal
from yunhe.site.drivers.kubernetes.held import Held
from yunhe.site.drivers.kubernetes.logs import Logs
from yunhe.site.drivers.kubernetes.metrics import GROUP as METRICS
from yunhe.site.drivers.kubernetes.metrics import Metrics
from yunhe.site.drivers.kubernetes.reflector import Reflector
from yunhe.site.drivers.kubernetes.tenant import KUEUE, Tenants
from yunhe.site.drivers.kubernetes.views import SITE, Claim, JobView, NodeView, PodView
from yunhe.site.settings import KubernetesSettings

log = logging.getLogger(__name__)
RETRY_S = 2.0
REQUESTS = 12  # at a time
MAX_EVENTS = 500  # of a namespace, the newest hour: more than that many are not looked through


class Engine:
    """`on_job` and `on_pod` are told every change: the view, and whether the object is still there."""

    def __init__(
        self,
        settings: KubernetesSettings,
        tag: str,
        on_job: Callable[[JobView, bool], None],
        on_pod: Callable[[PodView, bool], None],
    ) -> None:
        self.client = client = KubeClient(settings)
        self.tenants = Tenants(client, settings)
        self.logs = Logs(client, settings.log_ms)
        self.metrics = Metrics(client, tag)
        self.kueue = self.measured = self.opened = False
        self.version = ""
        self._settings, self._tag = settings, tag
        self._on_pod = on_pod
        watch_s = settings.watch_ms / 1000
        self.jobs: Reflector[JobView] = Reflector(
            client,
            "/apis/batch/v1/jobs",
            JobView.of,
            lambda _, view, there: on_job(view, there),
            watch_s,
            labelSelector=f"{SITE}={tag}",
        )
        self.pods: Reflector[PodView | Claim] = Reflector(client, "/api/v1/pods", self._pod, self._pod_changed, watch_s)
        self.nodes: Reflector[NodeView] = Reflector(client, "/api/v1/nodes", NodeView.of, _unused, watch_s)
        self._gate = asyncio.Semaphore(REQUESTS)
        self.background = Background("the Kubernetes driver")

    # --- open and close ---------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Raises InvalidInput for credentials that cannot be used; the server need not answer yet."""
        self.client.open()
        self.opened = True
        for watch in (self.jobs, self.pods, self.nodes):
            self.background.start(watch.run())
        self.background.start(self._greet())

    async def _greet(self) -> None:
        while True:
            try:
                await self.learn()
                return
            except (Unavailable, Refusal) as error:
                log.warning("the cluster does not say what it can do: %s", error)
                await asyncio.sleep(RETRY_S)

    async def learn(self) -> None:
        """Version and add-ons. Raises Unavailable or Refusal."""
        if not self.version:
            self.measured = await self.client.has_group(METRICS)
            self.kueue = bool(self._settings.cluster_queue) and await self.client.has_group(KUEUE)
            if self._settings.cluster_queue and not self.kueue:
                log.warning("Kueue is not installed here: cluster_queue is not used")
            self.version = await self.client.version()

    async def synced(self, limit_s: float) -> bool:
        """Whether all three lists are here, waiting a little for them."""
        try:
            async with asyncio.timeout(limit_s):
                for watch in (self.jobs, self.pods, self.nodes):
                    await watch.synced.wait()
        except TimeoutError:
            return False
        return True

    @property
    def trouble_text(self) -> str:
        """Why one of the watches does not come up."""
        return next((watch.trouble for watch in (self.jobs, self.pods, self.nodes) if watch.trouble), "")

    async def close(self) -> None:
        await self.background.close()
        await self.client.close()

    # --- what is seen -----------------------------------------------------------------------------------------------

    def _pod(self, item: Object) -> PodView | Claim | None:
        ours = (item["metadata"].get("labels") or {}).get(SITE) == self._tag
        return PodView.of(item) if ours else Claim.of(item)

    def _pod_changed(self, _: str, view: PodView | Claim, there: bool) -> None:
        if isinstance(view, PodView):
            self._on_pod(view, there)

    def fresh(self, now: float) -> bool:
        """Whether the watches of jobs and pods have been heard within `stale_ms`."""
        limit = self._settings.stale_ms / 1000
        return now - self.jobs.heard <= limit and now - self.pods.heard <= limit

    @property
    def silent_nodes(self) -> frozenset[str]:
        return frozenset(node.name for node in self.nodes.items.values() if node.silent)

    @property
    def claims(self) -> list[Claim]:
        return [view for view in self.pods.items.values() if isinstance(view, Claim)]

    # --- requests ---------------------------------------------------------------------------------------------------

    @staticmethod
    def path(held: Held) -> str:
        return f"/apis/batch/v1/namespaces/{held.intent.namespace}/jobs/{held.intent.name}"

    async def place(self, held: Held) -> None:
        """Everything the lease consists of, its Job last. Raises Refusal or Unavailable; again does no harm."""
        assert held.objects is not None
        async with self._gate:
            for path, body in held.objects.before:
                await self.client.create(path, body)
            await self.client.create(f"/apis/batch/v1/namespaces/{held.intent.namespace}/jobs", held.objects.job)

    async def look(self, held: Held) -> bool:
        """Whether its Job is there, by its name. Raises Unavailable or Refusal."""
        try:
            async with self._gate:
                await self.client.get(self.path(held))
        except Refusal as refusal:
            if refusal.status == 404:
                return False
            raise
        return True

    async def remove_job(self, held: Held) -> bool:
        """Its pods first. False: it was not there. Raises Unavailable or Refusal."""
        async with self._gate:
            return await self.client.delete(self.path(held))

    async def remove_rest(self, held: Held) -> None:
        """What was made before the Job. Raises Unavailable or Refusal."""
        intent = held.intent
        base, network = f"/api/v1/namespaces/{intent.namespace}", "/apis/networking.k8s.io/v1"
        paths = [f"{base}/secrets/{intent.name}"] if intent.secret else []
        paths += [f"{base}/secrets/{intent.name}-s"] if intent.secrets else []
        if intent.slots > 1:
            paths += [f"{base}/services/{intent.name}"]
            paths += [f"{network}/namespaces/{intent.namespace}/networkpolicies/{intent.name}"]
        for path in paths:
            async with self._gate:
                await self.client.delete(path)

    async def remove_secrets(self, held: Held) -> None:
        """The running containers have them; the cluster's store need not keep them any longer."""
        async with self._gate:
            await self.client.delete(f"/api/v1/namespaces/{held.intent.namespace}/secrets/{held.intent.name}-s")

    async def move_deadline(self, held: Held, seconds: int) -> None:
        async with self._gate:
            await self.client.patch(self.path(held), {"spec": {"activeDeadlineSeconds": seconds}})

    async def trouble(self, held: Held) -> str:
        """The newest warning about the lease's Job or one of its pods."""
        try:
            async with self._gate:
                answer = await self.client.get(
                    f"/api/v1/namespaces/{held.intent.namespace}/events",
                    fieldSelector="type=Warning",
                    limit=str(MAX_EVENTS),
                )
        except (Unavailable, Refusal) as error:
            log.info("%s: no events: %s", held.key, error)
            return ""
        mine: list[Object] = [
            event
            for event in answer.get("items") or ()
            if str((event.get("involvedObject") or {}).get("name", "")).startswith(held.intent.name)
        ]
        newest: Object = max(mine, key=lambda event: str(event.get("lastTimestamp") or ""), default={})
        return ": ".join(str(newest[name]) for name in ("reason", "message") if newest.get(name))[:300]

    async def preempted(self, held: Held) -> bool:
        """Whether the scheduler says that one of its pods had to go for another one. Raises Unavailable or Refusal."""
        path = f"/api/v1/namespaces/{held.intent.namespace}/events"
        async with self._gate:
            answer = await self.client.get(
                path, fieldSelector="involvedObject.kind=Pod,reason=Preempted", limit=str(MAX_EVENTS)
            )
        names = ((event.get("involvedObject") or {}).get("name") for event in answer.get("items") or ())
        return any(str(name).startswith(f"{held.intent.name}-") for name in names)

    async def measure(self) -> None:
        """The metrics API, again and again. Until cancelled."""
        while True:
            await asyncio.sleep(self._settings.metrics_ms / 1000)
            if self.measured:
                try:
                    await self.metrics.take()
                except (Unavailable, Refusal) as error:
                    log.info("no metrics: %s", error)


def _unused(uid: str, view: NodeView, there: bool) -> None:
    """Nodes are looked at when they are asked for."""
