"""Which of their tensors fills which of our parameters; it reads no tensor.

Strict: every tensor is used or known to be droppable and every parameter is filled, or the
plan fails and names the one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from convert.family import Family, Place, shape_after
from convert.weights import Info
from gpt.checkpoint import empty_network
from gpt.config import ModelConfig
from gpt.errors import UserError

_WRAPPERS = ("module.", "_orig_mod.")
"""Left in front of names by DataParallel and torch.compile."""
_UNMERGED = "merge the adapter into it (merge_and_unload in peft) and save the result"
_REFUSED = {
    r"(^|\.)(_fsdp_wrapped_module|_flat_param\w*|flat_param\w*)(\.|$)": (
        "FSDP left that there: save the model with a full state dict (FULL_STATE_DICT)"
    ),
    r"(^|\.)(lora_\w+|base_layer|modules_to_save|original_module|ia3_l|prompt_encoder)(\.|$)": (
        f"the adapter is still apart from the model: {_UNMERGED}"
    ),
    r"^(module\.|_orig_mod\.)*base_model\.model\.": f"peft left that there: {_UNMERGED}",
}
"""Names of wrappers that keep the weights apart → what to do about it."""
_EMPTY = (
    "is empty, as DeepSpeed's ZeRO-3 leaves it: gather the weights with its zero_to_fp32.py, or "
    "save with stage3_gather_16bit_weights_on_model_save"
)
_LAYER = re.compile(r"(?<![^.])(0|[1-9][0-9]{0,5})(?![^.])")
_HEAD, _EMBEDDING = "lm_head.weight", "wte.weight"

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Source:
    """One of their tensors and its place."""

    name: str
    place: Place


@dataclass(frozen=True)
class Plan:
    """Everything that is known before the first tensor is read."""

    config: ModelConfig
    """Our configuration; `tied` is what the weights are."""
    shapes: dict[str, Shape]
    """Our parameters, in the order of the file."""
    sources: dict[str, tuple[Source, ...]]
    """What each of them is made of, one behind the other; none where it is filled."""
    fills: dict[str, float]
    """The constants of those that their configuration leaves out."""
    notices: tuple[str, ...]
    """What the user should know."""


def make_plan(
    family: Family,
    config: ModelConfig,
    fills: Mapping[str, float],
    tensors: Mapping[str, Info],
    same: Callable[[str, str], bool],
) -> Plan:
    """Find a place for every tensor. Raises UserError naming what does not fit.

    same: whether two tensors hold the same numbers; asked only of an embedding and a head.
    """
    found, notices = _find_places(family, config, tensors)
    config = _decide_head(config, found, notices, same)
    shapes = {
        name: tuple(tensor.shape) for name, tensor in empty_network(config).state_dict().items()
    }
    filled = {
        name.replace("{i}", str(i)): value for name, value in fills.items() for i in _layers(config)
    }
    sources: dict[str, tuple[Source, ...]] = {}
    for name, shape in shapes.items():
        if name in filled:
            sources[name] = ()
            continue
        sources[name] = _in_order(family, name, found.get(name, {}))
        for source in sources[name]:
            _check_shape(source, shape, len(sources[name]), tensors[source.name])
    for name, parts in found.items():
        if not sources.get(name):
            stray = next(iter(parts.values()))
            raise UserError(
                f"{tensors[stray.name].file} holds {stray.name!r}, for which the network that "
                "config.json describes has no place"
            )
    kept = {name: value for name, value in filled.items() if name in shapes}
    return Plan(config, shapes, sources, kept, tuple(notices))


def canonical(family: Family, name: str) -> str:
    """Their name as the family's table has it, but with the layer's number."""
    while wrapper := next((w for w in _WRAPPERS if name.startswith(w)), None):
        name = name.removeprefix(wrapper)
    for pattern, new in family.renames:
        name = re.sub(pattern, new, name)
    prefix = next((p for p in family.prefixes if name.startswith(p)), "")
    return name.removeprefix(prefix)


def _find_places(
    family: Family, config: ModelConfig, tensors: Mapping[str, Info]
) -> tuple[dict[str, dict[int | None, Source]], list[str]]:
    """Our parameter → its parts → their tensor; and what the dropped ones give to say."""
    found: dict[str, dict[int | None, Source]] = {}
    notices: dict[str, None] = {}
    for name, info in tensors.items():
        _refuse_wrapped(name, info)
        known_as = canonical(family, name)
        layer = _LAYER.search(known_as)
        pattern = _LAYER.sub("{i}", known_as, count=1)
        if pattern not in family.places:
            raise UserError(
                f"{info.file} holds {name!r}, which is no tensor of a {family.model_type} model "
                "that convert knows"
            )
        if layer and int(layer[0]) >= config.n_layer:
            raise UserError(
                f"{info.file} holds {name!r}, but config.json says {config.n_layer} layers"
            )
        place = family.places[pattern]
        if not isinstance(place, Place):
            if place:
                notices[place] = None
            continue
        ours = place.name.replace("{i}", layer[0] if layer else "")
        parts = found.setdefault(ours, {})
        if place.part in parts:
            raise UserError(
                f"{name!r} and {parts[place.part].name!r} are the same parameter ({ours}); one of "
                "them is left over from another checkpoint"
            )
        if not info.dtype.is_floating_point or info.dtype.itemsize < 2:
            raise UserError(
                f"{name!r} in {info.file} is {str(info.dtype).removeprefix('torch.')}: quantised "
                "weights are not supported"
            )
        parts[place.part] = Source(name, place)
    return found, list(notices)


def _refuse_wrapped(name: str, info: Info) -> None:
    """Raise UserError if training left a tensor that is not yet the model's own."""
    for pattern, advice in _REFUSED.items():
        if re.search(pattern, name):
            raise UserError(f"{info.file} holds {name!r}; {advice}")
    if 0 in info.shape:
        raise UserError(f"{name!r} in {info.file} {_EMPTY}")


