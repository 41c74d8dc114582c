from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt.checkpoint import Checkpoint
from gpt.errors import UserError
from gpt.generate import Limits, generate
from gpt.interpret.answers import LikelyPath, Waterfall
from gpt.interpret.explain import likely_paths, waterfall
from gpt.models import Manifest
from gpt.settings import Sampling
from gpt.tokenizer import CharTokenizer
from tests.conftest import CHARACTERS, random_model
from tests.gpt.test_quantize import VARIANTS

CHECKPOINT = Checkpoint(random_model(), CharTokenizer(CHARACTERS), Manifest("float32", 0, {}), "")


def ids(text: str) -> list[int]:
    return CHECKPOINT.new_context().encode(text)


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
        banned=st.sampled_from([(), ((3,),)]),
        boosted=st.sampled_from([(), (((4, 2), 3.0),)]),
        seed=st.integers(0, 5),
    ),
    st.integers(0, 28),
)
def test_every_column_sums_to_one_and_the_drawn_token_is_that_of_generate(
    text: str, sampling: Sampling, chosen: int
) -> None:
    context = CHECKPOINT.new_context()
    found = waterfall(context, ids(text), sampling, chosen=chosen, top=4)
    for i in range(len(found.stages)):
        total = sum(row.probabilities[i] for row in found.rows) + found.rest[i]
        assert total == pytest.approx(1, abs=1e-5)
    assert len(found.rows) + found.n_rest == 29
    by_id = {row.token_id: row for row in found.rows}
    assert chosen in by_id
    step = next(generate(context, ids(text), sampling, Limits(1, slide=True)))
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


def test_a_waterfall_of_an_earlier_position_runs_no_network_and_forgets_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context = CHECKPOINT.new_context()
    text = ids("to be or not to be")
    context.read(text)
    ids_before = list(context.ids)
    monkeypatch.setattr(CHECKPOINT.model, "hidden", None)
    for n in (1, 5, len(text)):
        found = waterfall(context, text[:n], Sampling(temperature=0.5))
        assert found.position == n
    assert context.ids == ids_before == text


def test_after_an_earlier_position_the_next_reading_is_exact() -> None:
    context, fresh = CHECKPOINT.new_context(), CHECKPOINT.new_context()
    text = ids("to be or not to be")
    context.read(text)
    waterfall(context, text[:4], Sampling())
    other = text[:4] + ids("xyz")
    a, b = torch.stack(context.read(other)), torch.stack(fresh.read(other))
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_the_first_token_has_no_waterfall() -> None:
    with pytest.raises(UserError, match="no context"):
        waterfall(CHECKPOINT.new_context(), [], Sampling())
    with pytest.raises(UserError, match="no token 99"):
        waterfall(CHECKPOINT.new_context(), [1], Sampling(), chosen=99)


def small(**changes: object) -> Checkpoint:
    model = random_model(vocab_size=5, **changes)
    return Checkpoint(model, CharTokenizer("abcde"), Manifest("float32", 0, {}), "")


@pytest.mark.parametrize("variant", ["gpt2", "llama", "qwen", "neox"])
def test_a_wide_beam_finds_exactly_the_most_probable_paths(variant: str) -> None:
    checkpoint = small(**VARIANTS[variant])
    prompt = [0, 3, 1]
    total = {}
    for ids in product(range(5), repeat=3):
        logprobs = checkpoint.model(torch.tensor([[*prompt, *ids]])).log_softmax(-1)[0]
        total[ids] = sum(logprobs[2 + i, ids[i]].item() for i in range(3))
    best = sorted(total, key=lambda ids: -total[ids])[:25]
    found = likely_paths(checkpoint.new_context(), prompt, width=25, depth=3)
    assert [path.ids for path in found] == best
    for path in found:
        assert math.fsum(path.logprobs) == pytest.approx(total[path.ids], abs=5e-5)
        assert path.bytes == tuple(b"abcde"[i : i + 1] for i in path.ids)
        assert LikelyPath.from_dict(path.to_dict()) == path


def test_a_path_ends_with_an_end_token_or_when_the_context_is_full() -> None:
    eos = int(small().model(torch.tensor([[0]]))[0, -1].argmax())
    checkpoint = small(eos_id=eos)
    paths = likely_paths(checkpoint.new_context(), [0], width=20, depth=4)
    assert any(path.ids[-1] == eos and len(path.ids) < 4 for path in paths)
    assert all(eos not in path.ids[:-1] for path in paths)
    totals = [math.fsum(path.logprobs) for path in paths]
    assert totals == sorted(totals, reverse=True)
    checkpoint = small(block_size=6)
    paths = likely_paths(checkpoint.new_context(), [0, 1, 2, 3], width=2, depth=9)
    assert {len(path.ids) for path in paths} == {3}  # the network reads two more and predicts one


def test_a_beam_leaves_the_context_as_it_was() -> None:
    context = CHECKPOINT.new_context()
    text = ids("to be or not")
    context.read(text)
    likely_paths(context, text[:5], width=3, depth=3)
    assert context.ids == text
    more = text + ids("xy")
    expected = CHECKPOINT.new_context().read(more)
    torch.testing.assert_close(torch.stack(context.read(more)), torch.stack(expected))
    with pytest.raises(UserError, match="no context"):
        likely_paths(context, [])
