from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch

from gpt.errors import UserError
from gpt.interpret.effects import PatchGrid
from gpt.interpret.patch import patch_grid, patched
from gpt.progress import Watcher
from tests.conftest import context_of, random_model
from tests.gpt.inside import FAMILIES, TEXT, WIDER, context_like, is_untouched, last_logits
from tests.gpt.test_quantize import stored

OTHER = "to go or now to be that an"
every_family = pytest.mark.parametrize("family", FAMILIES)


@every_family
def test_patching_a_text_with_itself_changes_nothing(family: str) -> None:
    context = context_like(family)
    ids = context.encode(TEXT)
    grid = patch_grid(context, ids, ids, 3, 7)
    assert grid.here == grid.there and grid.share is None
    assert {each for row in grid.difference for each in row} == {grid.here}
    assert is_untouched(context.model)


@every_family
def test_patching_all_positions_gives_the_other_text(family: str) -> None:
    context = context_like(family)
    ids, other = context.encode(TEXT), context.encode(OTHER)
    for layer in range(context.config.n_layer + 1):
        found = patched(context, ids, other, layer, range(len(ids)))
        torch.testing.assert_close(found, last_logits(context.model, other), atol=2e-5, rtol=0)
        found = patched(context, ids, other, layer, [])
        torch.testing.assert_close(found, last_logits(context.model, ids), atol=2e-5, rtol=0)


def _put(other: torch.Tensor, position: int) -> Callable[..., torch.Tensor]:
    """A hook that replaces the state at a position by that of another text."""

    def put(module: object, args: object, output: torch.Tensor) -> torch.Tensor:
        output = output.clone()
        output[0, position] = other[0, position]
        return output

    return put


@every_family
def test_a_cell_is_the_network_with_one_state_of_the_other_text(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpt.interpret.patch._AT_ONCE", 5)
    context = context_like(family)
    model, ids, other = context.model, context.encode(TEXT), context.encode(OTHER)
    grid = patch_grid(context, ids, other, 3, 7)
    assert PatchGrid.from_dict(json.loads(json.dumps(grid.to_dict()))) == grid
    assert grid.layers == tuple(range(context.config.n_layer + 1))
    here, there = last_logits(model, ids), last_logits(model, other)
    ends = float(here[3] - here[7]), float(there[3] - there[7])
    assert (grid.here, grid.there) == pytest.approx(ends, abs=2e-5)
    states: list[torch.Tensor] = []
    modules = [model.drop, *model.h]
    for module in modules:
        module.register_forward_hook(lambda m, args, output: states.append(output))
    last_logits(model, other)
    for module in modules:
        module._forward_hooks.clear()
    for layer, module in enumerate(modules):
        for position in (0, 3, 12, len(ids) - 1):
            handle = module.register_forward_hook(_put(states[layer], position))
            logits = last_logits(model, ids)
            handle.remove()
            expected = float(logits[3] - logits[7])
            assert grid.difference[layer][position] == pytest.approx(expected, abs=5e-5)
            share = (expected - ends[0]) / (ends[1] - ends[0])
            assert grid.share and grid.share[layer][position] == pytest.approx(share, abs=1e-3)
            one = patched(context, ids, other, layer, [position])
            torch.testing.assert_close(one, logits, atol=5e-5, rtol=0)


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_what_is_the_same_in_both_texts_moves_nothing_and_the_end_all(dtype: str) -> None:
    context = context_of(stored(random_model(**WIDER), dtype))
    ids, other = (context.encode(f"to be or {word} to be that is") for word in ("not", "got"))
    grid = patch_grid(context, ids, other, 3, 7)
    assert grid.share
    for row in grid.share:
        assert set(row[:9]) == {0.0}  # before the letter that differs
    # The last layer's stream is read at the end only.
    assert grid.share[-1][9:-1] == pytest.approx([0.0] * (len(ids) - 10), abs=1e-4)
    assert grid.share[-1][-1] == pytest.approx(1, abs=1e-3)
    # Many positions at once are multiplied in bfloat16 next to int8.
    assert grid.share[0][9] == pytest.approx(1, abs={"float16": 1e-2, "int8": 0.3}[dtype])


def test_columns_and_cancelling() -> None:
    context = context_like("gpt2")
    ids, other = context.encode(TEXT), context.encode(OTHER)
    whole = patch_grid(context, ids, other, 3, 7)
    part = patch_grid(context, ids, other, 3, 7, positions=[9, 4, 9])
    assert part.positions == (4, 9)
    for row, expected in zip(part.difference, whole.difference, strict=True):
        assert row == pytest.approx([expected[4], expected[9]], abs=2e-5)
    told: list[str] = []
    half = patch_grid(
        context, ids, other, 3, 7, watcher=Watcher(lambda: len(told) > 5, told.append)
    )
    assert half.layers == (0,) and len(half.difference) == 1
    assert told[0] == "layer 0 of 2"


@pytest.mark.parametrize(
    ("ids", "other", "sentence"),
    [
        ([1, 2], [1], "2 and 1"),
        ([], [], "at least one"),
        ([1] * 33, [2] * 33, "at most 32 tokens"),
        ([1], [29], "no token 29"),
    ],
)
def test_texts_that_do_not_match_are_refused(
    ids: list[int], other: list[int], sentence: str
) -> None:
    context = context_like("gpt2")
    with pytest.raises(UserError, match=sentence):
        patch_grid(context, ids, other, 1, 2)
    for call in (
        lambda: patch_grid(context, [1], [2], 1, 29),
        lambda: patch_grid(context, [1], [2], 1, 2, positions=[1]),
        lambda: patched(context, [1], [2], 3, [0]),
    ):
        with pytest.raises(UserError):
            call()
