from __future__ import annotations

import json

import pytest
import torch

from gpt.errors import UserError
from gpt.interpret.effects import Mattered
from gpt.interpret.gradient import LONGEST, gradient_times_input
from gpt.interpret.intervene import intervened
from gpt.interpret.lens import attribution
from gpt.interpret.matrix import row_blocks
from gpt.interpret.mattered import cut_edges, mattered
from gpt.interventions import Edge, Intervention, Knockout, Steer
from gpt.progress import Watcher
from tests.conftest import context_of, random_model
from tests.gpt.inside import FAMILIES, TEXT, WIDER, context_like, is_untouched, last_logits
from tests.gpt.test_quantize import stored

every_family = pytest.mark.parametrize("family", FAMILIES)


@every_family
def test_a_cut_edge_is_the_intervention_in_all_layers(family: str) -> None:
    context = context_like(family)
    ids = context.encode(TEXT)
    found = cut_edges(context, ids, 3, last=12)
    start, end = len(ids) - 12, len(ids) - 1
    assert [i for i, nats in enumerate(found) if nats is not None] == list(range(start, end))
    whole = float(last_logits(context.model, ids).log_softmax(-1)[3])
    for source in range(start, end):
        with intervened(context, [Edge(source=source, target=end)], ids) as changed:
            cut = changed.raw_logits(changed.read(ids)[-1]).log_softmax(-1)[3]
        assert found[source] == pytest.approx(whole - float(cut), abs=1e-4)
    assert is_untouched(context.model)


@every_family
def test_a_gradient_is_how_the_logprob_moves(family: str) -> None:
    context = context_like(family)
    ids, model = context.encode(TEXT), context.model
    found = gradient_times_input(context, ids, 3)
    assert is_untouched(model)
    exact = model.double()

    def logprob(position: int, scale: float) -> float:
        def grow(module: object, args: object, output: torch.Tensor) -> torch.Tensor:
            output = output.clone()
            output[0, position] *= scale
            return output

        handle = exact.wte.register_forward_hook(grow)
        found = last_logits(exact, ids).log_softmax(-1)[3]
        handle.remove()
        return float(found)

    for position in (0, 5, len(ids) - 1):
        slope = (logprob(position, 1.001) - logprob(position, 0.999)) / 0.002
        assert found[position] == pytest.approx(slope, rel=2e-3, abs=2e-3)


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen", "neox", "ours"])
@pytest.mark.parametrize("dtype", ["int8", "bfloat16", "float16"])
def test_gradients_pass_through_weights_of_few_bits(family: str, dtype: str) -> None:
    model = random_model(**WIDER, **FAMILIES[family])
    small = stored(model, dtype)
    context = context_of(small)
    ids = context.encode("to be or")
    found = gradient_times_input(context, ids, 3)
    rounded = random_model(**WIDER, **FAMILIES[family])
    own, theirs = dict(rounded.named_modules()), dict(small.named_modules())
    for name, module in own.items():
        if isinstance(module, torch.nn.Linear | torch.nn.Embedding) and name != "wpe":
            module.weight.copy_(torch.cat(list(row_blocks(theirs[name]))))
    expected = gradient_times_input(context_of(rounded), ids, 3)
    tolerance = 0.2 if dtype == "bfloat16" else 0.03
    assert found == pytest.approx(expected, rel=tolerance, abs=tolerance)
    assert is_untouched(small)


STEER = Steer(layer=1, towards=("to be",), away=("not",), strength=2)
EDGES = [
    Edge(source=9, target=25, head=1),
    Edge(source=18, layer=2),
    Edge(source=3, target=20),
    Edge(source=20, target=22, layer=1),
]


