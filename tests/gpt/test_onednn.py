from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gpt.weights import onednn
from gpt.weights.products import product
from tests.gpt.test_quantize import matrix_of, numbers

needs_onednn = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="this PyTorch has no oneDNN"
)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """oneDNN is taken for every size; the shapes of x in its calls."""
    shapes = []

    def seen(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        shapes.append(tuple(x.shape))
        return original(x, weight, bias)

    original = onednn._by_onednn
    monkeypatch.setattr(onednn, "_SMALL", 0)
    monkeypatch.setattr(onednn, "onednn_is_faster", lambda several, threads: True)
    monkeypatch.setattr(onednn, "_by_onednn", seen)
    return shapes


@needs_onednn
@pytest.mark.parametrize("shape", [(64,), (1, 64), (1, 1, 64), (5, 64), (2, 3, 64)], ids=str)
@pytest.mark.parametrize("has_bias", [True, False])
def test_the_products_are_those_of_pytorch(
    shape: tuple[int, ...], has_bias: bool, asked: list[tuple[int, ...]]
) -> None:
    x, weight, bias = torch.randn(shape), torch.randn(7, 64), torch.randn(7) * has_bias
    with torch.no_grad():
        found = onednn.linear(x, weight, bias if has_bias else None)
        spread = torch.stack((x, x), -1).flatten(-2)[..., ::2]  # the same with other strides
        again = onednn.linear(spread, weight.t().contiguous().t(), bias if has_bias else None)
    exact = F.linear(x.double(), weight.double(), bias.double())
    for each in (found, again):
        torch.testing.assert_close(each.double(), exact, atol=1e-4, rtol=1e-5)
    assert len(asked) == 2


@needs_onednn
def test_float32_keeps_the_more_exact_sums_for_several_positions(
    asked: list[tuple[int, ...]],
) -> None:
    matrix, bias = matrix_of(torch.randn(7, 64), "float32"), torch.randn(7)
    one, several = torch.randn(1, 1, 64), torch.randn(1, 3, 64)
    with torch.no_grad():
        for x in (one, several):
            expected = x.double() @ numbers(matrix).T + bias
            torch.testing.assert_close(
                product(x, matrix, bias).double(), expected, atol=1e-4, rtol=1e-5
            )
    assert asked == [(1, 1, 64)]


@needs_onednn
def test_weights_in_16_bits_are_multiplied_by_it_in_float32(
    asked: list[tuple[int, ...]],
) -> None:
    matrix, x = matrix_of(torch.randn(7, 64), "float16"), torch.randn(3, 64)
    with torch.no_grad():
        found = product(x, matrix)
    torch.testing.assert_close(found.double(), x.double() @ numbers(matrix).T, atol=1e-4, rtol=1e-5)
    assert asked == [(3, 64)]


def test_gradients_and_small_matrices_are_left_to_pytorch(
    asked: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.randn(1, 64, requires_grad=True)
    weight = torch.randn(7, 64)
    (gradient,) = torch.autograd.grad(onednn.linear(x, weight).sum(), x)
    torch.testing.assert_close(gradient[0], weight.sum(0))
    monkeypatch.setattr(onednn, "_SMALL", weight.numel() + 1)
    with torch.no_grad():
        onednn.linear(x, weight)
    assert asked == []


@pytest.mark.parametrize(("share", "expected"), [(0.7, True), (0.9, False)])
def test_whether_it_is_faster_is_measured(
    share: float, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter([share, 1.0])

    def least(call: Callable[[], Any], threads: int) -> float:
        call()
        return next(seconds)

    monkeypatch.setattr(onednn, "_by_onednn", F.linear)
    monkeypatch.setattr(onednn, "least_seconds", least)
    assert onednn.onednn_is_faster.__wrapped__(several=True, threads=1) is expected


@pytest.mark.parametrize("error", [AttributeError, RuntimeError])
def test_without_it_pytorch_multiplies(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        raise error("no such operator")

    monkeypatch.setattr(onednn, "_by_onednn", missing)
    assert onednn.onednn_is_faster.__wrapped__(several=False, threads=1) is False
