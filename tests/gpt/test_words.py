from __future__ import annotations

import json
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from gpt import models
from gpt.errors import UserError
from gpt.interpret.looks import Neighbours, Plane
from gpt.interpret.matrix import row_blocks, rows_of
from gpt.interpret.words import matrix_named, neighbours, plane, position_neighbours
from gpt.weights.quantize import PACKED
from tests.conftest import context_of, random_model
from tests.gpt.inside import WIDER, context_like
from tests.gpt.test_quantize import stored


@pytest.mark.parametrize("matrix", ["embedding", "output"])
def test_neighbours_are_the_nearest_rows(matrix: str) -> None:
    context = context_like("ours")  # its output matrix is its own
    model = context.model
    rows = model.wte.weight if matrix == "embedding" else model.lm_head.weight
    for plus, minus in (([3], []), ([3, 5], [7])):
        vector = rows[plus].sum(0) - rows[minus].sum(0)
        found = neighbours(context, plus, minus, matrix=matrix_named(matrix), top=4)
        assert Neighbours.from_dict(json.loads(json.dumps(found.to_dict()))) == found
        cosines = F.cosine_similarity(rows, vector[None], dim=-1)
        for measure, part, name in (
            (cosines, found.by_cosine, "cosine"),
            (rows @ vector, found.by_dot, "dot"),
        ):
            order = [i for i in measure.argsort(descending=True).tolist() if i not in plus + minus]
            assert [each.token.token_id for each in part] == order[:4]
            values = [getattr(each, name) for each in part]
            assert values == pytest.approx(measure[order[:4]].tolist(), abs=1e-5)
        assert found.by_dot[0].token.bytes == context.tokenizer.token_bytes(
            found.by_dot[0].token.token_id
        )


def test_neighbours_of_a_learned_position() -> None:
    context = context_like("gpt2")
    table = context.model.wpe.weight
    found = position_neighbours(context, 5, top=3)
    cosines = F.cosine_similarity(table, table[5][None], dim=-1)
    expected = [i for i in cosines.argsort(descending=True).tolist() if i != 5][:3]
    assert [each.token.token_id for each in found.by_cosine] == expected
    with pytest.raises(UserError, match="no position 32"):
        position_neighbours(context, 32)
    with pytest.raises(UserError, match="no learned positions"):
        position_neighbours(context_like("llama"), 1)


def test_the_plane_has_the_two_directions_of_most_variance() -> None:
    context = context_like("gpt2")
    ids = [3, 5, 7, 9, 11, 3]
    found = plane(context, ids)
    assert found == plane(context, ids) == Plane.from_dict(json.loads(json.dumps(found.to_dict())))
    assert [place.token.token_id for place in found.places] == [3, 5, 7, 9, 11]
    rows = context.model.wte.weight[ids[:5]].double()
    centred = rows - rows.mean(0)
    variances = torch.linalg.eigvalsh(centred.T @ centred).flip(0)
    for axis, variance, share in zip("xy", variances, found.explained, strict=False):
        values = torch.tensor([getattr(place, axis) for place in found.places])
        assert float(values.square().sum()) == pytest.approx(float(variance), rel=1e-5)
        assert share == pytest.approx(float(variance / variances.sum()), rel=1e-5)
        assert values[values.abs().argmax()] > 0
    distances = torch.tensor([[place.x, place.y] for place in found.places])
    assert abs(float(distances[:, 0] @ distances[:, 1])) < 1e-5
    two = plane(context, [1, 2])
    assert two.explained == pytest.approx((1, 0))
    assert two.places[0].y == pytest.approx(0, abs=1e-6)


def test_what_does_not_exist_is_refused() -> None:
    context = context_like("gpt2")
    for call in (
        lambda: neighbours(context, []),
        lambda: neighbours(context, [29]),
        lambda: neighbours(context, [1] * 1001),
        lambda: plane(context, [1, 1]),
        lambda: matrix_named("middle"),
    ):
        with pytest.raises(UserError):
            call()


@pytest.mark.parametrize("dtype", [*models.MEMORY_DTYPES[1:], PACKED])
def test_rows_are_read_from_every_kind_of_weight(dtype: str) -> None:
    model = random_model(**WIDER)
    small = stored(model, dtype)
    pairs: list[tuple[Any, Any]] = [(model.wte, small.wte), (model.h[0].mlp.fc, small.h[0].mlp.fc)]
    for ours, theirs in pairs:
        whole = torch.cat(list(row_blocks(theirs, 7)))
        assert whole.shape == ours.weight.shape
        coarse = 0.1 if dtype == "int4" else 0.03
        assert (whole - ours.weight).abs().max() < coarse * ours.weight.abs().max()
        assert torch.equal(rows_of(theirs, [5, 0, 5]), whole[[5, 0, 5]])
    context = context_of(small)
    assert neighbours(context, [3], top=2).by_cosine[0].cosine < 1
