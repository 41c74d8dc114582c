"""gpt-tui: reads the arguments, starts the engine, then the interface.

The engine starts before Textual is imported, so that both load at once.
"""

from __future__ import annotations

import argparse
import codecs
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from gpt import text_file
from gpt.child import child_environment
from gpt.errors import UserError
from gpt.sanitize import one_line, sanitize
from tui import garbage, preferences
from tui.arguments import parser
from tui.backend import Connection
from tui.find_model import find_or_convert
from tui.local_backend import LocalBackend
from tui.saved_text import Entry
from tui.server_start import model_at_start
from tui.servers import Servers
from tui.session import Session
from tui.store import entries


def main(argv: list[str] | None = None) -> None:
    """Run the interface; an error before the first frame is one line and exit status 1."""
    try:
        _run(parser().parse_args(argv))
    except KeyboardInterrupt:  # before Textual handles signals
        sys.exit(130)


def _run(args: argparse.Namespace) -> None:
    if sys.stdout is None or (sys.stdin is None and not args.serve):
        sys.exit("error: gpt-tui needs a terminal, and stdin or stdout is closed")
    if args.serve:
        _serve(args)
        return
    piped = args.score == "-" and not sys.stdin.isatty()
    in_browser = "TEXTUAL_DRIVER" in os.environ
    if not in_browser and not (sys.stdout.isatty() and (sys.stdin.isatty() or piped)):
        sys.exit(
            "error: gpt-tui needs a terminal; for pipes and scripts use "
            "python -m gpt complete --json or python -m gpt score"
        )
    try:
        if not in_browser:
            _check_terminal()
        text = _last_text() if args.last else None
        score = _text_to_score(args.score) if args.score else ""
        chosen, problems = preferences.load()
        model, servers = model_at_start(args, chosen, text.model if text else "")
        if servers.find(model) is None:
            model = find_or_convert(model)
    except UserError as error:
        sys.exit(f"error: {one_line(str(error))}")
    garbage.pause()
    connect = partial(
        _connect,
        device=args.device,
        dtype=args.dtype,
        threads=args.threads,
        compile=args.compile,
        servers=servers,
    )
    connection = connect(model)

    from tui.app import GPTApp
    from tui.screens.main import MainScreen, Opening

    opening = Opening(
        prompt=args.prompt,
        text=text.path if text else None,
        score=score,
        seed=args.seed,
        length=args.length,
        chat=args.chat or bool(args.system),
        system=args.system,
        dials=chosen.settings,
    )
    session = Session(connect, connection, model)
    session.servers = servers
    app = GPTApp(MainScreen(session, opening), chosen, problems)
    app.run()
    if args.print:
        print(sanitize(session.document.text))
    _flush()
    sys.exit(app.return_code)


def _flush() -> None:
    """Write what is left; into nothing if the terminal is gone, or Python would end with 120."""
    for stream in filter(None, (sys.stdout, sys.__stderr__)):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _serve(args: argparse.Namespace) -> None:
    """Show the program in a browser on this machine."""
    from tui.serve import serve

    try:
        model, servers = model_at_start(args, preferences.load()[0], "")
        if server := servers.find(model):
            options = ["--allow-http"] * servers.is_allowed(server)
            options += ["--api-key-env", args.api_key_env] if args.api_key_env else []
        else:
            model = find_or_convert(model)
            options = []
        options += ["--device", args.device, "--dtype", args.dtype]
        options += {"auto": [], "on": ["--compile"], "off": ["--no-compile"]}[args.compile]
        options += ["--threads", str(args.threads)]
        os.environ.update(child_environment())
        command = [sys.executable, "-P", "-m", "tui", model, *options]
        serve(command, args.port, opens=not args.no_open)
    except UserError as error:
        sys.exit(f"error: {one_line(str(error))}")


def _check_terminal() -> None:
    """Raise UserError if this terminal cannot show the program."""
    if (kind := os.environ.get("TERM", "")) in ("", "dumb"):
        raise UserError(
            f"TERM is {kind!r}: this terminal cannot move its cursor; use another one, or "
            "python -m gpt complete"
        )
    encoding = getattr(sys.__stderr__, "encoding", None) or "utf-8"
    if codecs.lookup(encoding).name != "utf-8":
        raise UserError(
            f"the terminal's encoding is {encoding}, which lacks characters that gpt-tui draws; "
            "choose a UTF-8 locale, for example: LC_ALL=C.UTF-8 gpt-tui"
        )


def _last_text() -> Entry:
    found = entries()
    if not found:
        raise UserError("no text was saved yet; start without --last")
    return found[0]


def _text_to_score(name: str) -> str:
    """The text of a file, or of stdin; in that case the keys come from /dev/tty."""
    if name == "-":
        text = text_file.read_stdin()
        try:
            os.dup2(os.open("/dev/tty", os.O_RDONLY), 0)
        except OSError as error:
            raise UserError(f"cannot read keys from the terminal: {error.strerror}") from error
    else:
        text = text_file.read(Path(name))
    if not text:
        raise UserError(f"{name} is empty: nothing to score")
    return text


def _connect(model: str, *, servers: Servers, **how: Any) -> Connection:
    if server := servers.find(model):
        servers.check(server)
    backend = LocalBackend(servers=servers, **how).start(server)
    return backend, backend.load(model)


if __name__ == "__main__":
    main()
