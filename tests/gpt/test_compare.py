from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt.checkpoint import Checkpoint
from gpt.compare import divergence, same_vocabulary
from gpt.generate import Context, encode, window_start
from gpt.models import Manifest
from gpt.tokenizer import CharTokenizer
from tests.conftest import CHARACTERS, random_model


def checkpoint(characters: str = CHARACTERS, **changes: int) -> Checkpoint:
    tokenizer = CharTokenizer(characters)
    return Checkpoint(random_model(**changes), tokenizer, Manifest("float32", 0, {}), "a")


A, B = checkpoint(), checkpoint(n_layer=1, block_size=16)


@settings(max_examples=20, deadline=None)
@given(st.text(CHARACTERS, min_size=2, max_size=50))
def test_it_is_the_textbooks_divergence_with_each_models_own_context(text: str) -> None:
    ids = encode(A, text)
    found = divergence(A, Context(A.model), B, Context(B.model), ids)
    assert len(found) == len(ids) - 1
    for position, nats in enumerate(found, 1):
        p, q = (
            one.model.logits(
                one.model.hidden(
                    torch.tensor([ids[window_start(position, one.model.config.block_size) :]])[
                        :, : position - window_start(position, one.model.config.block_size)
                    ]
                )[0, -1]
            )
            .double()
            .log_softmax(-1)
            for one in (A, B)
        )
        expected = torch.nn.functional.kl_div(q, p, log_target=True, reduction="sum")
        assert nats == pytest.approx(float(expected), abs=1e-4)
    assert divergence(A, Context(A.model), A, Context(A.model), ids) == [0.0] * (len(ids) - 1)


def test_a_vocabulary_is_shared_where_every_id_has_the_same_bytes() -> None:
    assert same_vocabulary(A, B)
    assert not same_vocabulary(A, checkpoint(CHARACTERS[::-1]))
    assert not same_vocabulary(A, checkpoint(CHARACTERS + "!", vocab_size=30))
