"""A real vLLM on this machine, from its environment, with a tiny random model."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import httpx

from tests.gpt.llama_server import free_port
from tests.servers.vllm_environment import python

PATIENCE = 300.0
"""Seconds until it must be ready; 40 to 90 are usual."""


class VllmServer:
    """A server in processes of its own."""

    def __init__(self, model: Path, *options: str, log: Path) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        flags = {"model": str(model), "served-model-name": "tiny", "host": "127.0.0.1"}
        flags |= {"port": str(port), "dtype": "float32", "max-model-len": "128"}
        words = [word for name, value in flags.items() for word in (f"--{name}", value)]
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [
                    str(python()),
                    *("-m", "vllm.entrypoints.openai.api_server"),
                    *(*words, "--enforce-eager", *options),
                ],
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=log.parent,
                env={
                    **os.environ,
                    "VLLM_CPU_KVCACHE_SPACE": "1",
                    "VLLM_HOST_IP": "127.0.0.1",
                    "VLLM_NO_USAGE_STATS": "1",
                    "HF_HUB_OFFLINE": "1",
                    "OMP_NUM_THREADS": "1",
                },
            )
        try:
            self._wait(log)
        except BaseException:
            self.stop()
            raise

    def _wait(self, log: Path) -> None:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                if httpx.get(f"{self.url}/health", timeout=10).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            text = log.read_text("utf-8", "replace")[-2000:]
            assert self._process.poll() is None, f"vLLM ended: {text}"
            assert time.monotonic() < until, f"vLLM is not ready: {text}"
            time.sleep(0.5)

    def stop(self) -> None:
        """End it and its workers, which outlive it otherwise."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, number)
                self._process.wait(20)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
