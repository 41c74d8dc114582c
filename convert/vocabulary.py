"""Reads the tokenizer of a transformers checkpoint, without code of transformers.

Byte-pair tokenizers of GPT-2's kind become tiktoken encodings if that changes no token; all others
use the `tokenizers` library.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as LibraryTokenizer

from convert.directory import read_text
from convert.events import Notify
from convert.family import short
from gpt.errors import UserError
from gpt.tokenizer import BPETokenizer, Tokenizer
from gpt.tokenizer_files import read_merges
from gpt.tokenizer_json import JsonTokenizer

Merges = list[tuple[str, str]]


_END_OF_TEXT = "<|endoftext|>"
_FLAGS = ("special", "lstrip", "rstrip", "normalized", "single_word")
"""Options of an added token in tokenizer_config.json."""


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer and what its files say about special tokens."""

    tokenizer: Tokenizer
    ordinary_size: int
    """One more than the highest id that encoding a text can return."""
    bos_id: int | None
    """Id that the tokenizer puts before every text, if any."""
    tokenizer_config: dict[str, Any]
    """Contents of tokenizer_config.json."""


def _ignore(text: str) -> None:
    """Drop a notice."""


def read_vocabulary(directory: Path, notify: Notify = _ignore) -> Vocabulary:
    """The tokenizer of a checkpoint. Settings of a wrong type cause notices."""
    settings = _read_settings(directory, notify)
    text = read_text(directory, "tokenizer.json")
    if text is not None:
        try:
            return _from_json(text, settings)
        except UserError as error:
            raise UserError(f"{directory}: {str(error)[:500]}") from error
    vocab, merges = read_text(directory, "vocab.json"), read_text(directory, "merges.txt")
    if vocab is None or merges is None:
        similar = sorted(
            p.name for p in directory.iterdir() if "vocab" in p.name or "token" in p.name
        )
        raise UserError(
            f"{directory} has no tokenizer that convert can read: it needs tokenizer.json, or "
            f"vocab.json and merges.txt, and has {', '.join(similar) or 'neither'}; "
            "AutoTokenizer.from_pretrained(…).save_pretrained(…) of transformers writes a "
            "tokenizer.json"
        )
    try:
        return _from_pairs(_parse_vocab(vocab), read_merges(merges), settings, notify)
    except UserError as error:
        reason = str(error)[:500]  # it may quote a damaged file at any length
        raise UserError(f"the tokenizer in {directory} cannot be used: {reason}") from error


@dataclass(frozen=True)
class _Settings:
    """Contents of tokenizer_config.json, special_tokens_map.json and added_tokens.json."""

    tokenizer_config: dict[str, Any]
    bos: str
    """Token that is put before every text; empty if there is none."""
    prefix_space: bool
    """Whether a space is put before every text."""
    special: frozenset[str]
    """Special tokens."""
    added: dict[str, tuple[int, AddedToken]]
    """Added token → its id and its options."""


def _read_settings(directory: Path, notify: Notify) -> _Settings:
    config = _optional_json(directory, "tokenizer_config.json", notify)
    special_map = _optional_json(directory, "special_tokens_map.json", notify)
    values = [
        value for table in (config, special_map) for key, value in table.items() if "_token" in key
    ]
    values += [item for value in values for item in _as_list(value)]
    special = frozenset({_END_OF_TEXT} | {_content(value) for value in values})
    bos = _content(config.get("bos_token", special_map.get("bos_token", _END_OF_TEXT)))
    return _Settings(
        config,
        bos if _flag(config, "add_bos_token", notify) else "",
        _flag(config, "add_prefix_space", notify),
        special,
        _added_tokens(
            _optional_json(directory, "added_tokens.json", notify), config, special, notify
        ),
    )


def _flag(config: dict[str, Any], name: str, notify: Notify) -> bool:
    value = config.get(name)
    if value is not None and not isinstance(value, bool):
        notify(f"{name} in tokenizer_config.json is {short(value)}, not true or false; ignored")
    return value is True


def _added_tokens(
    table: dict[str, Any], config: dict[str, Any], special: frozenset[str], notify: Notify
) -> dict[str, tuple[int, AddedToken]]:
    """The tokens in added_tokens.json (table) and in the newer added_tokens_decoder (config)."""
    found: dict[str, tuple[int, AddedToken]] = {}
    for name, i in table.items():
        if type(i) is int and 0 <= i < 2**31 and name:
            is_special = name in special
            found[name] = (i, AddedToken(name, special=is_special, normalized=not is_special))
        else:
            notify(f"added_tokens.json says that {short(name)} is {short(i)}; ignored")
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


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _from_json(text: str, settings: _Settings) -> Vocabulary:
    library = JsonTokenizer(text)
    values = json.loads(text)
    # As in transformers 5, a tokenizer.json overrides tokenizer_config.json.
    bos_id = _bos_id_of(values.get("post_processor"))
    pairs = _gpt2_pairs(values)
    if pairs is not None:
        vocab, merges = pairs
        special = {t["content"]: t["id"] for t in values.get("added_tokens") or []}
        if found := _as_tiktoken(vocab | special, merges):
            return Vocabulary(found, max(found.ordinary_ids) + 1, bos_id, settings.tokenizer_config)
    return Vocabulary(library, library.ordinary_size, bos_id, settings.tokenizer_config)


