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
from gpt.interventions import Edge
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
