from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpt.checkpoint import Checkpoint
from gpt.context import window_start
from gpt.errors import UserError
from gpt.generate import Limits, blocked, generate, score
from gpt.prediction import NonFiniteLogitsError, predict, read_out
from gpt.progress import Watcher
from gpt.sampling import distribution
from gpt.settings import Sampling
from gpt.step import Step
from gpt.tokenizer import BPETokenizer
from tests.conftest import TINY, random_model
from tests.gpt.test_tokenizer import bpe


def run(tiny: Checkpoint, prompt: str = "a", n: int = 10, **options: Any) -> list[Step]:
    context = options.pop("context", None) or tiny.new_context()
    sampling = options.pop("sampling", Sampling(seed=5))
    ids = options.pop("ids", tiny.new_context().encode(prompt))
    limits = Limits(n, options.pop("stop", ()), options.pop("slide", False))
    return list(generate(context, ids, sampling, limits, **options))


def exact(tiny: Checkpoint, ids: list[int]) -> torch.Tensor:
    """The model's own log-probabilities for the token after ids, without any cache."""
    return tiny.model(torch.tensor([ids]))[0, -1].log_softmax(-1)


def test_every_number_of_a_step_is_the_models_own(tiny: Checkpoint) -> None:
    sampling = Sampling(temperature=0.7, top_k=8, seed=3)
    ids = tiny.new_context().encode("what is")
    for step in run(tiny, "what is", sampling=sampling):
        logprobs = exact(tiny, ids)
        assert step.position == len(ids)
        assert step.logprob == pytest.approx(logprobs[step.token_id].item(), abs=1e-4)
        assert step.rank == 1 + int((logprobs > logprobs[step.token_id]).sum())
        assert step.entropy == pytest.approx(-(logprobs.exp() * logprobs).sum().item(), abs=1e-4)
        best = logprobs.topk(10)
        assert [c.token_id for c in step.candidates] == best.indices.tolist()
        assert [c.logprob for c in step.candidates] == pytest.approx(best.values.tolist(), abs=1e-4)
        after = distribution(logprobs, sampling, ids)[-1].logprobs
        assert step.sampling_logprob == pytest.approx(after[step.token_id].item(), abs=1e-4)
        for candidate in step.candidates:
            expected = after[candidate.token_id].item()
            if expected == -math.inf:
                assert candidate.sampling_logprob is None
            else:
                assert candidate.sampling_logprob == pytest.approx(expected, abs=1e-4)
        assert (
            step.bytes.decode() == step.text == tiny.tokenizer.token_bytes(step.token_id).decode()
        )
        ids.append(step.token_id)


def test_score_of_what_was_generated_gives_the_same_numbers(tiny: Checkpoint) -> None:
    drawn = run(tiny, "to be or", n=20)
    ids = tiny.new_context().encode("to be or") + [step.token_id for step in drawn]
    scored = list(score(tiny.new_context(), ids))
    assert [step.position for step in scored] == list(range(len(ids)))
    for a, b in zip(drawn, scored[8:], strict=True):
        assert (a.token_id, a.rank, a.text) == (b.token_id, b.rank, b.text)
        assert a.logprob == pytest.approx(b.logprob, abs=1e-4)
        assert a.entropy == pytest.approx(b.entropy, abs=1e-4)
        assert b.sampling_logprob is None


def test_the_first_token_has_no_probability(tiny: Checkpoint) -> None:
    first, second = score(tiny.new_context(), tiny.new_context().encode("ab"))
    assert (first.logprob, first.rank, first.entropy, first.candidates) == (None, None, None, ())
    assert second.logprob is not None


def test_score_from_a_later_start_is_the_tail_of_the_whole(tiny: Checkpoint) -> None:
    ids = tiny.new_context().encode("the quick brown fox jumps over the lazy dog. " * 3)
    whole = list(score(tiny.new_context(), ids, top=0))
    for start in (1, 40, 100, len(ids)):
        tail = list(score(tiny.new_context(), ids, top=0, start=start))
        assert [s.token_id for s in tail] == [s.token_id for s in whole[start:]]
        for a, b in zip(tail, whole[start:], strict=True):
            assert a.logprob == pytest.approx(b.logprob, abs=1e-4)


