"""What the small dtypes cost a model."""

from __future__ import annotations

from pathlib import Path

import torch

from gpt import checkpoint, models
from gpt.checkpoint import Checkpoint, save
from gpt.divergence import TOKENS, measure
from gpt.tokenizer import CharTokenizer
from tests.conftest import CHARACTERS, random_model


def test_it_is_small_for_16_bits_and_larger_for_8(tiny_directory: Path) -> None:
    found = measure(tiny_directory)
    assert list(found) == list(models.MEMORY_DTYPES[1:])
    float16, bfloat16, int8, int4 = (found[name] or 0.0 for name in models.MEMORY_DTYPES[1:])
    assert 0 < float16 < 1e-5
    assert float16 < bfloat16 < 1e-2
    assert float16 < int8 < 0.2 and float16 < int4 < 0.5


def test_it_is_the_divergence_of_the_whole_distributions(tiny: Checkpoint, tmp_path: Path) -> None:
    # A network without blocks predicts from the token alone, so that the average is known.
    model = random_model(n_layer=0, positions="rotary", vocab_size=2, bos_id=0, block_size=TOKENS)
    save(tmp_path / "two", model, CharTokenizer("ab"))
    exact, other = (checkpoint.load(tmp_path / "two", dtype=d).model for d in ("float32", "int8"))
    p, q = (m(torch.tensor([[0, 1]]))[0].double().log_softmax(-1) for m in (exact, other))
    each = (p.exp() * (p - q)).sum(-1)
    found = measure(tmp_path / "two")["int8"]
    assert found is not None
    assert float(each.min()) * 0.9 <= found <= float(each.max()) * 1.1


def test_a_dtype_that_overflows_has_no_cost(tmp_path: Path) -> None:
    model = random_model()
    model.wte.weight.mul_(1e6)  # float16 ends at 65504
    save(tmp_path / "large", model, CharTokenizer(CHARACTERS))
    found = measure(tmp_path / "large")
    assert found["float16"] is None and found["bfloat16"] is not None
