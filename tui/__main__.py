"""gpt-tui: arguments, the engine's start, then the interface.

The engine starts before Textual is imported, so that both load at once.
"""

from __future__ import annotations

import argparse
import codecs
import gc
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import gpt
from gpt import models, text_file
from gpt.child import own_code
from gpt.errors import UserError
from gpt.sanitize import one_line, sanitize
from tui import preferences
from tui.backend import Connection
from tui.local_backend import LocalBackend
from tui.store import Entry, entries


def main(argv: list[str] | None = None) -> None:
    """Run the interface; its errors before the first frame are one line and status 1."""
    try:
        _run(_parser().parse_args(argv))
    except KeyboardInterrupt:  # before Textual takes the signals
        sys.exit(130)


def _run(args: argparse.Namespace) -> None:
    if args.serve:
        _serve(args)
        return
    piped = args.score == "-" and not sys.stdin.isatty()
    in_browser = "TEXTUAL_DRIVER" in os.environ
    if not in_browser and not (sys.stdout.isatty() and (sys.stdin.isatty() or piped)):
        sys.exit(
            "error: gpt-tui needs a terminal; for pipes and scripts there is: "
            "python -m gpt complete --json, and python -m gpt score"
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
    gc.disable()  # collecting among modules that are all needed delays the first frame
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
    from tui.screens.main import MainScreen

    main_screen = MainScreen(
        connect,
        connection,
        model,
        prompt=args.prompt,
        text=text.path if text else None,
        score=score,
        seed=args.seed,
        length=args.length,
        chat=args.chat,
        dials=chosen.settings,
    )
    app = GPTApp(main_screen, chosen, problems)
    app.run()
    if args.print:
        print(sanitize(main_screen.document.text))
    sys.exit(app.return_code)


def _serve(args: argparse.Namespace) -> None:
    """The same program in a browser on this machine."""
    from tui.serve import serve

    try:
        model = _find_or_convert(args.model or models.EMBEDDED)
        options = ["--device", args.device, "--dtype", args.dtype]
        options += {"auto": [], "on": ["--compile"], "off": ["--no-compile"]}[args.compile]
        options += ["--threads", str(args.threads)]
        os.environ.update(own_code())
        command = [sys.executable, "-P", "-m", "tui", model, *options]
        serve(command, args.port, opens=not args.no_open)
    except UserError as error:
        sys.exit(f"error: {one_line(str(error))}")


def _check_terminal() -> None:
    """Raise UserError if nothing can be drawn here."""
    if (kind := os.environ.get("TERM", "")) in ("", "dumb"):
        raise UserError(
            f"TERM is {kind!r}: a terminal that cannot move its cursor; use another one, or "
            "python -m gpt complete"
        )
    encoding = getattr(sys.__stderr__, "encoding", None) or "utf-8"
    if codecs.lookup(encoding).name != "utf-8":
        raise UserError(
            f"the terminal's encoding is {encoding}, which cannot show what gpt-tui draws; choose "
            "a UTF-8 locale, for example: LC_ALL=C.UTF-8 gpt-tui"
        )


def _last_text() -> Entry:
    found = entries()
    if not found:
        raise UserError("no text was saved yet; leave --last out")
    return found[0]


def _text_to_score(name: str) -> str:
    """A file's text, or what is piped in; the keys come from the terminal then."""
    if name == "-":
        text = text_file.read_stdin()
        try:
            os.dup2(os.open("/dev/tty", os.O_RDONLY), 0)
        except OSError as error:
            raise UserError(f"there is no terminal for the keys: {error.strerror}") from error
    else:
        text = text_file.read(Path(name))
    if not text:
        raise UserError(f"{name} is empty; there is nothing to score")
    return text


def _find_or_convert(model: str) -> str:
    """A name that the engine knows.

    A model that is not there yet is converted if the person agrees; where that fails, the
    converter has said why and the program ends.
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
    print(f"{missing}; looking whether it can be converted", file=sys.stderr)
    command = [sys.executable, "-P", "-m", "convert", model, "--ask"]
    if status := subprocess.run(command, env=own_code(), check=False).returncode:
        sys.exit(status)
    return name


def _connect(model: str, **how: Any) -> Connection:
    backend = LocalBackend(**how)
    return backend, backend.load(model)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gpt-tui", description="Watch and play a language model from the inside."
    )
    parser.add_argument("model", nargs="?", help="a name or a directory; default: shakespeare")
    begin = parser.add_mutually_exclusive_group()
    begin.add_argument("--score", metavar="FILE", help="read a text and colour it; - is stdin")
    begin.add_argument("--last", action="store_true", help="open the text that was saved last")
    parser.add_argument("--print", action="store_true", help="print the text on leaving")
    parser.add_argument("--prompt", default="", metavar="TEXT", help="send this at once")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument(
        "--dtype", default="auto", choices=["auto", *models.DTYPES], help="how weights are stored"
    )
    parser.add_argument(
        "--threads",
        type=int,
        default=0,
        metavar="N",
        help="of the model; default: as many as suit it, all cores but one at most",
    )
    parser.add_argument(
        "--compile",
        action="store_const",
        const="on",
        default="auto",
        help="build faster code for the model in the background, once, for a GPU as well",
    )
    parser.add_argument(
        "--no-compile", dest="compile", action="store_const", const="off", help="and for no device"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="repeat the same dice every run")
    parser.add_argument("-n", "--length", type=int, metavar="N", help="tokens of a run")
    parser.add_argument("--chat", action="store_true", help="what you send is a turn")
    parser.add_argument("--serve", action="store_true", help="in a browser, on 127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, metavar="N", help="of --serve; 8000")
    parser.add_argument(
        "--no-open", action="store_true", help="--serve only prints the address, opens no browser"
    )
    parser.add_argument("--version", action="version", version=f"gpt-tui {gpt.__version__}")
    return parser


if __name__ == "__main__":
    main()
