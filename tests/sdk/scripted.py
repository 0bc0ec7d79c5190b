"""An HTTP server on a free port that answers from a script: for what a real hub cannot be asked to do on demand
(lose an answer, be something else than a hub, be away for a while)."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from pydantic import BaseModel

from yunhe.core.errors import YunheError
from yunhe.wire.problem import CONTENT_TYPE, to_problem


@dataclass
class Reply:
    body: bytes = b"{}"
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    drop: bool = False  # close the connection without an answer


@dataclass
class Seen:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Script:
    """Replies in order; the last one is repeated."""

    url: str
    replies: deque[Reply]
    seen: list[Seen] = field(default_factory=list)

    def say(self, *replies: Reply | BaseModel | YunheError) -> None:
        self.replies.clear()
        self.replies.extend(map(as_reply, replies))


def as_reply(answer: Reply | BaseModel | YunheError) -> Reply:
    if isinstance(answer, Reply):
        return answer
    if isinstance(answer, BaseModel):
        return Reply(answer.model_dump_json().encode())
    problem = to_problem(answer, "test-request")
    return Reply(problem.model_dump_json().encode(), problem.status, {"Content-Type": CONTENT_TYPE})


@contextmanager
def scripted_hub() -> Iterator[Script]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            script.seen.append(Seen(self.command, self.path, headers, body))
            reply = script.replies.popleft() if len(script.replies) > 1 else script.replies[0]
            if reply.drop:
                self.close_connection = True
                return
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)

        do_GET = do_POST = do_PUT = do_DELETE = answer

        def log_message(self, *arguments: object) -> None:
            """The test's output is for the test."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    script = Script(f"http://127.0.0.1:{server.server_address[1]}", deque())
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield script
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
