"""A real llama.cpp server on this machine, and the program that runs it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

PATIENCE = float(os.environ.get("PATIENCE", "60"))


class LlamaServer:
    """A server in a process of its own."""

    def __init__(self, model: Path, *, context: int = 96, slots: int = 1, key: str = "") -> None:
        self._options = {"model": str(model), "context": context, "slots": slots, "key": key}
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        """Start it, also after it has died; it has the same address."""
        options = json.dumps({**self._options, "port": self.port})
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.gpt.llama_server", options],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout
        assert self._process.stdout.readline() == "ready\n", "llama.cpp did not start"

    def kill(self) -> None:
        """End it at once, in the middle of whatever it does."""
        self._process.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
        self._process.wait(PATIENCE)
        if self._process.stdout:
            self._process.stdout.close()


def free_port() -> int:
    """A port on which nobody listens."""
    with contextlib.closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def main(options: str) -> None:
    """Serve until the process is ended, or its parent has ended."""
    import xllamacpp

    wanted = json.loads(options)
    settings = xllamacpp.CommonParams()
    settings.model.path = wanted["model"]
    settings.model_alias = {"tiny"}
    settings.port = wanted["port"]
    settings.hostnames = ["127.0.0.1"]
    settings.n_ctx = wanted["context"] * wanted["slots"]
    settings.n_parallel = wanted["slots"]
    settings.kv_unified = False
    if wanted["key"]:
        settings.api_keys = [wanted["key"]]
    settings.cpuparams.n_threads = 1  # more of them would spin
    settings.cpuparams_batch.n_threads = 1
    settings.warmup = settings.ui = False
    settings.endpoint_slots = True
    # Numbers as exact as the file's: the cache is half precision by default.
    settings.cache_type_k = settings.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    server = xllamacpp.Server(settings)
    print("ready", flush=True)
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(0.2)
    del server
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
