"""A whole network on one machine: a hub on SQLite and three sites, each a process of its own.

The sites divide this machine's cores and memory by stated shares, so nothing is counted twice; they stand at three of
the ten national hub clusters, with the public figures of those places.
"""

import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import psutil
from pydantic import BaseModel

from yunhe.apps import site as site_app
from yunhe.apps.children import Child
from yunhe.apps.hub import OPERATOR_KEY_FILE
from yunhe.apps.site import JoinRequest
from yunhe.console.settings import ConsoleSettings
from yunhe.core.errors import Conflict, InvalidInput, Unavailable, YunheError
from yunhe.hub.platform.settings import HubSettings
from yunhe.sdk.client import Client
from yunhe.sdk.config import NETWORK_FILE, NETWORK_FOLDER, write_network_file
from yunhe.site.settings import DriverSettings
from yunhe.wire.api import OrganisationRequest, SiteView

Say = Callable[[str], None]

DEFAULT_PORT = 8440
CONSOLE_PORT = 8450
START_S = 30.0
CERTIFY_S = 120.0
STOP_S = 10.0
CUSTOMER = "my-lab"
FIRST_DEPOSIT = "100CNY"
_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class SiteShare:
    """A site of the embedded network and its part of the machine, in thousandths."""

    name: str
    cluster: str  # facts/clusters
    provider: str
    share_permille: int


@dataclass(frozen=True, slots=True)
class EngineSite:
    """A site that is a cluster of this machine: one of `apps.engines.ENGINES`, and its settings."""

    engine: str
    settings: BaseModel


# The rest of the machine is the hub's and the user's.
SITES = (
    SiteShare("zhangjiakou", "zhangjiakou", "north-compute", 360),
    SiteShare("qingpu", "yrd_demo", "delta-cloud", 270),
    SiteShare("guian", "guian", "guizhou-data", 270),
)
_MEMORY_PERMILLE = 600  # of what each share would be: page cache and other programs need some