def test_greedy_is_the_argmax(tiny: Checkpoint) -> None:
    ids = tiny.new_context().encode("b")
    for step in run(tiny, "b", sampling=Sampling(temperature=0)):
        assert step.token_id == exact(tiny, ids).argmax().item()
        assert step.sampling_logprob == 0.0
        ids.append(step.token_id)


def test_a_run_repeats_and_another_seed_differs(tiny: Checkpoint) -> None:
    assert run(tiny) == run(tiny)
    other = run(tiny, sampling=Sampling(seed=6))
    assert [s.token_id for s in run(tiny)] != [s.token_id for s in other]


def test_finish_reasons(tiny: Checkpoint) -> None:
    steps = run(tiny, n=4)
    assert [step.finish_reason for step in steps] == [None, None, None, "length"]
    eos = steps[1].token_id
    tiny.model.config = replace(tiny.model.config, eos_id=eos)
    assert [s.finish_reason for s in run(tiny, n=9)][-1] == "eos"


def test_stop_text_may_straddle_tokens(tiny: Checkpoint) -> None:
    text = "".join(step.text for step in run(tiny, n=20))
    stop = text[7:10]
    stopped = run(tiny, n=20, stop=["never", stop])
    assert stopped[-1].finish_reason == "stop"
    shown = "".join(step.text for step in stopped)
    assert shown == text[: text.index(stop) + len(stop)]


@pytest.mark.parametrize(("length", "drawn"), [(31, 1), (32, 0)])
def test_a_full_context_ends_the_text(tiny: Checkpoint, length: int, drawn: int) -> None:
    steps = run(tiny, "a" * length)
    assert len(steps) == drawn
    if drawn:
        assert steps[-1].finish_reason == "context full"
    else:
        assert (
            blocked(
                tiny.new_context(), tiny.new_context().encode("a" * length), Limits(10, slide=False)
            )
            == "context full"
        )


def test_a_prompt_that_does_not_fit_says_how_much_does(tiny: Checkpoint) -> None:
    with pytest.raises(UserError, match="has 33 tokens and this model reads 32"):
        run(tiny, "a" * 33)
    with pytest.raises(UserError, match="prompt is empty"):
        run(tiny, ids=[])
    with pytest.raises(UserError, match="no token 29; this model has the ids 0 to 28"):
        run(tiny, ids=[29])
    assert run(tiny, n=0) == []


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_a_sliding_window_equals_the_uncached_model(tiny: Checkpoint, positions: str) -> None:
    tiny = replace(tiny, model=random_model(positions=positions))
    ids = tiny.new_context().encode("the first words of a text")
    steps = run(tiny, ids=list(ids), n=60, slide=True)
    assert len(steps) == 60
    for step in steps:
        window = ids[window_start(len(ids), 32) :]
        assert len(window) <= 32
        assert step.logprob == pytest.approx(exact(tiny, window)[step.token_id].item(), abs=1e-4)
        ids.append(step.token_id)
    scored = list(score(tiny.new_context(), ids, top=0))[-60:]
    assert [s.logprob for s in scored] == pytest.approx([s.logprob for s in steps], abs=1e-4)


@given(st.integers(0, 5000), st.integers(1, 300))
def test_the_window_fits_and_keeps_three_quarters_of_a_block(n: int, block_size: int) -> None:
    start = window_start(n, block_size)
    assert 0 < n - start <= block_size or n == 0
    assert start == 0 or n - start > block_size - max(1, block_size // 4)
    assert window_start(n, block_size) <= window_start(n + 1, block_size)


@settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.lists(st.integers(0, 28), min_size=1, max_size=32), min_size=1, max_size=6))
def test_a_context_that_has_read_anything_equals_a_fresh_one(
    tiny: Checkpoint, paths: list[list[int]]
) -> None:
    context = tiny.new_context()
    for path in paths:
        hidden = torch.stack(context.read(path))
        torch.testing.assert_close(
            hidden, tiny.model.hidden(torch.tensor([path]))[0], atol=2e-5, rtol=0
        )


