"""Composition root of a hub: migrations, rooms, loops, HTTP. The only place that knows all rooms."""

import asyncio
import contextlib
import errno
import logging
import os
import re
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

from yunhe.apps import crash_points
from yunhe.core.errors import Conflict, InvalidInput, YunheError
from yunhe.facts.load import place_names
from yunhe.hub.accounts import audit as accounts_audit
from yunhe.hub.accounts import routes as accounts_routes
from yunhe.hub.accounts import service as accounts
from yunhe.hub.accounts import sign_in_routes
from yunhe.hub.accounts.service import Accounts
from yunhe.hub.accounts.sign_in import SignIn
from yunhe.hub.catalogue import network
from yunhe.hub.catalogue import routes as catalogue_routes
from yunhe.hub.dispatch import checkpoints, evidence
from yunhe.hub.dispatch import routes as dispatch_routes
from yunhe.hub.dispatch import secrets as dispatch_secrets
from yunhe.hub.dispatch.blobs import Blobs
from yunhe.hub.dispatch.outbox_reader import OutboxReader
from yunhe.hub.dispatch.polling import Gate, Polling
from yunhe.hub.dispatch.polling import express as polling_express
from yunhe.hub.dispatch.retention import Retention
from yunhe.hub.dispatch.sync import SyncHandler
from yunhe.hub.dispatch.watch import Watch
from yunhe.hub.intake import routes as intake_routes
from yunhe.hub.intake.pricing import Pricer
from yunhe.hub.intake.submitting import Submitting
from yunhe.hub.intake.submitting import express as submitting_express
from yunhe.hub.ledger import routes as ledger_routes
from yunhe.hub.matching import routes as matching_routes
from yunhe.hub.matching.looking import Rounds
from yunhe.hub.matching.service import Matching
from yunhe.hub.metering import service as metering
from yunhe.hub.orders import audit, streaming, transfers
from yunhe.hub.orders import routes as orders_routes
from yunhe.hub.orders.feed import Feed
from yunhe.hub.orders.model import SETTLEMENT
from yunhe.hub.orders.shapes import Shapes
from yunhe.hub.orders.vault import Vault
from yunhe.hub.platform import identity, migrate
from yunhe.hub.platform.clock import Clock, SystemClock
from yunhe.hub.platform.context import Platform, open_platform
from yunhe.hub.platform.disk import DiskGuard
from yunhe.hub.platform.express import Express, Handlers
from yunhe.hub.platform.http import Frame, install_problems
from yunhe.hub.platform.leader import Leader
from yunhe.hub.platform.listener import listen
from yunhe.hub.platform.settings import HubSettings
from yunhe.hub.platform.work import WorkLoop
from yunhe.hub.platform.writer import Tx
from yunhe.hub.settlement import earning, looking
from yunhe.hub.settlement import routes as settlement_routes
from yunhe.hub.settlement import service as settlement
from yunhe.site.supervisor.kernel import keep_memory_private
from yunhe.wire.api import MAX_BODY_BYTES, HubView
from yunhe.wire.link import MAX_CHUNK_BYTES, MAX_SYNC_BYTES

log = logging.getLogger(__name__)

OPERATOR_KEY_FILE = "operator.key"
SWITCH_S = 0.0005
_LIMITS = (
    (re.compile(r"/v1/agent/sync$"), MAX_SYNC_BYTES),
    (re.compile(r"/v1/agent/(logs|outputs)/"), MAX_CHUNK_BYTES),
    (re.compile(r"/v1/orders:batch$"), 8 * MAX_BODY_BYTES),
)


@dataclass(frozen=True)
class Hub:
    """One hub process, put together."""

    app: FastAPI
    platform: Platform
    leader: Leader
    matching: Matching
    outbox_reader: OutboxReader
    feed: Feed
    loops: tuple[tuple[str, Awaitable[None]], ...]


