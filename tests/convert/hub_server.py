"""A server on the loopback address that imitates the hub: its API, its files and its faults."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants

PORTAL = b"<!DOCTYPE html><html><body>Welcome to the hotel. Please log in.</body></html>"


@dataclass(frozen=True)
class Request:
    """A request that the hub saw."""

    method: str
    path: str
    range: str | None


@dataclass
class Fault:
    """An answer in the place of the right one."""

    method: str
    """A pattern of the method: GET, HEAD, or . for all."""
    path: str
    """A pattern that is searched in the path."""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    break_at: int | None = None
    """Bytes after which the right answer breaks off."""
    times: int | None = None
    """How often; None for ever."""


@dataclass
class Hub:
    """What the hub holds and does; a test may change it at any time."""

    url: str = ""
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """Model → name of a file → its bytes."""
    other_names: dict[str, str] = field(default_factory=dict)
    """Names that it forwards."""
    ranges: bool = True
    """Whether a part of a file may be asked for."""
    faults: list[Fault] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    def add(self, model: str, directory: Path) -> None:
        """Hold what a directory holds."""
        self.repositories[model] = {
            path.relative_to(directory).as_posix(): path.read_bytes()
            for path in directory.rglob("*")
            if path.is_file()
        }

    def fault(self, method: str, path: str, status: int = 200, **options: object) -> None:
        """Answer wrongly from now on."""
        self.faults.append(Fault(method, path, status, **options))  # type: ignore[arg-type]

    def commit(self, model: str) -> str:
        """The commit of a model, which changes with its files."""
        files = sorted(self.repositories[model].items())
        return hashlib.sha1(repr(files).encode(), usedforsecurity=False).hexdigest()

    def fetched(self) -> list[str]:
        """The files that were asked for, in order."""
        asked = [request.path for request in self.requests if request.method == "GET"]
        found = [re.search("/resolve/[^/]*/(.*)", path) for path in asked]
        return [match[1] for match in found if match]

    def take_fault(self, method: str, path: str) -> Fault | None:
        """The fault of a request, which is used up by it."""
        for fault in self.faults:
            if fault.times != 0 and re.match(fault.method, method) and re.search(fault.path, path):
                if fault.times is not None:
                    fault.times -= 1
                return fault
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    hub: Hub

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is printed."""

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(Request(self.command, path, self.headers["Range"]))
        fault = self.hub.take_fault(self.command, path)
        if fault and fault.break_at is None:
            self._send(fault.status, fault.body, fault.headers)
        elif match := re.fullmatch(r"/api/models/(.+?)(?:/revision/(.+))?", path):
            self._model(match[1], match[2])
        elif match := re.fullmatch(r"/(.+?)/resolve/([^/]+)/(.+)", path):
            self._file(match[1], match[2], match[3], fault.break_at if fault else None)
        else:
            self._send(404, b"{}", {})

    def _refused(self, model: str, revision: str | None) -> bool:
        """Forward a name, or say that there is no such model or revision."""
        if name := self.hub.other_names.get(model):
            place = self.path.replace(f"/{model}", f"/{name}", 1)
            self._send(307, b"", {"Location": place})
        elif model not in self.hub.repositories:
            text = "Invalid username or password."
            self._send(401, _error(text), {"X-Error-Code": "RepoNotFound", "X-Error-Message": text})
        elif revision not in (None, "main", self.hub.commit(model)):
            self._send(404, _error("Revision Not Found"), {"X-Error-Code": "RevisionNotFound"})
        else:
            return False
        return True

    def _model(self, model: str, revision: str | None) -> None:
        if self._refused(model, revision):
            return
        files = [
            {"rfilename": name, "size": len(body), "blobId": _etag(body)}
            for name, body in self.hub.repositories[model].items()
        ]
        found = {"id": model, "sha": self.hub.commit(model), "siblings": files}
        self._send(200, json.dumps(found).encode(), {"Content-Type": "application/json"})

    def _file(self, model: str, revision: str, name: str, break_at: int | None) -> None:
        if self._refused(model, revision):
            return
        body = self.hub.repositories[model].get(name)
        if body is None:
            self._send(404, _error("Entry not found"), {"X-Error-Code": "EntryNotFound"})
            return
        headers = {"X-Repo-Commit": self.hub.commit(model), "ETag": f'"{_etag(body)}"'}
        start = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        if start and self.hub.ranges:
            place = int(start[1])
            headers["Content-Range"] = f"bytes {place}-{len(body) - 1}/{len(body)}"
            self._send(206, body[place:], headers, break_at)
        else:
            self._send(200, body, headers, break_at)

    def _send(
        self, status: int, body: bytes, headers: Mapping[str, str], break_at: int | None = None
    ) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:break_at])
        if break_at is not None:
            self.close_connection = True


def _etag(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _error(text: str) -> bytes:
    return json.dumps({"error": text}).encode()


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub on a port of its own, until the block ends."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        hub.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that the client is set up for, with an empty cache and without a token."""
    with serving() as served:
        settings = {
            "ENDPOINT": served.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": served.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(tmp_path / "cache"),
            "HF_HUB_OFFLINE": False,
            "HF_TOKEN_PATH": str(tmp_path / "token"),
            "AGENT_HARNESSES_PATH": str(tmp_path / "harnesses.json"),
        }
        for name, value in settings.items():
            monkeypatch.setattr(constants, name, value, raising=False)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield served


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that would have been waited; nothing waits."""
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    return waited