def test_a_fork_costs_one_step_and_a_second_look_none(
    tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    original = tiny.model.hidden
    monkeypatch.setattr(
        tiny.model, "hidden", lambda ids, cache: read.append(ids.size(1)) or original(ids, cache)
    )
    context = tiny.new_context()
    ids = tiny.new_context().encode("a text of some length")
    list(score(context, ids))
    assert sum(read) == len(ids) - 1
    read.clear()
    list(score(context, ids[:10]))
    assert read == []
    run(tiny, ids=[*ids[:5], 7], n=1, context=context)
    assert read == [1]


def test_cancelling_stops_within_one_token(tiny: Checkpoint) -> None:
    calls = itertools.count()
    steps = run(tiny, n=20, watcher=Watcher(lambda: next(calls) > 5))
    assert len(steps) == 6  # asked once before reading the prompt, then once a token
    assert steps[-1].finish_reason == "cancelled"
    assert run(tiny, n=20, watcher=Watcher(lambda: True)) == []


@pytest.mark.parametrize("top", [0, 3, 10, 29])
def test_a_rank_is_the_same_wherever_it_is_looked_up(top: int) -> None:
    logits = torch.randn(40, 29)
    logits[:, 7] = logits[:, 8]  # a tie
    prediction = predict(logits)
    chosen = torch.randint(29, (40,)).tolist()
    logprobs = logits.log_softmax(-1)
    expected = [1 + int((row > row[i]).sum()) for row, i in zip(logprobs, chosen, strict=True)]
    for at_hand in (1, 5, 29):
        best = {
            name: getattr(prediction, name)[:, :at_hand] for name in ("top_logprobs", "top_ids")
        }
        found = read_out(prediction._replace(**best), chosen, top)
        assert [one.rank for one in found] == expected
        own = [row[i].item() for row, i in zip(logprobs, chosen, strict=True)]
        assert [one.logprob for one in found] == own
        best_ones = logprobs.sort(descending=True).values[:, :top].tolist()
        assert [one.top_logprobs for one in found] == best_ones


def test_damaged_weights_name_the_position(tiny: Checkpoint) -> None:
    tiny.model.get_parameter("ln_f.weight")[0] = math.nan
    with pytest.raises(NonFiniteLogitsError, match="position 3"):
        run(tiny, "abc")
    with pytest.raises(NonFiniteLogitsError, match="position 1"):
        list(score(tiny.new_context(), tiny.new_context().encode("abc")))


def byte_checkpoint(tiny: Checkpoint) -> tuple[Checkpoint, BPETokenizer]:
    tokens = bpe()
    model = random_model(vocab_size=tokens.vocab_size)
    return replace(tiny, model=model, tokenizer=tokens), tokens


def test_half_a_character_is_held_back_until_it_is_whole(tiny: Checkpoint) -> None:
    checkpoint, tokens = byte_checkpoint(tiny)
    ids = [tokens.encode(chr(b))[0] for b in b"ab"]
    of_byte = {tokens.token_bytes(i): i for i in range(tokens.vocab_size)}
    fox = [of_byte[bytes([b])] for b in "🦊".encode()]
    texts = [step.text for step in score(checkpoint.new_context(), ids + fox)]
    assert texts == ["a", "b", "", "", "", "🦊"]
    tail = score(checkpoint.new_context(), ids + fox, start=4)
    assert [step.text for step in tail] == ["", "🦊"]


def test_the_bos_token_stands_in_front(tiny: Checkpoint) -> None:
    tiny.model.config = replace(tiny.model.config, bos_id=28)
    assert tiny.new_context().encode("a") == [28, *tiny.tokenizer.encode("a")]


def test_steps_survive_json(tiny: Checkpoint) -> None:
    steps = [*score(tiny.new_context(), tiny.new_context().encode("abc")), *run(tiny, "abc")]
    for step in steps:
        line = json.dumps(step.to_dict(), allow_nan=False)
        assert Step.from_dict(json.loads(line)) == step


def test_tiny_has_the_shape_that_the_tests_count_on() -> None:
    assert (TINY["block_size"], TINY["vocab_size"]) == (32, 29)
