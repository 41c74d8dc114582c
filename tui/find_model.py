"""The model that a person names at the start; one that is missing is converted if they agree."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import count
from pathlib import Path

from gpt import models, text_file
from gpt.child import child_environment
from gpt.sanitize import one_line


def find_or_convert(model: str) -> str:
    """The name of an installed model.

    model: its name or directory, a name on the hub, or a GGUF file or a directory of Hugging Face,
    which is converted once, and again after it has changed. If the converter fails, it has said
    why, and the program ends.
    """
    is_there = os.path.exists(model)  # noqa: PTH110 (it never raises)
    is_path = is_there and Path(model).name != model  # else a model's name comes first
    if is_path and not text_file.is_file(Path(model) / models.MANIFEST):
        return _find_or_convert_file(model)
    try:
        models.read_manifest(models.find(model))
        return model
    except models.NoSuchModelError as error:
        missing = one_line(error.missing)
    if is_there:
        return _find_or_convert_file(model)
    name = Path(model).name
    installed = models.available().get(name)
    if installed and installed.origin.get("model") == model:
        return name
    print(f"{missing}; looking for it on the Hugging Face hub", file=sys.stderr)
    _convert(model)
    return name


def _find_or_convert_file(model: str) -> str:
    """`find_or_convert` for a file or a directory; another one with its name gets a number."""
    source = models.source_of(Path(model))
    stem = Path(model).absolute().name.removesuffix(".gguf")
    installed = models.available()
    for n in count(1):
        name = stem if n == 1 else f"{stem}-{n}"
        if name not in installed:
            print(f"{one_line(model)} is converted once, as {one_line(name)}", file=sys.stderr)
            _convert(model, "--name", name)
            return name
        known = installed[name].origin.get("source")
        if known == source:
            return name
        if isinstance(known, dict) and known.get("path") == source["path"]:
            print(f"{one_line(model)} has changed since it was converted", file=sys.stderr)
            _convert(model, "--name", name, "--force")
            return name
    raise AssertionError("there is always a free number")


def _convert(model: str, *options: str) -> None:
    """Convert, after a question; if that fails, end the program."""
    command = [sys.executable, "-P", "-m", "convert", "--ask", *options, "--", model]
    if status := subprocess.run(command, env=child_environment(), check=False).returncode:
        sys.exit(status)
