"""What each layer of the network predicts and attends to, and what a token is due to."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import Any

import torch
from torch import Tensor

from gpt.context import Context
from gpt.errors import UserError
from gpt.interpret.answers import Layer
from gpt.interpret.intervene import without_token
from gpt.model import Attention, attention
from gpt.prediction import predict, read_out
from gpt.progress import NOBODY, Watcher


class _CancelledError(Exception):
    """Stops the network in the middle of a pass."""


@torch.inference_mode()
def layers(
    context: Context,
    ids: Sequence[int],
    chosen: int,
    *,
    top: int = 5,
    watcher: Watcher = NOBODY,
) -> list[Layer]:
    """What the embedding and each layer predict for the token after ids, and what they attend to.

    chosen: that token in the text. The residual stream goes through the network's last norm and
    output matrix: the logit lens (nostalgebraist 2020). Attention is that of the last position's
    queries over all keys in the context. It costs one pass over the context. Empty if it was
    cancelled.
    """
    if not ids:
        raise UserError("the first token has no context, so the layers have read nothing")
    context.check_ids([*ids, chosen])
    model = context.model
    streams, weights = _watch_layers(context, ids[context.window_start(len(ids)) :], watcher)
    if len(streams) <= model.config.n_layer:
        return []
    hidden = model.proj_out(model.ln_f(torch.stack(streams)))  # (n_layer + 1, E)
    read = read_out(predict(context.raw_logits(hidden)), [chosen] * len(streams), top)
    bytes_of = context.tokenizer.token_bytes
    names = ["embedding", *(f"layer {n}" for n in range(1, len(streams)))]
    all_heads: list[list[list[float]]] = [[], *(each.tolist() for each in weights)]
    return [
        Layer(
            name,
            tuple(one.top_ids),
            tuple(map(bytes_of, one.top_ids)),
            tuple(one.top_logprobs),
            one.logprob,
            one.rank,
            tuple(map(tuple, heads)),
        )
        for name, one, heads in zip(names, read, all_heads, strict=True)
    ]


def _watch_layers(
    context: Context, ids: Sequence[int], watcher: Watcher
) -> tuple[list[Tensor], list[Tensor]]:
    """Run the network on ids, and record every layer at the last position.

    Returns the residual stream after the embedding and after each layer, (C) each, and the
    attention weights of each layer, (nh, T) each. Fewer if it was cancelled.
    """
    model = context.model
    streams: list[Tensor] = []
    weights: list[Tensor] = []

    def record_output(module: Any, args: Any, output: Tensor) -> None:
        if watcher.cancelled():
            raise _CancelledError
        streams.append(output[0, -1])
        watcher.tell(f"layer {len(streams) - 1} of {model.config.n_layer}")

    def record_attention(module: Attention, args: tuple[Any, ...]) -> None:
        weights.append(last_attention(module, args[0], args[1]))

    with ExitStack() as hooks, suppress(_CancelledError):
        hooks.callback(model.drop.register_forward_hook(record_output).remove)  # the embedding
        for block in model.h:
            for handle in (
                block.register_forward_hook(record_output),
                block.attn.register_forward_pre_hook(record_attention),  # type: ignore[union-attr]
            ):
                hooks.callback(handle.remove)
        # With a cache, because it may round keys and values: the last layer must agree with a Step.
        all_ids = torch.tensor([list(ids)], device=model.wte.weight.device)  # (1, T)
        model.hidden(all_ids, model.new_cache())
    return streams, weights


@torch.inference_mode()
def attribution(
    context: Context,
    ids: Sequence[int],
    chosen: int,
    *,
    last: int = 64,
    watcher: Watcher = NOBODY,
) -> list[float | None]:
    """How much each of ids adds to the log-probability of chosen, the next token, in nats.

    That is log p(chosen) − log p(chosen without that token) (occlusion, Zeiler and Fergus 2014).
    The tokens after the one that is left out move up by one position. Whatever else is changed in
    the network stays changed, means over the text included. None for tokens before the
    last `last` ones, for tokens outside the model's window, for a token that is the whole context,
    and for the rest after a cancellation.
    """
    if not ids:
        raise UserError("the first token has no context, so no token contributes to it")
    context.check_ids([*ids, chosen])
    model = context.model
    start = context.window_start(len(ids))
    window = list(ids[start:])
    hidden = context.read(window)

    def logprob(state: Tensor) -> float:
        return float(context.raw_logits(state).log_softmax(-1)[chosen])

    with_all = logprob(hidden[-1])
    nats: list[float | None] = [None] * len(ids)
    for i in range(max(0, len(window) - last), len(window)):
        after = window[i + 1 :]
        watcher.tell(f"without token {start + i + 1} of {len(ids)}")
        if watcher.cancelled() or len(window) == 1:
            break
        if after:
            following = torch.tensor([after], device=model.wte.weight.device)  # (1, T)
            with without_token(context, i):
                state = model.hidden(following, context.fork(i))[0, -1]  # (E)
        else:
            state = hidden[i - 1]
        nats[start + i] = with_all - logprob(state)
    return nats


def last_attention(module: Attention, x: Tensor, rotation: Any) -> Tensor:
    """Input x (1, T, C) of an attention module → its weights at the last position, (nh, T)."""
    q, k, _ = (each.float() for each in module.heads(x, rotation))  # (1, nh, T, hs), (1, kv, T, hs)
    # With the identity as v, the result of attention is its weights.
    identity = torch.eye(k.size(2), device=x.device).expand(1, k.size(1), -1, -1)  # (1, kv, T, T)
    return attention(q[:, :, -1:], k, identity, scale=module.scale)[0, :, 0]
