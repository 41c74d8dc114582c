"""A program for test_interrupted.py: conversions that are ended by a signal at a given point.

Each runs in a fork of a process that has torch already; what it left behind is printed.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import convert.write
from convert.__main__ import main
from convert.write import ConversionOptions
from gpt import checkpoint, models
from gpt.errors import UserError

# Point → what is about to be called then, and how many of its calls go through before.
POINTS = {
    "finding": ("convert.write.locate", 0),
    "planning": ("convert.write.make_plan", 0),
    "first tensor": ("convert.stream._cast", 0),
    "fifth tensor": ("convert.stream._cast", 4),
    "configuration": ("gpt.checkpoint.write_config", 0),
    "verifying": ("convert.write._verify", 0),
    "manifest": ("gpt.checkpoint.write_manifest", 0),
    "installing": ("gpt.atomic_directory._swap", 0),
    "between the renames": ("gpt.atomic_directory.Path.rename", 1),
    "cleaning up": ("gpt.atomic_directory.shutil.rmtree", 0),
}


def interrupted(place: str, calls: int, number: int) -> Any:
    """A patch that sends this process a signal before one of the calls of a function."""
    module, _, name = place.rpartition(".")
    original: Callable[..., Any] = _resolve(module, name)
    seen = 0

    def instead(*args: Any, **kwargs: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen == calls + 1:
            os.kill(os.getpid(), number)
        return original(*args, **kwargs)

    return patch(place, instead)


def _resolve(path: str, name: str) -> Any:
    """The attribute of a module, or of something in a module."""
    for split in range(path.count(".") + 1):
        module, *rest = path.rsplit(".", split)
        if module in sys.modules:
            found = sys.modules[module]
            for part in rest:
                found = getattr(found, part)
            return getattr(found, name)
    raise LookupError(path)


def state(home: Path) -> dict[str, Any]:
    """What there is in the user's directory of models."""
    hidden = [p.name for p in home.iterdir() if p.name.startswith(".")]
    listed = [name for name in models.available() if name != models.EMBEDDED]
    try:
        damaged = checkpoint.damaged(models.find("tiny"))
    except UserError:
        damaged = None
    return {"hidden": hidden, "listed": listed, "damaged": damaged}


def child(arguments: list[str], place: str, calls: int, number: int) -> int:
    """Convert in a fork. Returns the status as a shell has it."""
    process = os.fork()
    if process == 0:
        status = 0
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        try:
            with interrupted(place, calls, number):
                main(arguments)
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def run(source: str) -> None:
    """All points and signals; one JSON line each."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup ignores it
    home = models.home()
    arguments = [source, "--name", "tiny", "--force", "--no-verify"]
    for point, (place, calls) in POINTS.items():
        for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGKILL"):
            shutil.rmtree(home, ignore_errors=True)
            convert.write.convert(source, name="tiny", verify=False)
            status = child(arguments, place, calls, getattr(signal, name))
            after = state(home)
            convert.write.convert(
                source, name="tiny", verify=False, options=ConversionOptions(force=True)
            )
            found = {"point": point, "signal": name, "status": status, "after": after}
            print(json.dumps({**found, "next": state(home)}), flush=True)


if __name__ == "__main__":
    run(sys.argv[1])
