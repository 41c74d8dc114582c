"""Reads the tokenizer of a transformers checkpoint, without code of transformers.

Byte-pair tokenizers of GPT-2's kind become tiktoken encodings if that changes no token; all others
use the `tokenizers` library.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as LibraryTokenizer

from convert.directory import read_text
from convert.events import Notify
from convert.family import short
from convert.tokenizer_settings import Added, TokenizerSettings, as_list, read_settings
from gpt.errors import UserError
from gpt.tokenizer import BPETokenizer, Tokenizer
from gpt.tokenizer_files import read_merges
from gpt.tokenizer_json import JsonTokenizer

Merges = list[tuple[str, str]]


_OTHER_RULES = ("Qwen2Tokenizer", "Qwen2TokenizerFast", "GPTNeoXTokenizer", "GPTNeoXTokenizerFast")
"""Classes of transformers whose vocab.json and merges.txt do not have GPT-2's rule."""
_HOW_TO_WRITE_JSON = (
    "AutoTokenizer.from_pretrained(…).save_pretrained(…) of transformers writes a tokenizer.json"
)


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
    settings = read_settings(directory, notify)
    text = read_text(directory, "tokenizer.json")
    if text is not None:
        try:
            return _from_json(text, settings, notify)
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
            + _HOW_TO_WRITE_JSON
        )
    if (kind := settings.tokenizer_config.get("tokenizer_class")) in _OTHER_RULES:
        raise UserError(
            f"{directory} has vocab.json and merges.txt, but {kind} cuts texts by a rule that only "
            f"tokenizer.json holds; {_HOW_TO_WRITE_JSON}"
        )
    try:
        return _from_pairs(_parse_vocab(vocab), read_merges(merges), settings, notify)
    except UserError as error:
        reason = str(error)[:500]  # it may quote a damaged file at any length
        raise UserError(f"the tokenizer in {directory} cannot be used: {reason}") from error


def _from_json(text: str, settings: TokenizerSettings, notify: Notify) -> Vocabulary:
    library = JsonTokenizer(text)
    if missing := _not_yet_added(library, settings):
        text = _with_added(text, missing, notify)
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


def _not_yet_added(library: JsonTokenizer, settings: TokenizerSettings) -> list[Added]:
    """Added tokens of tokenizer_config.json that tokenizer.json does not have, or not as special.

    transformers adds them, too.
    """
    known = library.added_tokens
    missing = [
        (i, token)
        for name, (i, token) in settings.decoder.items()
        if name not in known or (token.special and library.token_bytes(known[name]))
    ]
    return sorted(missing, key=lambda added: added[0])


def _with_added(text: str, tokens: list[Added], notify: Notify) -> str:
    """A tokenizer.json with more added tokens. One whose id would be another is left out."""
    tokenizer = LibraryTokenizer.from_str(text)
    for i, token in tokens:
        next_id = tokenizer.get_vocab_size(with_added_tokens=True)
        known = tokenizer.token_to_id(token.content)
        if (next_id if known is None else known) != i:
            notify(f"the added token {short(token.content)} cannot have the id {i}; ignored")
            continue
        (tokenizer.add_special_tokens if token.special else tokenizer.add_tokens)([token])
    return tokenizer.to_str()


def _bos_id_of(processor: Any) -> int | None:
    """Id of the special token that a post-processor puts before every text, if any."""
    if not isinstance(processor, dict):
        return None
    kind = processor.get("type")
    if kind == "Sequence":
        ids = map(_bos_id_of, as_list(processor.get("processors")))
        return next((i for i in ids if i is not None), None)
    if kind == "TemplateProcessing":
        first: dict[str, Any] = next(iter(as_list(processor.get("single"))), {})
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
    vocab: dict[str, int], merges: Merges, settings: TokenizerSettings, notify: Notify
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


def _as_json(vocab: dict[str, int], merges: Merges, settings: TokenizerSettings) -> str:
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
