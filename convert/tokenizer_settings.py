"""What a checkpoint's smaller files say about its tokenizer: special and added tokens."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken

from convert.directory import read_text
from convert.events import Notify
from convert.family import short
from gpt.errors import UserError

_END_OF_TEXT = "<|endoftext|>"
_FLAGS = ("special", "lstrip", "rstrip", "normalized", "single_word")
"""Options of an added token in tokenizer_config.json."""

Added = tuple[int, AddedToken]
"""The id of an added token, and its text and options."""


@dataclass(frozen=True)
class TokenizerSettings:
    """Contents of tokenizer_config.json, special_tokens_map.json and added_tokens.json."""

    tokenizer_config: dict[str, Any]
    bos: str
    """Token that is put before every text; empty if there is none."""
    prefix_space: bool
    """Whether a space is put before every text."""
    special: frozenset[str]
    """Special tokens."""
    decoder: dict[str, Added]
    """Added tokens by name, from added_tokens_decoder of tokenizer_config.json."""
    table: dict[str, Added]
    """Added tokens by name, from the older added_tokens.json."""

    @property
    def added(self) -> dict[str, Added]:
        """All added tokens by name."""
        return self.table | self.decoder


def read_settings(directory: Path, notify: Notify) -> TokenizerSettings:
    """Read these files. A missing one says nothing; a value of a wrong type causes a notice."""
    config = _optional_json(directory, "tokenizer_config.json", notify)
    special_map = _optional_json(directory, "special_tokens_map.json", notify)
    values = [
        value for table in (config, special_map) for key, value in table.items() if "_token" in key
    ]
    values += [item for value in values for item in as_list(value)]
    special = frozenset({_END_OF_TEXT} | {_content(value) for value in values})
    bos = _content(config.get("bos_token", special_map.get("bos_token", _END_OF_TEXT)))
    return TokenizerSettings(
        config,
        bos if _flag(config, "add_bos_token", notify) else "",
        _flag(config, "add_prefix_space", notify),
        special,
        decoder=_from_decoder(config, notify),
        table=_from_table(_optional_json(directory, "added_tokens.json", notify), special, notify),
    )


def _flag(config: dict[str, Any], name: str, notify: Notify) -> bool:
    value = config.get(name)
    if value is not None and not isinstance(value, bool):
        notify(f"{name} in tokenizer_config.json is {short(value)}, not true or false; ignored")
    return value is True


def _from_table(table: dict[str, Any], special: frozenset[str], notify: Notify) -> dict[str, Added]:
    """The tokens in added_tokens.json."""
    found: dict[str, Added] = {}
    for name, i in table.items():
        if type(i) is int and 0 <= i < 2**31 and name:
            is_special = name in special
            found[name] = (i, AddedToken(name, special=is_special, normalized=not is_special))
        else:
            notify(f"added_tokens.json says that {short(name)} is {short(i)}; ignored")
    return found


def _from_decoder(config: dict[str, Any], notify: Notify) -> dict[str, Added]:
    """The tokens in added_tokens_decoder of tokenizer_config.json."""
    found: dict[str, Added] = {}
    decoder = config.get("added_tokens_decoder")
    if decoder is not None and not isinstance(decoder, dict):
        notify(f"added_tokens_decoder in tokenizer_config.json is {short(decoder)}; ignored")
    for i, token in decoder.items() if isinstance(decoder, dict) else ():
        name = _content(token)
        if not (re.fullmatch("[0-9]{1,10}", i) and int(i) < 2**31 and name):
            notify(f"added_tokens_decoder says that {short(i)} is {short(token)}; ignored")
            continue
        values = token if isinstance(token, dict) else {}
        flags = {flag: values.get(flag) is True for flag in _FLAGS}
        found[name] = (int(i), AddedToken(name, **flags))
    return found


def _optional_json(directory: Path, name: str, notify: Notify) -> dict[str, Any]:
    text = read_text(directory, name)
    try:
        values = json.loads("{}" if text is None else text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"cannot read {directory / name}: {error}") from error
    if not isinstance(values, dict):
        notify(f"{name} is not a table of settings; ignored")
        return {}
    return values


def _content(token: Any) -> str:
    """The text of a token that is given as a text, or as a table with its content."""
    value = token.get("content") if isinstance(token, dict) else token
    return value if isinstance(value, str) else ""


def as_list(value: Any) -> list[Any]:
    """The value if it is a list, else an empty list."""
    return value if isinstance(value, list) else []
