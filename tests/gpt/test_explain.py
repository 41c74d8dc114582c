from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt.checkpoint import Checkpoint
from gpt.errors import UserError
from gpt.explain import waterfall
from gpt.generate import Context, encode, generate
from gpt.models import Manifest
from gpt.settings import Sampling
from gpt.tokenizer import CharTokenizer
from gpt.waterfall import Waterfall
from tests.conftest import CHARACTERS, random_model

CHECKPOINT = Checkpoint(random_model(), CharTokenizer(CHARACTERS), Manifest("float32", 0, {}), "")


def ids(text: str) -> list[int]:
    return encode(CHECKPOINT, text)


@settings(max_examples=40, deadline=None)
@given(
    st.text(CHARACTERS, min_size=1, max_size=60),
    st.builds(
        Sampling,
        temperature=st.sampled_from([0.0, 0.5, 1.0, 2.0]),
        top_k=st.sampled_from([0, 1, 5]),
        top_p=st.sampled_from([0.3, 0.9, 1.0]),
        min_p=st.sampled_from([0.0, 0.2]),
        repetition_penalty=st.sampled_from([1.0, 1.5]),
        banned=st.sampled_from([(), (3,)]),
        seed=st.integers(0, 5),
    ),
    st.integers(0, 28),
)
def test_every_column_sums_to_one_and_the_dice_are_generates(
    text: str, sampling: Sampling, chosen: int
) -> None:
    context = Context(CHECKPOINT.model)
    found = waterfall(CHECKPOINT, context, ids(text), sampling, chosen=chosen, top=4)
    for i in range(len(found.stages)):
        total = sum(row.probabilities[i] for row in found.rows) + found.rest[i]
        assert total == pytest.approx(1, abs=1e-5)
    assert len(found.rows) + found.n_rest == 29
    by_id = {row.token_id: row for row in found.rows}
    assert chosen in by_id
    step = next(generate(CHECKPOINT, context, ids(text), sampling, max_new_tokens=1, slide=True))
    assert step.token_id == found.drawn
    assert step.logprob is not None and step.sampling_logprob is not None
    drawn = by_id[found.drawn]
    assert drawn.probabilities[0] == pytest.approx(math.exp(step.logprob), abs=1e-6)
    assert drawn.probabilities[-1] == pytest.approx(math.exp(step.sampling_logprob), abs=1e-6)
    for row in found.rows:
        assert (row.removed_by is None) == (row.probabilities[-1] > 0)
        if row.removed_by:
            at = found.stages.index(row.removed_by)
            assert row.probabilities[at] == 0 < row.probabilities[at - 1]
    assert Waterfall.from_dict(found.to_dict()) == found


def test_a_look_back_runs_no_network_and_forgets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    context = Context(CHECKPOINT.model)
    text = ids("to be or not to be")
    context.read(text)
    kept = list(context.ids)
    monkeypatch.setattr(CHECKPOINT.model, "hidden", None)
    for n in (1, 5, len(text)):
        found = waterfall(CHECKPOINT, context, text[:n], Sampling(temperature=0.5))
        assert found.position == n
    assert context.ids == kept == text


def test_a_look_back_leaves_what_is_read_next_exact() -> None:
    context, fresh = Context(CHECKPOINT.model), Context(CHECKPOINT.model)
    text = ids("to be or not to be")
    context.read(text)
    waterfall(CHECKPOINT, context, text[:4], Sampling())
    other = text[:4] + ids("xyz")
    a, b = torch.stack(context.read(other)), torch.stack(fresh.read(other))
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_the_first_token_has_no_waterfall() -> None:
    with pytest.raises(UserError, match="no context"):
        waterfall(CHECKPOINT, Context(CHECKPOINT.model), [], Sampling())
    with pytest.raises(UserError, match="no token 99"):
        waterfall(CHECKPOINT, Context(CHECKPOINT.model), [1], Sampling(), chosen=99)
