"""The generation settings of a checkpoint, read as `generate` of transformers reads them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert.directory import CONFIG, GENERATION, read_text
from convert.events import Notify
from convert.family import short

_SUPPORTED: dict[str, tuple[Any, ...]] = {
    "temperature": (1,),
    "top_k": (0,),
    "top_p": (1,),
    "min_p": (0,),
    "typical_p": (1,),
    "repetition_penalty": (1,),
    "bad_words_ids": ([],),
    "suppress_tokens": ([],),
    "stop_strings": ([], ""),
}
"""Settings that this program has → values without effect, besides None."""
_UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "epsilon_cutoff": (0,),
    "eta_cutoff": (0,),
    "top_h": (),
    "no_repeat_ngram_size": (0,),
    "sequence_bias": ([], {}),
    "begin_suppress_tokens": ([],),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "exponential_decay_length_penalty": (),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "num_beams": (1,),
    "penalty_alpha": (0,),
    "guidance_scale": (1,),
    "token_healing": (False,),
    "watermarking_config": (),
}
"""Settings that this program does not have → values without effect, besides None."""
_ONLY_IF_SAMPLED = {
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "epsilon_cutoff",
    "eta_cutoff",
    "top_h",
}


@dataclass(frozen=True)
class SpecialTokens:
    """Ids of the tokens that end or pad a text."""

    eos: tuple[int, ...]
    """Ids that end a text."""
    pad: int | None
    """Id of the padding token."""


def read_special_tokens(
    directory: Path,
    config: Mapping[str, Any],
    defaults: Mapping[str, int],
    vocab_size: int,
    notify: Notify,
) -> SpecialTokens:
    """Read the ids from generation_config.json, or from config.json if there is no such file.

    config: the contents of config.json. defaults: the family's ids, for configurations that do
    not set them. Other settings that change a text cause a notice.
    """
    values = _generation_config(directory, notify)
    origin = GENERATION
    if values is None:
        values, origin = {**defaults, **config}, CONFIG
    pad = values.get("pad_token_id", config.get("pad_token_id", defaults.get("pad_token_id")))
    _notify_of_settings(values, origin, notify)
    return SpecialTokens(
        valid_token_ids("eos_token_id", values.get("eos_token_id"), vocab_size, notify),
        next(iter(valid_token_ids("pad_token_id", pad, vocab_size, notify)), None),
    )


def valid_token_ids(name: str, value: Any, vocab_size: int, notify: Notify) -> tuple[int, ...]:
    """The ids in a value that is an id, a list of ids or null. Anything else causes a notice."""
    valid, invalid = [], []
    for each in value if isinstance(value, list) else [value]:
        if type(each) is int and 0 <= each < vocab_size:
            valid.append(each)
        elif each is not None:
            invalid.append(each)
    if invalid and type(invalid[0]) is int:
        notify(f"{name} {short(invalid[0])} is outside the vocabulary of {vocab_size}; ignored")
    elif invalid:
        notify(f"{name} is {short(invalid[0])}, which is not a token id; ignored")
    return tuple(dict.fromkeys(valid))


def _generation_config(directory: Path, notify: Notify) -> dict[str, Any] | None:
    text = read_text(directory, GENERATION)
    if text is None:
        return None
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        notify(f"{GENERATION} cannot be read ({error}); ignored")
        return None
    if not isinstance(values, dict):
        notify(f"{GENERATION} is not a table of settings; ignored")
        return None
    return values


def _notify_of_settings(values: Mapping[str, Any], origin: str, notify: Notify) -> None:
    samples = values.get("do_sample") is True

    def effective(table: Mapping[str, tuple[Any, ...]]) -> Iterator[str]:
        for name, neutral in table.items():
            value = values.get(name)
            if value is None or value in neutral or (name in _ONLY_IF_SAMPLED and not samples):
                continue
            yield f"{name} {short(value)}"

    if found := ", ".join(effective(_SUPPORTED)):
        notify(
            f"{origin} sets {found}; a converted model does not keep such settings, so set them "
            "when you generate"
        )
    if found := ", ".join(effective(_UNSUPPORTED)):
        notify(f"{origin} sets {found}, which this program does not support")
