"""The console as a process of its own."""

from pathlib import Path
from typing import Annotated

import typer

from yunhe.apps import console as application
from yunhe.cli.failure import remark
from yunhe.cli.options import example
from yunhe.console.settings import ConsoleSettings
from yunhe.sdk.config import resolve

app = typer.Typer()


@app.command(epilog=example("yunhe console serve --port 8450"))
def serve(
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at.")] = 8450,
    tls_certificate: Annotated[Path | None, typer.Option(help="PEM file: the console speaks https itself.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file of its key.")] = None,
    behind_tls: Annotated[bool, typer.Option("--behind-tls", help="A proxy in front speaks https.")] = False,
) -> None:
    """Serve the web page of this hub until Ctrl-C.

    It keeps no key of its own: whoever looks signs in with theirs.
    """
    settings = ConsoleSettings(
        hub_url=resolve(None, None, None).url,
        host=host,
        port=port,
        tls_certificate=tls_certificate,
        tls_key=tls_key,
        behind_tls=behind_tls,
    )
    remark(f"console of {settings.hub_url} at {'https' if tls_certificate else 'http'}://{host}:{port}")
    application.serve(settings)
