"""The lens grid, heads, the work of a head, and the parts of a logit."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gpt.config import ModelConfig
from gpt.context import Context
from gpt.errors import UserError
from gpt.generate import score
from gpt.interpret.grid import lens_cell, lens_grid, stream_norms
from gpt.interpret.heads import heads, work
from gpt.interpret.hooks import attention_of
from gpt.interpret.intervene import effect, intervened
from gpt.interpret.lens import layers
from gpt.interpret.logit_parts import logit_parts
from gpt.interpret.looks import Heads, LensCell, LensGrid, LogitParts, StreamNorms, Work
from gpt.interpret.mattered import mattered
from gpt.interpret.patch import patch_grid
from gpt.interpret.words import neighbours
from gpt.interventions import Edge, Intervention, Knockout, Steer
from gpt.model import GPT
from gpt.progress import Watcher
from gpt.tokenizer import CharTokenizer
from tests.conftest import CHARACTERS, context_of, random_model
from tests.gpt.inside import FAMILIES, TEXT, WIDER, context_like, is_untouched, last_logits
from tests.gpt.test_model import INPUTS
from tests.gpt.test_quantize import stored
from tests.peers import random_gpt2

every_family = pytest.mark.parametrize("family", FAMILIES)
NEVER = Watcher(lambda: True)


@every_family
@pytest.mark.parametrize("n", [1, 2, 26, 60])
def test_the_last_row_is_the_model_and_the_others_are_the_layers(family: str, n: int) -> None:
    context = context_like(family)
    ids = (context.encode(TEXT) * 3)[:n]
    grid = lens_grid(context, ids, last=7)
    assert LensGrid.from_dict(json.loads(json.dumps(grid.to_dict()))) == grid
    assert is_untouched(context.model)
    start = context.window_start(n)
    assert grid.positions == tuple(range(max(start, n - 7) + 1, n + 1))
    assert grid.layers == tuple(range(context.config.n_layer + 1))
    names = {token.token_id: token.bytes for token in grid.tokens}
    for column, position in enumerate(grid.positions):
        chosen = ids[position] if position < n else 0
        before = ids[start:position]
        for row, layer in enumerate(layers(context_of(context.model), before, chosen, top=29)):
            assert grid.ids[row][column] == layer.ids[0]
            assert names[layer.ids[0]] == layer.bytes[0]
            assert grid.logprobs[row][column] == pytest.approx(layer.logprobs[0], abs=1e-4)
            expected = None if position == n else pytest.approx(layer.chosen_logprob, abs=1e-4)
            assert grid.chosen_logprobs[row][column] == expected
            cell = lens_cell(context, ids[:position], grid.layers[row], top=29)
            if start == 0:
                assert [token.token_id for token in cell.tokens] == list(layer.ids)
                assert cell.logprobs == pytest.approx(layer.logprobs, abs=1e-4)
            assert LensCell.from_dict(cell.to_dict()) == cell
    final = last_logits(context.model, ids[start:]).log_softmax(-1)
    assert grid.logprobs[-1][-1] == pytest.approx(float(final.max()), abs=1e-4)


@pytest.mark.parametrize("family", ["gpt2", "post-norm", "neox", "llama"])
def test_entropy_and_divergence_are_those_of_the_distributions(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpt.interpret.grid._TOKENS", 10)
    monkeypatch.setattr("gpt.interpret.grid.CHUNK", 4)
    context = context_like(family)
    ids = context.encode(TEXT)
    grid = lens_grid(context, ids, has_middle=True)
    assert grid.is_middle == (False, True, False, True, False)
    block: Any = context.model.h[1]
    seen: dict[str, Tensor] = {}
    for name, module in (("x", block), ("attn", block.attn)):

        def see(module: Any, args: Any, output: Tensor, name: str = name) -> None:
            seen[name] = args[0] if name == "x" else output

        module.register_forward_hook(see)
    hidden = context.model.hidden(torch.tensor([ids]))
    for module in (block, block.attn):
        module._forward_hooks.clear()
    middle = seen["x"] + seen["attn"]
    middle = middle if block.norm_first else block.ln_1(middle)
    log_p = context.model.logits(hidden)[0].log_softmax(-1)
    log_q = context.model.logits(context.model.proj_out(context.model.ln_f(middle)))
    log_q = log_q[0].log_softmax(-1)
    divergence = (log_p.exp() * (log_p - log_q)).sum(-1)
    entropy = -(log_q.exp() * log_q).sum(-1)
    assert grid.divergences[3] == pytest.approx(divergence.tolist(), abs=1e-4)
    assert grid.entropies[3] == pytest.approx(entropy.tolist(), abs=1e-4)
    assert grid.divergences[4] == pytest.approx([0] * len(ids), abs=1e-6)
    cell = lens_cell(context, ids, 2, is_middle=True, top=1)
    assert cell.tokens[0].token_id == grid.ids[3][-1]
    norms = stream_norms(context, ids)
    assert norms.norms[1] == pytest.approx(seen["x"][0].norm(dim=-1).tolist(), rel=1e-4)
    assert len(norms.norms) == 3 and StreamNorms.from_dict(norms.to_dict()) == norms


def test_the_lens_and_the_heads_of_a_changed_network() -> None:
    context = context_like("llama")
    ids = context.encode(TEXT)
    edge = Edge(source=2, target=len(ids) - 1, layer=2)
    with intervened(context, [edge], ids) as changed:
        found, grid = heads(changed, ids), lens_grid(changed, ids)
        single = heads(changed, ids, has_scores=False)
        shown = work(changed, ids, 2, 2)
        step = list(score(changed, [*ids, 3]))[-1]
    for one in (found, single):
        assert all(head[2] == 0 for head in one.weights[1])
        assert all(head[2] > 0 for head in one.weights[0])
        assert all(sum(head) == pytest.approx(1, abs=1e-5) for head in one.weights[1])
    assert [row.is_visible for row in shown.rows] == [i != 2 for i in range(len(ids))]
    assert grid.entropies[-1][-1] == pytest.approx(step.entropy, abs=1e-4)


def test_what_does_not_exist_is_refused() -> None:
    context = context_like("gpt2")
    for call in (
        lambda: lens_grid(context, []),
        lambda: lens_cell(context, [1], 3),
        lambda: lens_cell(context, [1], 0, is_middle=True),
        lambda: lens_cell(context, [29], 1),
        lambda: heads(context, []),
        lambda: work(context, [1], 0, 1),
        lambda: work(context, [1], 1, 3),
        lambda: logit_parts(context, [], 1),
        lambda: logit_parts(context, [1], 29),
        lambda: logit_parts(context, [1], 1, 29),
    ):
        with pytest.raises(UserError):
            call()


def test_cancelled_looks_have_less() -> None:
    context = context_like("gpt2")
    ids = context.encode(TEXT)
    assert lens_grid(context, ids, watcher=NEVER).positions == ()
    assert heads(context, ids, watcher=NEVER).weights == ()
    assert heads(context_like("gpt2"), ids, has_scores=False, watcher=NEVER).weights == ()
    assert stream_norms(context, ids, watcher=NEVER).norms == ((), (), ())


def test_heads_agree_with_transformers() -> None:
    from transformers import GPT2Config

    config = GPT2Config(vocab_size=29, n_positions=32, n_layer=3, n_head=2, n_embd=16)
    config._attn_implementation = "eager"
    torch.manual_seed(1)
    ours, theirs = random_gpt2(config)
    context = Context(ours, CharTokenizer(CHARACTERS))
    ids = context.encode(TEXT)
    with torch.inference_mode():
        out = theirs(torch.tensor([ids]), output_attentions=True, output_hidden_states=True)
    attentions = [each[0] for each in out.attentions]
    for found in (heads(context, ids), heads(context, ids, has_scores=False)):
        for layer, weights in zip(found.weights, attentions, strict=True):
            for head, row in zip(layer, weights[:, -1], strict=True):
                assert head == pytest.approx(row.tolist(), abs=1e-5)
                assert sum(head) == pytest.approx(1, abs=1e-5)
        assert Heads.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    norms = stream_norms(context, ids).norms
    for row, states in zip(norms[:-1], out.hidden_states[:-1], strict=True):  # the last: normed
        assert row == pytest.approx(states[0].norm(dim=-1).tolist(), rel=1e-4)


@pytest.mark.parametrize("family", ["gpt2", "grouped", "neox"])
def test_the_scores_are_what_their_definitions_say(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpt.interpret.heads.PREFILL", 7)
    context = context_like(family)
    ids = context.encode(TEXT)
    n, weights = len(ids), []
    for i in range(n):
        weights.append(heads(context, ids[: i + 1], has_scores=False).weights)
    found = heads(context, ids)
    for one in found.scores:

        def a(i: int, j: int, layer: int = one.layer, head: int = one.head) -> float:
            return weights[i][layer - 1][head - 1][j]

        assert one.previous == pytest.approx(sum(a(i, i - 1) for i in range(1, n)) / (n - 1))
        assert one.first == pytest.approx(sum(a(i, 0) for i in range(1, n)) / (n - 1))
        for name, offset in (("duplicate", 0), ("induction", 1)):
            sums = []
            for i in range(n):
                keys = [j for j in range(offset, i) if ids[j - offset] == ids[i]]
                if keys:
                    sums.append(sum(a(i, j) for j in keys))
            assert getattr(one, name) == pytest.approx(sum(sums) / len(sums))
        if one == found.scores[0]:
            assert found.repeated == sum(ids[i] in ids[:i] for i in range(n))
    alone = heads(context, ids[:1]).scores[0]
    assert alone.previous is alone.first is alone.duplicate is alone.induction is None


@pytest.mark.parametrize(
    ("kind", "back"), [("previous", 1), ("duplicate", 4), ("induction", 3), ("first", 8)]
)
def test_a_head_of_a_known_kind_is_found(kind: str, back: int) -> None:
    context = context_like("gpt2", n_head=1, n_layer=1)
    ids = [3, 5, 7, 9, 3, 5, 7, 9]
    looks_at = [max(0, i - back) for i in range(8)]
    attn: Any = context.model.h[0].attn
    keys = F.pad(torch.eye(8), (0, 8))[None, None]
    attn.heads = lambda x, rotation: (100 * keys[:, :, looks_at], keys, 0 * keys)
    (found,) = heads(context, ids).scores
    scores = {name: getattr(found, name) for name in ("previous", "duplicate", "induction")}
    assert (scores | {"first": found.first})[kind] == pytest.approx(1)
    assert all(value < 0.5 for name, value in scores.items() if name != kind)


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "bigram"])
def test_the_work_of_a_head_is_its_calculation(family: str) -> None:
    context = context_like(family)
    ids, n_head = context.encode(TEXT), context.config.n_head
    weights = heads(context, ids).weights
    for layer in (1, 2):
        total = torch.zeros(context.config.n_embd)
        for head in range(1, n_head + 1):
            found = work(context, ids, layer, head, components=99)
            assert Work.from_dict(json.loads(json.dumps(found.to_dict()))) == found
            assert [row.weight for row in found.rows] == pytest.approx(
                weights[layer - 1][head - 1], abs=1e-6
            )
            scores = torch.tensor([row.score for row in found.rows])
            for row in found.rows:
                dot = sum(a * b for a, b in zip(found.query, row.key, strict=True))
                assert row.dot == pytest.approx(dot, abs=1e-4)
                assert row.score == pytest.approx(row.dot * found.scale, abs=1e-5)
                assert row.key_norm == pytest.approx(torch.tensor(row.key).norm().item(), rel=1e-4)
            assert [row.weight for row in found.rows] == pytest.approx(
                scores.softmax(0).tolist(), abs=1e-6
            )
            values = torch.tensor([row.value for row in found.rows])
            mixed = torch.tensor([row.weight for row in found.rows]) @ values
            assert found.mixed == pytest.approx(mixed.tolist(), abs=1e-5)
            attn = attention_of(context.model, layer)
            hs = found.head_size
            columns = attn.proj.weight[:, (head - 1) * hs : head * hs]
            assert found.added == pytest.approx((columns @ mixed).tolist(), abs=1e-4)
            assert found.added_norm == pytest.approx(float((columns @ mixed).norm()), rel=1e-3)
            assert found.key_head == 1 + (head - 1) * context.config.n_kv // n_head
            total += torch.tensor(found.added)
        if attn.proj.bias is not None:
            total += attn.proj.bias
        seen: list[Tensor] = []
        handle = attn.register_forward_hook(lambda m, a, output, s=seen: s.append(output[0, -1]))
        last_logits(context.model, ids)
        handle.remove()
        torch.testing.assert_close(total, seen[0], atol=1e-4, rtol=0)


def test_the_worked_example_of_the_lesson() -> None:
    """Your journey starts with one step: the numbers that test_model.py has, word by word."""
    torch.manual_seed(123)
    matrices = [torch.rand(3, 2) for _ in range(3)]
    model = GPT(
        ModelConfig(
            vocab_size=6,
            block_size=6,
            n_layer=1,
            n_head=1,
            n_embd=3,
            head_dim=2,
            norm_first=False,
            final_norm=False,
            bias=False,
        )
    ).requires_grad_(False)
    model.wte.weight.copy_(INPUTS)
    model.wpe.weight.zero_()
    attention_of(model, 1).qkv.weight.copy_(torch.cat([matrix.T for matrix in matrices]))
    # "journey" is the query, and last, so that it sees all words.
    order = [0, 2, 3, 4, 5, 1]
    context = Context(model.eval(), CharTokenizer("abcdef"))
    found = work(context, order, 1, 1)
    weights = dict(zip(order, (round(row.weight, 4) for row in found.rows), strict=True))
    assert [weights[i] for i in range(6)] == [0.1500, 0.2264, 0.2199, 0.1311, 0.0906, 0.1820]
    assert [round(number, 4) for number in found.mixed] == [0.3061, 0.8210]
    assert found.scale == pytest.approx(2**-0.5) and found.head_size == 2
    assert [round(number, 4) for number in found.query] == [0.4306, 1.4551]


@every_family
def test_the_parts_sum_to_the_logit(family: str) -> None:
    context = context_like(family)
    ids, config = context.encode(TEXT), context.config
    expected = last_logits(context.model, ids)
    for token, versus in ((3, None), (3, 7), (0, 28)):
        found = logit_parts(context, ids, token, versus)
        assert LogitParts.from_dict(json.loads(json.dumps(found.to_dict()))) == found
        wanted = float(expected[token] - (0 if versus is None else expected[versus]))
        assert found.logit == pytest.approx(wanted, abs=1e-4)
        assert found.total == pytest.approx(wanted, abs=1e-4)
        assert sum(part.value for part in found.parts) == pytest.approx(wanted, abs=1e-4)
        names = [part.name for part in found.parts]
        assert names.count("head") == config.n_layer * config.n_head
        assert names.count("mlp") == config.n_layer
        assert names.count("token") == 1
        assert names.count("position") == (config.positions == "learned")
        assert names.count("attention bias") == (config.n_layer if config.bias else 0)
    assert is_untouched(context.model)


def test_a_part_is_what_the_head_wrote() -> None:
    """With the norm's scale frozen, removing a head's vector changes the logit by its part."""
    context = context_like("gpt2", norm_gain=True)
    ids, model = context.encode(TEXT), context.model
    found = logit_parts(context, ids, 3)
    (part,) = [each for each in found.parts if (each.layer, each.head) == (2, 1)]
    added = torch.tensor(work(context, ids, 2, 1, components=99).added)
    seen: list[Tensor] = []
    handle = model.ln_f.register_forward_pre_hook(lambda m, args: seen.append(args[0][0, -1]))
    last_logits(model, ids)
    handle.remove()
    scale = (seen[0].var(unbiased=False) + 1e-5).sqrt()
    weight: Any = model.ln_f.weight
    vector = (added - added.mean()) / scale * weight
    assert part.value == pytest.approx(float(vector @ model.wte.weight[3]), abs=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "opt", "ours", "qwen"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("int8", 0.01), ("bfloat16", 0.3)])
def test_networks_of_few_bits_are_looked_into(family: str, dtype: str, tolerance: float) -> None:
    context = context_of(stored(random_model(**WIDER, **FAMILIES[family]), dtype))
    ids = context.encode(TEXT)
    parts = logit_parts(context, ids, 3, 7)
    assert parts.total == pytest.approx(parts.logit, abs=tolerance)
    grid, step = lens_grid(context, ids), list(score(context, [*ids, 3]))[-1]
    assert grid.entropies[-1][-1] == pytest.approx(step.entropy, abs=tolerance)
    found = heads(context, ids)
    for layer in found.weights:
        for head in layer:
            assert sum(head) == pytest.approx(1, abs=1e-5)
    shown = work(context, ids, 1, 2)
    weights = [row.weight for row in shown.rows]
    assert weights == pytest.approx(found.weights[0][1], abs=tolerance / 10)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_network_all_in_16_bits_as_on_a_gpu(family: str) -> None:
    context = context_like(family)
    exact = context_of(random_model(**FAMILIES[family]))
    context.model.to(torch.bfloat16)
    ids, n_layer = context.encode("to be or not"), context.config.n_layer
    parts = logit_parts(context, ids, 3, 7)
    assert parts.total == pytest.approx(parts.logit, rel=0.1, abs=1)
    grid, expected = lens_grid(context, ids, has_middle=True), lens_grid(exact, ids)
    assert grid.positions == expected.positions
    assert stream_norms(context, ids).norms[0] == pytest.approx(
        stream_norms(exact, ids).norms[0], rel=0.05
    )
    found = mattered(context, ids, 3)
    assert all(nats is not None for nats in found.gradient)
    assert len(patch_grid(context, ids, ids[::-1], 3, 7).difference) == n_layer + 1
    assert neighbours(context, [3], top=1).by_dot
    if n_layer:
        for layer in heads(context, ids).weights:
            assert all(sum(head) == pytest.approx(1, abs=1e-5) for head in layer)
        assert work(context, ids, 2, 1).added_norm > 0
        changes: list[Intervention] = [
            Knockout(part="head", layer=1, head=2, by="mean"),
            Knockout(part="layer", layer=2, by="mean"),
            Edge(source=1, layer=1, head=1),
            Steer(layer=1, towards=("to",), away=("be",)),
        ]
        assert max(each or 0 for each in effect(context, ids, changes).divergence) > 0
