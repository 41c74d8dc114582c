"""The environment in which a child process runs this program's own code."""

from __future__ import annotations

import os
from pathlib import Path

import gpt


def own_code() -> dict[str, str]:
    """For a Python started with -P: it finds us whatever lies in the current directory."""
    path = [str(Path(gpt.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}