def build(settings: HubSettings, clock: Clock | None = None) -> Hub:
    """Open the database, bring its schema up to date, make the rooms. Nothing runs yet."""
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    crash_point = crash_points.from_environment()
    platform = open_platform(settings, clock or SystemClock(), crash_point)
    migrate.upgrade(platform.db)
    places = place_names()
    lead, shapes = Leader(platform), Shapes(places)
    matching = Matching(platform, lead, shapes, crash_point)
    reader = OutboxReader(platform)
    source = Feed(platform)
    blobs = Blobs(settings.data_dir, crash_point)
    app = FastAPI(title="Yunhe hub", version="1", lifespan=_lifespan(settings))
    hub = Hub(
        app=app,
        platform=platform,
        leader=lead,
        matching=matching,
        outbox_reader=reader,
        feed=source,
        loops=(
            ("leader", lead.run()),
            ("round", matching.run()),
            ("rounds", matching.keeper.run()),
            ("outbox", reader.run()),
            ("events", source.run()),
            ("watch", Watch(platform, lead).run()),
            ("sampling", network.Sampling(platform, lead).run()),
            ("settlement", WorkLoop(platform, SETTLEMENT, settlement.consume).run()),
            ("retention", Retention(platform, blobs).run()),
            ("listener", listen(platform)),
        ),
    )
    app.state.hub = hub
    install_problems(app)
    handlers = _routes(hub, shapes, Pricer(platform, places), blobs)
    app.add_middleware(Express, handlers=handlers)
    app.add_middleware(Frame, limits=_LIMITS, default_limit=MAX_BODY_BYTES)
    return hub


def _routes(hub: Hub, shapes: Shapes, pricer: Pricer, blobs: Blobs) -> Handlers:
    """Every room's routes; returns those that have an express way."""
    platform, app = hub.platform, hub.app
    disk = DiskGuard(platform.settings.data_dir, platform.settings.min_free_disk_bytes)
    who = Accounts(platform)
    gate = Gate(platform)
    polling = Polling(platform, hub.outbox_reader, SyncHandler(metering.accept, platform.settings))
    vault = Vault.open(platform.settings.data_dir)
    submitting = Submitting(platform, pricer, disk, vault)
    rounds = Rounds()
    app.include_router(intake_routes.router(submitting, who, shapes, rounds.placing))
    app.include_router(orders_routes.router(platform, who))
    app.include_router(streaming.router(platform, who, hub.feed))
    app.include_router(audit.router(platform, who))
    app.include_router(dispatch_routes.customer_router(platform, who, blobs))
    app.include_router(settlement_routes.router(platform, who, hub.leader))
    app.include_router(looking.router(platform, who))
    app.include_router(earning.router(platform, who))
    app.include_router(matching_routes.router(platform, who, hub.leader, hub.matching, rounds))
    app.include_router(evidence.router(platform, who))
    app.include_router(ledger_routes.router(platform, who))
    app.include_router(catalogue_routes.router(platform, who))
    app.include_router(network.router(platform, transfers.loads))
    app.include_router(accounts_routes.router(platform, who))
    app.include_router(sign_in_routes.router(platform, who, SignIn(platform)))
    app.include_router(accounts_audit.router(platform, who))
    app.include_router(dispatch_routes.agent_router(polling, gate, blobs, disk))
    app.include_router(checkpoints.router(polling, gate, blobs))
    app.include_router(dispatch_secrets.router(platform, gate, vault))
    _health(hub)
    return {**submitting_express(submitting, who), **polling_express(polling, gate)}


def _health(hub: Hub) -> None:
    registry = CollectorRegistry()
    figures = {
        "yunhe_rounds_total": lambda: hub.matching.rounds,
        "yunhe_last_round_milliseconds": lambda: hub.matching.last_round_ms,
        "yunhe_rounds_kept_total": lambda: hub.matching.keeper.kept,
        "yunhe_rounds_kept_cpu_seconds": lambda: hub.matching.keeper.spent_s,
        "yunhe_held_polls": lambda: hub.outbox_reader.held,
        "yunhe_leading": lambda: int(hub.leader.leading),
    }
    for name, read in figures.items():
        Gauge(name, name.replace("_", " "), registry=registry).set_function(read)

    @hub.app.get("/healthz", tags=["hub"])
    async def healthz() -> dict[str, str]:
        """The process lives."""
        return {"status": "ok"}

    @hub.app.get("/readyz", tags=["hub"])
    async def readyz() -> dict[str, str]:
        """The database answers."""
        await hub.platform.read(lambda conn: conn.exec_driver_sql("SELECT 1").scalar())
        return {"status": "ready"}

    @hub.app.get("/v1/hub", tags=["facts"])
    async def which() -> HubView:
        """Which hub this is; without a key."""
        return HubView(id=await hub.platform.read(identity.hub_id))

    @hub.app.get("/metrics", tags=["hub"], response_class=Response)
    async def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


