"""What stands before every page: the session's cookie, the same origin, and headers that browsers obey.

Scripts run by a nonce of each answer. The library compiles its templates in the browser, so `unsafe-eval` stays; it
sets styles on elements, so `unsafe-inline` stays for styles. Everything comes from the console itself.
"""

import re
import secrets
import time
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from yunhe.console.sessions import COOKIE, Session, Sessions
from yunhe.console.throttle import Buckets, address_of

_SCRIPT = re.compile(rb"^(\s*)<script(?=[\s>])", re.MULTILINE)
_SESSION = "yunhe.console.session"
# Files that are the same for everybody and kept by caches, and what asks whether the console lives: no session begins
# there, so no cache keeps one visitor's cookie for others.
_NOBODYS = ("/_nicegui", "/static/", "/healthz", "/favicon.ico")


def session_of(scope: Scope) -> Session:
    found = scope[_SESSION]
    assert isinstance(found, Session)
    return found


class Guard:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, sessions: Sessions, *, secure: bool, visitors: Buckets | None = None) -> None:
        """`visitors`: how much those who are not signed in may ask for; None: as much as they want."""
        self._visitors = visitors
        self._app, self._sessions, self.secure = app, sessions, secure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        if not _same_origin(headers):
            await _refuse(scope, send, 403, b"asked from another site\n")
            return
        session = self._sessions.find(_cookie(headers), time.monotonic())
        if self._too_much(scope, session):
            await _refuse(scope, send, 429, b"too much is asked from where you are: try again in a minute\n")
            return
        cookie = None
        if session is None and scope["type"] == "http" and not scope["path"].startswith(_NOBODYS):
            session = self._sessions.begin(time.monotonic())
            cookie = self.cookie(session)
            session.language = "zh" if headers.get(b"accept-language", "").lower().startswith("zh") else "en"
        scope[_SESSION] = session
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        await self._app(scope, receive, _Answer(send, cookie))

    def _too_much(self, scope: Scope, session: Session | None) -> bool:
        if self._visitors is None or (session is not None and session.signed_in):
            return False
        if scope["type"] == "http" and scope["path"].startswith(_NOBODYS):
            return False
        return not self._visitors.take(address_of(HTTPConnection(scope)))

    def cookie(self, session: Session) -> str:
        """The header that names a session to the browser."""
        secure = "; Secure" if self.secure else ""
        return f"{COOKIE}={session.id}; Path=/; HttpOnly; SameSite=Lax{secure}"


class _Answer:
    """Adds headers; of an HTML page every script of the template gets the nonce."""

    def __init__(self, send: Send, cookie: str | None) -> None:
        self._send, self._cookie = send, cookie
        self._nonce = secrets.token_urlsafe(18)
        self._start: Message | None = None
        self._body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [(name, value) for name, value in message["headers"] if name.lower() != b"x-nicegui-content"]
            html = any(name.lower() == b"content-type" and value.startswith(b"text/html") for name, value in headers)
            # A sign-in names the session that it began: the visitor's, just begun too, must not come behind it.
            names = any(n.lower() == b"set-cookie" and v.startswith(f"{COOKIE}=".encode()) for n, v in headers)
            message = {**message, "headers": headers + self._more(html, names)}
            if html:
                self._start = message
                return
        elif self._start is not None and message["type"] == "http.response.body":
            self._body += message.get("body", b"")
            if message.get("more_body"):
                return
            body = _SCRIPT.sub(rb'\1<script nonce="' + self._nonce.encode() + rb'"', self._body)
            kept = [(name, value) for name, value in self._start["headers"] if name.lower() != b"content-length"]
            kept.append((b"content-length", str(len(body)).encode()))
            await self._send({**self._start, "headers": kept})
            self._start = None
            message = {**message, "body": body}
        await self._send(message)

    def _more(self, html: bool, names_session: bool) -> list[tuple[bytes, bytes]]:
        found = [
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"same-origin"),
            (b"x-frame-options", b"DENY"),
        ]
        if html:
            policy = (
                f"default-src 'none'; script-src 'self' 'nonce-{self._nonce}' 'unsafe-eval'; "
                "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
                "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
            )
            found += [(b"content-security-policy", policy.encode()), (b"cache-control", b"no-store")]
        if self._cookie is not None and not names_session:
            found.append((b"set-cookie", self._cookie.encode()))
        return found


def _same_origin(headers: dict[bytes, str]) -> bool:
    """A browser names the page that asks; one that is not ours gets nothing."""
    origin = headers.get(b"origin")
    try:
        return origin is None or urlsplit(origin).netloc == headers.get(b"host")
    except ValueError:  # no address
        return False


def _cookie(headers: dict[bytes, str]) -> str | None:
    try:
        found = SimpleCookie(headers.get(b"cookie", "")).get(COOKIE)
    except CookieError:
        return None
    return found.value if found else None


async def _refuse(scope: Scope, send: Send, status: int, why: bytes) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 4000 + status})
        return
    start: dict[str, Any] = {
        "type": "http.response.start",
        "status": status,
        "headers": [(b"content-type", b"text/plain")],
    }
    await send(start)
    await send({"type": "http.response.body", "body": why})
