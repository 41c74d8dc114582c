"""A look behind each layer of the network while it reads one context."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import Any

import torch
from torch import Tensor

from gpt.context import Context
from gpt.errors import UserError
from gpt.interpret.answers import Layer
from gpt.model import Attention, attention, rotate
from gpt.prediction import predict, read_out
from gpt.progress import NOBODY, Watcher


class _CancelledError(Exception):
    """Ends a pass of the network in the middle."""


@torch.inference_mode()
def layers(
    context: Context,
    ids: Sequence[int],
    chosen: int,
    *,
    top: int = 5,
    watcher: Watcher = NOBODY,
) -> list[Layer]:
    """The embedding and every layer at the last position of ids, which predicts chosen.

    The residual stream goes through the network's own last norm and output matrix: the logit
    lens (nostalgebraist 2020). Attention is what the last position's queries give to the keys of
    the context. It costs one pass over the context. None of them if it was cancelled. Raises
    UserError if there are no ids.
    """
    if not ids:
        raise UserError("the first token has no context, and so no layer has seen anything")
    context.check_ids([*ids, chosen])
    model = context.model
    window = ids[context.window_start(len(ids)) :]
    streams: list[Tensor] = []  # (E) each
    weights: list[Tensor] = []  # (nh, T) each

    def behind(module: Any, args: Any, output: Tensor) -> None:
        if watcher.cancelled():
            raise _CancelledError
        streams.append(output[0, -1])
        watcher.tell(f"layer {len(streams) - 1} of {model.config.n_layer}")

    def look(module: Attention, args: tuple[Any, ...]) -> None:
        weights.append(last_attention(module, args[0], args[1]))

    with ExitStack() as hooks, suppress(_CancelledError):
        hooks.callback(model.drop.register_forward_hook(behind).remove)  # the embedding
        for block in model.h:
            for handle in (
                block.register_forward_hook(behind),
                block.attn.register_forward_pre_hook(look),  # type: ignore[union-attr]
            ):
                hooks.callback(handle.remove)
        # A cache may round keys and values, and these layers should end in the numbers of a Step.
        all_ids = torch.tensor([list(window)], device=model.wte.weight.device)
        model.hidden(all_ids, model.new_cache())
    if len(streams) <= model.config.n_layer:
        return []
    hidden = model.proj_out(model.ln_f(torch.stack(streams)))  # (layers + 1, E)
    read = read_out(predict(context.raw_logits(hidden)), [chosen] * len(streams), top)
    bytes_of = context.tokenizer.token_bytes
    names = ["embedding", *(f"layer {n}" for n in range(1, len(streams)))]
    heads: list[list[list[float]]] = [[], *(each.tolist() for each in weights)]
    return [
        Layer(
            name,
            tuple(one.top_ids),
            tuple(map(bytes_of, one.top_ids)),
            tuple(one.top_logprobs),
            one.logprob,
            one.rank,
            tuple(map(tuple, each)),
        )
        for name, one, each in zip(names, read, heads, strict=True)
    ]


@torch.inference_mode()
def attribution(
    context: Context,
    ids: Sequence[int],
    chosen: int,
    *,
    last: int = 64,
    watcher: Watcher = NOBODY,
) -> list[float | None]:
    """What chosen, behind ids, owes to each of them: log p − log p without that one, in nats.

    None for all but the last ones, for those outside the model's window, and for a token that is
    the whole context. What stands behind the token that is left out moves one position up, as if it
    had never been written (occlusion, Zeiler and Fergus 2014).
    """
    if not ids:
        raise UserError("the first token has no context, and so owes nothing to any")
    context.check_ids([*ids, chosen])
    model = context.model
    start = context.window_start(len(ids))
    window = list(ids[start:])
    hidden = context.read(window)

    def logprob(state: Tensor) -> float:
        return float(context.raw_logits(state).log_softmax(-1)[chosen])

    own = logprob(hidden[-1])
    found: list[float | None] = [None] * len(ids)
    for i in range(max(0, len(window) - last), len(window)):
        behind = window[i + 1 :]
        watcher.tell(f"without token {start + i + 1} of {len(ids)}")
        if watcher.cancelled() or len(window) == 1:
            break
        if behind:
            following = torch.tensor([behind], device=model.wte.weight.device)
            state = model.hidden(following, context.fork(i))[0, -1]
        else:
            state = hidden[i - 1]
        found[start + i] = own - logprob(state)
    return found


def last_attention(module: Attention, x: Tensor, rotation: Any) -> Tensor:
    """Weights (nh, T) that the last of the positions x (1, T, C) gives to each of them."""
    _, T, C = x.shape
    q, k, _ = (
        part.view(1, T, module.n_head, C // module.n_head).transpose(1, 2)  # (1, nh, T, hs)
        for part in module.qkv(x).float().chunk(3, dim=-1)
    )
    if rotation:
        q, k = rotate(q, rotation), rotate(k, rotation)
    # With the identity for v, what attention gives is its weights.
    one = torch.eye(T, device=x.device).expand(1, module.n_head, T, T)
    return attention(q[:, :, -1:], k, one, scale=module.scale, causal=False)[0, :, 0]
