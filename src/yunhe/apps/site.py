"""Composition root of a site: join a network, serve it, pause and resume.

data_dir/
  site.toml   settings (0600)         key          the site's private key, 32 bytes (0600)
  spool.sqlite  what must not be forgotten         paused   there while the site pauses itself
  leases/     one folder per job      contact, boot, agent.lock, launcher.err   the agent's own
"""

import argparse
import asyncio
import logging
import os
import signal
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel, ValidationError

from yunhe.apps import crash_points
from yunhe.apps.engines import make_driver
from yunhe.core.errors import Conflict, InvalidInput, NotFound, YunheError
from yunhe.sdk.config import toml_quoted
from yunhe.site import link
from yunhe.site.agent import PAUSE_FILE, Agent, AlreadyRunning, Superseded
from yunhe.site.discover import share
from yunhe.site.settings import DriverSettings, LendSettings, SiteSettings
from yunhe.site.supervisor.kernel import keep_memory_private
from yunhe.wire import signing
from yunhe.wire.link import Enrol, Enrolled

SETTINGS_FILE = "site.toml"
KEY_FILE = "key"
ENROL_TIMEOUT_MS = 15_000
SETTINGS_LOOK_S = 1.0
EXIT_SUPERSEDED = 3  # another agent speaks for the site, or the site has left
EXIT_RUNNING = 4  # another agent uses the data directory

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """What it takes to become a site of a network: a one-time token, a name, and a place."""

    hub_url: str
    token: str
    name: str
    data_dir: Path
    cluster: str | None = None  # facts/clusters id; without one state region, lat and lon
    region: str | None = None
    lat: float | None = None
    lon: float | None = None
    ca_file: Path | None = None  # certificate authorities that vouch for the hub; None: the system's
    driver: DriverSettings = field(default_factory=DriverSettings)
    engine: str = "process"  # one of apps.engines.ENGINES
    engine_settings: BaseModel | None = None  # the table of that engine
    private_files: Mapping[str, str] = field(default_factory=dict)  # in data_dir, for its owner alone: name -> text
    extra: dict[str, object] = field(default_factory=dict)  # further fields of SiteSettings


