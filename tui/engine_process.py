"""The engine's process: lines go in, and each line that comes out is delivered."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import IO, Any, cast

from gpt.child import child_environment
from gpt.step import Step

Line = dict[str, Any]


class EngineProcess:
    """A process of its own, which ends with this one."""

    def __init__(
        self, module: str, options: Sequence[str], deliver: Callable[[Line | None], None]
    ) -> None:
        """deliver: called in another thread with each line, then with None once it has ended."""
        self._command = [sys.executable, "-P", "-m", module, *options]
        self._deliver = deliver
        self._last_words: deque[str] = deque(maxlen=20)

    def start(self) -> None:
        """Start it."""
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=child_environment(),
            start_new_session=True,  # a Ctrl+C in the terminal is ours to handle
        )
        for target, stream in (
            (self._listen, self._process.stdout),
            (self._overhear, self._process.stderr),
        ):
            threading.Thread(target=target, args=(stream,), daemon=True).start()

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def write(self, line: Line) -> None:
        """Send a line. Raises OSError if the process has ended."""
        stdin = cast(IO[bytes], self._process.stdin)
        stdin.write(json.dumps(line).encode() + b"\n")
        stdin.flush()

    def kill(self) -> None:
        """Kill it and the processes that it started."""
        if self._process.poll() is None and hasattr(os, "killpg"):
            os.killpg(self._process.pid, signal.SIGKILL)  # its session is its own
        self._process.kill()

    def obituary(self) -> str:
        """How it has ended, with its last words."""
        status = self._process.poll()
        ended = f"by signal {-status}" if status and status < 0 else f"with status {status}"
        last = next((words for words in reversed(self._last_words) if words), "it said nothing")
        return f"the engine has ended {ended}: {last}"

    def _listen(self, stream: IO[bytes]) -> None:
        try:
            for raw in stream:
                line = json.loads(raw)
                if "steps" in line:
                    line["steps"] = [Step.from_dict(step) for step in line["steps"]]
                self._deliver(line)
        except (ValueError, TypeError, KeyError, AttributeError):
            # It died in the middle of a line, or it is not an engine.
            self._last_words.append("its last line cannot be read")
            self.kill()
        finally:
            self._process.wait()
            self._deliver(None)

    def _overhear(self, stream: IO[bytes]) -> None:
        for raw in stream:
            self._last_words.append(raw.decode("utf-8", "replace").strip())
