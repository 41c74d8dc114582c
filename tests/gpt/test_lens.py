from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from gpt.checkpoint import Checkpoint, load
from gpt.context import window_start
from gpt.errors import UserError
from gpt.generate import score
from gpt.interpret.answers import Layer
from gpt.interpret.intervene import intervened
from gpt.interpret.lens import attribution, layers
from gpt.interventions import Edge
from gpt.model import GPT
from gpt.models import Manifest
from gpt.progress import Watcher
from gpt.tokenizer import CharTokenizer
from tests.conftest import CHARACTERS, random_model
from tests.gpt.test_quantize import VARIANTS
from tests.peers import as_llama, random_gpt2


def checkpoint(model: GPT) -> Checkpoint:
    return Checkpoint(model, CharTokenizer(CHARACTERS), Manifest("float32", 0, {}), "a")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"positions": "rotary", "norm": "rmsnorm"},
        {"norm_first": False, "embd_dim": 8},
        {"n_layer": 0},
        VARIANTS["llama"],
        VARIANTS["qwen"],
        VARIANTS["neox"],
    ],
)
def test_the_last_layer_is_the_model_and_weights_sum_to_one(changes: dict[str, object]) -> None:
    one = checkpoint(random_model(**changes))
    ids = one.new_context().encode("to be or not to be, that is the question".replace(",", ""))
    found = layers(one.new_context(), ids[:-1], ids[-1], top=3)
    assert [layer.name for layer in found] == [
        "embedding",
        *(f"layer {n + 1}" for n in range(one.model.config.n_layer)),
    ]
    step = list(score(one.new_context(), ids, start=len(ids) - 1, top=3))[-1]
    assert step.logprob == pytest.approx(found[-1].chosen_logprob, abs=1e-4)
    assert step.rank == found[-1].chosen_rank
    assert found[-1].ids == tuple(candidate.token_id for candidate in step.candidates)
    for layer in found[1:]:
        assert len(layer.attention) == 2
        for head in layer.attention:
            assert sum(head) == pytest.approx(1, abs=1e-5) and min(head) >= 0
            assert len(head) <= one.model.config.block_size
        assert Layer.from_dict(json.loads(json.dumps(layer.to_dict()))) == layer
    for module in one.model.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks


def test_layers_agree_with_the_hidden_states_of_transformers() -> None:
    from transformers import GPT2Config

    config = GPT2Config(vocab_size=29, n_positions=32, n_layer=3, n_head=2, n_embd=16)
    config._attn_implementation = "eager"
    torch.manual_seed(1)
    ours, theirs = random_gpt2(config)
    ids = CharTokenizer(CHARACTERS).encode("to be or not")
    with torch.inference_mode():
        out = theirs(torch.tensor([ids]), output_attentions=True, output_hidden_states=True)
        lens = [*out.hidden_states[:-1]]
        expected = [theirs.lm_head(theirs.transformer.ln_f(x))[0, -1] for x in lens]
    found = layers(checkpoint(ours).new_context(), ids, 3)
    for layer, logits in zip(found[:-1], expected, strict=True):
        logprobs = logits.log_softmax(-1)
        assert layer.chosen_logprob == pytest.approx(float(logprobs[3]), abs=1e-5)
        assert layer.logprobs == pytest.approx(logprobs.topk(5).values.tolist(), abs=1e-5)
    for layer, weights in zip(found[1:], out.attentions, strict=True):
        for head, row in zip(layer.attention, weights[0, :, -1], strict=True):
            assert head == pytest.approx(row.tolist(), abs=1e-6)


def test_attention_of_shared_heads_is_that_of_transformers() -> None:
    fields = {**VARIANTS["llama"], "norm_gain": False, "tied": False}
    ours = random_model(**{**fields, "n_head": 4, "n_kv_head": 2})
    theirs = as_llama(ours)
    theirs.set_attn_implementation("eager")
    ids = CharTokenizer(CHARACTERS).encode("to be or not to be that is")
    with torch.inference_mode():
        expected = theirs(torch.tensor([ids]), output_attentions=True).attentions
    found = layers(checkpoint(ours).new_context(), ids, 3)[1:]
    for layer, weights in zip(found, expected, strict=True):
        for head, row in zip(layer.attention, weights[0, :, -1], strict=True):
            assert head == pytest.approx(row.tolist(), abs=1e-6)


