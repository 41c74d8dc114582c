"""Gradients through networks whose weights may have few bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from gpt.context import Context
from gpt.errors import UserError
from gpt.interpret.hooks import standing_in
from gpt.interpret.matrix import output_matrix, row_blocks
from gpt.weights.products import product
from gpt.weights.quantize import Linear

LONGEST = 1024
"""Most tokens of a text: what every layer computed is held until the gradient is known."""


class _Product(torch.autograd.Function):
    """x (…, in) → y (…, out), a product with a matrix that may be stored in few bits.

    The gradient is the product with the float32 numbers that the bits stand for, so no rounding of
    activations is in it, and one block of the matrix is in memory at a time.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, run: Callable[[Tensor], Tensor], matrix: nn.Module) -> Tensor:
        ctx.matrix, ctx.dtype = matrix, x.dtype
        return run(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,), done = gradients, 0
        total: Tensor | None = None
        for rows in row_blocks(ctx.matrix):
            columns = gradient[..., done : done + len(rows)].float()
            part = columns @ rows
            total, done = part if total is None else total + part, done + len(rows)
        assert total is not None  # noqa: S101 (a matrix has rows)
        return total.to(ctx.dtype), None, None


def gradient_times_input(context: Context, ids: Sequence[int], chosen: int) -> list[float | None]:
    """Gradient of log p(chosen) after ids, times the input, for each token, in nats.

    That is the sum over the components of a token's embedding (E) of ∂ log p(chosen) / ∂ component
    · component (Shrikumar et al. 2017, arXiv:1704.02685, as gradient × input). It says how log p
    would change, to first order, if the embedding grew by its own length; unlike the other measures
    it does not ask what happens without the token. On a CPU all of it is float32, whatever the
    dtype of the weights; on a GPU the activations have the dtype of the weights. None for tokens
    outside the context. Raises UserError if the context has more than LONGEST tokens.
    """
    context.check_ids([*ids, chosen])
    start = context.window_start(len(ids))
    if len(ids) - start > LONGEST:
        raise UserError(
            f"a gradient needs a text of at most {LONGEST} tokens, not {len(ids) - start}"
        )
    model = context.model
    with torch.inference_mode(False), torch.enable_grad(), ExitStack() as stack:
        all_ids = torch.tensor([list(ids[start:])], device=model.wte.weight.device)  # (1, T)
        # A clone, because a table without gradients may return a view of itself.
        inputs = model.wte(all_ids).detach().clone().requires_grad_()  # (1, T, E)
        stack.enter_context(standing_in(model.wte, lambda _: inputs))
        for module in [each for each in model.modules() if isinstance(each, Linear)]:
            stack.enter_context(standing_in(module, _differentiable(module)))
        hidden = model.hidden(all_ids)[0, -1:]  # (1, E)
        logits = _Product.apply(hidden, model.logits, output_matrix(model))  # type: ignore[no-untyped-call]
        logprob = logits[0].float().log_softmax(-1)[chosen]
        (gradient,) = torch.autograd.grad(logprob, inputs)
    products = (gradient.float() * inputs.detach().float())[0].sum(-1)  # (T)
    return [*[None] * start, *products.tolist()]


def _differentiable(module: Linear) -> Callable[[Tensor], Tensor]:
    """The forward of a linear layer, with a gradient and in float32."""

    def run(x: Tensor) -> Tensor:
        return product(x.float(), module, module.bias, exact=True)

    def forward(x: Tensor) -> Tensor:
        y: Tensor = _Product.apply(x, run, module)  # type: ignore[no-untyped-call]
        return y

    return forward
