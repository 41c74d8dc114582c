"""What interventions are, and that they do exactly what they say."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import torch
from torch import Tensor

from gpt.context import Context
from gpt.errors import UserError
from gpt.generate import Limits, generate, score
from gpt.interpret.intervene import effect, intervened
from gpt.interpret.steer import direction, steering, stream
from gpt.interventions import (
    Edge,
    Intervention,
    Knockout,
    Steer,
    check,
    describe,
    from_dicts,
    to_dicts,
)
from gpt.progress import Watcher
from gpt.settings import Sampling
from tests.conftest import context_of, random_model
from tests.gpt.inside import FAMILIES, TEXT, WIDER, context_like, is_untouched, last_logits
from tests.gpt.test_quantize import stored

every_family = pytest.mark.parametrize("family", [name for name in FAMILIES if name != "bigram"])
STEER = Steer(layer=1, towards=("to be", "or"), away=("not",), strength=1.5)
ALL: list[Intervention] = [
    Knockout(part="head", layer=1, head=2),
    Knockout(part="mlp", layer=2, by="mean"),
    Edge(source=1),
    Edge(source=1, target=4, layer=2, head=1),
    STEER,
]


def changed_logits(context: Context, ids: list[int], *changes: Intervention) -> Tensor:
    """Logits (V) after ids of the changed network."""
    with intervened(context, changes, ids) as changed:
        logits = changed.raw_logits(changed.read(ids)[-1])
    assert is_untouched(context.model)
    return logits


def close(a: Tensor, b: Tensor, tolerance: float = 2e-5) -> None:
    torch.testing.assert_close(a, b, atol=tolerance, rtol=0)


def test_interventions_survive_json_and_have_names() -> None:
    assert list(from_dicts(json.loads(json.dumps(to_dicts(ALL))))) == ALL
    assert [describe(each) for each in ALL] == [
        "layer 1 head 2 muted",
        "layer 2 MLP replaced by its mean",
        "every later token does not see token 1 (all layers)",
        "token 4 does not see token 1 (layer 2 head 1)",
        'layer 1 steered by 1.5 from "not" to "to be", "or"',
    ]


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        [1],
        [{"kind": "mute"}],
        [{"kind": ["edge"]}],
        [{"kind": "edge"}],
        [{"kind": "edge", "source": "1"}],
        [{"kind": "edge", "source": 1, "more": 2}],
        [{"kind": "knockout", "part": "neuron", "layer": 1}],
        [{"kind": "steer", "layer": 1, "towards": "a", "away": ["b"]}],
        [{"kind": "steer", "layer": 1, "towards": ["a"], "away": ["b"], "strength": None}],
        [{"kind": "edge", "source": 1}] * 257,
    ],
)
def test_what_is_no_intervention_is_refused(value: Any) -> None:
    with pytest.raises(UserError):
        from_dicts(value)


@pytest.mark.parametrize(
    "each",
    [
        Knockout(part="head", layer=1),
        Knockout(part="mlp", layer=1, head=1),
        Knockout(part="head", layer=1, head=3),
        Knockout(part="mlp", layer=0),
        Knockout(part="mlp", layer=3),
        Edge(source=4, target=4),
        Edge(source=-1),
        Edge(source=1, layer=3),
        Edge(source=1, head=0),
        Steer(layer=3, towards=("a",), away=("b",)),
        Steer(layer=1, towards=(), away=("b",)),
        Steer(layer=1, towards=("a",), away=("",)),
        Steer(layer=1, towards=("a",), away=("b" * 10_001,)),
        Steer(layer=1, towards=("a",), away=("b",), strength=float("nan")),
        Steer(layer=1, towards=("a", "b"), away=("b", "a")),
    ],
)
def test_what_a_model_does_not_have_is_refused(each: Intervention) -> None:
    with pytest.raises(UserError):
        check([each], random_model().config, 9)


def test_an_edge_needs_a_text_that_fits() -> None:
    context = context_like("gpt2")
    with pytest.raises(UserError, match="at most 32 tokens"):
        changed_logits(context, [1] * 33, Edge(source=1))
    with (
        pytest.raises(UserError, match="at most 32 tokens"),
        intervened(context, [Edge(source=1)], [1] * 9, grows_by=24),
    ):
        pass


@every_family
def test_nothing_changed_is_the_model_bit_for_bit(family: str) -> None:
    context = context_like(family)
    ids = context.encode(TEXT)
    expected = list(score(context_of(context.model), ids))
    with intervened(context, ()) as same:
        assert same is context
    nothing = Steer(layer=1, towards=("to",), away=("be",), strength=0)
    with intervened(context, [nothing], ids) as changed:
        assert list(score(changed, ids)) == expected
    found = effect(context, ids, [nothing])
    assert found.divergence == (None, *[0.0] * (len(ids) - 1))
    assert found.before == found.after == tuple(step.logprob for step in expected)
    assert effect(context, ids, []).divergence == found.divergence


@every_family
def test_a_muted_head_is_one_without_its_columns_of_the_projection(family: str) -> None:
    context = context_like(family)
    ids = context.encode(TEXT)
    hs = context.config.head_size
    for layer, head in ((1, 2), (2, 1)):
        without = copy.deepcopy(context.model)
        attn: Any = without.h[layer - 1].attn
        attn.proj.weight[:, (head - 1) * hs : head * hs] = 0
        found = changed_logits(context, ids, Knockout(part="head", layer=layer, head=head))
        close(found, last_logits(without, ids))
        assert (found - last_logits(context.model, ids)).abs().max() > 0.001


@every_family
@pytest.mark.parametrize("part", ["attention", "mlp"])
def test_a_muted_part_is_one_without_weights(family: str, part: Any) -> None:
    context = context_like(family)
    ids = context.encode(TEXT)
    without = copy.deepcopy(context.model)
    module: Any = without.h[1].attn if part == "attention" else without.h[1].mlp
    for parameter in module.proj.parameters():
        parameter.zero_()
    found = changed_logits(context, ids, Knockout(part=part, layer=2))
    close(found, last_logits(without, ids))


@every_family
def test_a_muted_layer_is_a_network_without_it(family: str) -> None:
    context = context_like(family, n_layer=3)
    ids = context.encode(TEXT)
    without = copy.deepcopy(context.model)
    del without.h[1]
    for number, block in enumerate(without.h):
        block.attn.layer = number
    expected = last_logits(without, ids)
    if context.config.attn_scale_by_layer:
        pytest.skip("the scale of the last layer would change")
    close(changed_logits(context, ids, Knockout(part="layer", layer=2)), expected)


@every_family
@pytest.mark.parametrize("part", ["head", "attention", "mlp", "layer"])
def test_a_mean_is_that_over_the_tokens_of_the_text(family: str, part: Any) -> None:
    context = context_like(family)
    ids = context.encode(TEXT)
    block: Any = context.model.h[0]
    module = {"head": block.attn.proj, "attention": block.attn, "mlp": block.mlp, "layer": block}
    hs, seen = context.config.head_size, list[Tensor]()

    def see(module: Any, args: Any, output: Any) -> None:
        entered = args[0][0]
        seen.append(
            entered if part == "head" else output[0] - entered if part == "layer" else output[0]
        )

    handle = module[part].register_forward_hook(see)
    last_logits(context.model, ids)
    handle.remove()
    mean = seen[0].mean(0)

    def before(module: Any, args: Any) -> Any:
        x = args[0].clone()
        x[..., hs : 2 * hs] = mean[hs : 2 * hs]
        return (x,)

    def after(module: Any, args: Any, output: Any) -> Any:
        return args[0] + mean if part == "layer" else mean.expand_as(output)

    hook = module[part]
    handle = (
        hook.register_forward_pre_hook(before)
        if part == "head"
        else hook.register_forward_hook(after)
    )
    expected = last_logits(context.model, ids)
    handle.remove()
    head = 2 if part == "head" else None
    found = changed_logits(context, ids, Knockout(part=part, layer=1, head=head, by="mean"))
    close(found, expected)


@every_family
@pytest.mark.parametrize("which", [(None, None), (2, None), (1, 2), (None, 1)])
def test_a_cut_edge_is_a_mask_of_the_formula(
    family: str, which: tuple[int | None, int | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    context = context_like(family)
    ids, (layer, head) = context.encode(TEXT), which
    edges = [Edge(source=2, target=9, layer=layer, head=head), Edge(source=4, layer=layer)]
    found = changed_logits(context, ids, *edges)
    one_by_one = []
    with intervened(context, edges, ids) as changed:
        changed.truncate(0)
        for n in range(1, len(ids) + 1):
            one_by_one.append(changed.read(ids[:n])[-1])
    close(context.raw_logits(one_by_one[-1]), found)
    calls = []

    def formula(q: Tensor, k: Tensor, v: Tensor, *, scale: float, **_: Any) -> Tensor:
        calls.append(scale)
        k, v = (each.repeat_interleave(q.size(1) // k.size(1), dim=1) for each in (k, v))
        scores = q @ k.mT * scale
        T = q.size(2)
        scores = scores.masked_fill(~torch.ones(T, T).tril().bool(), -torch.inf)
        if layer in (None, len(calls)):
            heads = slice(None) if head is None else slice(head - 1, head)
            scores[:, heads, 9, 2] = -torch.inf
            scores[:, :, 5:, 4] = -torch.inf
        return scores.softmax(-1) @ v

    monkeypatch.setattr("gpt.model.attention", formula)
    close(found, last_logits(context.model, ids))


@every_family
@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("over", ["last", "mean"])
def test_steering_adds_the_difference_of_means(family: str, layer: int, over: Any) -> None:
    context = context_like(family)
    ids = context.encode(TEXT)
    steer = Steer(layer=layer, towards=("to be", "or"), away=("not",), strength=2.5, over=over)

    def mean(text: str) -> Tensor:
        states = stream(context, context.encode(text), layer)
        return states[-1] if over == "last" else states.mean(0)

    vector = (mean("to be") + mean("or")) / 2 - mean("not")
    close(direction(context, steer), vector, 1e-6)
    module: Any = context.model.drop if layer == 0 else context.model.h[layer - 1]
    handle = module.register_forward_hook(lambda m, args, output: output + 2.5 * vector)
    expected = last_logits(context.model, ids)
    handle.remove()
    close(changed_logits(context, ids, steer), expected)
    sizes = steering(context, ids, steer)
    norms = stream(context, ids, layer).norm(dim=-1)
    assert sizes.direction_norm == pytest.approx(float(vector.norm()), rel=1e-5)
    assert sizes.added_norm == pytest.approx(2.5 * float(vector.norm()), rel=1e-5)
    assert sizes.stream_norm == pytest.approx(float(norms.mean()), rel=1e-5)
    assert sizes.last_norm == pytest.approx(float(norms[-1]), rel=1e-5)


def test_several_act_together_and_in_their_order() -> None:
    context = context_like("gpt2")
    ids = context.encode(TEXT)
    model = copy.deepcopy(context.model)
    hs = context.config.head_size
    attn: Any = model.h[0].attn
    attn.proj.weight[:, :hs] = 0
    mlp: Any = model.h[1].mlp
    mlp.proj.weight.zero_()
    mlp.proj.bias.zero_()
    changes = Knockout(part="head", layer=1, head=1), Knockout(part="mlp", layer=2)
    close(changed_logits(context, ids, *changes), last_logits(model, ids))


@every_family
def test_the_effect_is_the_divergence_of_the_two_distributions(family: str) -> None:
    context = context_like(family)
    ids = (context.encode(TEXT) * 4)[:90]  # longer than the context
    change = Knockout(part="mlp", layer=1)
    found = effect(context, ids, [change])
    before = list(score(context_of(context.model), ids, top=29))
    with intervened(context_of(context.model), [change], ids) as changed:
        after = list(score(changed, ids, top=29))
    for i in range(1, len(ids)):
        q = {each.token_id: each.logprob for each in after[i].candidates}
        expected = sum(
            torch.tensor(each.logprob).exp().item() * (each.logprob - q[each.token_id])
            for each in before[i].candidates
        )
        assert found.divergence[i] == pytest.approx(expected, abs=1e-4)
        assert found.before[i] == pytest.approx(before[i].logprob, abs=1e-4)
        assert found.after[i] == pytest.approx(after[i].logprob, abs=1e-4)
    assert max(each or 0 for each in found.divergence) > 0.01


def test_the_same_noise_follows() -> None:
    context = context_like("gpt2")
    ids, sampling = context.encode("to be"), Sampling(seed=4)
    changes = [Knockout(part="head", layer=1, head=1)]

    def drawn(changes: list[Intervention]) -> list[int]:
        with intervened(context, changes, ids) as changed:
            return [step.token_id for step in generate(changed, ids, sampling, Limits(12))]

    first, other = drawn([]), drawn(list(changes))
    assert drawn(list(changes)) == other != first == drawn([])
    nothing = Steer(layer=1, towards=("to",), away=("be",), strength=0)
    assert drawn([nothing]) == first


def test_a_changed_context_is_remembered_while_it_fits() -> None:
    context = context_like("gpt2")
    ids = context.encode(TEXT)
    head, mean = ALL[0], ALL[1]
    with intervened(context, [head], ids) as first:
        first.read(ids)
    with intervened(context, [head], ids[:-1]) as again:
        assert again is first and again.ids == ids
    with intervened(context, [mean], ids) as first:
        pass
    with intervened(context, [mean], ids[:-1]) as other:
        assert other is not first  # the mean is another one


def test_a_generator_that_is_left_leaves_nothing_behind() -> None:
    context = context_like("gpt2")
    ids = context.encode("to be")
    with pytest.raises(KeyError), intervened(context, ALL, ids) as changed:
        for _ in generate(changed, ids, Sampling(), Limits(5)):
            raise KeyError
    assert is_untouched(context.model)


@pytest.mark.parametrize("dtype", ["int8", "bfloat16", "float16"])
def test_networks_of_few_bits_can_be_changed(dtype: str) -> None:
    model = random_model(**WIDER)
    small = context_of(stored(model, dtype))
    exact = context_of(model)
    ids = exact.encode(TEXT)
    tolerance = {"int8": 0.6, "bfloat16": 0.3, "float16": 0.05}[dtype]
    for change in ALL:
        a = changed_logits(small, ids, change).log_softmax(-1)
        b = changed_logits(exact, ids, change).log_softmax(-1)
        assert (a.exp() - b.exp()).abs().max() < tolerance


def test_a_cancelled_effect_says_what_it_knows() -> None:
    context = context_like("gpt2")
    ids = context.encode(TEXT)
    found = effect(context, ids, ALL[:1], watcher=Watcher(lambda: True))
    assert found.divergence == (None,) * len(ids)
    assert effect(context, [], ALL[:1]).divergence == ()
    with pytest.raises(UserError, match="at least one token"):
        changed_logits(context, [], ALL[1])
