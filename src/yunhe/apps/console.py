"""Composition root of the console: settings, the web application, its server."""

import sys
from pathlib import Path

import uvicorn

from yunhe.console.settings import ConsoleSettings
from yunhe.console.site import make


def serve(settings: ConsoleSettings) -> None:
    """Until SIGTERM or Ctrl-C."""
    uvicorn.run(
        make(settings),
        host=settings.host,
        port=settings.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
        timeout_graceful_shutdown=3,
    )


def main() -> None:
    """`main SETTINGS.json`, as a process of its own."""
    serve(ConsoleSettings.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8")))
