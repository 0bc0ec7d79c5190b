"""Commands that run a hub. The hub is imported here and nowhere else in the command line; see `lazy`."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from yunhe.apps import hub as application
from yunhe.cli.failure import remark
from yunhe.cli.options import example
from yunhe.core.errors import InvalidInput
from yunhe.hub.platform.settings import HubSettings
from yunhe.sdk.checked import checked

app = typer.Typer()

DATA_DIR = "yunhe-hub"

DatabaseUrl = Annotated[
    str | None, typer.Option(help="sqlite:///PATH or postgresql://...; a file in the data folder without.")
]
DataDir = Annotated[str | None, typer.Option(help=f"Logs, outputs and the operator's key; ./{DATA_DIR} without.")]
Config = Annotated[Path | None, typer.Option("--config", help="Settings as TOML; the environment goes before it.")]


@app.command(epilog=example("yunhe hub init --data-dir hub-data"))
def init(data_dir: DataDir = None, database_url: DatabaseUrl = None, config: Config = None) -> None:
    """Make the database and the operator's key.

    `hub serve` does the same when it finds neither.
    """
    settings = hub_settings({"data_dir": data_dir, "database_url": database_url}, config, os.environ)
    made = application.init(settings)
    if made is None:
        print("the database is up to date; it has an operator already")
        return
    print(f"the operator's key is in {made}")
    remark(f"next: yunhe hub serve, then: yunhe login http://{settings.host}:{settings.port} < {made}")


@app.command(epilog=example("yunhe hub serve --host 0.0.0.0 --tls-certificate hub.pem --tls-key hub.key"))
def serve(
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    host: Annotated[str | None, typer.Option(help="Address to listen at; this machine alone without.")] = None,
    port: Annotated[str | None, typer.Option(help="Port; 8440 without.")] = None,
    tls_certificate: Annotated[str | None, typer.Option(help="Certificate chain (PEM).")] = None,
    tls_key: Annotated[str | None, typer.Option(help="Its key (PEM).")] = None,
    config: Config = None,
) -> None:
    """Run the hub until it is stopped.

    Every setting can also be given in the environment (`YUNHE_DATABASE_URL`, `YUNHE_PORT`, `YUNHE_LOG_CAP_BYTES`,
    ...) or in a TOML file; options go before the environment, the environment before the file.
    """
    given = {
        "data_dir": data_dir,
        "database_url": database_url,
        "host": host,
        "port": port,
        "tls_certificate": tls_certificate,
        "tls_key": tls_key,
    }
    settings = hub_settings(given, config, os.environ)
    secure = "https" if settings.tls_certificate else "http"

    def ready(port: int) -> None:
        remark(f"hub at {secure}://{settings.host}:{port}, data in {settings.data_dir}; Ctrl-C stops it")

    application.serve(settings, ready)


def hub_settings(given: Mapping[str, str | None], config: Path | None, env: Mapping[str, str]) -> HubSettings:
    """Settings from options, then the environment, then the file, then their defaults. Raises InvalidInput."""
    values: dict[str, object] = dict(_read(config)) if config else {}
    for name in HubSettings.model_fields:
        text = given.get(name) or env.get(f"YUNHE_{name.upper()}")
        if text:
            values[name] = text
    values.setdefault("data_dir", DATA_DIR)
    values.setdefault("database_url", f"sqlite:///{Path(str(values['data_dir'])).absolute()}/hub.db")
    return checked(HubSettings, values)


def _read(path: Path) -> Mapping[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"cannot be read: {error}", field=str(path)) from error
