"""The network, from token ids to logits; it knows no text, no sampling and no files.

Shapes: B sequences, T new tokens, S tokens in all, C = n_embd, nh heads of size hs, V tokens
in the vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt.cache import KVCache
from gpt.config import ModelConfig

MASKED = ("mps",)
"""Devices on which `is_causal` was seen to let tokens look ahead, so that they get a mask."""
Rotation = tuple[Tensor, Tensor]
"""Cosines and sines of the rotary positions, (T, hs / 2) each."""


class GPT(nn.Module):
    """A decoder-only transformer (Radford et al. 2019; the parameter names are GPT-2's)."""

    cache_dtype: torch.dtype | None = None
    """What keys and values should be kept in; None: as they are."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        C, E = config.n_embd, config.embd_dim or config.n_embd
        self.wte = nn.Embedding(config.vocab_size, E)
        self.proj_in = nn.Linear(E, C, bias=False) if config.embd_dim else nn.Identity()
        if config.positions == "learned":
            self.wpe = nn.Embedding(config.block_size, C)
        self.drop = nn.Dropout(config.dropout)
        self.h = nn.ModuleList(Block(config, layer) for layer in range(config.n_layer))
        self.ln_f = Norm(config) if config.final_norm else nn.Identity()
        self.proj_out = nn.Linear(C, E, bias=False) if config.embd_dim else nn.Identity()
        if not config.tied:
            self.lm_head = nn.Linear(E, config.vocab_size, bias=False)

    def forward(self, ids: Tensor, cache: KVCache | None = None) -> Tensor:
        """ids (B, T) → logits (B, T, V): at each position, scores for the next token.

        With a cache, ids follow the tokens in it and are added to it.
        """
        return self.logits(self.hidden(ids, cache))

    def hidden(self, ids: Tensor, cache: KVCache | None = None) -> Tensor:
        """ids (B, T) → (B, T, E): what the output matrix will be multiplied with."""
        start = cache.length if cache else 0
        positions = start + torch.arange(ids.size(1), device=ids.device)  # (T)
        x = self.proj_in(self.wte(ids))  # (B, T, C)
        rotation = None
        if self.config.positions == "learned":
            x = x + self.wpe(positions)
        else:
            rotation = rotary(positions, self.config)
        x = self.drop(x)
        for block in self.h:
            x = block(x, rotation, cache)
        if cache:
            cache.advance(ids.size(1))
        return self.proj_out(self.ln_f(x))  # type: ignore[no-any-return]

    def new_cache(self) -> KVCache:
        """An empty cache for one sequence."""
        return KVCache(self.config, dtype=self.cache_dtype)

    def logits(self, hidden: Tensor) -> Tensor:
        """(B, T, E) → (B, T, V)."""
        return F.linear(hidden, self.wte.weight if self.config.tied else self.lm_head.weight)


class Block(nn.Module):
    """Attention, then an MLP, each added to the residual stream."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.norm_first = config.norm_first
        self.ln_1 = Norm(config)
        self.attn = Attention(config, layer)
        self.ln_2 = Norm(config)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, rotation: Rotation | None, cache: KVCache | None) -> Tensor:
        """(B, T, C) → (B, T, C)."""
        if self.norm_first:
            x = x + self.attn(self.ln_1(x), rotation, cache)
            return x + self.mlp(self.ln_2(x))  # type: ignore[no-any-return]
        x = self.ln_1(x + self.attn(x, rotation, cache))
        return self.ln_2(x + self.mlp(x))  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Causal self-attention with several heads (Vaswani et al. 2017, arXiv:1706.03762)."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.n_head = config.n_head
        self.dropout = config.attn_dropout
        self.scale = 1 / math.sqrt(config.head_size) if config.attn_scale else 1.0
        if config.attn_scale_by_layer:
            self.scale /= layer + 1
        self.qkv = nn.Linear(config.n_embd, 3 * config.n_embd, bias=config.bias)
        self.proj = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, rotation: Rotation | None, cache: KVCache | None) -> Tensor:
        """(B, T, C) → (B, T, C)."""
        B, T, C = x.shape
        q, k, v = (
            part.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)  # (B, nh, T, hs)
            for part in self.qkv(x).chunk(3, dim=-1)
        )
        if rotation:
            q, k = rotate(q, rotation), rotate(k, rotation)
        mask = None
        if cache:
            k, v = cache.append(self.layer, k, v)  # (B, nh, S, hs)
            mask = cache.mask
        y = self.mix(q, k, v, mask)  # (B, nh, T, hs)
        return self.drop(self.proj(y.transpose(1, 2).reshape(B, T, C)))  # type: ignore[no-any-return]

    def mix(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """q (B, nh, T, hs), k and v (B, nh, S, hs) → (B, nh, T, hs): values, mixed by attention."""
        dropout = self.dropout if self.training else 0.0
        return attention(q, k, v, scale=self.scale, mask=mask, dropout=dropout)


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float,
    mask: Tensor | None = None,
    causal: bool = True,
    dropout: float = 0.0,
) -> Tensor:
    """softmax(q kᵀ scale) v, where the T queries are the last T of S positions.

    q (…, T, hs), k (…, S, hs), v (…, S, d) → (…, T, d). Causal: query i sees the keys
    0 … S - T + i; mask: those to which it adds 0, and not -inf. With v the identity, the result
    is the attention weights themselves.
    """
    T, S = q.size(-2), k.size(-2)
    causal = causal and mask is None and T > 1
    if causal and (T < S or q.device.type in MASKED):  # T < S: a chunk after a filled cache
        mask = torch.ones(T, S, dtype=torch.bool, device=q.device).tril(S - T)
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=causal and mask is None, scale=scale
    )


def rotary(positions: Tensor, config: ModelConfig) -> Rotation:
    """Cosines and sines of the angles that positions (T) turn queries and keys by."""
    half = config.head_size // 2
    frequency = config.rope_theta ** (-torch.arange(half, device=positions.device) / half)
    angle = positions[:, None] * frequency  # (T, hs / 2)
    return angle.cos(), angle.sin()


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn each pair (i, i + hs / 2) of x (B, nh, T, hs) by its angle."""
    cos, sin = rotation
    a, b = x.float().chunk(2, dim=-1)  # (B, nh, T, hs / 2)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1).type_as(x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
}


class MLP(nn.Module):
    """The same small network at every position."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[config.activation]
        self.gated = config.gated
        self.fc = nn.Linear(config.n_embd, config.inner, bias=config.bias)
        if config.gated:
            self.gate = nn.Linear(config.n_embd, config.inner, bias=config.bias)
        self.proj = nn.Linear(config.inner, config.n_embd, bias=config.bias)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) → (B, T, C)."""
        if self.gated:
            x = self.activation(self.gate(x)) * self.fc(x)  # (B, T, inner)
        else:
            x = self.activation(self.fc(x))
        return self.drop(self.proj(x))  # type: ignore[no-any-return]


class Norm(nn.Module):
    """LayerNorm or RMSNorm over the last dimension, with or without learned parameters."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.rms = config.norm == "rmsnorm"
        self.eps = config.eps
        self.shape = (config.n_embd,)
        has_bias = config.norm_gain and config.bias and not self.rms
        self.weight = nn.Parameter(torch.ones(self.shape)) if config.norm_gain else None
        self.bias = nn.Parameter(torch.zeros(self.shape)) if has_bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) → (B, T, C)."""
        if self.rms:
            return F.rms_norm(x, self.shape, self.weight, self.eps)
        return F.layer_norm(x, self.shape, self.weight, self.bias, self.eps)
