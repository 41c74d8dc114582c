"""Products with float32 matrices by whichever library is faster on this processor.

PyTorch calls MKL for them. On processors that are not Intel's, MKL multiplies a single vector on
one core and uses no 512-bit instructions, so there oneDNN may take half the time.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt.weights.timing import CLEARLY_LESS, least_seconds

_SMALL = 1 << 17
"""Numbers of a matrix for which a call of oneDNN takes longer than it saves."""


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """As F.linear in float32, x (…, in), weight (out, in), bias (out) → (…, out)."""
    if weight.numel() < _SMALL or torch.is_grad_enabled() or not _onednn_pays(x):
        return F.linear(x, weight, bias)
    return _by_onednn(x, weight, bias)


def _by_onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The operator that torch.compile calls; it has no gradients."""
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return y


def _onednn_pays(x: Tensor) -> bool:
    return onednn_is_faster(x.numel() // x.size(-1) > 1, torch.get_num_threads())


@cache
def onednn_is_faster(several: bool, threads: int) -> bool:
    """Whether oneDNN takes clearly less time with that many threads; several: for several rows."""
    x = torch.ones(16 if several else 1, 768)
    # More than fits into a core's own cache, like a network's weights.
    weights = torch.ones(2, 3072, 768)
    try:
        by_onednn = least_seconds(lambda: [_by_onednn(x, each, None) for each in weights], threads)
    except (AttributeError, RuntimeError):  # this version or build of torch does not have it
        return False
    by_torch = least_seconds(lambda: [F.linear(x, each) for each in weights], threads)
    return by_onednn < CLEARLY_LESS * by_torch
