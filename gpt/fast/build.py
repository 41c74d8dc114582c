"""Code that another process builds while this one goes on: for later, at the lowest priority."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

import gpt
from gpt.child import own_code

_HOUR = 3600.0
_TWO_MONTHS = 60 * 24 * _HOUR


class Build(ABC):
    """Code for a context: installed, being built, or not available.

    If a build failed, the same version of everything does not try it again.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self.notice = ""
        """Why there is no code if there should be some."""

    @property
    @abstractmethod
    def is_installed(self) -> bool:
        """Whether the code is in use."""

    @abstractmethod
    def start(self, *, build: bool) -> None:
        """Install the code if it is there; else start to build it, if build says so."""

    @abstractmethod
    def install(self) -> None:
        """Use the code, if it is there and gives the right numbers."""

    def poll(self) -> bool:
        """Whether the code is installed; a build that has ended in the meantime is."""
        if self._process is not None and self._process.poll() is not None:
            self.wait()
        return self.is_installed

    def wait(self) -> None:
        """Until the build has ended, if there is one."""
        if self._process is None:
            return
        self._process.wait()
        self._process = None
        self.install()

    def stop(self) -> None:
        """End the build, if there is one; nothing half-built stays."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def run(self, module: str, request: dict[str, Any], **environment: str) -> None:
        """Start a process that runs a module with a request in JSON."""
        with suppress(OSError):  # a home that cannot be written to: then without
            cache_directory().mkdir(parents=True, exist_ok=True)
            sweep(cache_directory())
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, json.dumps(request)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**own_code(), **environment},
            )


def cache_directory() -> Path:
    """Where compiled code is kept: GPT_TUI_HOME/compiled, or the platform's cache directory."""
    if root := os.environ.get("GPT_TUI_HOME"):
        return Path(root) / "compiled"
    import platformdirs

    return platformdirs.user_cache_path("gpt-tui") / "compiled"


def sweep(directory: Path) -> None:
    """Remove what killed builds have left, and code that was not used for two months.

    Another version of torch or of this package builds its own code, so the old is left over.
    """
    for left in directory.iterdir():
        with suppress(OSError):  # another program may have been faster, or have it open
            age = time.time() - left.stat().st_mtime
            if left.name.startswith("build-") and age > _HOUR:
                shutil.rmtree(left)
            elif left.is_file() and age > _TWO_MONTHS:
                left.unlink()


def used(code: Iterable[Path]) -> None:
    """Keep code from being swept for the next two months."""
    for path in code:
        with suppress(OSError):
            os.utime(path)


def place(name: str, suffix: str, sources: Iterable[str], facts: dict[str, Any]) -> Path:
    """Where code is kept that depends on files of this package, on torch and on facts."""
    here = Path(gpt.__file__).parent
    digests = [hashlib.sha256((here / source).read_bytes()).hexdigest() for source in sources]
    everything = json.dumps([digests, torch.__version__, facts], sort_keys=True)
    digest = hashlib.sha256(everything.encode()).hexdigest()
    return cache_directory() / f"{name}-{digest[:24]}{suffix}"


def failed(code: Path) -> Path:
    """The note that code could not be built, with the reason."""
    return code.with_suffix(".failed.txt")
