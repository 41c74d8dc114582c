"""Split a logit into what each part of the network wrote."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gpt.context import Context
from gpt.errors import UserError
from gpt.interpret.hooks import Handler, Site, attention_of, head_outputs, hooked
from gpt.interpret.looks import LogitPart, LogitParts, PartName
from gpt.interpret.matrix import output_matrix, row_blocks, rows_of
from gpt.model import GPT, Block, Norm
from gpt.prediction import check_finite

_Name = tuple[PartName, int, int | None]
"""Name, layer and head of a part."""
_SITES: tuple[Site, ...] = ("token", "position", "enter", "heads", "attention", "mlp", "layer")


@torch.inference_mode()
def logit_parts(
    context: Context, ids: Sequence[int], token_id: int, versus_id: int | None = None
) -> LogitParts:
    """The logit of a token after ids, minus that of another one, as a sum over the network's parts.

    The residual stream is a sum of what the embedding, each head and each MLP wrote (Elhage et al.
    2021, "A mathematical framework for transformer circuits"), and each part's share of a logit is
    its vector through the last norm, whose scale is frozen at its value for this position, times
    the token's row of the output matrix: direct logit attribution. A LayerNorm with a frozen scale
    is linear: x → (x − mean x) / σ · gain. In a model with norms after the sum (opt-350m), a part
    goes through every later norm of its position, each with its scale frozen, and their biases are
    parts, too. So the parts always add up to the logit but for rounding.

    It costs one token through the network, if ids were read before.
    """
    if not ids:
        raise UserError("the first token has no context, so it has no logit")
    context.check_ids([*ids, token_id, *([] if versus_id is None else [versus_id])])
    model = context.model
    seen, hidden = _watch_last(context, ids)
    names, vectors = _write(model, seen)
    rows = rows_of(output_matrix(model), [token_id, *([] if versus_id is None else [versus_id])])
    row = (rows[0] if versus_id is None else rows[0] - rows[1]).double()  # (E)
    last = seen["layer", model.config.n_layer] if model.h else _embedding(seen)
    vectors, bias = _frozen(model.ln_f, last, vectors)
    if bias is not None:
        names, vectors = [*names, ("final norm bias", 0, None)], torch.cat((vectors, bias[None]))
    if not isinstance(model.proj_out, nn.Identity):
        matrix = torch.cat(list(row_blocks(model.proj_out))).double()  # (E, C)
        vectors = vectors @ matrix.T  # (parts, E)
    values = vectors @ row  # (parts)
    logits = context.raw_logits(hidden)  # (V)
    check_finite(float(logits.sum()), len(ids))
    logit = float(logits[token_id]) - (0.0 if versus_id is None else float(logits[versus_id]))
    parts = tuple(
        LogitPart(*name, value) for name, value in zip(names, values.tolist(), strict=True)
    )
    return LogitParts(token_id, versus_id, parts, float(values.sum()), logit)


def _watch_last(
    context: Context, ids: Sequence[int]
) -> tuple[dict[tuple[Site, int], Tensor], Tensor]:
    """What is seen at each site at the last position (C), and its hidden state (E)."""
    window = list(ids[context.window_start(len(ids)) :])
    context.read(window)
    seen: dict[tuple[Site, int], Tensor] = {}

    def record(site: Site) -> Handler:
        def see(layer: int, x: Tensor) -> None:
            seen[site, layer] = x.flatten(0, -2)[-1]

        return see

    with hooked(context.model, {site: record(site) for site in _SITES}):
        last = torch.tensor([window[-1:]], device=context.model.wte.weight.device)  # (1, 1)
        hidden = context.model.hidden(last, context.fork(len(window) - 1))[0, -1]
    return seen, hidden


def _embedding(seen: dict[tuple[Site, int], Tensor]) -> Tensor:
    """The residual stream (C) before the first block."""
    token = seen["token", 0].double()
    return token + seen["position", 0].double() if ("position", 0) in seen else token


def _write(model: GPT, seen: dict[tuple[Site, int], Tensor]) -> tuple[list[_Name], Tensor]:
    """What each part has in the stream after the last block: names, and vectors (parts, C)."""
    names: list[_Name] = [("token", 0, None)]
    vectors = seen["token", 0].double()[None]  # (parts, C)
    if ("position", 0) in seen:
        names.append(("position", 0, None))
        vectors = torch.cat((vectors, seen["position", 0].double()[None]))
    for layer, block in enumerate(model.h, 1):
        assert isinstance(block, Block)  # noqa: S101 (for the type)
        attn = attention_of(model, layer)
        heads = head_outputs(attn, seen["heads", layer]).double()  # (nh, C)
        names += [("head", layer, head) for head in range(1, len(heads) + 1)]
        vectors = torch.cat((vectors, heads))
        if attn.proj.bias is not None:
            names.append(("attention bias", layer, None))
            vectors = torch.cat((vectors, attn.proj.bias.double()[None]))
        stream = seen["enter", layer].double() + seen["attention", layer].double()
        if not block.norm_first:
            names, vectors, stream = _through(block.ln_1, stream, names, vectors, layer)
        names.append(("mlp", layer, None))
        vectors = torch.cat((vectors, seen["mlp", layer].double()[None]))
        if not block.norm_first:
            stream = stream + seen["mlp", layer].double()
            names, vectors, _ = _through(block.ln_2, stream, names, vectors, layer)
    return names, vectors


def _through(
    norm: nn.Module, stream: Tensor, names: list[_Name], vectors: Tensor, layer: int
) -> tuple[list[_Name], Tensor, Tensor]:
    """Parts and stream after a norm that comes after the sum; its bias becomes a part."""
    after, bias = _frozen(norm, stream, torch.cat((vectors, stream[None])))
    vectors, stream = after[:-1], after[-1]
    if bias is not None:
        names, vectors = [*names, ("norm bias", layer, None)], torch.cat((vectors, bias[None]))
        stream = stream + bias
    return names, vectors, stream


def _frozen(norm: nn.Module, stream: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor | None]:
    """Vectors (n, C) float64 through a norm whose scale is that of stream (C), and its bias (C)."""
    if not isinstance(norm, Norm):
        return vectors, None
    stream = stream.double()
    if not norm.rms:
        vectors = vectors - vectors.mean(-1, keepdim=True)
        stream = stream - stream.mean()
    vectors = vectors / (stream.square().mean() + norm.eps).sqrt()
    if norm.weight is not None:
        vectors = vectors * norm.weight.double()
    return vectors, None if norm.bias is None else norm.bias.double()
