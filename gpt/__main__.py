"""Language models on the command line: continue, score, measure, list, train and evaluate."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import gpt
from gpt import chat_command, complete_command, models, score_command
from gpt.command_line import Parser, listed, one_of
from gpt.errors import UserError
from gpt.sanitize import one_line

if TYPE_CHECKING:
    from gpt.loaded import LoadedModel


_PROGRAM = "python -m gpt"
_COMMANDS = {
    "complete": ("[PROMPT]", "Continue a text."),
    "chat": ("[MODEL]", "Chat with a model, a turn on each line."),
    "score": (
        "FILE | --prompt TEXT --options TEXT ...",
        "Show how probable each token of a text is.",
    ),
    "bench": ("", "Measure the speed of a model on this machine."),
    "models": ("", "List the models, check the files of one, or list its special tokens."),
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
_OF_MODELS = {
    "python -m gpt models": "List all models",
    "python -m gpt models --check shakespeare": "Look for damage in the files of one",
    "python -m gpt models --special shakespeare": "List the special tokens of one",
}
_JSON = "Print JSON objects, one on a line. (default: print a table)"


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
        _check(args)
        args.run(args)
        sys.stdout.flush()
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


def _check(args: argparse.Namespace) -> None:
    """Refuse values that no command can use."""
    if not 0 <= getattr(args, "top", 0) < 2**31:
        raise UserError(f"--top is {args.top}; it must be from 0 to {2**31 - 1}")
    if not all(getattr(args, "stop", ())):
        raise UserError("--stop is empty; it must have at least one character")


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
    parser.end(_EXAMPLES, version=f"gpt-tui {gpt.__version__}")
    _add_to_models(commands["models"])
    complete, chat, score, bench = (
        commands[name] for name in ("complete", "chat", "score", "bench")
    )
    complete_command.add_arguments(complete)
    complete.set_defaults(run=lambda args: complete_command.run(args, lambda: _load(args).context))
    chat_command.add_arguments(chat)
    chat.set_defaults(run=lambda args: chat_command.run(args, lambda: _load(args)))
    score_command.add_arguments(score)
    score.set_defaults(run=lambda args: score_command.run(args, lambda: _load(args).context))
    bench.add_argument_group("output").add_argument("--json", action="store_true", help=_JSON)
    bench.set_defaults(run=_bench)
    of_model = {
        complete: complete_command.EXAMPLES,
        chat: chat_command.EXAMPLES,
        score: score_command.EXAMPLES,
        bench: _OF_BENCH,
    }
    for command, examples in of_model.items():
        if command is not chat:  # it has the model as an argument
            _add_model(command)
        _add_speed(command)
        command.end(examples)
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


def _add_to_models(parser: Parser) -> None:
    """The options of the command `models`."""
    group = parser.add_argument_group("input and output")
    group.add_argument(
        "--check",
        metavar="NAME",
        help="Compare the files of this model with their SHA-256 digests. (default: list models)",
    )
    group.add_argument(
        "--special",
        metavar="NAME",
        help="List the special tokens of this model. (default: list models)",
    )
    group.add_argument("--json", action="store_true", help=_JSON)
    parser.end(_OF_MODELS, places=lambda: {"models": models.home()})
    parser.set_defaults(run=_models)


def _add_model(parser: Parser) -> None:
    """The option that says which model runs."""
    model = parser.add_argument_group("model")
    model.add_argument(
        "--model",
        default=models.EMBEDDED,
        metavar="NAME",
        help="Name or directory of the model. (default: %(default)s)",
    )


def _add_speed(parser: Parser) -> None:
    """The options that say how a model runs."""
    speed = parser.add_argument_group("speed")
    speed.add_argument(
        "--device",
        default="auto",
        metavar="DEVICE",
        help="Device: auto, cpu, cuda, cuda:N or mps. (default: %(default)s)",
    )
    dtypes = ("auto", *models.DTYPES)
    speed.add_argument(
        "--dtype",
        type=one_of(dtypes),
        default="auto",
        metavar="DTYPE",
        help=f"Dtype of the weights in memory: {listed(dtypes)}. (default: %(default)s)",
    )
    speed.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="Number of threads on the CPU. (default: what suits the model)",
    )
    speed.add_argument(
        "--compile",
        action="store_true",
        help="Build machine code for the model first, and keep it. (default: use what was built)",
    )


def _load(args: argparse.Namespace) -> LoadedModel:
    """Load a model as the options say. Prints notices on stderr."""
    directory = models.find(args.model)
    from gpt.loaded import RunOptions, load_model

    compile = "on" if args.compile else "off"
    options = RunOptions(args.device, args.dtype, args.threads, compile=compile)
    loaded = load_model(directory, options)
    notices = [loaded.notice]
    if loaded.build:
        loaded.build.wait()
        notices.append(loaded.build.notice)
    for notice in filter(None, dict.fromkeys(notices)):
        print(f"note: {one_line(notice)}", file=sys.stderr)
    return loaded


def _bench(args: argparse.Namespace) -> None:
    from gpt import bench

    bench.run(lambda: _load(args), as_json=args.json)


def _models(args: argparse.Namespace) -> None:
    if args.check is not None:
        _check_files(args.check, as_json=args.json)
        return
    if args.special is not None:
        _list_special(args.special, as_json=args.json)
        return
    for name, manifest in models.available().items():
        if args.json:
            print(json.dumps({"name": name, **asdict(manifest)}))
        else:
            size = sum(facts["size"] for facts in manifest.files.values())
            origin = " ".join(str(manifest.origin.get(key, "")) for key in ("kind", "model"))
            print(
                f"{one_line(name):24} {manifest.n_params / 1e6:9.1f}M parameters "
                f"{size / 1e6:9.1f} MB  {one_line(manifest.dtype):9} {one_line(origin.strip())}"
            )


def _list_special(model: str, *, as_json: bool) -> None:
    """Print id and name of the tokens that are not pieces of text."""
    from gpt import tokenizer_files

    added = tokenizer_files.load(models.find(model)).added_tokens
    if not added and not as_json:
        print(f"{one_line(model)} has no special tokens")
    for name, i in sorted(added.items(), key=lambda item: item[1]):
        print(json.dumps({"token_id": i, "name": name}) if as_json else f"{i:8} {one_line(name)}")


def _check_files(model: str, *, as_json: bool) -> None:
    """Read every byte of a model and say which files changed after they were written."""
    directory = models.find(model)
    from gpt.checkpoint import damaged

    files = models.read_manifest(directory).files
    bad = damaged(directory)
    if as_json:
        print(json.dumps({"name": model, "files": len(files), "damaged": bad}))
    elif not bad:
        print(f"{one_line(model)}: {len(files)} files are unchanged")
    if bad:
        raise UserError(
            f"{', '.join(bad)} in {directory} changed after it was written; "
            "convert or train the model again"
        )


if __name__ == "__main__":
    main()
