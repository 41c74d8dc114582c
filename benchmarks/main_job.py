"""Measure the speed of generating and of the interface, ours and others'; prints JSON.

    .venv/bin/python -m benchmarks.main_job [--rounds 5] [--new-tokens 128]

generate: tokens per second of ours with its full read-out (log-probability, rank, entropy, ten
candidates), and of transformers' generate with the same weights, prompt and sampling settings, in
turn. interface: seconds from the start of the process to what a user sees, and the same for an app
that shows one word. streaming: the engine's speed alone, while the interface shows its text, and
while code is also built in the background, as in a first run. Figures are medians of the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import pexpect
import torch
from transformers import GPT2Config

from benchmarks.rounds import cpu, in_turn
from gpt import checkpoint, models
from gpt.checkpoint import Checkpoint
from gpt.generate import Limits, generate
from gpt.settings import Sampling
from tests.peers import as_llama, random_gpt2
from tui.backend import Completion, Done
from tui.local_backend import LocalBackend

SAMPLING = Sampling(temperature=0.8, top_p=0.95, seed=1)
PROMPT = "ROMEO:"
TEMPERATURE = {"do_sample": True, "temperature": 0.8, "top_p": 0.95, "top_k": 0}
EMPTY_APP = """
from textual.app import App
from textual.widgets import Static
class Empty(App):
    def compose(self):
        yield Static("ready")
Empty().run()
"""


def seconds(work: Callable[[], object]) -> float:
    """How long a call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def decoding(ours: Checkpoint, theirs: Any, rounds: int, n: int) -> dict[str, float]:
    """Tokens per second of ours and transformers', with the same weights, after 64 tokens."""
    prompt = torch.randint(ours.model.config.vocab_size, (1, 64))
    ids = prompt[0].tolist()

    def run_ours() -> float:
        context = ours.new_context()
        count = 0

        def work() -> None:
            nonlocal count
            for _ in generate(context, ids, SAMPLING, Limits(n)):
                count += 1

        elapsed = seconds(work)
        return count / elapsed

    def run_theirs() -> float:
        options = {"max_new_tokens": n, "min_new_tokens": n, "pad_token_id": 0, **TEMPERATURE}
        with torch.inference_mode():
            return n / seconds(lambda: theirs.generate(prompt, **options))

    medians = in_turn({"ours": run_ours, "transformers": run_theirs}, rounds)
    return {**medians, "ratio": round(medians["ours"] / medians["transformers"], 2)}


ESCAPES = re.compile(r"\x1b\[[0-9;?<>=]*[ -/]*[@-~]")


class Watched:
    """A program in a pseudo-terminal, and when it first wrote something.

    Its output is not drawn: the work of a terminal would slow down the program.
    """

    def __init__(self, *command: str) -> None:
        self.text = ""
        self._started = time.perf_counter()
        env = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
        env.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed program is not compiled anew
        self._child = pexpect.spawn(
            sys.executable,
            list(command),
            dimensions=(32, 110),
            env=env,
            encoding="utf-8",
            codec_errors="replace",
        )

    def until(self, pattern: str) -> float:
        """Seconds from the start until a pattern was written."""
        while not re.search(pattern, self.text):
            data = self._child.read_nonblocking(1 << 20, timeout=120)
            self.text = self.text[-10_000:] + ESCAPES.sub("", data)
        return time.perf_counter() - self._started

    def close(self) -> None:
        self._child.close(force=True)


def first(pattern: str, *command: str) -> float:
    """Seconds from the start of a program until it shows a pattern."""
    program = Watched(*command)
    try:
        return program.until(pattern)
    finally:
        program.close()


def interface_speed(n: int, compiling: str) -> float:
    """The engine's tokens per second while the interface shows them."""
    program = Watched("-m", "tui", "--prompt", PROMPT, "-n", str(n), "--seed", "1", compiling)
    try:
        program.until(r"Done: \d+ tokens")
        return float(re.findall(r"([\d,.]+) tokens/s", program.text)[-1].replace(",", ""))
    finally:
        program.close()


async def _engine_speed(n: int) -> float:
    backend = LocalBackend().start()
    async for _ in backend.load(models.EMBEDDED):
        pass
    speed = 0.0
    async for event in backend.complete(Completion([], PROMPT, SAMPLING, n)):
        if isinstance(event, Done):
            speed = event.tokens / event.seconds
    backend.close()
    return speed


def main() -> None:
    """Measure everything and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rounds", type=int, default=5, help="Rounds to measure. (default: %(default)s)"
    )
    parser.add_argument(
        "--new-tokens", type=int, default=128, help="Tokens to draw. (default: %(default)s)"
    )
    args = parser.parse_args()
    n = args.new_tokens
    os.environ["GPT_TUI_HOME"] = (
        tempfile.mkdtemp()
    )  # the interface saves texts, but not to the user's
    torch.manual_seed(0)
    embedded = checkpoint.load(models.find(models.EMBEDDED))
    results: dict[str, Any] = {
        "machine": f"{cpu()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "generate_tokens_per_second": {
            "shakespeare": decoding(embedded, as_llama(embedded.model), args.rounds, n)
        },
    }
    ours, theirs = random_gpt2(GPT2Config())
    random = Checkpoint(ours, embedded.tokenizer, embedded.manifest, "random GPT-2 124M")
    results["generate_tokens_per_second"]["gpt2_124m"] = decoding(random, theirs, args.rounds, n)
    del ours, theirs, random

    frames = in_turn(
        {
            "empty_app_first_frame": lambda: first("ready", "-c", EMPTY_APP),
            "first_frame": lambda: first("Type an opening", "-m", "tui"),
            "first_token": lambda: first("Writing|Done", "-m", "tui", "--prompt", PROMPT),
        },
        args.rounds,
    )
    frames["frame_ratio"] = round(frames["first_frame"] / frames["empty_app_first_frame"], 2)
    results["interface_seconds"] = frames
    speeds = in_turn(
        {
            "engine_alone": lambda: asyncio.run(_engine_speed(240)),
            "in_the_interface": lambda: interface_speed(240, "--no-compile"),
            "while_code_is_built": lambda: interface_speed(240, "--compile"),
        },
        args.rounds,
    )
    speeds["ratio"] = round(speeds["in_the_interface"] / speeds["engine_alone"], 2)
    results["streaming_tokens_per_second"] = speeds
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