class Network:
    """The embedded network; a context manager that leaves nothing running."""

    def __init__(
        self,
        folder: Path,
        data_dir: Path,
        say: Say,
        port: int | None = None,
        clusters: Mapping[str, EngineSite] | None = None,
        *,
        console: bool = False,
    ) -> None:
        """`clusters`: sites that are none of processes, by their names in `SITES`; `console`: with a web page."""
        self._clusters = clusters or {}
        self.folder = folder
        self.data_dir = data_dir
        self._say = say
        self._port = port
        self._hub: Child | None = None
        self._sites: list[Child] = []
        self._console: Child | None = None
        self._with_console = console
        self._network_file: Path | None = None
        self.url = ""
        self.console_url = ""
        self.operator_key = ""
        self.customer_key = ""

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def operator(self) -> Client:
        return Client(self.url, self.operator_key)

    def customer(self) -> Client:
        return Client(self.url, self.customer_key)

    def engines(self) -> dict[str, str]:
        """What runs the jobs of each site, by its id."""
        homes = [self.data_dir / "sites" / share.name for share in SITES]
        return {settings.site_id: settings.engine for settings in map(site_app.load_settings, homes)}

    def check(self) -> None:
        """Raises Unavailable when a part has ended."""
        for child in (self._hub, *self._sites, self._console):
            if child is not None:
                child.check()

    # --- start --------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self._refuse_second()
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._start_hub()
        with self.operator() as operator:
            self._make_accounts(operator)
            for share in SITES:
                self._start_site(operator, share)
            self._wait_active(operator)
        if self._with_console:
            self._start_console()
        self._network_file = write_network_file(self.folder, self.url, self.customer_key)

    def _refuse_second(self) -> None:
        file = self.folder / NETWORK_FOLDER / NETWORK_FILE
        if not file.is_file():
            return
        try:
            with Client() as client:
                client.whoami()
                url = client.profile.url
        except YunheError:
            file.unlink(missing_ok=True)  # left by a network that was killed
            return
        raise Conflict(f"a network runs in this folder already, at {url}", hint="stop it with Ctrl-C first")

    def _start_hub(self) -> None:
        port = self._port if self._port is not None else _free_port(DEFAULT_PORT)
        try:
            self._try_hub(port or _free_port(0))
        except Unavailable:
            if self._port is not None:
                raise
            # Another program took the usual port in between.
            self._try_hub(_free_port(0))
        self._say(f"hub at {self.url}")

    def _try_hub(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        home = self.data_dir / "hub"
        home.mkdir(exist_ok=True, mode=0o700)
        url = os.environ.get("YUNHE_DATABASE_URL") or f"sqlite:///{home.absolute()}/hub.db"
        # Its sites are its own: their claims need no proof, which would cost this machine's time.
        settings = HubSettings(database_url=url, data_dir=home.absolute(), port=port, certify_prove_ms=0)
        file = home / "settings.json"
        file.touch(mode=0o600)
        file.write_text(settings.model_dump_json())
        hub = self._hub = Child("the hub", "yunhe.apps.hub:main", [str(file)], home / "hub.log", {})
        key_file = home / OPERATOR_KEY_FILE
        until = time.monotonic() + START_S
        # The key too: what answers at this port could be another hub.
        while not (_answers(self.url) and key_file.exists()):
            hub.check()
            if time.monotonic() > until:
                raise Unavailable(f"the hub did not answer within {START_S:.0f} s", hint=hub.tail())
            time.sleep(_POLL_S / 2)
        self.operator_key = key_file.read_text().strip()

    def _make_accounts(self, operator: Client) -> None:
        known = {organisation.id for organisation in operator.organisations()}
        for name in (CUSTOMER, *(share.provider for share in SITES)):
            if name not in known:
                operator.create_organisation(OrganisationRequest(id=name, name=name))
        operator.deposit(CUSTOMER, FIRST_DEPOSIT, f"first deposit of {CUSTOMER}")
        file = self.data_dir / "customer.key"
        if not file.exists():
            made = operator.create_key(CUSTOMER, "you", "customer")
            file.touch(mode=0o600)
            file.write_text(made.key)
        self.customer_key = file.read_text().strip()

    def _start_site(self, operator: Client, share: SiteShare) -> None:
        home = self.data_dir / "sites" / share.name
        cluster = self._clusters.get(share.name)
        if not (home / site_app.SETTINGS_FILE).exists():
            token = operator.enrolment_token(share.provider).token
            site_app.join(
                JoinRequest(
                    hub_url=self.url,
                    token=token,
                    name=share.name,
                    data_dir=home,
                    cluster=share.cluster,
                    driver=DriverSettings() if cluster else _driver_share(share),
                    engine=cluster.engine if cluster else "process",
                    engine_settings=cluster.settings if cluster else None,
                )
            )
        site_id = site_app.load_settings(home).site_id
        if operator.site(site_id).state == "pending":
            operator.approve(site_id)
        arguments = ["--data-dir", str(home), "--hub-url", self.url, "--stop-jobs-on-exit"]
        self._sites.append(Child(f"site {share.name}", "yunhe.apps.site:main", arguments, home / "agent.log", {}))

    def _start_console(self) -> None:
        """The web page; it is asked for before anybody else is sent there."""
        port = _free_port(CONSOLE_PORT)
        self.console_url = f"http://127.0.0.1:{port}"
        file = self.data_dir / "console.json"
        file.write_text(ConsoleSettings(hub_url=self.url, port=port).model_dump_json())
        console = self._console = Child(
            "the console", "yunhe.apps.console:main", [str(file)], self.data_dir / "console.log", {}
        )
        until = time.monotonic() + START_S
        while not _answers(self.console_url, "/healthz"):
            console.check()
            if time.monotonic() > until:
                raise Unavailable(f"the console did not answer within {START_S:.0f} s", hint=console.tail())
            time.sleep(_POLL_S)
        self._say(f"console at {self.console_url}")

    def _wait_active(self, operator: Client) -> None:
        """Until each site has measured itself, one after the other, and is listed."""
        until = time.monotonic() + CERTIFY_S
        told: set[str] = set()
        while len(told) < len(SITES):
            self.check()
            for view in operator.sites():
                if view.state == "active" and view.connected and view.id not in told:
                    told.add(view.id)
                    self._say(_site_line(operator.site(view.id)))
            if time.monotonic() > until:
                raise Unavailable(f"only {len(told)} of {len(SITES)} sites were certified within {CERTIFY_S:.0f} s")
            time.sleep(_POLL_S)

    # --- stop ---------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Sites first, so that they can report their last; then the hub."""
        if self._network_file is not None:
            self._network_file.unlink(missing_ok=True)
            self._network_file = None
        rest = [child for child in (self._hub, self._console) if child is not None]
        for part in (self._sites, rest):
            for child in part:
                child.ask_to_stop()
            until = time.monotonic() + STOP_S
            for child in part:
                child.wait(until)
        self._sites, self._hub, self._console = [], None, None


def up(folder: Path, say: Say, port: int | None = None) -> None:
    """Run the embedded network, its data in `folder`/.yunhe/network, until Ctrl-C.

    Raises Conflict when one runs there already, Unavailable when a part ends.
    """
    data_dir = folder / NETWORK_FOLDER / "network"
    try:
        with Network(folder, data_dir, say, port, console=True) as network:
            say_next(say, network)
            stay(network)
    except KeyboardInterrupt:  # while it starts: what had started has been stopped
        pass
    say_stopped(say)


def say_stopped(say: Say) -> None:
    say(f"stopped; its data stay in {NETWORK_FOLDER}/")


def stay(network: Network) -> None:
    """Until Ctrl-C or SIGTERM (both arrive as KeyboardInterrupt)."""
    try:
        while True:
            network.check()
            time.sleep(0.5)
    except KeyboardInterrupt:
        return


def say_next(say: Say, network: Network) -> None:
    say("")
    say("The network is up. In another terminal, in this folder:")
    say("  yunhe submit --cores 0.1 --latency 20ms:shanghai --budget 1CNY --follow -- python3 -c 'print(6 * 7)'")
    say("  yunhe pools          what there is, and how fast it was measured")
    say("  yunhe orders         what you ordered")
    console = f"In a browser: {network.console_url}" if network.console_url else "  yunhe console serve  a web page"
    say(f"{console}  (sign in with the key in {network.data_dir}/customer.key)")
    operator = f"YUNHE_API_KEY=$(cat {network.data_dir}/hub/operator.key)"
    say(f"  {operator} yunhe rounds   as the operator; also audit, ledger trial-balance")
    say("Ctrl-C stops it.")


def _driver_share(share: SiteShare) -> DriverSettings:
    """The site's part of this machine."""
    cores = len(os.sched_getaffinity(0))
    return DriverSettings(
        cores_milli=max(1, cores * share.share_permille),
        memory_bytes=psutil.virtual_memory().total * share.share_permille * _MEMORY_PERMILLE // 1_000_000,
    )


def _site_line(view: SiteView) -> str:
    parts = []
    for pool in view.pools:
        rates = ", ".join(
            f"{rate.measured_flops / 1e9:.1f} GFLOPS@{rate.precision}"
            + (f" (nominal {rate.nominal_flops / 1e9:.1f})" if rate.nominal_flops else "")
            for rate in pool.rates
            if rate.measured_flops
        )
        parts.append(f"{pool.capacity_milli / 1000:g} cores, each measured at {rates}")
    return f"site {view.id} in {view.region}: {'; '.join(parts)}; tier {view.tier} ({view.isolation})"


def _answers(url: str, path: str = "/readyz") -> bool:
    try:
        return httpx.get(f"{url}{path}", timeout=2).is_success
    except httpx.HTTPError:
        return False


def _free_port(wanted: int) -> int:
    """The wanted port, or any other when it is taken (or 0)."""
    for port in dict.fromkeys((wanted, 0)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise InvalidInput("no port of this machine is free", field="port")
