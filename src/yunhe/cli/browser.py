"""Sign-in by a browser of this machine: the provider sends it back to a port of the loopback (RFC 8252)."""

import secrets
import threading
import time
import webbrowser
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlsplit

from yunhe.cli.failure import remark
from yunhe.core.errors import Forbidden, NotFound, Unavailable
from yunhe.sdk.client import Client
from yunhe.wire.api import SessionCreated

PATIENCE_S = 600.0
CALLBACK = "/callback"
_DONE = b"You are back where you began: this page can be closed.\n"


class _Waiting(HTTPServer):
    """Takes the answer to `state`; whoever else knocks at this port gets nothing."""

    state = ""
    came: dict[str, str] | None = None


class _Handler(BaseHTTPRequestHandler):
    server: _Waiting
    timeout = 2.0  # s: browsers open connections in advance and say nothing on them, while the answer waits behind

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        found = {name: values[0] for name, values in parse_qs(parts.query).items()}
        ours = parts.path == CALLBACK and found.get("state", "") == self.server.state
        fits = ours and ("code" in found or "error" in found)
        if fits:
            self.server.came = found
        self.send_response(200 if fits else 404)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        if fits:
            self.wfile.write(_DONE)

    def log_message(self, format: str, *args: object) -> None:
        """What comes back is a secret."""


def sign_in(hub: Client, provider: str, patience_s: float = PATIENCE_S) -> SessionCreated:
    """A session, by the browser. Raises NotFound for a provider that is none, Forbidden where the person or the
    provider says no, Unavailable when nothing came back in time."""
    known = [each.id for each in hub.sign_in_providers()]
    if provider not in known:
        raise NotFound(f"there is no provider {provider}; there are: {', '.join(known) or 'none'}", field="--oidc")
    browser = secrets.token_urlsafe(32)
    with _Waiting(("127.0.0.1", 0), _Handler) as waiting:
        begun = hub.begin_sign_in(provider, browser, waiting.server_port)
        waiting.state = parse_qs(urlsplit(begun.url).query)["state"][0]
        remark(f"sign in with a browser of this machine: {begun.url}")
        # Some browsers return when they are closed.
        threading.Thread(target=webbrowser.open, args=(begun.url,), daemon=True).start()
        came = _answer(waiting, patience_s)
    if "code" not in came:
        raise Forbidden(f"the provider says: {came['error'][:60]!r}")
    return hub.finish_sign_in(provider, browser, waiting.state, came["code"], came.get("iss"))


def _answer(waiting: _Waiting, patience_s: float) -> dict[str, str]:
    until = time.monotonic() + patience_s
    while waiting.came is None:
        waiting.timeout = until - time.monotonic()
        if waiting.timeout <= 0:
            raise Unavailable(f"nothing came back within {patience_s:.0f} s", hint="yunhe login --oidc PROVIDER again")
        waiting.handle_request()
    return waiting.came
