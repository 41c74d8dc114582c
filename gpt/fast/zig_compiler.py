"""A C++ compiler for machines that have none: clang from the package ziglang (Linux).

PyTorch's compiler starts the script that `install` writes, with the arguments of clang; `main`
passes them on to zig. Zig brings no OpenMP: gpt/fast/openmp/ has the header, and the few calls
that clang makes, in terms of PyTorch's own libgomp.
"""

from __future__ import annotations

import os
import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from gpt.compiler import zig

if TYPE_CHECKING:
    from gpt.model import GPT

_OPENMP = Path(__file__).parent / "openmp"
_ADDED = (
    "-g0",  # zig's default keeps what a debugger needs, which is most of a library
    "-fno-sanitize=undefined",  # zig's default checks each operation
    f"-I{_OPENMP}",
    # PyTorch keeps precompiled headers by what is in them; this file may be newer and the same.
    *("-Xclang", "-fno-pch-timestamp"),
)


_LARGE = 20_000_000
"""Parameters from which a person waits for tokens without compiled code."""


def offer(model: GPT, directory: Path) -> str:
    """What to say to a person who has no compiler and a large model; empty after the first time.

    directory: where it is noted that this was said.
    """
    note = directory / "compiler-offered"
    n_params = sum(weight.numel() for weight in model.parameters())
    if sys.platform != "linux" or n_params < _LARGE or note.exists():
        return ""
    with suppress(OSError):  # a home that cannot be written to hears it each time
        directory.mkdir(parents=True, exist_ok=True)
        note.touch()
    return (
        "without a C++ compiler this model is about three times slower; "
        f"`{sys.executable} -m pip install ziglang` (400 MB) brings one"
    )


def install(directory: Path) -> Path:
    """Write the script that PyTorch starts as its compiler, and return its path.

    PyTorch recognises clang by the name of its file.
    """
    script = directory / "clang-of-zig"
    directory.mkdir(parents=True, exist_ok=True)
    command = shlex.join([sys.executable, "-P", "-m", "gpt.fast.zig_compiler"])
    script.write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
    script.chmod(0o700)
    return script


def zig_arguments(arguments: list[str], libgomp: str) -> list[str]:
    """Arguments of clang → those of zig. libgomp: path of PyTorch's OpenMP library."""
    openmp = [str(_OPENMP / "kmpc.cpp"), libgomp, "-Wl,-s"]
    is_linking = "-lgomp" in arguments and not {"-c", "-E", "-S"} & set(arguments)
    rest = [each for each in arguments if each != "-lgomp"]
    return ["c++", *_ADDED, *rest, *(openmp if is_linking else [])]


def _libgomp() -> str:
    """Path of the libgomp that torch loads; torch itself is not imported, which takes a second."""
    from importlib.util import find_spec

    spec = find_spec("torch")
    root = Path(spec.origin).parent if spec and spec.origin else Path()
    places = [*root.glob("lib/libgomp*.so*"), *root.parent.glob("torch.libs/libgomp*.so*")]
    return str(places[0]) if places else "-lgomp"


def main() -> None:
    """Become zig with the arguments of this process."""
    program = zig()
    if program is None:
        sys.exit("the package ziglang is not installed")
    os.execv(program, [program, *zig_arguments(sys.argv[1:], _libgomp())])  # noqa: S606


if __name__ == "__main__":
    main()
