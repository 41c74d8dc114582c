"""How far the distributions of each dtype are from float32's; prints JSON.

    .venv/bin/python -m benchmarks.divergence --data tinyshakespeare.txt [--tokens 20000]

The shipped model reads the last part of a text that it was not trained on, and random GPT-2
weights of 124M read random tokens, in windows of the block size or 256. Per token: the
Kullback-Leibler divergence in nats, and the largest difference of any token's probability.
Windows are read at once; `one_by_one` tokens are read as decoding does, through the cache. "gpu" is
what a CUDA device computes: bfloat16 throughout, and float32 logits. The roundings are the same
here; only the order of sums differs.
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
    """ids (n, T) → figures for each dtype."""
    exact = checkpoint.load(directory).model
    found = {}
    for dtype in (*models.DTYPES[1:], "gpu"):
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
    """gpt.weights.quantize.HalfGPT with a product that a CPU has as well."""

    def logits(self, hidden: Tensor) -> Tensor:
        """(…, E) → (…, V) float32."""
        weight: Tensor = self.wte.weight if self.config.tied else self.lm_head.weight
        return F.linear(hidden.float(), weight.float())


def decoded(model: GPT, ids: Tensor) -> Tensor:
    """Logits (1, T, V), a token at a time."""
    cache = model.new_cache()
    return torch.cat([model.logits(model.hidden(i.view(1, 1), cache)) for i in ids], dim=1)


def differences(exact: Tensor, other: Tensor) -> Tensor:
    """Logits (1, T, V) twice → divergences and largest differences, (2, T)."""
    p, q = exact[0].double().log_softmax(-1), other[0].double().log_softmax(-1)
    return torch.stack([(p.exp() * (p - q)).sum(-1), (p.exp() - q.exp()).abs().amax(-1)])


def summary(both: Tensor) -> dict[str, float]:
    """Means and maxima over the tokens."""
    (kl, gap), (most, widest) = both.mean(1).tolist(), both.amax(1).tolist()
    values = {"mean_kl": kl, "max_kl": most, "mean_difference": gap, "max_difference": widest}
    return {name: float(f"{value:.2g}") for name, value in values.items()}


@torch.inference_mode()
def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=20_000)
    args = parser.parse_args()
    shipped = models.find(models.EMBEDDED)
    text = checkpoint.load(shipped).tokenizer.encode(data.read_text(args.data))
    rows = args.tokens // WINDOW
    tail = torch.tensor(text[-rows * WINDOW :]).view(rows, WINDOW)
    result = {"shakespeare": compare(shipped, tail, one_by_one=200)}
    with tempfile.TemporaryDirectory() as work:
        os.environ["GPT_TUI_HOME"] = work
        from convert.write import convert

        theirs = Path(work) / "theirs"
        make(theirs, {"n_embd": 768, "n_head": 12, "n_layer": 12}, sharded=False)
        directory = convert(str(theirs), name="gpt2", verify=False).directory
        torch.manual_seed(0)
        ids = torch.randint(50257, (2, WINDOW))
        result["random_gpt2"] = compare(directory, ids, one_by_one=100)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
