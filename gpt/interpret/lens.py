"""What each layer of the network predicts and attends to, and what a token is due to."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gpt.context import Context
from gpt.errors import UserError
from gpt.interpret.answers import Layer
from gpt.interpret.hooks import attention_of, attention_weights, hooked
from gpt.interpret.intervene import without_token
from gpt.prediction import predict, read_out
from gpt.progress import NOBODY, Watcher


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
    queries over all keys in the context. It costs a pass of one token, once the context has read
    those before it. Empty if it was cancelled.
    """
    if not ids:
        raise UserError("the first token has no context, so the layers have read nothing")
    context.check_ids([*ids, chosen])
    model, start = context.model, context.window_start(len(ids))
    *before, last = ids[start:]
    read = context.read(before, context.reading(start, len(ids), watcher))
    if len(read) < len(before) or watcher.cancelled():
        return []
    streams: list[Tensor] = []  # (C) each
    weights: list[Tensor] = []  # (nh, S) each

    def record(layer: int, x: Tensor) -> None:
        streams.append(x[0, -1])

    def see(layer: int, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> None:
        weights.append(attention_weights(attention_of(model, layer), q, k, mask)[:, -1])

    with hooked(model, {"embedding": record, "layer": record}, view=see):
        ids_of_last = torch.tensor([[last]], device=model.wte.weight.device)  # (1, 1)
        model.hidden(ids_of_last, context.fork(len(before)))
    hidden = model.proj_out(model.ln_f(torch.stack(streams)))  # (n_layer + 1, E)
    found = read_out(predict(context.raw_logits(hidden)), [chosen] * len(streams), top)
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
        for name, one, heads in zip(names, found, all_heads, strict=True)
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
