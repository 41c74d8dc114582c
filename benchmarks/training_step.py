"""Measure a training step, ours and transformers', in characters per second; prints JSON.

    .venv/bin/python -m benchmarks.training_step [--rounds 5] [--steps 3]

The network is a GPT-2 with 6 layers, 256 wide, and 65 tokens: ours in our training loop, and
transformers' GPT2LMHeadModel with the same AdamW, dropout and batches, in turn, with products in
float32 and in bfloat16. `preset_256` is our preset 256 with Scion, in bfloat16. Figures are medians
of the rounds; a round is the mean of --steps steps.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from benchmarks.rounds import in_turn
from gpt.config import ModelConfig
from gpt.model import GPT
from gpt.training.data import Corpus, batch
from gpt.training.loop import TrainConfig, Training
from gpt.training.presets import PRESETS

SHAPE: dict[str, Any] = {"n_layer": 6, "n_head": 4, "n_embd": 256}
VOCABULARY, T, B, DROPOUT = 65, 256, 32, 0.1
SETTINGS = TrainConfig(
    steps=10**6, batch_size=B, lr=1e-3, optimizer="adamw", eval_every=10**6, warmup=0
)


def random_corpus() -> Corpus:
    """Random ids: speed does not depend on the text."""
    ids = torch.randint(VOCABULARY, (200_000,), generator=torch.Generator().manual_seed(0))
    return Corpus(ids, ids[: T + 1], "")


def ours(corpus: Corpus, config: ModelConfig, settings: TrainConfig) -> Callable[[], object]:
    """A function that does one step of our loop."""
    steps = Training(GPT(config), corpus, settings).run()
    return lambda: next(steps)


def theirs(corpus: Corpus, precision: str) -> Callable[[], object]:
    """A function that does the same step, as transformers' documentation shows it."""
    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=T,
        resid_pdrop=DROPOUT,
        embd_pdrop=DROPOUT,
        attn_pdrop=0.0,  # as in the presets for a CPU, where it takes most of the time
        use_cache=False,
        bos_token_id=None,
        eos_token_id=None,
        tie_word_embeddings=True,
        **SHAPE,
    )
    model = GPT2LMHeadModel(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=SETTINGS.lr, betas=(0.9, 0.99))

    def steps() -> Iterator[float]:
        for step in range(10**6):
            windows = batch(corpus.train, step, batch_size=B, block_size=T, seed=1)[:, :-1]
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                loss = model(input_ids=windows, labels=windows).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            yield loss.item()

    running = steps()
    return lambda: next(running)


def main() -> None:
    """Measure everything and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rounds", type=int, default=5, help="Rounds to measure. (default: %(default)s)"
    )
    parser.add_argument(
        "--steps", type=int, default=3, help="Steps in a round. (default: %(default)s)"
    )
    args = parser.parse_args()
    corpus = random_corpus()
    gpt2 = ModelConfig(vocab_size=VOCABULARY, block_size=T, dropout=DROPOUT, **SHAPE)
    modern = ModelConfig(vocab_size=VOCABULARY, **PRESETS["256"].model)
    makers: dict[str, Callable[[], object]] = {}
    for precision in ("float32", "bfloat16"):
        settings = replace(SETTINGS, precision=precision)
        makers[f"ours_{precision}"] = ours(corpus, gpt2, settings)
        makers[f"transformers_{precision}"] = theirs(corpus, precision)
    settings = replace(PRESETS["256"].train, steps=10**6, eval_every=10**6, precision="bfloat16")
    makers["preset_256_bfloat16"] = ours(corpus, modern, settings)

    def timed(step: Callable[[], object]) -> Callable[[], float]:
        def measure() -> float:
            started = time.perf_counter()
            for _ in range(args.steps):
                step()
            return args.steps * B * T / (time.perf_counter() - started)

        return measure

    speeds = in_turn({name: timed(step) for name, step in makers.items()}, args.rounds)
    report: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}",
        "characters_per_second": {name: round(speed) for name, speed in speeds.items()},
    }
    for precision in ("float32", "bfloat16"):
        ratio = speeds[f"ours_{precision}"] / speeds[f"transformers_{precision}"]
        report[f"ours_over_transformers_{precision}"] = round(ratio, 3)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
