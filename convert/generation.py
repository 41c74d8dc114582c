"""What a checkpoint says of drawing a text, read as transformers' `generate` reads it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert.directory import CONFIG, GENERATION, read_text
from convert.family import short

Note = Callable[[str], object]
"""Gets what the user should know."""

# Each with the values that change nothing; None never does.
_OURS: dict[str, tuple[Any, ...]] = {
    "temperature": (1,),
    "top_k": (0,),
    "top_p": (1,),
    "min_p": (0,),
    "repetition_penalty": (1,),
    "bad_words_ids": ([],),
    "suppress_tokens": ([],),
    "stop_strings": ([], ""),
}
_NOT_OURS: dict[str, tuple[Any, ...]] = {
    "typical_p": (1,),
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
class Generation:
    """How texts of a model end."""

    eos: tuple[int, ...]
    """Tokens that end a text."""
    pad: int | None
    """The token without meaning."""


def read_generation(
    directory: Path,
    config: Mapping[str, Any],
    defaults: Mapping[str, int],
    vocab_size: int,
    note: Note,
) -> Generation:
    """The special tokens of a checkpoint's generation_config.json, or of its config.json if it has
    none. Of all other settings in it the user is told.

    defaults: the family's ids, for a config.json that does not name them.
    """
    values = _generation_config(directory, note)
    where = GENERATION
    if values is None:
        values, where = {**defaults, **config}, CONFIG
    pad = values.get("pad_token_id", config.get("pad_token_id", defaults.get("pad_token_id")))
    _tell_of_settings(values, where, note)
    return Generation(
        token_ids("eos_token_id", values.get("eos_token_id"), vocab_size, note),
        next(iter(token_ids("pad_token_id", pad, vocab_size, note)), None),
    )


def token_ids(name: str, value: Any, vocab_size: int, note: Note) -> tuple[int, ...]:
    """The ids in a value that is an id, a list of ids or null. What else there is gets a notice."""
    found, wrong = [], []
    for each in value if isinstance(value, list) else [value]:
        if type(each) is int and 0 <= each < vocab_size:
            found.append(each)
        elif each is not None:
            wrong.append(each)
    if wrong and type(wrong[0]) is int:
        note(f"{name} {short(wrong[0])} is outside the vocabulary of {vocab_size}; ignored")
    elif wrong:
        note(f"{name} is {short(wrong[0])}, which is not the id of a token; ignored")
    return tuple(dict.fromkeys(found))


def _generation_config(directory: Path, note: Note) -> dict[str, Any] | None:
    text = read_text(directory, GENERATION)
    if text is None:
        return None
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        note(f"{GENERATION} cannot be read ({error}); ignored")
        return None
    if not isinstance(values, dict):
        note(f"{GENERATION} holds no table of settings; ignored")
        return None
    return values


def _tell_of_settings(values: Mapping[str, Any], where: str, note: Note) -> None:
    sampled = values.get("do_sample") is True

    def asked(table: Mapping[str, tuple[Any, ...]]) -> Iterator[str]:
        for name, neutral in table.items():
            value = values.get(name)
            if value is None or value in neutral or (name in _ONLY_IF_SAMPLED and not sampled):
                continue
            yield f"{name} {short(value)}"

    if found := ", ".join(asked(_OURS)):
        note(f"{where} asks for {found}: set that when you draw, for the model does not carry it")
    if found := ", ".join(asked(_NOT_OURS)):
        note(f"{where} asks for {found}, which this program does not do")
