"""The environment variables with which a child process runs this program's own code."""

from __future__ import annotations

import os
from pathlib import Path

import gpt


def child_environment() -> dict[str, str]:
    """Environment for `python -P`, which then imports this code and not the current directory's."""
    path = [str(Path(gpt.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}
