"""The network: token ids in, logits out. It does not depend on text, sampling or files.

Start at `GPT.forward` and read down. The letters in shapes:

    B   sequences in the batch
    T   new tokens of each sequence
    S   tokens that attention can see: those in the cache, then the new ones
    C   width of the residual stream (n_embd)
    E   width of the token embedding; equal to C unless the configuration sets embd_dim
    nh  attention heads
    kv  heads of keys and values; equal to nh unless the configuration sets n_kv_head
    hs  width of one head; C / nh unless the configuration sets head_dim
    R   components of a head that are rotated; equal to hs unless it sets rotary_dim
    V   tokens in the vocabulary
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt.cache import KVCache
from gpt.config import ModelConfig

IS_CAUSAL_FAILS_ON = ("mps",)
"""Types of devices on which torch's `is_causal` let tokens look ahead; they get a mask instead."""
Rotation = tuple[Tensor, Tensor]
"""Cosines (T, R / 2) and sines (T, R / 2) of the rotary angles of T positions."""


class GPT(nn.Module):
    """A decoder-only transformer (Radford et al. 2019; wte, wpe, h and the norms have the names of
    GPT-2's parameters)."""

    cache_dtype: torch.dtype | None = None
    """Dtype of the keys and values in a cache; None: the dtype in which they are computed."""

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
        """ids (B, T) → logits (B, T, V): at each position, a score for every possible next token.

        With a cache, ids continue the tokens in it and are added to it.
        """
        return self.logits(self.hidden(ids, cache))

    def hidden(self, ids: Tensor, cache: KVCache | None = None, at: Tensor | None = None) -> Tensor:
        """ids (B, T) at positions `at` (T), or after the cache → hidden states (B, T, E)."""
        start = cache.length if cache else 0
        if at is None:
            at = start + torch.arange(ids.size(1), device=ids.device)  # (T)
        x, rotation = self.embed(ids, at)  # (B, T, C)
        x = self.drop(x)
        for block in self.h:
            x = block(x, rotation, cache)  # (B, T, C)
        if cache:
            cache.advance(ids.size(1))
        return self.proj_out(self.ln_f(x))  # (B, T, E)

    def embed(self, ids: Tensor, at: Tensor) -> tuple[Tensor, Rotation | None]:
        """ids (…, T) at positions `at` (T) → residual stream (…, T, C), rotation if rotary."""
        x = self.proj_in(self.wte(ids))  # (…, T, C)
        if self.config.positions == "learned":
            return x + self.wpe(at), None
        return x, rotary(at, self.config)

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states (B, T, E) → logits (B, T, V)."""
        return F.linear(hidden, self.wte.weight if self.config.tied else self.lm_head.weight)

    def new_cache(self) -> KVCache:
        """An empty cache for one sequence."""
        return KVCache(self.config, dtype=self.cache_dtype)


class Block(nn.Module):
    """Attention, then an MLP; each adds its output to the residual stream, or both at once."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.norm_first, self.parallel = config.norm_first, config.parallel
        self.ln_1 = Norm(config)
        self.attn = Attention(config, layer)
        self.ln_2 = Norm(config)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, rotation: Rotation | None, cache: KVCache | None) -> Tensor:
        """(B, T, C) → (B, T, C)."""
        if self.parallel:
            return x + self.attn(self.ln_1(x), rotation, cache) + self.mlp(self.ln_2(x))
        if self.norm_first:
            x = x + self.attn(self.ln_1(x), rotation, cache)
            return x + self.mlp(self.ln_2(x))
        x = self.ln_1(x + self.attn(x, rotation, cache))
        return self.ln_2(x + self.mlp(x))


