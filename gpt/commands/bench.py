"""`python -m gpt bench`: how fast a model runs on this machine, and how fast it could run.

Drawing a token for one sequence reads every weight once. So the bandwidth of the memory, divided by
the bytes of the weights, is a limit on tokens per second; the measured speed is compared with it.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from gpt.context import Context
from gpt.generate import Limits, generate
from gpt.loaded import LoadedModel
from gpt.model import GPT
from gpt.sanitize import one_line
from gpt.settings import Sampling
from gpt.weights.read import large_pages

PROMPT, DRAWN, LONG_PROMPT = 64, 128, 512
"""Tokens in a prompt, drawn after it, and in a long prompt; fewer if the block size is smaller."""
_ROUNDS = 5
_BYTES_READ = {"cpu": 1 << 28, "cuda": 1 << 31}
"""Bytes that are read to measure the bandwidth, by type of device: more than any cache holds, and
enough to make the time of the call itself negligible."""


@dataclass(frozen=True)
class Speed:
    """Measured speeds; medians of several rounds."""

    first_token_seconds: float
    """Time to read a prompt of n_prompt tokens and draw the first token after it."""
    prefill_tokens_per_second: float
    """Speed of reading a prompt of n_long_prompt tokens."""
    decode_tokens_per_second: float
    """Speed of drawing n_drawn tokens at temperature 0, as Steps with all their numbers."""
    bytes_per_token: int
    """Bytes of the weights that drawing one token reads."""
    bandwidth_bytes_per_second: float
    """Speed of reading memory with the same number of threads, measured between the rounds."""
    n_prompt: int
    """Tokens in the prompt."""
    n_drawn: int
    """Tokens drawn after the prompt, with the first one."""
    n_long_prompt: int
    """Tokens in the long prompt."""

    @property
    def limit_tokens_per_second(self) -> float:
        """Speed of drawing tokens if it only had to read the weights."""
        return self.bandwidth_bytes_per_second / self.bytes_per_token

    @property
    def share_of_limit(self) -> float:
        """Reached share of the limit; above 1 if the weights stay in the processor's cache."""
        return self.decode_tokens_per_second / self.limit_tokens_per_second


def measure(context: Context) -> Speed:
    """Measure drawing, a long prompt and memory in turn: other programs then disturb all alike."""
    model, size = context.model, context.config.block_size
    n_long, n_prompt = min(LONG_PROMPT, size), max(1, min(PROMPT, size // 3))
    n_drawn = min(DRAWN, size - n_prompt)
    ids = [i * 7919 % model.config.vocab_size for i in range(n_long)]
    device = model.wte.weight.device
    memory = to_read(_BYTES_READ.get(device.type, _BYTES_READ["cpu"]), device)
    first, decode, prefill, bandwidth = [], [], [], []
    for _ in range(_ROUNDS):
        context.truncate(0)
        steps = _draw(context, ids[:n_prompt], n_drawn)
        started = time.perf_counter()
        next(steps)
        first_drawn = time.perf_counter()
        count = sum(1 for _ in steps)
        decode.append(count / (time.perf_counter() - first_drawn))
        first.append(first_drawn - started)
        started = time.perf_counter()
        context.truncate(0)
        context.read(ids)[-1].tolist()
        prefill.append(n_long / (time.perf_counter() - started))
        bandwidth.append(memory.nbytes / min(seconds_to_read(memory) for _ in range(3)))
    return Speed(
        statistics.median(first),
        statistics.median(prefill),
        statistics.median(decode),
        bytes_per_token(model),
        statistics.median(bandwidth),
        n_prompt,
        n_drawn,
        n_long,
    )


def _draw(context: Context, ids: list[int], n: int) -> Iterator[None]:
    """Draw n tokens as Steps, also after a token that ends a text. Yields once for each."""
    path = list(ids)
    while len(path) < len(ids) + n:
        limits = Limits(len(ids) + n - len(path))
        for step in generate(context, path.copy(), Sampling(temperature=0.0), limits):
            path.append(step.token_id)
            yield


def to_read(n_bytes: int, device: torch.device) -> Tensor:
    """A float32 tensor of n bytes, in the same kind of memory as weights."""
    if device.type != "cpu":
        return torch.ones(n_bytes // 4, device=device)
    return torch.frombuffer(large_pages(n_bytes), dtype=torch.float32).fill_(1)


def seconds_to_read(memory: Tensor) -> float:
    """Time to read a tensor. A CPU multiplies it by itself: BLAS prefetches more than a sum."""
    started = time.perf_counter()
    float(memory @ memory if memory.device.type == "cpu" else memory.sum())
    return time.perf_counter() - started


def bytes_per_token(model: GPT) -> int:
    """Bytes of the weights that drawing one token reads: all but tables of which it reads a row."""
    tables = {"wpe"} if model.config.tied else {"wpe", "wte"}
    return sum(
        weight.numel() * weight.element_size()
        for name, weight in model.named_parameters()
        if name.rpartition(".")[0] not in tables
    )


def peak_memory() -> int | None:
    """Most bytes of memory that this process has used so far; None if the system does not say."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):  # getrusage may count the parent's memory as well
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def run(load: Callable[[], LoadedModel], *, as_json: bool) -> None:
    """Load, measure and print."""
    before = peak_memory()
    loaded = load()
    peak, threads = peak_memory(), loaded.use_threads()
    name, how = loaded.checkpoint.name, {**loaded.how(), "threads": threads}
    speed = measure(loaded.context)
    code = loaded.code()  # known only after CUDA graphs were tried
    if as_json:
        derived = {
            "limit_tokens_per_second": speed.limit_tokens_per_second,
            "share_of_limit": speed.share_of_limit,
        }
        memory = {"memory_before_loading": before, "peak_memory_of_loading": peak}
        facts = {"model": name, **how, "code": code, "load_seconds": loaded.seconds, **memory}
        print(json.dumps({**facts, **asdict(speed), **derived}))
        return
    n_params = loaded.checkpoint.manifest.n_params
    rows = [
        ("model", f"{one_line(name)}, {n_params / 1e6:.1f}M weights"),
        ("runs on", f"{how['device']}, {how['dtype']}, {how['threads']} threads, {one_line(code)}"),
    ]
    if before and peak:
        rows.append(
            ("memory", f"{peak / 1e6:,.0f} MB at most, {before / 1e6:,.0f} MB before loading")
        )
    prefill = f"{speed.prefill_tokens_per_second:,.0f} tokens/s"
    rows += [
        ("loading", f"{loaded.seconds:.2f} s"),
        (
            "first token",
            f"{1000 * speed.first_token_seconds:,.0f} ms after a prompt of {speed.n_prompt} tokens",
        ),
        ("prefill", f"{prefill}, prompt of {speed.n_long_prompt} tokens"),
        (
            "decoding",
            f"{speed.decode_tokens_per_second:,.1f} tokens/s with all numbers of a Step",
        ),
        (
            "limit",
            f"{speed.limit_tokens_per_second:,.1f} tokens/s: a token reads "
            f"{speed.bytes_per_token / 1e6:,.1f} MB, and memory is read at "
            f"{speed.bandwidth_bytes_per_second / 1e9:.1f} GB/s",
        ),
        ("reached", f"{speed.share_of_limit:.0%} of the limit"),
    ]
    for name, value in rows:
        print(f"{name:12}{value}")
