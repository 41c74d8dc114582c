"""Plans which source tensors become which of our parameters, before any tensor is read.

The plan is strict: it fails, naming the tensor, unless every source tensor is used or known to be
droppable and every parameter has a source.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from convert.family import Family, Place, shape_after
from convert.weights import TensorInfo
from gpt.checkpoint import empty_network
from gpt.config import ModelConfig
from gpt.errors import UserError

_WRAPPERS = ("module.", "_orig_mod.")
"""Prefixes that DataParallel and torch.compile leave in tensor names."""
_MERGE = "merge the adapter into the model (merge_and_unload in peft) and save the result"
_REFUSED = {
    r"(^|\.)(_fsdp_wrapped_module|_flat_param\w*|flat_param\w*)(\.|$)": (
        "FSDP saved it that way: save the model with a full state dict (FULL_STATE_DICT)"
    ),
    r"(^|\.)(lora_\w+|base_layer|modules_to_save|original_module|ia3_l|prompt_encoder)(\.|$)": (
        f"an adapter is still separate from the model: {_MERGE}"
    ),
    r"^(module\.|_orig_mod\.)*base_model\.model\.": f"peft saved it that way: {_MERGE}",
}
"""Patterns of names in checkpoints whose weights are not merged yet → what to do."""
_EMPTY = (
    "is empty; DeepSpeed's ZeRO-3 saves such tensors: gather the weights with its "
    "zero_to_fp32.py, or save with stage3_gather_16bit_weights_on_model_save"
)
_LAYER = re.compile(r"(?<![^.])(0|[1-9][0-9]{0,5})(?![^.])")
_HEAD, _EMBEDDING = "lm_head.weight", "wte.weight"

Shape = tuple[int, ...]
IsEqual = Callable[[str, str], bool]
"""Whether two source tensors, given by name, hold the same numbers."""


@dataclass(frozen=True)
class SourceTensor:
    """A source tensor and the place it goes to."""

    name: str
    place: Place


Parts = dict[int | None, SourceTensor]
"""Part of a parameter → the tensor that it is made of; the key None is the whole parameter."""


@dataclass(frozen=True)
class Plan:
    """Everything about a conversion that is known before the first tensor is read."""

    config: ModelConfig
    """Our configuration; `tied` agrees with the weights."""
    shapes: dict[str, Shape]
    """Our parameters in the order of the file → their shapes."""
    sources: dict[str, tuple[SourceTensor, ...]]
    """Parameter → the tensors whose rows it joins, in order; empty for constants."""
    constants: dict[str, float]
    """Parameter that the source configuration leaves out → its value."""
    notices: tuple[str, ...]
    """What the user should know."""


def make_plan(
    family: Family,
    config: ModelConfig,
    constants: Mapping[str, float],
    tensors: Mapping[str, TensorInfo],
    is_equal: IsEqual,
) -> Plan:
    """Find a place for every tensor.

    constants: as Family.constants returns them. is_equal: called only for the output matrix and
    the embedding.
    """
    found, notices = _find_places(family, config, tensors)
    config = _tie_head(config, found, notices, is_equal)
    shapes = {
        name: tuple(tensor.shape) for name, tensor in empty_network(config).state_dict().items()
    }
    expanded = {
        name.replace("{i}", str(i)): value
        for name, value in constants.items()
        for i in range(max(1, config.n_layer))
    }
    sources: dict[str, tuple[SourceTensor, ...]] = {}
    for name, shape in shapes.items():
        if name in expanded:
            sources[name] = ()
            continue
        sources[name] = _ordered_parts(family, name, found.get(name, {}))
        for source in sources[name]:
            n_rows = shape[0] if source.place.part is None else config.qkv_rows[source.place.part]
            _check_shape(source, (n_rows, *shape[1:]), tensors[source.name])
    for name, parts in found.items():
        if not sources.get(name):
            stray = next(iter(parts.values()))
            raise UserError(
                f"{tensors[stray.name].file} holds {stray.name!r}, for which the network that "
                "config.json describes has no place"
            )
    kept = {name: value for name, value in expanded.items() if name in shapes}
    return Plan(config, shapes, sources, kept, tuple(notices))


def canonical_name(family: Family, name: str) -> str:
    """A tensor's name as in the family's table, but with the number of the layer."""
    while wrapper := next((w for w in _WRAPPERS if name.startswith(w)), None):
        name = name.removeprefix(wrapper)
    for pattern, new in family.renames:
        name = re.sub(pattern, new, name)
    prefix = next((p for p in family.prefixes if name.startswith(p)), "")
    return name.removeprefix(prefix)


def _find_places(
    family: Family, config: ModelConfig, tensors: Mapping[str, TensorInfo]
) -> tuple[dict[str, Parts], list[str]]:
    """Our parameter → its parts, and the notices about dropped tensors."""
    found: dict[str, Parts] = {}
    notices: dict[str, None] = {}
    for name, info in tensors.items():
        _refuse_unmerged(name, info)
        place, layer = _place_of(family, config, name, info)
        if not isinstance(place, Place):
            if place:
                notices[place] = None
            continue
        parameter = place.name.replace("{i}", layer)
        parts = found.setdefault(parameter, {})
        if place.part in parts:
            raise UserError(
                f"{name!r} and {parts[place.part].name!r} are the same parameter ({parameter}); "
                "one of them is left over from another checkpoint"
            )
        if not info.dtype.is_floating_point or info.dtype.itemsize < 2:
            raise UserError(
                f"{name!r} in {info.file} is {str(info.dtype).removeprefix('torch.')}: quantised "
                "weights are not supported; get the original checkpoint"
            )
        parts[place.part] = SourceTensor(name, place)
    return found, list(notices)


def _place_of(
    family: Family, config: ModelConfig, name: str, info: TensorInfo
) -> tuple[Place | str | None, str]:
    """The family's entry for a tensor, and the number of its layer as a text, or an empty one."""
    canonical = canonical_name(family, name)
    layer = _LAYER.search(canonical)
    pattern = _LAYER.sub("{i}", canonical, count=1)
    if pattern not in family.places:
        raise UserError(
            f"{info.file} holds {name!r}, which is not a tensor of a {family.model_type} model "
            "that convert knows"
        )
    if layer and int(layer[0]) >= config.n_layer:
        raise UserError(f"{info.file} holds {name!r}, but config.json says {config.n_layer} layers")
    return family.places[pattern], layer[0] if layer else ""


