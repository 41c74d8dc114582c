"""The tokenizer that lies beside somebody else's weights, as one of ours.

It knows the files of transformers and none of its code: tiktoken where the byte pairs are
GPT-2's kind and canonical, the `tokenizers` library for everything else.
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
from convert.family import short
from convert.generation import Note
from gpt.errors import UserError
from gpt.tokenizer import BPETokenizer, Tokenizer, read_merges
from gpt.tokenizer_json import JsonTokenizer

Merges = list[tuple[str, str]]


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer, and what its files say of the token in front of a text."""

    tokenizer: Tokenizer
    ordinary_size: int
    """One more than the highest id that a text can become."""
    bos: int | None
    """The token that it puts in front of a text, if any."""
    config: dict[str, Any]
    """What tokenizer_config.json says."""


def _quiet(text: str) -> None:
    """Tell nobody."""


def read_vocabulary(directory: Path, note: Note = _quiet) -> Vocabulary:
    """The tokenizer of a checkpoint. Raises UserError where there is none that we can read.

    note: gets what the user should know, of settings that have values of a wrong kind.
    """
    settings = _settings(directory, note)
    text = read_text(directory, "tokenizer.json")
    if text is not None:
        try:
            return _from_json(text, settings)
        except UserError as error:
            raise UserError(f"{directory}: {str(error)[:500]}") from error
    vocab, merges = read_text(directory, "vocab.json"), read_text(directory, "merges.txt")
    if vocab is None or merges is None:
        there = sorted(
            p.name for p in directory.iterdir() if "vocab" in p.name or "token" in p.name
        )
        raise UserError(
            f"{directory} holds no tokenizer that convert reads (tokenizer.json, or vocab.json and "
            f"merges.txt; there is: {', '.join(there) or 'none'}); AutoTokenizer.from_pretrained(…)"
            ".save_pretrained(…) of transformers writes a tokenizer.json"
        )
    try:
        return _from_pairs(_parse_vocab(vocab), read_merges(merges), settings, note)
    except UserError as error:
        reason = str(error)[:500]  # a damaged file may be quoted at any length
        raise UserError(f"the tokenizer in {directory} cannot be used: {reason}") from error


@dataclass(frozen=True)
class _Settings:
    """What tokenizer_config.json and its neighbours say."""

    config: dict[str, Any]
    """tokenizer_config.json."""
    bos: str
    """The name of the token in front of a text; empty where there is none."""
    prefix_space: bool
    special: frozenset[str]
    """Names of special tokens."""
    added: dict[str, tuple[int, AddedToken]]
    """Token → its id and how it is found in a text."""


def _settings(directory: Path, note: Note) -> _Settings:
    config = _optional_json(directory, "tokenizer_config.json", note)
    named = _optional_json(directory, "special_tokens_map.json", note)
    tokens = [value for table in (config, named) for key, value in table.items() if "_token" in key]
    tokens += [token for value in tokens for token in (value if isinstance(value, list) else [])]
    special = frozenset({_END} | {_content(token) for token in tokens})
    bos = _content(config.get("bos_token", named.get("bos_token", _END)))
    return _Settings(
        config,
        bos if _flag(config, "add_bos_token", note) else "",
        _flag(config, "add_prefix_space", note),
        special,
        _added_tokens(_optional_json(directory, "added_tokens.json", note), config, special, note),
    )


_END = "<|endoftext|>"
_FLAGS = ("special", "lstrip", "rstrip", "normalized", "single_word")


def _flag(config: dict[str, Any], name: str, note: Note) -> bool:
    value = config.get(name)
    if value is not None and not isinstance(value, bool):
        note(f"{name} in tokenizer_config.json is {short(value)}, not true or false; ignored")
    return value is True


def _added_tokens(
    table: dict[str, Any], config: dict[str, Any], special: frozenset[str], note: Note
) -> dict[str, tuple[int, AddedToken]]:
    """The tokens of added_tokens.json and of the newer added_tokens_decoder."""
    found: dict[str, tuple[int, AddedToken]] = {}
    for name, i in table.items():
        if type(i) is int and 0 <= i < 2**31 and name:
            is_special = name in special
            found[name] = (i, AddedToken(name, special=is_special, normalized=not is_special))
        else:
            note(f"added_tokens.json says that {short(name)} is {short(i)}; ignored")
    decoder = config.get("added_tokens_decoder")
    if decoder is not None and not isinstance(decoder, dict):
        note(f"added_tokens_decoder in tokenizer_config.json is {short(decoder)}; ignored")
    for i, token in decoder.items() if isinstance(decoder, dict) else ():
        name = _content(token)
        if not (re.fullmatch("[0-9]{1,10}", i) and int(i) < 2**31 and name):
            note(f"added_tokens_decoder says that {short(i)} is {short(token)}; ignored")
            continue
        values = token if isinstance(token, dict) else {}
        flags = {flag: values.get(flag) is True for flag in _FLAGS}
        found[name] = (int(i), AddedToken(name, **flags))
    return found


