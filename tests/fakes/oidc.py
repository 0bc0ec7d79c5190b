"""A provider of OpenID Connect on the loopback: real tokens, PKCE demanded, each code once. It can misbehave."""

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
from joserfc import jwt
from joserfc.jwk import Key, OKPKey

CLIENT_ID = "yunhe"
CLIENT_SECRET = "no-secret-of-anybody"
Claims = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """What an authorization request said, kept under its code."""

    client_id: str
    redirect_uri: str
    nonce: str
    challenge: str
    subject: str


@dataclass
class FakeProvider:
    """`url` is the issuer. Whoever comes is `subject`, without being asked."""

    url: str = ""
    subject: str = "f3a1-li"
    more: Claims = field(default_factory=lambda: {"preferred_username": "li.wei"})
    now_s: Callable[[], float] = time.time
    keys: list[Key] = field(default_factory=lambda: [OKPKey.generate_key("Ed25519", auto_kid=True)])
    algorithm: str = "EdDSA"
    redirect_uris: tuple[str, ...] | None = None  # None: any
    # Misbehaviour
    changed: Callable[[Claims], None] = lambda claims: None
    signed: Callable[[Claims], str] | None = None  # makes the token in place of `token`
    metadata: Claims = field(default_factory=dict)
    spoilt: dict[str, Callable[["_Handler"], None]] = field(default_factory=dict)  # by path: answers in its place
    # What was seen
    seen: list[str] = field(default_factory=list)
    codes: dict[str, Asked] = field(default_factory=dict)

    def rotate(self) -> None:
        self.keys = [OKPKey.generate_key("Ed25519", auto_kid=True)]

    def token(self, claims: Claims) -> str:
        key = self.keys[-1]
        return jwt.encode({"alg": self.algorithm, "kid": key.kid}, claims, key, algorithms=[self.algorithm])

    def document(self) -> Claims:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/jwks",
            **self.metadata,
        }

    def authorize(self, query: dict[str, str]) -> str:
        """Where the browser is sent back to."""
        assert (query["response_type"], query["code_challenge_method"]) == ("code", "S256")
        assert "openid" in query["scope"].split()
        assert self.redirect_uris is None or query["redirect_uri"] in self.redirect_uris
        code = secrets.token_urlsafe(24)
        self.codes[code] = Asked(
            query["client_id"], query["redirect_uri"], query["nonce"], query["code_challenge"], self.subject
        )
        return f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state'], 'iss': self.url})}"

    def exchange(self, form: dict[str, str], authorization: str) -> tuple[int, Claims]:
        wanted = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        in_body = form.get("client_secret") == CLIENT_SECRET and not authorization
        if not in_body and authorization != f"Basic {wanted}":
            return 401, {"error": "invalid_client"}
        asked = self.codes.pop(form.get("code", ""), None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if asked is None or (asked.challenge, asked.redirect_uri) != (challenge, form.get("redirect_uri")):
            return 400, {"error": "invalid_grant"}
        now = int(self.now_s())
        claims = {
            "iss": self.url,
            "aud": asked.client_id,
            "sub": asked.subject,
            "nonce": asked.nonce,
            "iat": now,
            "exp": now + 300,
            **self.more,
        }
        self.changed(claims)
        token = (self.signed or self.token)(claims)
        return 200, {"access_token": "unused", "token_type": "Bearer", "id_token": token}


class _Handler(BaseHTTPRequestHandler):
    provider: FakeProvider

    def log_message(self, format: str, *args: Any) -> None:
        """Tests look at `seen`."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if self._spoilt(parts.path):
            return
        if parts.path == "/.well-known/openid-configuration":
            self.answer(200, self.provider.document())
        elif parts.path == "/jwks":
            self.answer(200, {"keys": [key.as_dict(private=False) for key in self.provider.keys]})
        elif parts.path == "/authorize":
            self.redirect(self.provider.authorize({name: v[0] for name, v in parse_qs(parts.query).items()}))
        else:
            self.answer(404, {})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0"))).decode()
        if not self._spoilt(self.path):
            form = {name: values[0] for name, values in parse_qs(body).items()}
            self.answer(*self.provider.exchange(form, self.headers.get("authorization", "")))

    def _spoilt(self, path: str) -> bool:
        self.provider.seen.append(path)
        spoil = self.provider.spoilt.get(path)
        if spoil is not None:
            spoil(self)
        return spoil is not None

    def answer(self, status: int, value: Claims) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def redirect(self, where: str) -> None:
        self.send_response(302)
        self.send_header("Location", where)
        self.send_header("Content-Length", "0")
        self.end_headers()


@contextmanager
def fake_provider(**chosen: Any) -> Iterator[FakeProvider]:
    provider = FakeProvider(**chosen)
    handler = type("Handler", (_Handler,), {"provider": provider})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    provider.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def came_back(url: str) -> dict[str, str]:
    """What a browser that was sent to `url` comes back with."""
    answer = httpx.get(url, timeout=10)
    assert answer.status_code == 302, answer.text
    return {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["location"]).query).items()}