def _bos_id_of(processor: Any) -> int | None:
    """Id of the special token that a post-processor puts before every text, if any."""
    if not isinstance(processor, dict):
        return None
    kind = processor.get("type")
    if kind == "Sequence":
        ids = map(_bos_id_of, _as_list(processor.get("processors")))
        return next((i for i in ids if i is not None), None)
    if kind == "TemplateProcessing":
        first: dict[str, Any] = next(iter(_as_list(processor.get("single"))), {})
        name = first.get("SpecialToken", {}).get("id")
        return int(processor["special_tokens"][name]["ids"][0]) if name else None
    if kind in ("RobertaProcessing", "BertProcessing"):
        return int(processor["cls"][1])
    return None


def _gpt2_pairs(values: dict[str, Any]) -> tuple[dict[str, int], Merges] | None:
    """Vocabulary and merges of a tokenizer.json of GPT-2's kind; None for any other kind."""
    model, splitter = values["model"], values.get("pre_tokenizer") or {}
    is_gpt2_kind = (
        model.get("type") == "BPE"
        and not any(
            model.get(option)
            for option in (
                "dropout",
                "continuing_subword_prefix",
                "end_of_word_suffix",
                "byte_fallback",
                "ignore_merges",
            )
        )
        and not values.get("normalizer")
        and splitter.get("type") == "ByteLevel"
        and splitter.get("add_prefix_space") is False
        and splitter.get("use_regex", True) is True
        and (values.get("decoder") or {}).get("type") == "ByteLevel"
        and all(token.get("special") for token in values.get("added_tokens") or [])
    )
    if not is_gpt2_kind:
        return None
    # Merges are lines as in merges.txt, or lists.
    pairs = (m.split(" ") if isinstance(m, str) else m for m in model["merges"])
    merges = [(a, b) for a, b in pairs]
    return model["vocab"], merges


def _from_pairs(
    vocab: dict[str, int], merges: Merges, settings: _Settings, notify: Notify
) -> Vocabulary:
    added = {name: i for name, (i, _) in settings.added.items()}
    bos_id = (vocab | added).get(settings.bos)
    if settings.bos and bos_id is None:
        notify(f"the vocabulary lacks bos_token {short(settings.bos)}; ignored")
    # tiktoken cannot find an ordinary added token in a text, because no merge makes it.
    only_special = all(token.special for _, token in settings.added.values())
    found = _as_tiktoken(vocab | added, merges) if only_special else None
    if found and not settings.prefix_space:
        return Vocabulary(found, max(found.ordinary_ids) + 1, bos_id, settings.tokenizer_config)
    library = JsonTokenizer(_as_json(vocab, merges, settings))
    return Vocabulary(library, library.ordinary_size, bos_id, settings.tokenizer_config)


def _as_tiktoken(vocab: dict[str, int], merges: Merges) -> BPETokenizer | None:
    """A tokenizer in tiktoken; None if it would split texts differently."""
    try:
        found = BPETokenizer(vocab, merges)
    except UserError:
        return None
    return found if is_canonical(merges) else None


def is_canonical(merges: Merges) -> bool:
    """Whether tiktoken, which ranks only joined tokens, merges as this list of pairs does.

    For every pair (a, b), merging the characters of a + b by the earlier pairs must end in
    exactly a and b.
    """
    rank = {a + b: i for i, (a, b) in enumerate(merges)}
    if len(rank) != len(merges):
        return False
    for i, (a, b) in enumerate(merges):
        parts = list(a + b)
        while len(parts) > 2:
            ranks = [rank.get(x + y, i) for x, y in pairwise(parts)]
            lowest = min(ranks)
            if lowest >= i:
                break
            at = ranks.index(lowest)
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        if parts != [a, b]:
            return False
    return True


def _as_json(vocab: dict[str, int], merges: Merges, settings: _Settings) -> str:
    """A tokenizer.json for a vocab.json and a merges.txt, as transformers would write it."""
    try:
        tokenizer = LibraryTokenizer(models.BPE(vocab=vocab, merges=merges))
    except Exception as error:  # the library raises nothing more specific
        raise UserError(str(error)) from error
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=settings.prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    added = dict(settings.added)
    for name in settings.special & vocab.keys():
        added.setdefault(name, (vocab[name], AddedToken(name, special=True, normalized=False)))
    for i, token in sorted(added.values(), key=lambda item: item[0]):
        (tokenizer.add_special_tokens if token.special else tokenizer.add_tokens)([token])
        if tokenizer.token_to_id(token.content) != i:
            raise UserError(f"the added token {token.content!r} cannot have the id {i}")
    return tokenizer.to_str()


def _parse_vocab(text: str) -> dict[str, int]:
    try:
        vocab = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"vocab.json is not valid JSON: {error}") from error
    if not isinstance(vocab, dict) or not all(
        type(i) is int and 0 <= i < 2**31 for i in vocab.values()
    ):
        raise UserError("vocab.json is not a table of tokens and ids")
    return vocab