def _optional_json(directory: Path, name: str, note: Note) -> dict[str, Any]:
    text = read_text(directory, name)
    try:
        values = json.loads("{}" if text is None else text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"cannot read {directory / name}: {error}") from error
    if not isinstance(values, dict):
        note(f"{name} holds no table; ignored")
        return {}
    return values


def _content(token: Any) -> str:
    """special_tokens_map.json has texts, or tables with a text."""
    value = token.get("content") if isinstance(token, dict) else token
    return value if isinstance(value, str) else ""


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _from_json(text: str, settings: _Settings) -> Vocabulary:
    library = JsonTokenizer(text)
    values = json.loads(text)
    # As transformers 5 does it: tokenizer_config.json has no say beside a tokenizer.json.
    bos = _bos_of_template(values.get("post_processor"))
    pairs = _gpt2_pairs(values)
    if pairs is not None:
        vocab, merges = pairs
        special = {t["content"]: t["id"] for t in values.get("added_tokens") or []}
        if found := _through_tiktoken(vocab | special, merges):
            return Vocabulary(found, max(found.ordinary_ids) + 1, bos, settings.config)
    return Vocabulary(library, library.ordinary_size, bos, settings.config)


def _bos_of_template(processor: Any) -> int | None:
    """The special token with which a post-processor begins a text, if it does."""
    if not isinstance(processor, dict):
        return None
    kind = processor.get("type")
    if kind == "Sequence":
        found = map(_bos_of_template, _as_list(processor.get("processors")))
        return next((bos for bos in found if bos is not None), None)
    if kind == "TemplateProcessing":
        first: dict[str, Any] = next(iter(_as_list(processor.get("single"))), {})
        name = first.get("SpecialToken", {}).get("id")
        return int(processor["special_tokens"][name]["ids"][0]) if name else None
    if kind in ("RobertaProcessing", "BertProcessing"):
        return int(processor["cls"][1])
    return None


def _gpt2_pairs(values: dict[str, Any]) -> tuple[dict[str, int], Merges] | None:
    """Vocabulary and merges of a tokenizer.json that is of GPT-2's kind; None where it is not."""
    model, cutter = values["model"], values.get("pre_tokenizer") or {}
    plain = (
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
        and cutter.get("type") == "ByteLevel"
        and cutter.get("add_prefix_space") is False
        and cutter.get("use_regex", True) is True
        and (values.get("decoder") or {}).get("type") == "ByteLevel"
        and all(token.get("special") for token in values.get("added_tokens") or [])
    )
    if not plain:
        return None
    # As lines of merges.txt, or as lists.
    pairs = (m.split(" ") if isinstance(m, str) else m for m in model["merges"])
    merges = [(a, b) for a, b in pairs]
    return model["vocab"], merges


def _from_pairs(
    vocab: dict[str, int], merges: Merges, settings: _Settings, note: Note
) -> Vocabulary:
    added = {name: i for name, (i, _) in settings.added.items()}
    bos = (vocab | added).get(settings.bos)
    if settings.bos and bos is None:
        note(f"the vocabulary lacks {short(settings.bos)}, the token in front of a text; ignored")
    # A token that is found in texts although no merge makes it: tiktoken has none of that kind.
    plain = all(token.special for _, token in settings.added.values())
    found = _through_tiktoken(vocab | added, merges) if plain else None
    if found and not settings.prefix_space:
        return Vocabulary(found, max(found.ordinary_ids) + 1, bos, settings.config)
    library = JsonTokenizer(_as_json(vocab, merges, settings))
    return Vocabulary(library, library.ordinary_size, bos, settings.config)


def _through_tiktoken(vocab: dict[str, int], merges: Merges) -> BPETokenizer | None:
    """GPT-2's own kind of tokenizer; None where tiktoken would cut other tokens."""
    try:
        found = BPETokenizer(vocab, merges)
    except UserError:
        return None
    return found if is_canonical(merges) else None


def is_canonical(merges: Merges) -> bool:
    """Whether tiktoken, which knows only ranks of tokens, merges like a list of pairs does.

    For each pair (a, b): merging the bytes of a + b by the pairs before it must end in
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
    """A tokenizer.json of the same files, as transformers builds one."""
    try:
        tokenizer = LibraryTokenizer(models.BPE(vocab=vocab, merges=merges))
    except Exception as error:  # the library raises nothing more precise
        raise UserError(str(error)) from error
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=settings.prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    found = dict(settings.added)
    for name in settings.special & vocab.keys():
        found.setdefault(name, (vocab[name], AddedToken(name, special=True, normalized=False)))
    for i, token in sorted(found.values(), key=lambda item: item[0]):
        (tokenizer.add_special_tokens if token.special else tokenizer.add_tokens)([token])
        if tokenizer.token_to_id(token.content) != i:
            raise UserError(f"the added token {token.content!r} cannot have the id {i}")
    return tokenizer.to_str()


def _parse_vocab(text: str) -> dict[str, int]:
    try:
        vocab = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"vocab.json is no JSON: {error}") from error
    if not isinstance(vocab, dict) or not all(
        type(i) is int and 0 <= i < 2**31 for i in vocab.values()
    ):
        raise UserError("vocab.json is no table of tokens and ids")
    return vocab
