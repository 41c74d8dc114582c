"""Look at the tensors inside a network while it runs, and replace them.

The one place that hangs something into a network. Letters in shapes are those of gpt/model.py.
Layers are counted from 1; 0 is the embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gpt.cache import KVCache
from gpt.model import GPT, Attention, causal_mask, rotary

Site = Literal["token", "position", "embedding", "enter", "heads", "attention", "mlp", "layer"]
"""Where a tensor is seen, (B, T, C) each unless it says otherwise:

- token: the token's vector, as wide as the stream
- position: the learned position's vector (T, C)
- embedding: the residual stream before the first block, layer 0
- enter: the stream before a block
- heads: what the heads hand to the output projection of attention (B, T, nh hs)
- attention, mlp: what they add to the stream
- layer: the stream after a block
"""
Handler = Callable[[int, Tensor], Tensor | None]
"""(layer, tensor) → what replaces the tensor; None: nothing does."""
Mask = Callable[[int, Tensor, Tensor, Tensor | None], Tensor | None]
"""(layer, q, k, mask) → the mask of attention instead; see `gpt.model.attention`."""
View = Callable[[int, Tensor, Tensor, Tensor, Tensor | None], None]
"""Called with (layer, q, k, v, mask) as attention gets them: rotated, with the cached keys."""


def _modules(model: GPT, site: Site) -> Iterator[tuple[int, nn.Module, bool]]:
    """(layer, module, whether its input is what is seen) for each place of a site."""
    outside: dict[Site, nn.Module | None] = {
        "token": model.proj_in,
        "position": getattr(model, "wpe", None),
        "embedding": model.drop,
    }
    if site in outside:
        if (module := outside[site]) is not None:
            yield 0, module, False
        return
    for layer, block in enumerate(model.h, 1):
        inside: dict[Site, tuple[Any, bool]] = {
            "enter": (block, True),
            "heads": (attention_of(model, layer).proj, True),
            "attention": (block.attn, False),
            "mlp": (block.mlp, False),
            "layer": (block, False),
        }
        yield layer, *inside[site]


def attention_of(model: GPT, layer: int) -> Attention:
    """The attention of a block, from 1."""
    attn = model.h[layer - 1].attn
    assert isinstance(attn, Attention)  # noqa: S101 (for the type)
    return attn


class _Mix:
    """Stands in for `Attention.mix` of one block."""

    def __init__(self, attn: Attention) -> None:
        self.attn = attn
        self.masks: list[Mask] = []
        self.views: list[View] = []

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        layer = self.attn.layer + 1
        for change in self.masks:
            mask = change(layer, q, k, mask)
        for view in self.views:
            view(layer, q, k, v, mask)
        return Attention.mix(self.attn, q, k, v, mask)


@contextmanager
def hooked(
    model: GPT,
    sites: Mapping[Site, Handler],
    *,
    mask: Mask | None = None,
    view: View | None = None,
) -> Iterator[None]:
    """Call the handlers whenever the network runs inside the `with`.

    What was hooked earlier acts earlier, so a handler sees what the earlier ones made. Views see
    the mask after all changes.
    """
    with ExitStack() as stack:
        for site, handler in sites.items():
            for layer, module, is_input in _modules(model, site):
                stack.callback(_hook(module, layer, handler, is_input=is_input).remove)
        for layer in range(1, model.config.n_layer + 1) if mask or view else ():
            _mix_in(attention_of(model, layer), mask, view, stack)
        yield


@contextmanager
def standing_in(module: nn.Module, forward: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Let forward compute what a module returns, inside the `with`."""
    module.__dict__["forward"] = forward
    try:
        yield
    finally:
        del module.__dict__["forward"]


def _hook(module: nn.Module, layer: int, handler: Handler, *, is_input: bool) -> Any:
    def before(module: Any, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        changed = handler(layer, args[0])
        return None if changed is None else (changed, *args[1:])

    def after(module: Any, args: Any, output: Tensor) -> Tensor | None:
        return handler(layer, output)

    return (
        module.register_forward_pre_hook(before)
        if is_input
        else (module.register_forward_hook(after))
    )


def _mix_in(attn: Attention, mask: Mask | None, view: View | None, stack: ExitStack) -> None:
    """Make an attention call mask and view, until the stack is closed."""
    mix = attn.__dict__.get("mix") or _Mix(attn)
    attn.__dict__["mix"] = mix

    def leave() -> None:
        if not mix.masks and not mix.views:
            attn.__dict__.pop("mix", None)

    stack.callback(leave)  # what is pushed first runs last
    if mask:
        mix.masks.append(mask)
        stack.callback(mix.masks.remove, mask)
    if view:
        mix.views.append(view)
        stack.callback(mix.views.remove, view)


def attention_weights(attn: Attention, q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
    """What a view saw of one sequence → the attention weights (nh, T, S); each row sums to 1."""
    return attention_scores(attn, q, k, mask).softmax(-1)


def attention_scores(attn: Attention, q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
    """What a view saw of one sequence → the scores before the softmax (nh, T, S) float32."""
    n_head, T, kv = q.size(1), q.size(2), k.size(1)
    # Queries that share keys are rows of one product, so that no key is copied.
    rows = q[0].float().reshape(kv, -1, attn.head_size)  # (kv, nh / kv T, hs)
    scores = (rows @ k[0].float().mT * attn.scale).view(n_head, T, -1)  # (nh, T, S)
    return scores.masked_fill(~visible(q, k, mask), -torch.inf)


def visible(q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
    """Which of the S keys each of the last T positions sees, bool (nh or 1, T, S)."""
    if mask is not None:
        return mask.reshape(-1, q.size(2), k.size(2))
    return causal_mask(q, k)[None]


def head_outputs(attn: Attention, y: Tensor) -> Tensor:
    """What the heads hand to the projection (nh hs) → what each adds to the stream (nh, C).

    The bias of the projection belongs to no head.
    """
    nh, hs = y.numel() // attn.head_size, attn.head_size
    heads = torch.arange(nh, device=y.device)
    alone = torch.zeros(nh, nh, hs, dtype=y.dtype, device=y.device)
    alone[heads, heads] = y.view(nh, hs)
    # forward, because hooks must not take this for the network's own pass
    added: Tensor = attn.proj.forward(alone.flatten(1)).float()  # (nh, C)
    return added if attn.proj.bias is None else added - attn.proj.bias.float()


def continue_from(model: GPT, layer: int, x: Tensor, cache: KVCache) -> Tensor:
    """The residual stream (B, T, C) after a layer → hidden states (B, T, E).

    The T positions follow those in the cache, which is not counted further.
    """
    positions = cache.length + torch.arange(x.size(1), device=x.device)  # (T)
    rotation = rotary(positions, model.config) if model.config.positions == "rotary" else None
    for block in model.h[layer:]:
        x = block(x, rotation, cache)  # (B, T, C)
    hidden: Tensor = model.proj_out(model.ln_f(x))  # (B, T, E)
    return hidden
