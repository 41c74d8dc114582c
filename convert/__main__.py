"""python -m convert MODEL: a GPT-2 or OPT checkpoint of Hugging Face becomes one of ours."""

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
from convert.events import Event, Found, Notice, Tell
from gpt import models
from gpt.errors import UserError
from gpt.sanitize import one_line

if TYPE_CHECKING:
    from rich.progress import TaskID


def main(argv: list[str] | None = None) -> None:
    """Convert one model. Errors that people can act on are one line and status 1."""
    args = _parser().parse_args(argv)
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number and signal.getsignal(number) != signal.SIG_IGN:  # as nohup wants it
            signal.signal(number, _end)
    try:
        with _json_lines() if args.json else _bars(ask=args.ask) as tell:
            result = _convert(args, tell)
        if args.json:
            _line(event="done", **result)
        else:
            print(_summary(result))
        sys.stdout.flush()
    except UserError as error:
        if args.json:
            _line(event="error", text=one_line(str(error)))
        sys.exit(f"error: {one_line(str(error))}")
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python complains while it exits
        sys.exit(141)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m convert", description=__doc__)
    parser.add_argument("--version", action="version", version=f"gpt-tui {gpt.__version__}")
    parser.add_argument("model", metavar="MODEL", help="a name on the hub, or a directory")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="the new checkpoint; default: among your models"
    )
    parser.add_argument("--name", help="what the model is called; default: as it is called there")
    parser.add_argument(
        "--dtype",
        choices=[*models.DTYPES, "keep"],
        default="keep",
        help="how weights are stored; default: as is",
    )
    parser.add_argument("--revision", metavar="REV", help="a branch, tag or commit on the hub")
    parser.add_argument(
        "--verify",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="compare with transformers before installing",
    )
    parser.add_argument("--force", action="store_true", help="replace a checkpoint that is there")
    parser.add_argument("--ask", action="store_true", help="say how large it is and ask first")
    parser.add_argument("--json", action="store_true", help="progress as JSON lines on stdout")
    return parser


def _end(number: int, frame: object) -> NoReturn:
    """A signal ends the program as an exception would, so that the draft is removed."""
    sys.exit(128 + number)


def _convert(args: argparse.Namespace, tell: Tell) -> dict[str, Any]:
    from convert.write import convert  # imports torch, which takes seconds

    result = convert(
        args.model,
        out=args.out,
        name=args.name,
        dtype=args.dtype,
        revision=args.revision,
        verify=args.verify,
        force=args.force,
        tell=tell,
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


def _line(**values: Any) -> None:
    print(json.dumps(values), flush=True)


@contextmanager
def _json_lines() -> Iterator[Tell]:
    def tell(event: Event) -> None:
        if isinstance(event, Notice):
            _line(event="notice", text=one_line(event.text))
        else:
            _line(event=type(event).__name__.lower(), **asdict(event))

    yield tell


@contextmanager
def _bars(*, ask: bool) -> Iterator[Tell]:
    """A bar for the file in hand and one in total, on stderr, where that is a terminal.

    ask: let the person decide once the size is known.
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
    with Bars(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}

        def show(name: str, label: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(label)
            bars.update(tasks[name], description=label, completed=done, total=total)

        def tell(event: Event) -> None:
            if isinstance(event, Notice):
                console.print(f"note: {one_line(event.text)}", soft_wrap=True)
                return
            if isinstance(event, Found):
                if ask:
                    bars.stop()
                    _ask(event)
                    bars.start()
                return
            show("file", one_line(event.file)[:40] or "-", event.file_done, event.file_total)
            show("total", event.phase, event.done, event.total)

        yield tell


def _ask(found: Found) -> None:
    """Raises UserError where the person does not want it."""
    verb = "Download and convert" if found.kind == "hub" else "Convert"
    size = f"{found.n_bytes / 1e6:,.1f} MB"
    sys.stderr.write(f"{verb} {one_line(found.model)} ({size})? [Y/n] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("", "y", "yes"):
        raise UserError("nothing was converted")


if __name__ == "__main__":
    main()
