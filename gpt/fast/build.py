"""Build compiled code in another process, at the lowest priority, while this one goes on."""

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
from gpt.child import child_environment

_HOUR = 3600.0
_TWO_MONTHS = 60 * 24 * _HOUR


class Build(ABC):
    """Compiled code for a context: installed, being built, or not available.

    A build that failed is not tried again until torch, this package or the machine changes.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self.notice = ""
        """Why code that was wanted is not there; empty if there is nothing to say."""

    @property
    @abstractmethod
    def is_installed(self) -> bool:
        """Whether the code is in use."""

    @abstractmethod
    def start(self, *, build: bool) -> None:
        """Install the code if it exists; else start to build it, if build is true."""

    @abstractmethod
    def install(self) -> None:
        """Use the code if it exists and computes the right numbers."""

    def want_branches(self) -> None:  # noqa: B027 (other code draws branches as well)
        """Start to build code for several branches, if there is such code."""

    @property
    def is_running(self) -> bool:
        """Whether something is being built."""
        return self._process is not None

    def poll(self) -> bool:
        """Install a build that has ended. Returns whether code is installed."""
        if self._process is not None and self._process.poll() is not None:
            self.wait()
        return self.is_installed

    def wait(self) -> None:
        """Wait for the build, if there is one, and install its code."""
        if self._process is None:
            return
        self._process.wait()
        self._process = None
        self.install()

    def stop(self) -> None:
        """End the build, if there is one, without leaving half of a file."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def run(self, module: str, request: dict[str, Any], **environment: str) -> None:
        """Start a process that runs a module with a request in JSON as its argument."""
        with suppress(OSError):  # a home that cannot be written to gets no compiled code
            cache_directory().mkdir(parents=True, exist_ok=True)
            sweep(cache_directory())
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, json.dumps(request)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**child_environment(), **environment},
            )


def cache_directory() -> Path:
    """Where compiled code is kept: GPT_TUI_HOME/compiled, or the platform's cache directory."""
    if root := os.environ.get("GPT_TUI_HOME"):
        return Path(root) / "compiled"
    import platformdirs

    return platformdirs.user_cache_path("gpt-tui") / "compiled"


def sweep(directory: Path) -> None:
    """Remove what killed builds left, and code that was not used for two months.

    Each version of torch and of this package builds its own code, so old code is left over.
    """
    for path in directory.iterdir():
        with suppress(OSError):  # another program may have removed it, or have it open
            age = time.time() - path.stat().st_mtime
            if path.name.startswith("build-") and age > _HOUR:
                shutil.rmtree(path)
            elif path.is_file() and age > _TWO_MONTHS:
                path.unlink()


def mark_used(paths: Iterable[Path]) -> None:
    """Keep code from being swept for the next two months."""
    for path in paths:
        with suppress(OSError):
            os.utime(path)


def code_path(name: str, suffix: str, sources: Iterable[str], facts: dict[str, Any]) -> Path:
    """The file for code that depends on source files of this package, on torch and on facts.

    Its name is a digest of them all. sources: paths in the package. facts: plain values.
    """
    package = Path(gpt.__file__).parent
    digests = [hashlib.sha256((package / source).read_bytes()).hexdigest() for source in sources]
    everything = json.dumps([digests, torch.__version__, facts], sort_keys=True)
    digest = hashlib.sha256(everything.encode()).hexdigest()
    return cache_directory() / f"{name}-{digest[:24]}{suffix}"


def failure_note(path: Path) -> Path:
    """The file that says why the code at a path could not be built."""
    return path.with_suffix(".failed.txt")
