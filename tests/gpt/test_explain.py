from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt import checkpoint, models
from gpt.checkpoint import Checkpoint
from gpt.errors import UserError
from gpt.fast.branches import Branch, branches
from gpt.generate import Limits, generate
from gpt.interpret.answers import LikelyPath, Waterfall
from gpt.interpret.explain import likely_paths, waterfall
from gpt.interpret.intervene import intervened
from gpt.interventions import Knockout
from gpt.models import Manifest
from gpt.settings import Sampling
from gpt.tokenizer import CharTokenizer
from tests.conftest import CHARACTERS, random_model
from tests.gpt.test_quantize import VARIANTS
from tests.gpt.test_settings import NEW

CHECKPOINT = Checkpoint(random_model(), CharTokenizer(CHARACTERS), Manifest("float32", 0, {}), "")


def ids(text: str) -> list[int]:
    return CHECKPOINT.new_context().encode(text)


@settings(max_examples=40, deadline=None)
@given(
    st.text(CHARACTERS, min_size=1, max_size=60),
    st.builds(
        replace,
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
        **NEW,
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
        # These may leave so little of a probability that float32 has no number for it.
        may_be_tiny = bool(sampling.active & {"dry_multiplier", "dynatemp_range"})
        assert may_be_tiny or (row.removed_by is None) == (row.probabilities[-1] > 0)
        if row.removed_by:
            at = found.stages.index(row.removed_by)
            assert row.probabilities[at] == 0
            assert may_be_tiny or row.probabilities[at - 1] > 0
    assert Waterfall.from_dict(found.to_dict()) == found


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(mirostat_tau=2.0, mirostat_eta=0.4, seed=3),
        Sampling(mirostat_tau=3.0, xtc_probability=0.5, dry_multiplier=0.8, seed=4),
    ],
)
def test_every_token_of_a_run_has_the_waterfall_that_it_was_drawn_from(sampling: Sampling) -> None:
    text = ids("to be or not to be ")
    steps = list(generate(CHECKPOINT.new_context(), text, sampling, Limits(25, slide=True)))
    path = [*text, *(step.token_id for step in steps)]
    assert steps[0].mirostat_mu == 2 * sampling.mirostat_tau
    assert len({step.mirostat_mu for step in steps}) > 5
    context = CHECKPOINT.new_context()
    for step in steps:
        here = replace(sampling, mirostat_mu=step.mirostat_mu)
        found = waterfall(context, path[: step.position], here, chosen=step.token_id)
        assert found.drawn == step.token_id
        (row,) = [row for row in found.rows if row.token_id == step.token_id]
        assert step.sampling_logprob is not None
        assert row.probabilities[-1] == pytest.approx(math.exp(step.sampling_logprob), abs=1e-6)
    # A run that begins in the middle with this mu repeats the rest.
    middle = steps[9]
    here = replace(sampling, mirostat_mu=middle.mirostat_mu)
    again = generate(context, path[: middle.position], here, Limits(16, slide=True))
    for step, former in zip(again, steps[9:], strict=True):
        assert step.token_id == former.token_id
        assert step.mirostat_mu == pytest.approx(former.mirostat_mu, abs=1e-4)


def test_dry_ends_a_repetition_at_a_breaker_of_the_tokenizer() -> None:
    context, sampling = CHECKPOINT.new_context(), Sampling(dry_multiplier=5.0)
    (line_break,) = ids("\n")
    assert line_break in context.breakers
    for text, is_less in (("abcdef abc", True), ("abc\ndef abc\n", False)):
        (following,) = ids("d")
        found = waterfall(context, ids(text), sampling, chosen=following)
        (row,) = [row for row in found.rows if row.token_id == following]
        assert (row.probabilities[-1] < row.probabilities[0] * 0.9) == is_less


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


def test_changes_inside_are_the_second_stage_of_a_waterfall() -> None:
    context = CHECKPOINT.new_context()
    text = ids("to be")
    sampling = Sampling(temperature=0.5, seed=3)
    muted = (Knockout(part="mlp", layer=1),)
    found = waterfall(context, text, sampling, interventions=muted)
    assert found.stages == ("model", "interventions", "temperature")
    own = CHECKPOINT.model(torch.tensor([text]))[0, -1].softmax(-1)
    with intervened(context, muted, text) as changed:
        logits = changed.raw_logits(changed.read(text)[-1])
        expected = torch.stack([own, logits.softmax(-1), (logits / 0.5).softmax(-1)], 1)
        alone = waterfall(changed, text, sampling)
    for row in found.rows:
        torch.testing.assert_close(
            torch.tensor(row.probabilities), expected[row.token_id], atol=1e-6, rtol=1e-4
        )
    wanted = list(range(len(own)))
    every = waterfall(context, text, sampling, top=2, also=wanted, interventions=muted)
    assert sorted(row.token_id for row in every.rows) == wanted and not every.n_rest
    with pytest.raises(UserError, match="there is no token 10000"):
        waterfall(context, text, sampling, also=[10_000])
    assert found.drawn == alone.drawn
    assert not torch.allclose(expected[:, 0], expected[:, 1], atol=1e-3)
    assert waterfall(context, text, sampling).stages == ("model", "temperature")


def test_the_first_stage_has_the_numbers_of_the_drawn_token() -> None:
    """In 16 bits, to read the tokens again at once would round differently."""
    context = checkpoint.load(models.find(models.EMBEDDED), "cpu", "float16").new_context()
    ids = context.encode("ROMEO:\n")
    wanted = [Branch(Sampling(seed=1))]
    steps = [step for _, step in branches(context, ids, wanted, Limits(30))]
    path = [*ids, *(step.token_id for step in steps)]
    assert context.ids == path[:-1], "what was drawn is not read again"
    for step in reversed(steps):
        before = path[: step.position]
        found = waterfall(context, before, Sampling(banned=((0,),)), chosen=step.token_id)
        own = next(row for row in found.rows if row.token_id == step.token_id)
        assert step.logprob is not None
        assert own.probabilities[0] == pytest.approx(math.exp(step.logprob), rel=1e-6)