def join(request: JoinRequest) -> Enrolled:
    """Make the site's key, enrol, and write its settings; the operator approves afterwards.

    The same call again after a failure is safe: the key is kept. Raises Conflict when the folder is a site already,
    InvalidInput for a wrong setting, Unavailable when the engine does not answer, and what the hub says to the token.
    """
    folder = request.data_dir.absolute()
    if (folder / SETTINGS_FILE).exists():
        raise Conflict(f"{folder} is the data directory of a site already", hint="use another --data-dir")
    # What is wrong is found out before the token is used up; the real site id is known after it.
    settings = _settings(request, "unknown")
    if settings.engine == "process":
        share(request.driver)
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    for name, text in request.private_files.items():
        with open(os.open(folder / name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
    if settings.engine != "process":
        asyncio.run(make_driver(settings).discover())
    key = _made_key(folder)
    enrolled = link.enrol(request.hub_url, _enrol(request, key), ENROL_TIMEOUT_MS, request.ca_file)
    _write(folder, _toml(_settings(request, enrolled.site_id)))
    return enrolled


def _write(folder: Path, text: str) -> None:
    tmp = folder / f"{SETTINGS_FILE}.tmp"
    with open(os.open(tmp, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    tmp.rename(folder / SETTINGS_FILE)


def _enrol(request: JoinRequest, key: Ed25519PrivateKey) -> Enrol:
    try:
        return Enrol(
            token=request.token,
            name=request.name,
            public_key=signing.public_text(key),
            proof=signing.sign(key, request.token.encode()),
            cluster=request.cluster,
            region=request.region,
            lat=request.lat,
            lon=request.lon,
        )
    except ValidationError as error:
        raise _invalid(error) from error


def _settings(request: JoinRequest, site_id: str) -> SiteSettings:
    values: dict[str, object] = {
        "hub_url": request.hub_url,
        "site_id": site_id,
        "name": request.name,
        "data_dir": request.data_dir.absolute(),
        "ca_file": request.ca_file.absolute() if request.ca_file else None,
        "driver": request.driver,
        "engine": request.engine,
        **request.extra,
    }
    if request.engine_settings is not None:
        values[request.engine] = request.engine_settings
    try:
        return SiteSettings.model_validate(values)
    except ValidationError as error:
        raise _invalid(error) from error


def _invalid(error: ValidationError) -> InvalidInput:
    first = error.errors()[0]
    return InvalidInput(first["msg"], field=".".join(str(part) for part in first["loc"]))


def _made_key(folder: Path) -> Ed25519PrivateKey:
    path = folder / KEY_FILE
    if path.exists():
        return _load_key(folder)
    key = signing.new_key()
    tmp = folder / f"{KEY_FILE}.tmp"
    with open(os.open(tmp, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
        file.write(signing.dump_key(key))
        file.flush()
        os.fsync(file.fileno())
    tmp.rename(path)
    return key


def _load_key(folder: Path) -> Ed25519PrivateKey:
    try:
        return signing.load_key((folder / KEY_FILE).read_bytes())
    except FileNotFoundError:
        raise NotFound(f"{folder} has no site key", hint="join first: yunhe site join") from None
    except ValueError as error:
        raise InvalidInput(f"{folder / KEY_FILE} is not a site key: {error}") from error


def _toml(settings: SiteSettings) -> str:
    """Only what differs from the defaults, so that better defaults reach old sites."""
    values = settings.model_dump(mode="json", exclude_defaults=True)
    tables = {name: values.pop(name) for name in [name for name, value in values.items() if isinstance(value, dict)]}
    values.pop("data_dir")  # the folder may be moved as a whole
    lines = [f"{name} = {_toml_value(value)}" for name, value in values.items() if value is not None]
    for table, entries in tables.items():
        if entries:
            lines += ["", f"[{table}]", *(f"{name} = {_toml_value(value)}" for name, value in entries.items())]
    return "\n".join(lines) + "\n"


def _toml_value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    if isinstance(value, dict):
        entries = (f"{name} = {_toml_value(item)}" for name, item in value.items() if item is not None)
        return "{" + ", ".join(entries) + "}"
    return toml_quoted(str(value))


def load_settings(data_dir: Path, **overrides: object) -> SiteSettings:
    """The site's settings. Raises NotFound when the folder is no site, InvalidInput for what cannot be read."""
    folder = data_dir.absolute()
    try:
        values = tomllib.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
        return SiteSettings.model_validate({**values, "data_dir": folder, **overrides})
    except FileNotFoundError:
        raise NotFound(f"{folder} is not the data directory of a site", hint="yunhe site join") from None
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"{folder / SETTINGS_FILE}: {error}") from error
    except ValidationError as error:
        raise _invalid(error) from error


async def serve_until(settings: SiteSettings, stop: asyncio.Event) -> None:
    """Run the agent until `stop` is set. Raises Superseded, AlreadyRunning, or what its folder lacks."""
    crash_point = crash_points.from_environment()
    driver = make_driver(settings, crash_point)
    agent = Agent(settings, _load_key(settings.data_dir), driver, crash_point)

    async def stopper() -> None:
        await stop.wait()
        agent.stop()

    async def lender() -> None:
        """What is lent can be changed while the agent runs: its table is read again when the file is another one."""
        seen = _state(settings.data_dir / SETTINGS_FILE)
        while True:
            await asyncio.sleep(SETTINGS_LOOK_S)
            now = _state(settings.data_dir / SETTINGS_FILE)
            if now != seen:
                seen = now
                try:
                    agent.lend(load_settings(settings.data_dir).lend)
                except YunheError as error:
                    log.warning("what is lent stays as it was: %s", error)

    tasks = [asyncio.create_task(stopper()), asyncio.create_task(lender())]
    try:
        await agent.run()
    finally:
        for task in tasks:
            task.cancel()


def _state(path: Path) -> tuple[int, int] | None:
    try:
        info = path.stat()
    except OSError:
        return None
    return info.st_ino, info.st_mtime_ns


def serve(settings: SiteSettings) -> int:
    """Run the agent until SIGTERM or Ctrl-C; the exit status. Jobs go on, and the next start takes them up again."""
    keep_memory_private()  # the site's key, and secrets on their way

    async def run() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await serve_until(settings, stop)

    try:
        asyncio.run(run())
    except Superseded as error:
        log.error("this agent stops speaking for %s: %s", settings.site_id, error)
        return EXIT_SUPERSEDED
    except AlreadyRunning as error:
        log.error("%s", error)
        return EXIT_RUNNING
    return 0


def lend(data_dir: Path, changes: Mapping[str, object]) -> LendSettings:
    """Change what the site lends; a running agent takes it up within seconds. The file is written anew from its values.

    Raises NotFound when the folder is no site, InvalidInput for what no policy says.
    """
    settings = load_settings(data_dir)
    try:
        policy = LendSettings.model_validate({**settings.lend.model_dump(), **changes})
    except ValidationError as error:
        raise _invalid(error) from error
    if changes:
        _write(data_dir.absolute(), _toml(settings.model_copy(update={"lend": policy})))
    return policy


def pause(data_dir: Path) -> None:
    """The site takes no new work; the agent notices within a second. Raises NotFound when the folder is no site."""
    load_settings(data_dir)
    (data_dir / PAUSE_FILE).touch()


def resume(data_dir: Path) -> None:
    load_settings(data_dir)
    (data_dir / PAUSE_FILE).unlink(missing_ok=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m yunhe.apps.site", description="Run the agent of a joined site.")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--stop-jobs-on-exit", action="store_true", help="end the jobs with the agent")
    parser.add_argument("--hub-url", help="instead of the one that was joined: the hub has moved")
    parser.add_argument("--verbose", action="store_true")
    args = parser.parse_args()
    logging.basicConfig(
        level=logging.DEBUG if args.verbose else logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("httpcore").setLevel(logging.WARNING)
    overrides: dict[str, object] = {"stop_jobs_on_exit": True} if args.stop_jobs_on_exit else {}
    if args.hub_url:
        overrides["hub_url"] = args.hub_url
    try:
        return serve(load_settings(args.data_dir, **overrides))
    except YunheError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