def _decide_head(
    config: ModelConfig,
    found: dict[str, dict[int | None, Source]],
    notices: list[str],
    same: Callable[[str, str], bool],
) -> ModelConfig:
    """Whether the output matrix is the embedding; takes it out of `found` where it is.

    Where a checkpoint says that they are one and holds two that differ, both are kept, as
    transformers 5 does.
    """
    if _HEAD not in found:
        return config
    head = found[_HEAD][None]
    if _EMBEDDING not in found:
        if not config.tied:
            return config
        found[_EMBEDDING] = found.pop(_HEAD)
        return config
    if same(found[_EMBEDDING][None].name, head.name):
        del found[_HEAD]
        return replace(config, tied=True)
    if config.tied:
        notices.append(
            f"{head.name} differs from the embedding though config.json says that they are one; "
            "both are kept"
        )
    return replace(config, tied=False)


def _layers(config: ModelConfig) -> range:
    return range(max(1, config.n_layer))


def _in_order(family: Family, name: str, parts: Mapping[int | None, Source]) -> tuple[Source, ...]:
    """The parts of a parameter. Raises UserError naming the first of their tensors that lacks."""
    layer = _LAYER.search(name)
    pattern = _LAYER.sub("{i}", name, count=1)
    wanted = {
        place.part: theirs
        for theirs, place in family.places.items()
        if isinstance(place, Place) and place.name == pattern
    }
    for part, theirs in wanted.items():
        if part not in parts:
            theirs = theirs.replace("{i}", layer[0] if layer else "")
            raise UserError(f"the checkpoint lacks {theirs!r}, without which there is no {name}")
    return tuple(parts[part] for part in wanted)


def _check_shape(source: Source, shape: Shape, n_parts: int, info: Info) -> None:
    wanted = (shape[0] // n_parts, *shape[1:])
    if shape_after(source.place, info.shape) == wanted:
        return
    hint = f" ({source.place.mismatch})" if source.place.mismatch else ""
    raise UserError(
        f"{source.name!r} in {info.file} is {_by(info.shape)}, which as {source.place.name} would "
        f"be {_by(shape_after(source.place, info.shape))}, but config.json asks for "
        f"{_by(wanted)}{hint}"
    )


def _by(shape: Shape) -> str:
    return " by ".join(map(str, shape)) or "a single number"
