"""The C++ compiler that builds machine code for a model, if this machine has one."""

from __future__ import annotations

import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path


def compiler() -> str | None:
    """Path of the C++ compiler that would be used, or None."""
    names = [os.environ.get("CXX", ""), "g++", "clang++"]
    return next((found for name in names if name and (found := shutil.which(name))), zig())


def zig() -> str | None:
    """Path of the compiler in the package ziglang; None without it, or where it was not tried."""
    spec = find_spec("ziglang") if sys.platform == "linux" else None
    program = Path(spec.origin).parent / "zig" if spec and spec.origin else None
    return str(program) if program and os.access(program, os.X_OK) else None