def _lifespan(settings: HubSettings) -> Callable[[FastAPI], contextlib.AbstractAsyncContextManager[None]]:
    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        hub: Hub = app.state.hub
        platform = hub.platform
        platform.signals.bind(asyncio.get_running_loop())
        platform.writer.start()
        await _bootstrap(platform, settings.data_dir)
        await hub.leader.try_once()
        tasks = [asyncio.create_task(_guarded(name, loop), name=name) for name, loop in hub.loops]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with contextlib.suppress(YunheError):
                await hub.leader.resign()
            await asyncio.to_thread(platform.writer.stop)
            platform.readers.shutdown(wait=False)
            platform.db.close()

    return lifespan


async def _guarded(name: str, loop: Awaitable[None]) -> None:
    """A loop that ends by a mistake of ours must not go unnoticed: the process ends, its supervisor restarts it."""
    try:
        await loop
    except Exception:
        log.exception("the loop %r ended by an error; this process stops", name)

        os._exit(70)


async def _bootstrap(platform: Platform, data_dir: Path) -> None:
    """The first operator's key, once, into a file that only this user reads."""
    file = data_dir / OPERATOR_KEY_FILE

    def first_key(tx: Tx, items: Sequence[None]) -> list[bool]:
        key = accounts.bootstrap(tx)
        if key is not None:
            # Before COMMIT: a crash in between leaves a file without use, not a hub without a way in.
            file.touch(mode=0o600)
            file.write_text(key + "\n")
        return [key is not None] * len(items)

    if await platform.write(first_key, None):
        log.warning("the first operator's key is in %s", file)


def init(settings: HubSettings) -> Path | None:
    """Make the database and the first operator's key; the key's file, None where there was an operator before."""
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = settings.data_dir / OPERATOR_KEY_FILE
    platform = open_platform(settings, SystemClock(), lambda _point: None)

    async def first_key() -> None:
        platform.signals.bind(asyncio.get_running_loop())
        platform.writer.start()
        try:
            await _bootstrap(platform, settings.data_dir)
        finally:
            await asyncio.to_thread(platform.writer.stop)

    before = file.stat().st_mtime_ns if file.exists() else None
    try:
        migrate.upgrade(platform.db)
        asyncio.run(first_key())
    finally:
        platform.readers.shutdown(wait=False)
        platform.db.close()
    return file if file.exists() and file.stat().st_mtime_ns != before else None


def serve(settings: HubSettings, ready: Callable[[int], None] = lambda _port: None) -> None:
    """Run a hub until SIGTERM or Ctrl-C. `ready` is called with its port once it answers there."""
    keep_memory_private()  # orders bring secrets
    # The writer's thread asks for the interpreter after each statement; at the usual 5 ms a busy event loop would
    # keep it waiting for longer than the statement takes.
    sys.setswitchinterval(SWITCH_S)
    for name in ("tls_certificate", "tls_key"):
        _check_readable(name, getattr(settings, name))
    # Before the database is touched: a second hub on a taken port leaves nothing behind.
    listening = _listen(settings.host, settings.port)
    if settings.tls_certificate is None and not _is_loopback(settings.host):
        log.warning("keys travel in the clear: --tls-certificate and --tls-key protect them")
    hub = build(settings)
    config = uvicorn.Config(
        hub.app,
        host=settings.host,
        port=settings.port,
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=5,
        timeout_keep_alive=75,
        server_header=False,
    )
    with listening:
        _Server(config, hub.platform, lambda: ready(listening.getsockname()[1])).run(sockets=[listening])


def _check_readable(field: str, path: Path | None) -> None:
    if path is not None:
        try:
            path.read_bytes()
        except OSError as error:
            raise InvalidInput(f"{path} cannot be read: {error.strerror}", field=field) from error


def _listen(host: str, port: int) -> socket.socket:
    """Raises Conflict when the port is taken, InvalidInput when the address is not this machine's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            hint = "does a hub run there already? another port: --port, or YUNHE_PORT"
            raise Conflict(f"port {port} of {host} is taken", field="port", hint=hint) from error
        raise InvalidInput(f"cannot listen at {host}:{port}: {error.strerror}", field="host") from error
    return listening


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


class _Server(uvicorn.Server):
    """Answers long polls before it waits for connections to end: a stop takes no poll's whole hold."""

    def __init__(self, config: uvicorn.Config, platform: Platform, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._platform = platform
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        asyncio.get_running_loop().call_soon(self._platform.signals.close)
        super().handle_exit(sig, frame)


def main() -> None:
    """Serve by a settings file in JSON: how another process of Yunhe starts a hub."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    serve(HubSettings.model_validate_json(Path(sys.argv[1]).read_text()))
