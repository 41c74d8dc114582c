"""Convert a model of Hugging Face, or a GGUF file, to a checkpoint of gpt-tui."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import gpt
from convert.events import CheckpointFound, Event, Notice, OnEvent
from gpt import known_models, models
from gpt.command_line import Parser, listed, one_of
from gpt.errors import UserError
from gpt.sanitize import one_line

if TYPE_CHECKING:
    from rich.progress import TaskID


def main(argv: list[str] | None = None) -> None:
    """Run the command. A UserError is printed in one line and the exit status is 1."""
    args = _parser().parse_args(argv)
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number and signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores SIGHUP
            signal.signal(number, _exit)
    try:
        with _json_lines() if args.json else _bars(ask=args.ask) as on_event:
            result = _convert(args, on_event)
        if args.json:
            _print_json(event="done", **result)
        else:
            print(_summary(result))
        sys.stdout.flush()
    except UserError as error:
        if args.json:
            _print_json(event="error", text=one_line(str(error)))
        sys.exit(f"error: {one_line(str(error))}")
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # otherwise Python prints an error at exit
        sys.exit(141)


_PROGRAM = "python -m convert"
_EXAMPLES = {
    "python -m convert gpt2": "Download, convert and verify GPT-2, then open it with: gpt-tui gpt2",
    "python -m convert facebook/opt-125m --dtype float16": "Store OPT in half the space",
    "python -m convert DIR --name mine": "Convert a model that save_pretrained wrote",
}


class _List(argparse.Action):
    """Prints models worth trying and ends the program; downloads nothing."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        """Print the table."""
        print(known_models.table())
        print("Sizes are about. To download and convert one, and then open it: gpt-tui MODEL")
        parser.exit()


def _parser() -> Parser:
    parser = Parser(prog=_PROGRAM, usage=f"{_PROGRAM} [OPTION ...] MODEL", description=__doc__)
    group = parser.add_argument_group("input")
    group.add_argument(
        "model",
        metavar="MODEL",
        help="Name on the Hugging Face hub, a directory, or a GGUF file.",
    )
    group.add_argument(
        "--list", action=_List, nargs=0, help="Print models worth trying, with their sizes."
    )
    group.add_argument(
        "--file",
        metavar="NAME",
        help="Convert this GGUF file of MODEL. (default: its safetensors or PyTorch weights)",
    )
    group.add_argument(
        "--revision",
        metavar="REV",
        help="Branch, tag or commit on the hub. (default: the main branch)",
    )
    group.add_argument(
        "--ask", action="store_true", help="Show the size and ask first. (default: start at once)"
    )
    _add_output(parser.add_argument_group("output"))
    group = parser.add_argument_group("verification")
    group.add_argument(
        "--verify",
        action=argparse.BooleanOptionalAction,
        help="Compare with transformers before installing. (default: compare)",
    )
    parser.set_defaults(verify=True)  # a default above would be added to the help by Python 3.11
    parser.end(
        _EXAMPLES,
        version=f"gpt-tui {gpt.__version__}",
        places=lambda: {"models": models.home()},
    )
    return parser


def _add_output(group: argparse._ArgumentGroup) -> None:
    """The options that say what is written, and where."""
    group.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="Write this directory. (default: one among your models)",
    )
    group.add_argument(
        "--name", metavar="NAME", help="Name of the new model. (default: as in the source)"
    )
    dtypes = (*models.DTYPES, "keep")
    group.add_argument(
        "--dtype",
        type=one_of(dtypes),
        metavar="DTYPE",
        default="keep",
        help=f"Dtype of the stored weights: {listed(dtypes)}, which is that of the source. "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--force",
        action="store_true",
        help="Replace an existing checkpoint. (default: refuse)",
    )
    group.add_argument(
        "--json",
        action="store_true",
        help="Print progress and the result as JSON lines on stdout. (default: show bars)",
    )


def _exit(number: int, frame: object) -> NoReturn:
    """End the program by an exception, so that the draft is removed."""
    sys.exit(128 + number)


def _convert(args: argparse.Namespace, on_event: OnEvent) -> dict[str, Any]:
    from convert.write import ConversionOptions, convert  # imports torch, which takes seconds

    options = ConversionOptions(args.out, args.dtype, args.revision, args.force, args.file)
    result = convert(
        args.model, name=args.name, verify=args.verify, options=options, on_event=on_event
    )
    return {**asdict(result), "directory": str(result.directory)}


def _summary(result: dict[str, Any]) -> str:
    found = result["verification"]
    checked = f"not verified ({found.get('reason')})"
    if found["status"] == "passed":
        checked = (
            f"verified against transformers {found['transformers']} on {found['n_tokens']} tokens: "
            f"logits differ by at most {found['logits']:.2g}, "
            f"log-probabilities by {found['logprobs']:.2g}"
        )
    return one_line(f"{result['name']} is ready in {result['directory']}") + "\n" + checked


def _print_json(**values: Any) -> None:
    print(json.dumps(values), flush=True)


@contextmanager
def _json_lines() -> Iterator[OnEvent]:
    """Print every event as a line of JSON on stdout."""

    def on_event(event: Event) -> None:
        values = asdict(event)
        if isinstance(event, Notice):
            values["text"] = one_line(event.text)
        _print_json(event=event.json_name, **values)

    yield on_event


@contextmanager
def _bars(*, ask: bool) -> Iterator[OnEvent]:
    """Show a progress bar per file and one in total on stderr, if that is a terminal.

    ask: ask the user whether to continue once the size is known.
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn

    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    text = TextColumn("{task.description}", markup=False)
    columns = (SpinnerColumn("line"), text, BarColumn(), DownloadColumn())
    bars = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    with bars:
        tasks: dict[str, TaskID] = {}

        def show(name: str, label: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(label)
            if not done:
                # Otherwise the spinner of a phase that is done stands still.
                bars.reset(tasks[name], description=label, total=total)
            bars.update(tasks[name], description=label, completed=done, total=total)

        def on_event(event: Event) -> None:
            if isinstance(event, Notice):
                console.print(f"note: {one_line(event.text)}", soft_wrap=True)
            elif isinstance(event, CheckpointFound):
                if ask:
                    bars.stop()
                    _ask(event)
                    bars.start()
            else:
                show("file", one_line(event.file)[:40] or "-", event.file_done, event.file_total)
                show("total", event.phase, event.done, event.total)

        yield on_event


def _ask(found: CheckpointFound) -> None:
    """Ask whether to convert. Raises UserError if the user declines."""
    verb = "Download and convert" if found.kind == "hub" else "Convert"
    size, place = f"{found.n_bytes / 1e6:,.1f} MB", one_line(found.directory)
    if found.source_bytes is None:
        said = f"({size})? The model goes into {place}."
    else:
        said = f"({found.source_bytes / 1e6:,.1f} MB)? The model takes {size} in {place}."
    sys.stderr.write(f"{verb} {one_line(found.model)} {said} [Y/n] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("", "y", "yes"):
        raise UserError("nothing was converted")


if __name__ == "__main__":
    main()
