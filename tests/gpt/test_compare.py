from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt.checkpoint import Checkpoint
from gpt.context import window_start
from gpt.interpret.compare import divergence, same_vocabulary, translate_settings
from gpt.models import Manifest
from gpt.settings import Sampling
from gpt.tokenizer import CharTokenizer
from tests.conftest import CHARACTERS, random_model


def checkpoint(characters: str = CHARACTERS, **changes: int) -> Checkpoint:
    tokenizer = CharTokenizer(characters)
    return Checkpoint(random_model(**changes), tokenizer, Manifest("float32", 0, {}), "a")


def distribution_at(one: Checkpoint, ids: list[int], position: int) -> torch.Tensor:
    """Log-probabilities (V) of the token at a position, computed from its context."""
    context = ids[window_start(position, one.model.config.block_size) : position]
    hidden = one.model.hidden(torch.tensor([context]))[0, -1]
    return one.model.logits(hidden).double().log_softmax(-1)


A, B = checkpoint(), checkpoint(n_layer=1, block_size=16)


@settings(max_examples=20, deadline=None)
@given(st.text(CHARACTERS, min_size=2, max_size=50))
def test_divergence_is_that_of_torch_with_the_context_of_each_model(text: str) -> None:
    ids = A.new_context().encode(text)
    found = divergence(A.new_context(), B.new_context(), ids)
    assert len(found) == len(ids) - 1
    for position, nats in enumerate(found, 1):
        p, q = (distribution_at(one, ids, position) for one in (A, B))
        expected = torch.nn.functional.kl_div(q, p, log_target=True, reduction="sum")
        assert nats == pytest.approx(float(expected), abs=1e-4)
    assert divergence(A.new_context(), A.new_context(), ids) == [0.0] * (len(ids) - 1)


def test_a_vocabulary_is_the_same_if_every_id_has_the_same_bytes() -> None:
    assert same_vocabulary(A.new_context(), B.new_context())
    assert not same_vocabulary(A.new_context(), checkpoint(CHARACTERS[::-1]).new_context())
    assert not same_vocabulary(
        A.new_context(), checkpoint(CHARACTERS + "!", vocab_size=30).new_context()
    )


def test_words_in_the_settings_are_translated_to_the_other_model() -> None:
    other = checkpoint(CHARACTERS[::-1])
    word, letter = tuple(A.new_context().encode("king")), tuple(A.new_context().encode("x"))
    sampling = Sampling(banned=(word,), boosted=((letter, 2.0),), seed=3)
    translated = translate_settings(A.new_context(), other.new_context(), sampling)
    assert translated.banned == (tuple(other.new_context().encode("king")),) != sampling.banned
    assert translated.boosted == ((tuple(other.new_context().encode("x")), 2.0),)
    assert translated.seed == 3
    assert translate_settings(A.new_context(), B.new_context(), sampling) is sampling
