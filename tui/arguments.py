"""The command line of gpt-tui."""

from __future__ import annotations

import argparse
from pathlib import Path

import gpt
from gpt import models
from gpt.command_line import Parser, whole_number
from gpt.commands.device_options import add_device, count
from tui import preferences, store

_EXAMPLES = {
    "gpt-tui": "Play with the model that comes with the program",
    "gpt-tui gpt2": "Use GPT-2; a model that is missing is downloaded and converted",
    "gpt-tui --server http://127.0.0.1:8000": "Use a model that vLLM or llama.cpp serves",
    "gpt-tui --score FILE": "Colour a text by how probable each of its tokens is",
}


def _places() -> dict[str, Path]:
    """What the program keeps on the disk."""
    return {"texts": store.home(), "settings": preferences.path(), "models": models.home()}


def parser() -> Parser:
    """The parser of the whole command line."""
    made = Parser(
        prog="gpt-tui",
        usage="gpt-tui [OPTION ...] [MODEL]",
        description="Watch a language model write, in the terminal; play with it, and open it up.",
    )
    _add_start(made.add_argument_group("model and text"))
    _add_server(made.add_argument_group("server"))
    _add_sampling(made.add_argument_group("sampling"))
    _add_speed(made.add_argument_group("speed"))
    _add_browser(made.add_argument_group("browser"))
    made.end(_EXAMPLES, version=f"gpt-tui {gpt.__version__}", places=_places)
    return made


def _add_start(group: argparse._ArgumentGroup) -> None:
    """What the program starts with, and what it leaves."""
    group.add_argument(
        "model",
        nargs="?",
        metavar="MODEL",
        help=f"Name or directory of the model, or @NAME for a server of settings.toml. "
        f"(default: {models.EMBEDDED})",
    )
    begin = group.add_mutually_exclusive_group()
    begin.add_argument(
        "--score",
        metavar="FILE",
        help="Read a text and colour it; - reads stdin. (default: an empty text)",
    )
    begin.add_argument("--last", action="store_true", help="Open the text that was saved last.")
    group.add_argument(
        "--prompt",
        default="",
        metavar="TEXT",
        help="Send this prompt at the start. (default: none)",
    )
    group.add_argument("--chat", action="store_true", help="Treat each prompt as a chat message.")
    group.add_argument(
        "--system",
        default="",
        metavar="TEXT",
        help="What a chat model is told before the first message. (default: what its template "
        "says)",
    )
    group.add_argument("--print", action="store_true", help="Print the text at the end.")


def _add_server(group: argparse._ArgumentGroup) -> None:
    """A model that runs elsewhere."""
    group.add_argument(
        "--server",
        metavar="URL",
        help="Ask the server at this address; MODEL is then its name for the model. "
        "(default: run the model on this machine)",
    )
    group.add_argument(
        "--api-key-env",
        metavar="NAME",
        help="Environment variable that has the server's key. (default: no key)",
    )
    group.add_argument(
        "--allow-http",
        action="store_true",
        help="Send texts and keys to another machine without encryption. (default: ask)",
    )


def _add_sampling(group: argparse._ArgumentGroup) -> None:
    """How tokens are drawn; the other settings are on the screen."""
    group.add_argument(
        "--seed",
        type=count,
        metavar="N",
        help="Random seed of every run. (default: another one for each run)",
    )
    group.add_argument(
        "-n",
        "--length",
        type=count,
        metavar="N",
        help="A run writes at most N tokens. (default: as in the settings)",
    )


def _add_speed(group: argparse._ArgumentGroup) -> None:
    """How the model runs."""
    add_device(group, "what suits the model, at most all cores but one")
    group.add_argument(
        "--compile",
        action="store_const",
        const="on",
        default="auto",
        help="Build faster code for the model in the background, once; also for a GPU. "
        "(default: only on a CPU)",
    )
    group.add_argument(
        "--no-compile",
        dest="compile",
        action="store_const",
        const="off",
        help="Never build faster code.",
    )


def _add_browser(group: argparse._ArgumentGroup) -> None:
    """The program in a browser."""
    group.add_argument(
        "--serve", action="store_true", help="Show the program in a browser on this machine."
    )
    group.add_argument(
        "--port",
        type=whole_number(0, 65535),
        default=8000,
        metavar="N",
        help="Port of --serve on 127.0.0.1. (default: %(default)s)",
    )
    group.add_argument(
        "--no-open",
        action="store_true",
        help="Print the address of --serve and open no browser.",
    )
