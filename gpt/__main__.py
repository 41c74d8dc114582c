"""Language models on the command line: continue, score, measure, list, train and evaluate."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from types import ModuleType

import gpt
from gpt.command_line import Parser
from gpt.commands import chat, complete, inspect, models, running, score, server_options, servers
from gpt.errors import UsageError, UserError
from gpt.sanitize import one_line

_PROGRAM = "python -m gpt"
_COMMANDS = {
    "complete": ("[PROMPT]", "Continue a text."),
    "chat": ("[MODEL]", "Chat with a model, a turn on each line."),
    "score": (
        "FILE | --prompt TEXT --options TEXT ...",
        "Show how probable each token of a text is.",
    ),
    "inspect": ("WHAT MODEL [TEXT]", "Look inside a model."),
    "bench": ("", "Measure the speed of a model on this machine."),
    "models": ("", "List the models, check the files of one, or list its special tokens."),
    "servers": ("URL", "Show what a server that has a model can do."),
    "train": ("", "Train a model on a text."),
    "evaluate": ("[MODEL]", "Measure a model's loss on a text."),
}
"""Command → its arguments, without options, and what it does."""
_EXAMPLES = {
    'python -m gpt complete "ROMEO:" --temperature 0.8': "Continue a line of Shakespeare",
    "python -m gpt train --preset 128 --data FILE --out my-model": "Train a model on a text",
    "python -m gpt complete --help": "See the options of a command",
}
_OF_BENCH = {
    "python -m gpt bench": "Measure the model that comes with the program",
    "python -m gpt bench --model gpt2 --dtype float32": "Measure GPT-2 without rounded weights",
}
_FOR_PIPES = {"complete": complete, "chat": chat, "score": score}


def main(argv: list[str] | None = None) -> None:
    """Run one command. An error that a person can act on is one line, with status 1."""
    argv = sys.argv[1:] if argv is None else argv
    args = _parser(argv).parse_args(argv)
    if sys.stdout is None:
        sys.exit("error: stdout is closed, so nothing can be printed")
    if sys.stdin is None:  # stdin is closed
        sys.stdin = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115
    if hasattr(sys.stdout, "reconfigure"):
        # A model may write any character; one that stdout's encoding lacks is replaced.
        sys.stdout.reconfigure(errors="replace")
    try:
        args.run(args)
        sys.stdout.flush()
    except UsageError as error:
        args.refuse(str(error))
    except UserError as error:
        sys.exit(f"error: {one_line(str(error))}")
    except KeyboardInterrupt:
        _quit_quietly(130)
    except BrokenPipeError:
        _quit_quietly(141)
    except OSError as error:
        action = f"use {error.filename}" if error.filename else "write stdout"
        _quit_quietly(f"error: cannot {one_line(action)}: {error.strerror}")


def _quit_quietly(status: int | str) -> None:
    """Exit with a status, or with a message and status 1."""
    # Python flushes stdout again at exit; without this, a closed pipe would cause a second error.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(status)


def _parser(argv: list[str]) -> Parser:
    """The parser of all commands; `train` and `evaluate` only get options if they are asked for."""
    parser = Parser(
        prog=_PROGRAM,
        usage=f"{_PROGRAM} COMMAND [OPTION ...]",
        description="Continue and score texts with language models; train and measure the models.",
    )
    group = parser.add_subparsers(
        title="commands",
        prog=_PROGRAM,
        required=True,
        metavar="COMMAND",
        help="What to do; each command has its own --help.",
    )
    commands = {
        name: group.add_parser(
            name,
            usage=f"{_PROGRAM} {name} [OPTION ...] {arguments}".rstrip(),
            help=text,
            description=text,
        )
        for name, (arguments, text) in _COMMANDS.items()
    }
    for each in commands.values():
        each.set_defaults(refuse=each.error, default_of=each.get_default)
    parser.end(_EXAMPLES, version=f"gpt-tui {gpt.__version__}")
    models.add_arguments(commands["models"])
    servers.add_arguments(commands["servers"])
    commands["servers"].set_defaults(run=servers.run)
    commands["servers"].end(servers.EXAMPLES)
    _add_inspect(commands["inspect"])
    _add_bench(commands["bench"])
    for name, command in _FOR_PIPES.items():
        _add_for_pipes(commands[name], command)
    # Their options are read from classes whose modules import torch.
    if argv[:1] == ["train"]:
        from gpt.training import command as training

        training.add_arguments(commands["train"])
        commands["train"].set_defaults(run=training.run)
    if argv[:1] == ["evaluate"]:
        from gpt.training import evaluate_command

        evaluate_command.add_arguments(commands["evaluate"])
        commands["evaluate"].set_defaults(run=evaluate_command.run)
    return parser


def _add_for_pipes(parser: Parser, command: ModuleType) -> None:
    """The options of a command that asks a model on this machine or at a server."""
    command.add_arguments(parser)
    parser.set_defaults(run=lambda args: running.ask(args, command.run))
    if command is not chat:  # it has the model as an argument
        running.add_model(parser)
    server_options.add_server(parser)
    running.add_speed(parser)
    parser.end(command.EXAMPLES)


def _add_inspect(parser: Parser) -> None:
    inspect.add_arguments(parser)
    running.add_speed(parser)
    parser.set_defaults(
        run=lambda args: inspect.run(args, lambda: running.load_model(args).context)
    )
    parser.end(inspect.EXAMPLES)


def _add_bench(parser: Parser) -> None:
    parser.add_argument_group("output").add_argument(
        "--json", action="store_true", help=running.JSON
    )
    running.add_model(parser)
    running.add_speed(parser)
    parser.set_defaults(run=_bench)
    parser.end(_OF_BENCH)


def _bench(args: argparse.Namespace) -> None:
    from gpt.commands import bench

    bench.run(lambda: running.load_model(args), as_json=args.json)


if __name__ == "__main__":
    main()
