"""Published values of the real models, where their weights can be had.

From transformers' own tests (tests/models/gpt2 and tests/models/opt).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch

from convert.write import ConversionOptions, convert
from gpt.checkpoint import Checkpoint, load
from gpt.errors import UserError
from gpt.tokenizer import decode

pytestmark = [pytest.mark.hub, pytest.mark.timeout(1800)]

PROMPTS = [
    "Today is a beautiful day and I want",
    "In the city of",
    "Paris is the capital of France and",
    "Computers and mobile phones have taken",
]
OPT_125M = [
    "Today is a beautiful day and I want to",
    "In the city of New York, the city",
    "Paris is the capital of France and the capital",
    "Computers and mobile phones have taken over the",
]
OPT_350M = [*OPT_125M[:1], "In the city of San Francisco, the city", *OPT_125M[2:]]


@cache
def real(model: str, out: Path) -> Checkpoint:
    """A converted and verified model."""
    try:
        return load(convert(model, options=ConversionOptions(out=out)).directory)
    except UserError as error:
        if "cannot be reached" in str(error):
            pytest.skip(str(error))
        raise


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the converted models are."""
    return tmp_path_factory.mktemp("models")


def greedy(checkpoint: Checkpoint, ids: list[int], length: int) -> list[int]:
    """Ids with the most probable ones behind them, up to a length."""
    ids = list(ids)
    with torch.inference_mode():
        while len(ids) < length:
            ids.append(int(checkpoint.model(torch.tensor([ids]))[0, -1].argmax()))
    return ids


def test_gpt2_goes_on_greedily(models: Path) -> None:
    expected = "373 1043 287 257 2214 1474 262 16246 286 2688 290 2688 27262 13 198 198 464 3290"
    found = greedy(real("gpt2", models / "gpt2"), [464, 3290], 20)
    assert found == [464, 3290, *map(int, expected.split())]


def test_gpt2_writes_of_a_dog(models: Path) -> None:
    checkpoint = real("gpt2", models / "gpt2")
    ids = checkpoint.tokenizer.encode("Hello, my dog is a little")
    text = " bit of a mess. I'm not sure if he's going"
    n_new = len(checkpoint.tokenizer.encode(text))
    assert (
        decode(checkpoint.tokenizer, greedy(checkpoint, ids, len(ids) + n_new)[len(ids) :]) == text
    )


@pytest.mark.parametrize(
    ("model", "expected"), [("facebook/opt-125m", OPT_125M), ("facebook/opt-350m", OPT_350M)]
)
def test_opt_goes_on_greedily(model: str, expected: list[str], models: Path) -> None:
    checkpoint = real(model, models / Path(model).name)
    assert checkpoint.model.config.bos_id == 2
    for prompt, text in zip(PROMPTS, expected, strict=True):
        ids = [2, *checkpoint.tokenizer.encode(prompt)]
        assert decode(checkpoint.tokenizer, greedy(checkpoint, ids, 10)) == text


def test_opt_350m_logits(models: Path) -> None:
    checkpoint = real("facebook/opt-350m", models / "opt-350m")
    ids = torch.tensor([checkpoint.tokenizer.encode("In the city of")])
    with torch.inference_mode():
        means = checkpoint.model(ids)[0].mean(-1)
    expected = torch.tensor([-4.7073, -10.6276, -3.9415, -21.5242])
    torch.testing.assert_close(means, expected, atol=1e-4, rtol=0)


def test_opt_125m_probabilities(models: Path) -> None:
    checkpoint = real("facebook/opt-125m", models / "opt-125m")
    ids = torch.tensor([[2, *checkpoint.tokenizer.encode("Hello my name is")]])
    with torch.inference_mode():
        best = checkpoint.model(ids)[0].softmax(-1).max(-1)
    assert best.indices.tolist() == [100, 6, 766, 16, 1236]
    expected = torch.tensor([0.2398, 0.2326, 0.3332, 0.9363, 0.0097])
    torch.testing.assert_close(best.values, expected, atol=1e-4, rtol=0)
