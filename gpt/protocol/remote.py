"""Requests that models at servers answer. Imports neither torch nor NumPy."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from gpt.errors import UserError
from gpt.limits import Limits
from gpt.models import Role
from gpt.progress import Watcher
from gpt.protocol import request as requests
from gpt.protocol.reply import Reply, common_reason
from gpt.protocol.request import PathRequest, Request
from gpt.protocol.second import Decode, translated
from gpt.remote.chat import Turn
from gpt.remote.connect import connect
from gpt.remote.loop import RequestCancelledError
from gpt.remote.session import Session

Answer = dict[str, Any]


class RemoteModels:
    """The first and the second model, each at a server."""

    def __init__(self) -> None:
        self._sessions: dict[Role, Session] = {}

    def has(self, request: Request) -> bool:
        """Whether a model at a server answers a request."""
        return request.role in self._sessions

    def has_first(self) -> bool:
        """Whether the first model is at a server."""
        return "first" in self._sessions

    def load(self, request: requests.Load, reply: Reply) -> None:
        """Connect to a server."""
        started = time.perf_counter()
        session = connect(
            request.server,
            request.api_key_env,
            model=request.model,
            probe=request.probe,
            tell=lambda message: reply.send("status", message=message),
        )
        self.forget(request.role)
        self._sessions[request.role] = session
        model = session.model
        reply.send(
            "loaded",
            name=model.name,
            manifest=_manifest(model.n_params),
            config={"vocab_size": model.vocab_size, "block_size": model.block_size},
            **_HOW,
            notice="",
            special_tokens={},
            seconds=time.perf_counter() - started,
            capabilities=session.capabilities.to_dict(),
        )

    def forget(self, role: Role) -> None:
        """Close the connections of a model."""
        if session := self._sessions.pop(role, None):
            session.close()

    def close(self) -> None:
        """Close all connections."""
        for role in list(self._sessions):
            self.forget(role)

    def models(self) -> Answer:
        """The names of the first server's models; none before it was asked."""
        session = self._sessions.get("first")
        return {name: _manifest(0) for name in session.capabilities.models} if session else {}

    def answer(self, request: Request, reply: Reply, decode: Decode) -> None:
        """Answer a request. decode: for a first model that is not at a server."""
        session = self._sessions[request.role]
        if request.role == "second":
            request = self._translated(request, session, decode)
        watcher = Watcher(reply.is_cancelled, reply.tell)
        try:
            if isinstance(request, requests.ChangedRequest) and request.interventions:
                _refuse(session, request, reply, watcher)
            _OPERATIONS.get(type(request), _refuse)(session, request, reply, watcher)
        except RequestCancelledError:
            reply.send_cancelled()

    def first_text(self, ids: Sequence[int], *, whole: bool = True) -> str:
        """The text of ids of the first model. whole: they are a text from its start."""
        first = self._sessions["first"]
        first.check(ids)
        return first.decode(ids, whole=whole)

    def _translated(self, request: Request, session: Session, decode: Decode) -> Request:
        """A request in ids of the first model → the same in ids of the second one."""
        first = self._sessions.get("first")
        if first and _is_same(first, session):
            return request
        text_of = self.first_text if first else decode
        return translated(request, text_of, session.encode, session.encode_more)


def _is_same(a: Session, b: Session) -> bool:
    """Whether two sessions have the same model at the same server, so that ids are the same."""
    return (a.capabilities.address, a.model.name) == (b.capabilities.address, b.model.name)


_HOW = {"device": "server", "dtype": "", "compiled": False}
"""What `loaded` and `done` say of how a model runs."""


def _manifest(n_params: int) -> dict[str, Any]:
    return {"dtype": "", "n_params": n_params, "files": {}, "origin": {"kind": "server"}}


def _path(session: Session, request: PathRequest) -> list[int]:
    """The path of a request."""
    ids = list(request.ids)
    for part in (request.text, *request.segments):
        if isinstance(part, int):
            ids.append(part)
        elif part or (not ids and not request.segments):
            ids += session.encode_more(part) if ids else session.encode(part)
    session.check(ids)
    return ids


