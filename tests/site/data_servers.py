"""Real servers of data for the tests: HTTP with ranges that can break off, S3 (moto), SFTP (asyncssh)."""

import asyncio
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import asyncssh
import boto3
from moto.server import ThreadedMotoServer

LOCAL = ("127.0.0.0/8",)
CHUNK = 1 << 16


@dataclass
class WebFile:
    body: bytes
    etag: str = '"one"'


@dataclass
class Web:
    """What the server has, how it behaves, and what it did. Paths without the first slash."""

    url: str = ""
    files: dict[str, WebFile] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    break_after: int | None = None  # bytes of a body, then the connection is cut; None: never
    ranges: bool = True
    pause_s: float = 0.0  # after each chunk of a body
    status: int = 0  # instead of any other answer
    token: str = ""  # asked for, as a bearer
    sent_bytes: int = 0  # of bodies, on the wire
    taken_bytes: int = 0  # of bodies that came
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)  # method, path, headers
    put: dict[str, bytes] = field(default_factory=dict)

    def gets(self, path: str) -> int:
        return sum(method == "GET" and got == path for method, got, _ in self.requests)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    web: Web

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""

    def _begin(self) -> str:
        path = self.path[1:].partition("?")[0]
        self.web.requests.append((self.command, path, dict(self.headers.items())))
        return path

    def do_GET(self) -> None:
        web, path = self.web, self._begin()
        if web.status or (web.token and self.headers.get("Authorization") != f"Bearer {web.token}"):
            self._empty(web.status or 401)
        elif path in web.redirects:
            self._empty(302, Location=web.redirects[path])
        elif path not in web.files:
            self._empty(404)
        elif self.headers.get("If-None-Match") == web.files[path].etag:
            self._empty(304)
        else:
            self._body(web.files[path])

    def _empty(self, status: int, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _body(self, file: WebFile) -> None:
        web, start = self.web, 0
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if web.ranges and wanted and self.headers.get("If-Range", file.etag) == file.etag:
            start = int(wanted[1])
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(file.body) - 1}/{len(file.body)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(file.body) - start))
        self.send_header("ETag", file.etag)
        self.end_headers()
        left = web.break_after
        for at in range(start, len(file.body), CHUNK):
            chunk = file.body[at : at + CHUNK]
            if left is not None:
                chunk, left = chunk[:left], left - len(chunk)
            self.wfile.write(chunk)
            web.sent_bytes += len(chunk)
            if left is not None and left <= 0:
                self.close_connection = True
                return
            time.sleep(web.pause_s)

    def do_PUT(self) -> None:
        path = self._begin()
        body, left = b"", int(self.headers["Content-Length"])
        while left > len(body):
            chunk = self.rfile.read(min(CHUNK, left - len(body)))
            if not chunk:
                return
            body += chunk
            self.web.taken_bytes += len(chunk)
            time.sleep(self.web.pause_s)
        if not self.web.status:
            self.web.put[path] = body
        self._empty(self.web.status or 201)


@contextmanager
def web_server() -> Iterator[Web]:
    web = Web()
    handler = type("Handler", (_Handler,), {"web": web})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        web.url = f"http://127.0.0.1:{server.server_port}/"
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield web
        server.shutdown()


@contextmanager
def s3_server() -> Iterator[str]:
    """Its address; any key opens it."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def s3_client(address: str) -> "boto3.client":
    return boto3.client(
        "s3",
        endpoint_url=address,
        aws_access_key_id="AKIDTEST",
        aws_secret_access_key="SECRETTEST",
        region_name="us-east-1",
    )


@dataclass
class Sftp:
    """A server with one user, `tester`, whose password is `open sesame`, and who has a key. `root` is its /."""

    root: Path
    known_hosts: Path
    port: int = 0
    private_key: str = ""

    @property
    def url(self) -> str:
        return f"sftp://127.0.0.1:{self.port}/"


@contextmanager
def sftp_server(folder: Path) -> Iterator[Sftp]:
    root = folder / "root"
    root.mkdir(parents=True)
    server = Sftp(root, folder / "known_hosts")
    key = asyncssh.generate_private_key("ssh-ed25519")
    server.private_key = asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode()
    known = asyncssh.import_private_key(server.private_key).convert_to_public()

    class Door(asyncssh.SSHServer):
        def begin_auth(self, username: str) -> bool:
            return True

        def public_key_auth_supported(self) -> bool:
            return True

        def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
            return username == "tester" and key == known

        def password_auth_supported(self) -> bool:
            return True

        def validate_password(self, username: str, password: str) -> bool:
            return (username, password) == ("tester", "open sesame")

    def files(channel: asyncssh.SSHServerChannel) -> asyncssh.SFTPServer:
        return asyncssh.SFTPServer(channel, chroot=str(root).encode())

    loop = asyncio.new_event_loop()
    listening = threading.Event()

    async def listen() -> None:
        made = await asyncssh.create_server(Door, "127.0.0.1", 0, server_host_keys=[key], sftp_factory=files)
        server.port = made.get_port()
        public = key.export_public_key().decode().strip()
        server.known_hosts.write_text(f"[127.0.0.1]:{server.port} {public}\n")
        listening.set()

    def serve() -> None:
        loop.run_until_complete(listen())
        loop.run_forever()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    assert listening.wait(10)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
