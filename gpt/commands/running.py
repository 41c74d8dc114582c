"""What several commands share: the options that say how a model runs, and the model itself."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

from gpt import models
from gpt.command_line import Parser, whole_number
from gpt.commands import device_options, server_options
from gpt.errors import UsageError
from gpt.sanitize import one_line
from gpt.typed_values import LARGEST

if TYPE_CHECKING:
    from gpt.commands.language_model import LanguageModel
    from gpt.loaded import LoadedModel

JSON = "Print JSON objects, one on a line. (default: print a table)"


def add_model(parser: Parser) -> None:
    """The option that says which model runs."""
    model = parser.add_argument_group("model")
    model.add_argument(
        "--model",
        metavar="NAME",
        help=f"Name or directory of the model. (default: {models.EMBEDDED})",
    )


def add_top(group: argparse._ArgumentGroup) -> None:
    """The option that says how many candidates a Step has."""
    group.add_argument(
        "--top",
        type=whole_number(0, LARGEST),
        default=10,
        metavar="N",
        help="Number of candidates in each Step of --json. (default: %(default)s)",
    )


def add_speed(parser: Parser) -> None:
    """The options that say how a model runs."""
    speed = parser.add_argument_group("speed")
    device_options.add_device(speed)
    speed.add_argument(
        "--compile",
        action="store_true",
        help="Build machine code for the model first, and keep it. (default: use what was built)",
    )


def load_model(args: argparse.Namespace) -> LoadedModel:
    """Load a model as the options say. Prints notices on stderr."""
    directory = models.find(args.model or models.EMBEDDED)
    from gpt import loaded as runs

    compile = "on" if args.compile else "off"
    options = runs.RunOptions(args.device, args.dtype, args.threads or None, compile=compile)
    loaded = runs.load_model(directory, options)
    notices = [loaded.notice]
    if loaded.build:
        loaded.build.wait()
        if getattr(args, "branches", 1) > 1:
            loaded.build.want_branches()
            loaded.build.wait()
        notices.append(loaded.build.notice)
    for notice in filter(None, dict.fromkeys(notices)):
        print(f"note: {one_line(notice)}", file=sys.stderr)
    return loaded


def ask(
    args: argparse.Namespace,
    command: Callable[[argparse.Namespace, Callable[[], LanguageModel]], None],
) -> None:
    """Run a command for pipes, which asks a model at a server or on this machine."""
    if args.server:
        with ExitStack() as opened:
            command(args, lambda: opened.enter_context(closing(server_options.at_server(args))))
    else:
        command(args, lambda: _local(args))


def _local(args: argparse.Namespace) -> LanguageModel:
    """A model of this machine."""
    if args.api_key_env:
        raise UsageError("--api-key-env is for a server; give its address with --server")
    from gpt.commands.local_model import LocalModel

    return LocalModel(load_model(args))