def _tokenize(session: Session, request: requests.Tokenize, reply: Reply, watcher: Watcher) -> None:
    ids = session.encode(request.text)
    pieces = session.pieces(ids)
    reply.end("tokens", ids=ids, bytes=[list(pieces[i].bytes) for i in ids])


def _score(session: Session, request: requests.Score, reply: Reply, watcher: Watcher) -> None:
    started = time.perf_counter()
    ids = _path(session, request)
    count, _ = reply.stream("steps", session.score(ids, top=request.top, watcher=watcher))
    reply.send(
        "done",
        finish_reason=None if count == len(ids) else "cancelled",
        tokens=count,
        seconds=time.perf_counter() - started,
    )


def _compare(session: Session, request: requests.Compare, reply: Reply, watcher: Watcher) -> None:
    ids = _path(session, request)
    reply.stream("steps", session.score(ids, top=request.top, watcher=watcher))
    reply.end("compared", divergence=None)  # it needs the whole distributions


def _generate(session: Session, request: requests.Generate, reply: Reply, watcher: Watcher) -> None:
    if request.chat and request.text:
        written = session.turn(request.ids, request.text, request.system)
    else:
        written = Turn(_path(session, request), frozenset())
    ids = written.ids
    limits = Limits(request.max_new_tokens, request.stop, request.slide)
    wanted = [
        session.generate(
            ids,
            request.sampling.branch(i),
            limits,
            top=request.top,
            watcher=Watcher(partial(reply.is_cancelled, i), reply.tell),
        )
        for i in range(request.branches)
    ]
    started = time.perf_counter()
    if request.echo_from is not None:
        steps = session.score(ids, start=request.echo_from, top=request.top, watcher=watcher)
        steps = (
            step._replace(by_template=True) if step.position in written.template else step
            for step in steps
        )
        reply.stream("prompt", steps)
    decoding = time.perf_counter()
    waited_for = ((i, each) for i, each in enumerate(wanted) if not reply.is_cancelled(i))
    count, _ = reply.stream_branches((i, step) for i, each in waited_for for step in each)
    reply.send(
        "done",
        finish_reason=common_reason(each.finish_reason for each in wanted),
        tokens=count,
        prompt_seconds=decoding - started,
        seconds=time.perf_counter() - decoding,
        **_HOW,
    )


def _waterfall(
    session: Session, request: requests.Waterfall, reply: Reply, watcher: Watcher
) -> None:
    left_out = session.left_out(request.sampling)
    if left_out:
        names = ", ".join(name.replace("_", " ") for name in left_out)
        reply.tell(f"not in this table, for the server does not say enough: {names}")
    found = session.waterfall(
        _path(session, request),
        request.sampling,
        chosen=request.chosen,
        top=request.top,
        watcher=watcher,
    )
    reply.end("waterfall", **found.to_dict(), left_out=left_out)


def _paths(session: Session, request: requests.Paths, reply: Reply, watcher: Watcher) -> None:
    if not (1 <= request.width <= 64 and 1 <= request.depth <= 64):
        raise UserError("width and depth must be from 1 to 64")
    ids, width = _path(session, request), request.width
    found = session.paths(ids, width=width, depth=request.depth, watcher=watcher)
    reply.end("paths", paths=[path.to_dict() for path in found])


def _options(session: Session, request: requests.Options, reply: Reply, watcher: Watcher) -> None:
    ids = _path(session, request)
    found = session.options(ids, request.options, top=request.top, watcher=watcher)
    reply.end("options", options=[[step.to_dict() for step in steps] for steps in found])


def _refuse(session: Session, request: Request, reply: Reply, watcher: Watcher) -> None:
    raise UserError("a server does not show its insides")


_OPERATIONS: dict[type[Request], Callable[[Session, Any, Reply, Watcher], None]] = {
    requests.Tokenize: _tokenize,
    requests.Score: _score,
    requests.Compare: _compare,
    requests.Generate: _generate,
    requests.Waterfall: _waterfall,
    requests.Paths: _paths,
    requests.Options: _options,
}
"""All other requests look inside the network."""
