"""gpt-tui: reads the arguments, starts the engine, then the interface.

The engine starts before Textual is imported, so that both load at once.
"""

from __future__ import annotations

import argparse
import codecs
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import gpt
from gpt import models, text_file
from gpt.child import child_environment
from gpt.errors import UserError
from gpt.sanitize import one_line, sanitize
from tui import garbage, preferences
from tui.backend import Connection
from tui.local_backend import LocalBackend
from tui.session import Session
from tui.store import Entry, entries


def main(argv: list[str] | None = None) -> None:
    """Run the interface; an error before the first frame is one line and exit status 1."""
    try:
        _run(_parser().parse_args(argv))
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
        chat=args.chat,
        dials=chosen.settings,
    )
    session = Session(connect, connection, model)
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


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d{1,3})?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not auto, cpu, cuda, cuda:N or mps")
    return text


def _count(text: str) -> int:
    if not re.fullmatch(r"\d{1,18}", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gpt-tui", description="Watch and play a language model from the inside."
    )
    parser.add_argument("model", nargs="?", help="name or directory; default: shakespeare")
    begin = parser.add_mutually_exclusive_group()
    begin.add_argument("--score", metavar="FILE", help="read a text and colour it; - for stdin")
    begin.add_argument("--last", action="store_true", help="open the latest text")
    parser.add_argument("--print", action="store_true", help="print the text at the end")
    parser.add_argument(
        "--prompt", default="", metavar="TEXT", help="send this prompt at the start"
    )
    parser.add_argument(
        "--device", type=_device, default="auto", help="auto, cpu, cuda, cuda:N or mps"
    )
    parser.add_argument(
        "--dtype",
        default="auto",
        choices=["auto", *models.DTYPES],
        help="number format of the weights",
    )
    parser.add_argument(
        "--threads",
        type=_count,
        default=0,
        metavar="N",
        help="threads of the model; default: chosen for the model, at most all cores but one",
    )
    parser.add_argument(
        "--compile",
        action="store_const",
        const="on",
        default="auto",
        help="build faster code for the model in the background, once; also for a GPU",
    )
    parser.add_argument(
        "--no-compile",
        dest="compile",
        action="store_const",
        const="off",
        help="never build faster code",
    )
    parser.add_argument("--seed", type=_count, metavar="N", help="random seed of every run")
    parser.add_argument("-n", "--length", type=_count, metavar="N", help="most tokens of a run")
    parser.add_argument("--chat", action="store_true", help="each prompt is a message of a chat")
    parser.add_argument(
        "--serve", action="store_true", help="show the program in a browser, on 127.0.0.1"
    )
    parser.add_argument(
        "--port", type=int, default=8000, metavar="N", help="port of --serve; default: 8000"
    )
    parser.add_argument(
        "--no-open", action="store_true", help="--serve prints the address and opens no browser"
    )
    parser.add_argument("--version", action="version", version=f"gpt-tui {gpt.__version__}")
    return parser


if __name__ == "__main__":
    main()