@every_family
def test_left_out_of_a_changed_network(family: str) -> None:
    context = context_like(family)
    ids = context.encode(TEXT)
    if not context.config.n_layer:
        pytest.skip("nothing can be changed in it")
    changes: list[Intervention] = [Knockout(part="mlp", layer=1), STEER, *EDGES]
    with intervened(context, changes, ids) as changed:
        found = attribution(changed, ids, 3, last=12)
        whole = float(changed.raw_logits(changed.read(ids)[-1]).log_softmax(-1)[3])
    for left in range(len(ids) - 12, len(ids)):
        moved: list[Intervention] = [changes[0], STEER]
        for edge in EDGES:
            if left not in (edge.source, edge.target):
                places = [
                    None if place is None else [*range(left), None, *range(left, 99)][place]
                    for place in (edge.source, edge.target)
                ]
                moved.append(
                    Edge(source=places[0] or 0, target=places[1], layer=edge.layer, head=edge.head)
                )
        text = [*ids[:left], *ids[left + 1 :]]
        with intervened(context_of(context.model), moved, text) as other:
            after = float(other.raw_logits(other.read(text)[-1]).log_softmax(-1)[3])
        assert found[left] == pytest.approx(whole - after, abs=1e-4), left
    assert found != attribution(context, ids, 3, last=12)
    assert is_untouched(context.model)


@every_family
def test_the_other_measures_of_a_changed_network(family: str) -> None:
    context = context_like(family)
    ids = context.encode(TEXT)
    if not context.config.n_layer:
        pytest.skip("nothing can be changed in it")
    changes: list[Intervention] = [
        Knockout(part="head", layer=1, head=2),
        Knockout(part="attention", layer=2, by="mean"),
        STEER,
        *EDGES,
    ]
    end = len(ids) - 1
    with intervened(context, changes, ids) as changed:
        found = mattered(changed, ids, 3, last=8, measures=["cut", "gradient"])
        whole = float(changed.raw_logits(changed.read(ids)[-1]).log_softmax(-1)[3])
        slopes = gradient_times_input(changed, ids, 3)
        for position in (end - 5, end):

            def logprob(scale: float, position: int = position) -> float:
                def grow(module: object, args: object, output: torch.Tensor) -> torch.Tensor:
                    output = output.clone()
                    output[0, position] *= scale
                    return output

                handle = context.model.wte.register_forward_hook(grow)
                after = last_logits(context.model, ids).log_softmax(-1)[3]
                handle.remove()
                return float(after)

            slope = (logprob(1.01) - logprob(0.99)) / 0.02
            assert slopes[position] == pytest.approx(slope, rel=0.02, abs=5e-3)
    for source in range(len(ids) - 8, end):
        more = [*changes, Edge(source=source, target=end)]
        with intervened(context_of(context.model), more, ids) as cut:
            after = float(cut.raw_logits(cut.read(ids)[-1]).log_softmax(-1)[3])
        assert found.cut[source] == pytest.approx(whole - after, abs=1e-4)
    assert found.gradient[-8:] == tuple(slopes[-8:])
    assert is_untouched(context.model)


def test_all_measures_in_one_answer() -> None:
    context = context_like("llama")
    ids = context.encode(TEXT)
    found = mattered(context, ids, 3, last=9)
    assert Mattered.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    assert list(found.left_out) == attribution(context, ids, 3, last=9)
    assert list(found.cut) == cut_edges(context, ids, 3, last=9)
    products = gradient_times_input(context, ids, 3)
    assert list(found.gradient) == [None] * (len(ids) - 9) + products[-9:]
    only = mattered(context, ids, 3, measures=["cut"])
    assert set(only.left_out) == set(only.gradient) == {None}
    alone = mattered(context, ids[:1], 3)
    assert alone.left_out == alone.cut == (None,)
    cancelled = mattered(context, ids, 3, watcher=Watcher(lambda: True))
    assert set(cancelled.cut) == set(cancelled.gradient) == {None}
    with pytest.raises(UserError, match="no measure 'all'"):
        mattered(context, ids, 3, measures=["all"])
    with pytest.raises(UserError, match="no context"):
        mattered(context, [], 3)
    large = context_like("llama", block_size=LONGEST + 9)
    with pytest.raises(UserError, match="at most 1024 tokens"):
        gradient_times_input(large, [1] * (LONGEST + 1), 3)


def test_a_text_longer_than_the_context() -> None:
    context = context_like("gpt2")
    ids = (context.encode(TEXT) * 3)[:60]
    start = context.window_start(60)
    found = mattered(context, ids, 3)
    for nats, end in ((found.left_out, 60), (found.cut, 59), (found.gradient, 60)):
        known = [i for i, each in enumerate(nats) if each is not None]
        assert known == list(range(start, end))