def _refuse_unmerged(name: str, info: TensorInfo) -> None:
    """Refuse tensors of adapters and of sharded training, which are not the model's weights."""
    for pattern, advice in _REFUSED.items():
        if re.search(pattern, name):
            raise UserError(f"{info.file} holds {name!r}; {advice}")
    if 0 in info.shape:
        raise UserError(f"{name!r} in {info.file} {_EMPTY}")


def _tie_head(
    config: ModelConfig, found: dict[str, Parts], notices: list[str], is_equal: IsEqual
) -> ModelConfig:
    """Set `tied` as the weights are; a tied output matrix is removed from `found`.

    If config.json says that output matrix and embedding are tied, but they differ, both are kept,
    as in transformers 5.
    """
    if _HEAD not in found:
        return config
    head = found[_HEAD][None]
    if _EMBEDDING not in found:
        if not config.tied:
            return config
        found[_EMBEDDING] = found.pop(_HEAD)
        return config
    if is_equal(found[_EMBEDDING][None].name, head.name):
        del found[_HEAD]
        return replace(config, tied=True)
    if config.tied:
        notices.append(
            f"{head.name} differs from the embedding, although config.json says that they are "
            "tied; both are kept"
        )
    return replace(config, tied=False)


def _ordered_parts(family: Family, name: str, parts: Parts) -> tuple[SourceTensor, ...]:
    """The parts of a parameter in the family's order. Refuses a parameter that lacks one."""
    layer = _LAYER.search(name)
    pattern = _LAYER.sub("{i}", name, count=1)
    wanted = {
        place.part: source_name
        for source_name, place in family.places.items()
        if isinstance(place, Place) and place.name == pattern
    }
    for part, source_name in wanted.items():
        if part not in parts:
            missing = source_name.replace("{i}", layer[0] if layer else "")
            raise UserError(
                f"the checkpoint lacks {missing!r}, which is needed for the parameter {name}"
            )
    return tuple(parts[part] for part in wanted)


def _check_shape(source: SourceTensor, expected: Shape, info: TensorInfo) -> None:
    found = shape_after(source.place, info.shape)
    if found == expected:
        return
    hint = f" ({source.place.mismatch})" if source.place.mismatch else ""
    raise UserError(
        f"{source.name!r} in {info.file} is {_by(info.shape)}, which as {source.place.name} would "
        f"be {_by(found)}, but config.json asks for {_by(expected)}{hint}"
    )


def _by(shape: Shape) -> str:
    return " by ".join(map(str, shape)) or "a single number"
