"""Measure how far the distributions of each dtype are from those of float32; prints JSON.

    .venv/bin/python -m benchmarks.divergence --data tinyshakespeare.txt [--tokens 20000]

The shipped model reads the end of a text, which it was not trained on. A GPT-2 124M with random
weights reads random tokens. Both read windows of 256 tokens. Figures per token: the
Kullback-Leibler divergence in nats, and the largest difference in any token's probability.
"windows" are read at once; "one_by_one" is read token by token through the cache, as in decoding.
"gpu" is what a CUDA device computes: bfloat16 everywhere, and float32 logits. It rounds as a GPU
does; only the order of sums differs.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.convert import make
from gpt import checkpoint, models
from gpt.model import GPT
from gpt.training import data

WINDOW = 256


def compare(directory: Path, ids: Tensor, one_by_one: int) -> dict[str, Any]:
    """Windows of ids (n, T) → figures for each dtype. one_by_one: tokens to read one by one."""
    exact = checkpoint.load(directory).model
    found = {}
    model: GPT
    for dtype in (*models.MEMORY_DTYPES[1:], "gpu"):
        if dtype == "gpu":
            model = AsOnGPU(exact.config).eval().requires_grad_(False)
            model.load_state_dict(exact.state_dict())
            model.bfloat16()
        else:
            model = checkpoint.load(directory, dtype=dtype).model
        figures = [
            differences(exact(row[None]), model(row[None], model.new_cache())) for row in ids
        ]
        at_once = torch.cat(figures, dim=1)
        row = ids[0, :one_by_one]
        single = differences(exact(row[None]), decoded(model, row))
        found[dtype] = {"windows": summary(at_once), "one_by_one": summary(single)}
    return found


class AsOnGPU(GPT):
    """gpt.weights.quantize.HalfGPT with a product that a CPU can compute too."""

    def logits(self, hidden: Tensor) -> Tensor:
        """(…, E) → (…, V) float32."""
        weight: Tensor = self.wte.weight if self.config.tied else self.lm_head.weight
        return F.linear(hidden.float(), weight.float())


def decoded(model: GPT, ids: Tensor) -> Tensor:
    """ids (T) → logits (1, T, V), computed one token at a time."""
    cache = model.new_cache()
    return torch.cat([model.logits(model.hidden(i.view(1, 1), cache)) for i in ids], dim=1)


def differences(exact: Tensor, other: Tensor) -> Tensor:
    """Two logits (1, T, V) → divergences and largest differences in probability, (2, T)."""
    p, q = exact[0].double().log_softmax(-1), other[0].double().log_softmax(-1)
    return torch.stack([(p.exp() * (p - q)).sum(-1), (p.exp() - q.exp()).abs().amax(-1)])


def summary(figures: Tensor) -> dict[str, float]:
    """Means and maxima over the tokens of `differences`."""
    mean_kl, mean_difference = figures.mean(1).tolist()
    max_kl, max_difference = figures.amax(1).tolist()
    values = {
        "mean_kl": mean_kl,
        "max_kl": max_kl,
        "mean_difference": mean_difference,
        "max_difference": max_difference,
    }
    return {name: float(f"{value:.2g}") for name, value in values.items()}


@torch.inference_mode()
def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="Text file. (default: none)")
    parser.add_argument(
        "--tokens",
        type=int,
        default=20_000,
        help="Tokens to read at the end of the text. (default: %(default)s)",
    )
    args = parser.parse_args()
    shipped = models.find(models.EMBEDDED)
    text = checkpoint.load(shipped).tokenizer.encode(data.read_text(args.data))
    rows = args.tokens // WINDOW
    tail = torch.tensor(text[-rows * WINDOW :]).view(rows, WINDOW)
    result = {"shakespeare": compare(shipped, tail, one_by_one=200)}
    with tempfile.TemporaryDirectory() as work:
        os.environ["GPT_TUI_HOME"] = work
        from convert.write import convert

        source = Path(work) / "theirs"
        make(source, {"n_embd": 768, "n_head": 12, "n_layer": 12}, sharded=False)
        directory = convert(str(source), name="gpt2", verify=False).directory
        torch.manual_seed(0)
        ids = torch.randint(50257, (2, WINDOW))
        result["random_gpt2"] = compare(directory, ids, one_by_one=100)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
