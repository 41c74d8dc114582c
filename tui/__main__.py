"""gpt-tui: reads the arguments, starts the engine, then the interface.

The engine starts before Textual is imported, so that both load at once.
"""

from __future__ import annotations

import argparse
import codecs
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

from gpt import models, text_file
from gpt.child import child_environment
from gpt.errors import UserError
from gpt.sanitize import one_line, sanitize
from tui import garbage, preferences
from tui.arguments import parser
from tui.backend import Connection
from tui.local_backend import LocalBackend
from tui.session import Session
from tui.store import Entry, entries


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
        if text and args.model is None:
            args.model = text.model
        model = _find_or_convert(args.model or models.EMBEDDED)
    except UserError as error:
        sys.exit(f"error: {one_line(str(error))}")
    garbage.pause()
    connect = partial(
        _connect,
        device=args.device,
        dtype=args.dtype,
        threads=args.threads,
        compile=args.compile,
    )
    connection = connect(model)
    chosen, problems = preferences.load()

    from tui.app import GPTApp
    from tui.screens.main import MainScreen, Opening

    opening = Opening(
        prompt=args.prompt,
        text=text.path if text else None,
        score=score,
        seed=args.seed,
        length=args.length,
        chat=args.chat or bool(args.system),
        dials=chosen.settings,
    )
    session = Session(connect, connection, model)
    session.system = args.system
    app = GPTApp(MainScreen(session, opening), chosen, problems)
    app.run()
    if args.print:
        print(sanitize(session.document.text))
    sys.exit(app.return_code)


def _serve(args: argparse.Namespace) -> None:
    """Show the program in a browser on this machine."""
    from tui.serve import serve

    try:
        model = _find_or_convert(args.model or models.EMBEDDED)
        options = ["--device", args.device, "--dtype", args.dtype]
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


def _find_or_convert(model: str) -> str:
    """The name of an installed model.

    A missing model is converted if the person agrees. If the converter fails, it has said why, and
    the program ends.
    """
    try:
        models.read_manifest(models.find(model))
        return model
    except models.NoSuchModelError as error:
        missing = one_line(str(error))
    name = Path(model).name
    installed = models.available().get(name)
    if installed and installed.origin.get("model") == model:
        return name
    print(f"{missing}; trying to convert it", file=sys.stderr)
    command = [sys.executable, "-P", "-m", "convert", model, "--ask"]
    if status := subprocess.run(command, env=child_environment(), check=False).returncode:
        sys.exit(status)
    return name


def _connect(model: str, **how: Any) -> Connection:
    backend = LocalBackend(**how).start()
    return backend, backend.load(model)


if __name__ == "__main__":
    main()