class Attention(nn.Module):
    """Causal self-attention with several heads (Vaswani et al. 2017, arXiv:1706.03762).

    Several heads of queries may share a head of keys and values, so that the cache is smaller.
    """

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.rows, self.head_size = config.qkv_rows, config.head_size
        self.dropout = config.attn_dropout
        self.scale = 1 / math.sqrt(self.head_size) if config.attn_scale else 1.0
        if config.attn_scale_by_layer:
            self.scale /= layer + 1
        self.qkv = nn.Linear(config.n_embd, sum(self.rows), bias=config.has_qkv_bias)
        head_norm = HeadNorm if config.qk_norm else nn.Identity
        self.q_norm = head_norm(self.head_size, config.eps)
        self.k_norm = head_norm(self.head_size, config.eps)
        self.proj = nn.Linear(self.rows[0], config.n_embd, bias=config.bias)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, rotation: Rotation | None, cache: KVCache | None) -> Tensor:
        """(B, T, C) → (B, T, C)."""
        q, k, v = self.heads(x, rotation)  # (B, nh, T, hs), (B, kv, T, hs), (B, kv, T, hs)
        mask = None
        if cache:
            k, v = cache.append(self.layer, k, v)  # (B, kv, S, hs)
            mask = cache.mask
        y = self.mix(q, k, v, mask)  # (B, nh, T, hs)
        y = y.transpose(1, 2).flatten(2)  # (B, T, nh hs)
        return self.drop(self.proj(y))

    def heads(self, x: Tensor, rotation: Rotation | None) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, T, C) → queries (B, nh, T, hs), keys and values (B, kv, T, hs)."""
        B, T, _ = x.shape
        q, k, v = (
            part.view(B, T, -1, self.head_size).transpose(1, 2)  # (B, nh or kv, T, hs)
            for part in self.qkv(x).split(self.rows, dim=-1)  # (B, T, nh hs), (B, T, kv hs) twice
        )
        q, k = self.q_norm(q), self.k_norm(k)
        if rotation:
            q, k = rotate(q, rotation), rotate(k, rotation)
        return q, k, v

    def mix(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """q (B, nh, T, hs), k and v (B, kv, S, hs) → weighted sums of the values (B, nh, T, hs)."""
        dropout = self.dropout if self.training else 0.0
        return attention(q, k, v, scale=self.scale, mask=mask, dropout=dropout)


def attention_formula(q: Tensor, k: Tensor, v: Tensor, *, scale: float) -> Tensor:
    """Causal attention as in a lecture: softmax(q kᵀ scale) v, without looking ahead.

    q (B, nh, T, hs), k and v (B, kv, S, hs) → (B, nh, T, hs). This is the definition; the network
    calls `attention`, which computes the same.
    """
    k, v = (each.repeat_interleave(q.size(1) // k.size(1), dim=1) for each in (k, v))  # kv → nh
    scores = q @ k.transpose(-2, -1) * scale  # (B, nh, T, S)
    scores = scores.masked_fill(~causal_mask(q, k), -math.inf)  # (B, nh, T, S)
    weights = scores.softmax(-1)  # (B, nh, T, S), each row sums to 1
    return weights @ v  # (B, nh, T, hs)


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float,
    mask: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """`attention_formula` as one fused operation, which never stores the scores (B, nh, T, S).

    The queries belong to the last T of the S positions. If v is the identity (B, kv, S, S), the
    result is the attention weights (B, nh, T, S).

    Args:
        mask: replaces the causal mask: bool (T, S), True if the query sees the key, or float
            (1, 1, T, S), which is added to the scores.
        dropout: share of the attention weights that are set to 0.
    """
    T, S = q.size(-2), k.size(-2)
    causal = mask is None and T > 1  # a single query sees all keys
    if causal and (T < S or q.device.type in IS_CAUSAL_FAILS_ON):
        mask = causal_mask(q, k)  # is_causal would place the queries at the first T positions
    shared, heads = k.size(1) < q.size(1), q.shape[:-1]
    if shared and T == 1:  # queries that share keys become rows of one product, the fastest way
        q = q.reshape(q.size(0), k.size(1), -1, q.size(-1))  # (B, kv, nh / kv, hs)
    is_causal = causal and mask is None
    y = F.scaled_dot_product_attention(
        q, k, v, mask, dropout, is_causal, scale=scale, enable_gqa=shared and T > 1
    )
    return y.reshape(*heads, -1)  # (B, nh, T, hs)


def causal_mask(q: Tensor, k: Tensor) -> Tensor:
    """(T, S) bool: query i of the last T positions sees the keys 0 … S - T + i."""
    T, S = q.size(-2), k.size(-2)
    return torch.ones(T, S, dtype=torch.bool, device=q.device).tril(S - T)


def rotary(positions: Tensor, config: ModelConfig) -> Rotation:
    """positions (T) → cosines and sines (T, R / 2) of the angles by which `rotate` turns them."""
    half = (config.rotary_dim or config.head_size) // 2
    frequency = 1 / config.rope_theta ** (torch.arange(half, device=positions.device) / half)
    if config.rope_scaling:
        frequency = stretch(frequency, config)
    angle = positions[:, None] * frequency  # (T, R / 2)
    return angle.cos(), angle.sin()


def stretch(frequency: Tensor, config: ModelConfig) -> Tensor:
    """Rotary frequencies (R / 2) of a network → those for its extended context (R / 2)."""
    if config.rope_scaling == "linear" or config.rope_original is None:
        return frequency / config.rope_factor
    # Llama 3.1: frequencies that turn many times within the original context tell neighbouring
    # tokens apart. They stay as they are; the slow ones are stretched.
    turns = config.rope_original / (2 * math.pi / frequency)
    kept = ((turns - config.rope_low) / (config.rope_high - config.rope_low)).clamp(0, 1)
    return (1 - kept) * frequency / config.rope_factor + kept * frequency


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn each pair (i, i + R / 2) of x (B, nh, T, hs) by the angle of its position; R ≤ hs."""
    cos, sin = rotation
    half = cos.size(-1)
    a, b, rest = torch.split(x.float(), [half, half, x.size(-1) - 2 * half], dim=-1)
    turned = torch.cat((a * cos - b * sin, a * sin + b * cos, rest), dim=-1)  # (B, nh, T, hs)
    return turned.type_as(x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
}
"""The MLP's non-linearities by the names that a configuration uses."""


class MLP(nn.Module):
    """Two linear layers with a non-linearity between them, the same at every position."""

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
            x = self.activation(self.fc(x))  # (B, T, inner)
        return self.drop(self.proj(x))


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


class HeadNorm(nn.RMSNorm):
    """RMS norm of single queries or keys, computed in the dtype of its gain."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, nh, T, hs) → (B, nh, T, hs)."""
        return super().forward(x.type_as(self.weight)).type_as(x)
