"""The families of models that can be converted, and which of them a checkpoint belongs to."""

from __future__ import annotations

from typing import Any

from convert import gpt2, gpt_neox, llama, opt, qwen2, qwen3
from convert.family import Family
from gpt.errors import UserError

FAMILIES: dict[str, Family] = {
    family.model_type: family
    for family in (
        gpt2.FAMILY,
        opt.FAMILY,
        llama.FAMILY,
        llama.MISTRAL,
        qwen2.FAMILY,
        qwen3.FAMILY,
        gpt_neox.FAMILY,
    )
}
_EXPERTS = "a mixture of experts"
_RELATED = {
    "mixtral": _EXPERTS,
    "qwen2_moe": _EXPERTS,
    "qwen3_moe": _EXPERTS,
    "olmoe": _EXPERTS,
    "gpt_oss": _EXPERTS,
    "gemma2": "a network with soft caps",
    "gemma3_text": "a network with sliding windows in most layers",
    "smollm3": "a network with layers without rotary positions",
    "btlm": "a network with the scales of muP",
}
"""Other types that are often taken for one of the families → what they are."""


def choose_family(config: dict[str, Any], model: str) -> Family:
    """The family that config.json names. model: how an error names the checkpoint."""
    model_type = config.get("model_type")
    if model_type is None and "n_embd" in config and "n_layer" in config:
        model_type = "gpt2"  # configurations of 2019 have no model_type
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        kind = _RELATED.get(str(model_type))
        raise UserError(
            f"{model} is a {str(model_type)[:50]!r} model{f', {kind}' if kind else ''}; convert "
            f"supports {', '.join(FAMILIES)}"
        )
    return FAMILIES[model_type]
