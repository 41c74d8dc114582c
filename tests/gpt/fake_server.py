"""A server on this machine whose every byte a test decides."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

JSON, EVENTS = "application/json", "text/event-stream"


@dataclass
class Answer:
    """What is sent. A list is sent in chunks; `breaks` leaves the last chunk out."""

    body: Any = b""
    status: int = 200
    kind: str = JSON
    headers: dict[str, str] = field(default_factory=dict)
    breaks: bool = False


Route = Answer | Callable[[Any], Answer]
"""An answer, or how it is made from the body of a request."""


def events(*values: Any, done: bool = True, **fields: Any) -> Answer:
    """A stream of events."""
    lines = [f"data: {json.dumps(value)}\n\n".encode() for value in values]
    return Answer(lines + [b"data: [DONE]\n\n"] * done, kind=EVENTS, **fields)


@dataclass
class Fake:
    """A running server."""

    url: str
    routes: dict[str, Route]
    requests: list[tuple[str, Any, dict[str, str]]] = field(default_factory=list)
    """Path, body and headers of each request."""


@contextmanager
def serving(routes: dict[str, Route]) -> Iterator[Fake]:
    """A server with these paths; all others are 404 as vLLM's."""
    fake = Fake("", routes)

    class Handler(BaseHTTPRequestHandler):
        disable_nagle_algorithm = True  # or each answer waits for its header to be acknowledged
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(None)

        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers.get("content-length", 0)))
            self._answer(json.loads(data))

        def _answer(self, body: Any) -> None:
            fake.requests.append((self.path, body, dict(self.headers)))
            route = fake.routes.get(self.path) or Answer({"detail": "Not Found"}, 404)
            answer = route if isinstance(route, Answer) else route(body)
            self.send_response(answer.status)
            self.send_header("content-type", answer.kind)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if isinstance(answer.body, list):
                self._send_chunks(answer)
                return
            data = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body)
            data = data if isinstance(data, bytes) else data.encode()
            self.send_header("content-length", str(len(data) + 10 * answer.breaks))
            self.end_headers()
            self.wfile.write(data)
            self.close_connection = answer.breaks

        def _send_chunks(self, answer: Answer) -> None:
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            try:
                for part in answer.body:
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
                    self.wfile.flush()
                if not answer.breaks:
                    self.wfile.write(b"0\r\n\r\n")
            except OSError:
                pass  # the client had enough
            self.close_connection = answer.breaks

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # the client had enough

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