def test_attention_of_rounded_queries_and_keys_sums_to_one(tiny_directory: Path) -> None:
    rounded = load(tiny_directory, "cpu", "bfloat16")
    ids = rounded.new_context().encode("to be or not to be")
    *_, step = score(rounded.new_context(), ids)
    _, *blocks = found = layers(rounded.new_context(), ids[:-1], ids[-1])
    assert found[-1].chosen_logprob == pytest.approx(step.logprob, abs=0.01)
    for layer in blocks:
        for head in layer.attention:
            assert sum(head) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("length", [9, 50])
def test_the_layers_of_a_text_that_was_read_cost_one_token(
    length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = checkpoint(random_model()).new_context()
    ids = context.encode("to be or not to be that is the question " * 2)[: length + 1]
    list(score(context, ids))
    kept = context.cache.memory(4).clone()
    expected = layers(checkpoint(context.model).new_context(), ids[:-1], ids[-1])
    sizes: list[int] = []
    hidden = context.model.hidden
    monkeypatch.setattr(
        context.model, "hidden", lambda new, *args: sizes.append(new.size(1)) or hidden(new, *args)
    )
    found = layers(context, ids[:-1], ids[-1])
    assert sizes == [1]
    for one, other in zip(found, expected, strict=True):
        assert one.ids == other.ids
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)
        for head, same in zip(one.attention, other.attention, strict=True):
            assert head == pytest.approx(same, abs=1e-6)
    assert torch.equal(context.cache.memory(4), kept)


def test_a_cut_edge_has_no_weight() -> None:
    context = checkpoint(random_model()).new_context()
    ids = context.encode("to be or not")
    cut = [Edge(source=3, target=len(ids) - 1, layer=2)]
    with intervened(context, cut, ids) as changed:
        _, first, second = layers(changed, ids, 4)[:3]
    assert all(head[3] > 0 for head in first.attention)
    assert all(head[3] == 0 for head in second.attention)
    assert all(sum(head) == pytest.approx(1, abs=1e-5) for head in second.attention)


def test_layers_stop_when_they_are_cancelled() -> None:
    context = checkpoint(random_model()).new_context()
    assert layers(context, context.encode("to be"), 4, watcher=Watcher(lambda: True)) == []


def test_the_first_token_has_no_layers() -> None:
    with pytest.raises(UserError, match="no context"):
        layers(checkpoint(random_model()).new_context(), [], 3)


@pytest.mark.parametrize("variant", ["gpt2", "llama", "qwen", "neox"])
def test_attribution_leaves_out_one_token_at_a_time(variant: str) -> None:
    one = checkpoint(random_model(block_size=16, **VARIANTS[variant]))
    for n in (2, 9, 16, 20):
        ids = one.new_context().encode("to be or not to be that"[: n + 1])
        before, chosen = ids[:-1], ids[-1]
        context = one.new_context()
        found = attribution(context, before, chosen, last=6)
        start = window_start(len(before), 16)
        logprob = list(score(one.new_context(), [*before[start:], chosen]))[-1].logprob
        measured = [i for i, nats in enumerate(found) if nats is not None]
        assert measured == list(range(max(start, len(before) - 6), len(before)))
        for i in measured:
            without = [*before[start:i], *before[i + 1 :], chosen]
            other = list(score(one.new_context(), without))[-1].logprob
            assert logprob is not None and other is not None
            assert found[i] == pytest.approx(logprob - other, abs=1e-4)
        assert attribution(context, before, chosen, last=6) == found  # the context did not change
    assert attribution(one.new_context(), [3], 4) == [None]
    with pytest.raises(UserError, match="no context"):
        attribution(one.new_context(), [], 4)
