"""Measure whether drafting would make a user's texts faster on a CPU; prints JSON.

    .venv/bin/python -m benchmarks.drafting [--model smollm2] [--tokens 200] [--seeds 2]
        [--rounds 5] [--threads N] [--dtypes float32 int8 …] [--processor-time]

Prompt lookup (Saxena 2023, vLLM's n-grams): if the last tokens of a text stood there before, those
that followed them are a draft. One call of the network reads it; what is drawn anyway comes free.

`texts`: `generate` draws texts, greedily and with the noise of several seeds; the path alone says
which drafts would have been accepted, so how many calls were needed. `milliseconds`: a call that
reads 1, 2, 4 or 8 tokens after 128 others, with the read-out of each, and the draw of one token.
Compiled code reads single tokens only; longer calls are eager. `nats`: the largest change of a
log-probability if four tokens are read at once. `speed`: tokens per second with drafting / without.
--processor-time measures the time of one thread, on a machine that is not idle. Code is compiled
for a minute a dtype; all of it takes ten minutes with a network of 135M.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import stack

from benchmarks.drafting_texts import PLAYS, TEXTS, TURNS
from benchmarks.prompt_lookup import Call, calls, speed, summary
from benchmarks.rounds import cpu, in_turn
from gpt import checkpoint, models
from gpt.chat import turn
from gpt.chat_template import read_template
from gpt.context import Context
from gpt.device import SMALL_PASS
from gpt.draw import choose
from gpt.fast.cpu_build import CpuBuild
from gpt.generate import generate
from gpt.limits import Limits
from gpt.loaded import RunOptions, load_model
from gpt.prediction import Prediction, predict, read_out
from gpt.settings import Sampling
from gpt.weights.products import packed_is_faster

DRAFTS, WIDTHS = (3, 7), (1, 2, 4, 8)
BEFORE, REPEATS, SHORT = 128, 5, 256
CLOCK: Callable[[], float] = time.perf_counter
DRAWS = {"greedy": Sampling(temperature=0.0), "0.8": Sampling(temperature=0.8)}


def drawn_texts(args: argparse.Namespace) -> dict[str, list[Call]]:
    """Kind of text, how it was drawn and the longest draft → the calls of all its texts."""
    directory = models.find(args.model)
    loaded = load_model(directory, RunOptions("cpu", args.dtype, args.threads))
    context, template = loaded.context, read_template(directory)
    is_play = context.config.block_size <= SHORT
    prompts = [(kind, one) for kind, each in (PLAYS if is_play else TEXTS).items() for one in each]
    found: dict[str, list[Call]] = {}
    for (kind, prompt), (draw, settings) in product(prompts, DRAWS.items()):
        ids, stops = context.encode(prompt), list[str]()
        if kind in TURNS and not is_play:
            ids, stops, _ = turn(loaded.checkpoint, [], prompt, template=template)
        limit = min(args.tokens, context.config.block_size - len(ids))
        for seed in range(args.seeds if settings.temperature else 1):
            steps = generate(context, ids, settings.branch(seed), Limits(limit, stops))
            drawn = [step.token_id for step in steps]
            for k in DRAFTS:
                found.setdefault(f"{kind}, {draw}, {k}", []).extend(calls(ids, drawn, k, limit))
    return found


def measured(directory: Path, dtype: str, rounds: int) -> dict[str, dict[str, float]]:
    """Way of computing → its times; "int8 packed" is int8 as it is without a compiler."""
    is_packed = dtype.endswith("packed")
    name = dtype.partition(" ")[0]
    loaded = checkpoint.load(directory, "cpu", name, packed=is_packed)
    ways = {f"{dtype} eager": loaded.new_context()}
    if not is_packed:
        context = loaded.new_context()
        build = CpuBuild(context, name)
        build.start(build=True)
        build.wait()
        if build.is_installed:
            ways[f"{dtype} compiled"] = context
    measures: dict[str, Callable[[], float]] = {
        f"{way} {what}": measure
        for way, context in ways.items()
        for what, measure in [
            *((str(n), partial(read, context, n)) for n in WIDTHS),
            *((draw, partial(one_draw, context, draw)) for draw in DRAWS),
        ]
    }
    found = {way: {"nats": change(context)} for way, context in ways.items()}
    for key, value in in_turn(measures, rounds).items():
        way, _, what = key.rpartition(" ")
        found[way][what] = value
    return found


def some_ids(context: Context, n: int) -> list[int]:
    """The first n ids of a text that every model can read."""
    return context.encode("".join(PLAYS["prose"]) * n)[:n]


def newest(context: Context, ids: list[int], n: int) -> Prediction:
    """What follows each of the last n tokens of ids, of which the others have been read."""
    hidden = context.read(ids)[-n:]
    return context.predict(hidden[0]) if n == 1 else predict(context.raw_logits(stack(hidden)))


def read(context: Context, n: int) -> float:
    """Milliseconds of a call that reads n tokens, with the read-out after each."""
    ids, taken = some_ids(context, BEFORE + n), list[float]()
    for _ in range(REPEATS):
        context.read(ids[:BEFORE])
        context.truncate(BEFORE)  # or the same text would only be looked up
        begun = CLOCK()
        read_out(newest(context, ids, n), ids[BEFORE:], 10)
        taken.append(1000 * (CLOCK() - begun))
    return statistics.median(taken)


def one_draw(context: Context, draw: str) -> float:
    """Milliseconds to draw a token from a distribution that is known."""
    race, taken = context.step.race if context.step else None, []
    ids = some_ids(context, BEFORE)
    prediction = context.predict(context.read(ids)[BEFORE - 1])
    for position in range(REPEATS):
        begun = CLOCK()
        choose(prediction, DRAWS[draw], ids, position, race)
        taken.append(1000 * (CLOCK() - begun))
    return statistics.median(taken)


def change(context: Context) -> float:
    """Largest difference in nats of any log-probability: tokens read one by one, and in fours."""
    ids, found = some_ids(context, BEFORE + 32), []
    for n in (1, 4):
        context.truncate(0)
        context.read(ids[:BEFORE])
        ends = range(BEFORE + n, len(ids) + 1, n)
        found.append(torch.cat([newest(context, ids[:end], n).logprobs for end in ends]))
    return round(float((found[0] - found[1]).abs().max()), 6)


def main() -> None:
    """Count, measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=models.EMBEDDED, help="Name or directory of a model.")
    parser.add_argument("--tokens", type=int, default=200, help="Most tokens of a text.")
    parser.add_argument("--seeds", type=int, default=2, help="Texts of a prompt that is sampled.")
    parser.add_argument("--dtype", default="auto", help="With which texts are drawn.")
    parser.add_argument("--dtypes", nargs="*", default=list(models.DTYPES), help="To be timed.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, help="Default: what suits the model.")
    parser.add_argument("--processor-time", action="store_true")
    args = parser.parse_args()
    if args.processor_time:
        global CLOCK
        CLOCK, args.threads = time.thread_time, 1
    texts = drawn_texts(args)
    directory, times = models.find(args.model), dict[str, dict[str, float]]()
    is_packed = models.read_manifest(directory).n_params >= SMALL_PASS and packed_is_faster()
    dtypes = args.dtypes + ["int8 packed"] * ("int8" in args.dtypes and is_packed)
    for dtype in dtypes:
        times |= measured(directory, dtype, args.rounds)
    result: dict[str, Any] = {
        "machine": f"{cpu()}, {os.cpu_count()} cores",
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "clock": CLOCK.__name__,
        "model": directory.name,
        "texts": {key: summary(found) for key, found in texts.items()},
        "milliseconds": times,
        "speed": {
            way: {key: speed(found, own, key.split(", ")[1]) for key, found in texts.items()}
            for way, own in times.items()
        },
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
