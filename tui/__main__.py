"""gpt-tui: arguments, the engine's start, then the interface.

The engine starts before Textual is imported, so that both load at once.
"""

from __future__ import annotations

import argparse
import gc
import sys
from functools import partial
from typing import TYPE_CHECKING

import gpt
from gpt import models
from gpt.errors import UserError
from gpt.sanitize import one_line

if TYPE_CHECKING:
    from tui.screens.main import Connection


def main(argv: list[str] | None = None) -> None:
    """Run the interface; its errors before the first frame are one line and status 1."""
    args = _parser().parse_args(argv)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        sys.exit(
            "error: gpt-tui needs a terminal; for pipes and scripts there is: "
            "python -m gpt complete --json"
        )
    try:
        models.read_manifest(models.find(args.model))
    except UserError as error:
        sys.exit(f"error: {one_line(str(error))}")
    gc.disable()  # collecting among modules that are all needed delays the first frame
    connect = partial(_connect, args.device, args.dtype)
    connection = connect(args.model)

    from tui.app import GPTApp

    app = GPTApp(
        connect, connection, args.model, prompt=args.prompt, seed=args.seed, length=args.length
    )
    app.run()
    sys.exit(app.return_code)


def _connect(device: str, dtype: str, model: str) -> Connection:
    from tui.backend import LocalBackend

    backend = LocalBackend(device, dtype)
    return backend, backend.load(model)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gpt-tui", description="Watch and play a language model from the inside."
    )
    parser.add_argument("model", nargs="?", default=models.EMBEDDED, help="a name or a directory")
    parser.add_argument("--prompt", default="", metavar="TEXT", help="send this at once")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument(
        "--dtype", default="auto", choices=["auto", "float32", "float16", "bfloat16"]
    )
    parser.add_argument("--seed", type=int, metavar="N", help="repeat the same dice every run")
    parser.add_argument("-n", "--length", type=int, metavar="N", help="tokens of a run")
    parser.add_argument("--version", action="version", version=f"gpt-tui {gpt.__version__}")
    return parser


if __name__ == "__main__":
    main()
