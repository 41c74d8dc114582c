"""Serves models to another process: JSON lines on stdin and stdout.

`python -m gpt.engine`; docs/engine.md describes the lines. It does not depend on a terminal. torch
is imported with the first model, so that the first line is out at once.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import traceback
from collections.abc import Iterator
from dataclasses import replace
from typing import IO, TYPE_CHECKING

import gpt
from gpt import models
from gpt.errors import UserError
from gpt.protocol import request as requests
from gpt.protocol.inbox import Inbox, Job
from gpt.protocol.local import LocalModels
from gpt.protocol.reply import NobodyListensError, Reply
from gpt.protocol.request import Request, parse

if TYPE_CHECKING:
    from gpt.protocol.remote import RemoteModels


class Engine:
    """Answers requests in their order; only cancel overtakes."""

    def __init__(self, output: IO[str], server: str = "", api_key_env: str = "") -> None:
        """server: address of the server whose models are loaded; empty: models of this machine.
        api_key_env: name of the environment variable that has its key."""
        self._output = output
        self._inbox = Inbox()
        self._reply = Reply(output, Job(None))
        """To the request in hand."""
        self._local = LocalModels()
        self._server, self._api_key_env = server, api_key_env
        self._remote: RemoteModels | None = None
        """None until a model at a server is loaded."""

    def read(self, lines: Iterator[bytes]) -> None:
        """Take requests until the input ends. Runs in a thread of its own."""
        self._inbox.read(lines)

    def serve(self) -> None:
        """Answer until the input has ended and everything is answered."""
        self._reply.send("hello", version=gpt.__version__, format_version=models.FORMAT_VERSION)
        while (job := self._inbox.take()) is not None:
            self._reply = Reply(self._output, job)
            try:
                self._answer(job)
            except (NobodyListensError, KeyboardInterrupt):
                raise
            except UserError as error:
                self._reply.send("error", message=str(error))
            except MemoryError:
                self._reply.send("error", message="there is not enough memory for this")
            except BaseException as error:  # a mistake of ours must not take the session with it
                traceback.print_exc()
                name = type(error).__name__
                self._reply.send("error", message=f"the engine failed: {name}: {error}")
            finally:
                self._inbox.close(job)

    def _answer(self, job: Job) -> None:
        """Run an operation. If the GPU fails before its first answer, once more on the CPU."""
        if job.error:
            raise UserError(job.error)
        if job.is_cancelled():
            self._reply.send_cancelled()
            return
        request = parse(job.op, job.values)
        if self._is_for_server(request):
            return
        remote = self._remote
        decode = remote.first_text if remote and remote.has_first() else None
        try:
            self._local.answer(request, self._reply, decode)
        except Exception as error:
            if not (notice := self._local.leave_gpu(error)):
                raise
            if self._reply.has_steps:
                raise UserError(notice) from error
            self._reply.send("status", message=notice, is_notice=True)
            self._local.answer(request, self._reply, decode)

    def _is_for_server(self, request: Request) -> bool:
        """Answer a request that is for a model at a server; False: a model here answers it."""
        if isinstance(request, requests.Load):
            if self._server and request.here and not request.second:
                raise UserError("only a second model can be here while the first is at a server")
            if request.server or (self._server and not request.here):
                self._load_remote(request)
                return True
        if self._remote is None:
            return False
        if isinstance(request, requests.Load | requests.Unload):  # of a model here
            self._remote.forget(request.role)
            return False
        if isinstance(request, requests.Models) and self._remote.has_first():
            self._reply.send("models", models=self._remote.models())
            return True
        if not self._remote.has(request):
            return False
        self._remote.answer(request, self._reply, self._local.decode)
        return True

    def _load_remote(self, request: requests.Load) -> None:
        from gpt.protocol.remote import RemoteModels

        self._remote = self._remote or RemoteModels()
        if not request.server:
            request = replace(request, server=self._server, api_key_env=self._api_key_env)
        self._remote.load(request, self._reply)

    def close(self) -> None:
        """End what was started in the background."""
        self._local.close()
        if self._remote:
            self._remote.close()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m gpt.engine", description=__doc__)
    parser.add_argument("--server", default="", metavar="URL", help="A server that has the models.")
    parser.add_argument(
        "--api-key-env",
        default="",
        metavar="NAME",
        help="Name of the environment variable that has the server's key.",
    )
    return parser.parse_args()


def main() -> None:
    """Serve stdin and stdout; whatever else would print goes to stderr."""
    options = _options()
    if sys.stdout is None:
        sys.exit("error: the engine answers on stdout, which is closed")
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2 if sys.stderr else os.open(os.devnull, os.O_WRONLY), 1)
    engine = Engine(output, options.server, options.api_key_env)
    lines = sys.stdin.buffer if sys.stdin else iter(())
    threading.Thread(target=engine.read, args=(lines,), daemon=True).start()
    try:
        engine.serve()
    except (NobodyListensError, KeyboardInterrupt):
        # The reader is gone; a second failure at exit would only be noise.
        engine.close()
        os._exit(1)
    engine.close()


if __name__ == "__main__":
    main()
