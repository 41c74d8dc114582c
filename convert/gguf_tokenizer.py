"""The tokenizer in a GGUF file, as a tokenizer.json.

llama.cpp's name of a pre-tokenizer stands for a rule that is not in the file: here is the rule that
the model was trained with, as its own tokenizer.json writes it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from convert.family import short
from convert.gguf_header import Header
from gpt.errors import UserError

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = range(1, 7)
"""What llama.cpp calls the types of tokens."""
_PREFIX = "tokenizer.ggml."
_BLANK = "▁"


@dataclass(frozen=True)
class _Rule:
    """How a text is cut before merging."""

    splitters: tuple[dict[str, Any], ...]
    """Pre-tokenizers of the `tokenizers` library."""
    ignore_merges: bool = False
    """Whether a piece that is a token as a whole is that token, whatever the merges say."""
    nfc: bool = False
    """Whether a text is normalised first (Unicode's form C)."""


def read_tokenizer(header: Header) -> dict[str, Any]:
    """The contents of a tokenizer.json. Kinds and pre-tokenizers without a rule are refused."""
    kind = header.metadata.get(f"{_PREFIX}model")
    tokens = _Tokens(header)
    if kind == "gpt2":
        values = _byte_level(header, tokens)
    elif kind == "llama":
        values = _sentence_piece(header, tokens)
    else:
        raise UserError(
            f"the tokenizer in {header.path} is of the kind {short(kind)}; convert reads gpt2 "
            "(byte pairs) and llama (SentencePiece)"
        )
    add_bos = _flag(header, "add_bos_token", kind == "llama" or values["model"]["ignore_merges"])
    bos = tokens.special("bos_token_id")
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": tokens.added(),
        **values,
        "post_processor": _put_first(*bos) if add_bos and bos else None,
    }


def read_settings(header: Header) -> tuple[dict[str, Any], dict[str, Any]]:
    """The contents of tokenizer_config.json and of generation_config.json."""
    tokens = _Tokens(header)
    names = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    found = {name: tokens.special(f"{theirs}_token_id") for name, theirs in names.items()}
    config = {f"{name}_token": token[0] for name, token in found.items() if token}
    ends = [tokens.special(f"{name}_token_id") for name in ("eos", "eot", "eom")]
    generation: dict[str, Any] = {"eos_token_id": list(dict.fromkeys(e[1] for e in ends if e))}
    for name in ("bos", "pad"):
        if token := found[name]:
            generation[f"{name}_token_id"] = token[1]
    return config, generation


class _Tokens:
    """The tokens of a file, checked."""

    def __init__(self, header: Header) -> None:
        self.path = header.path
        self._metadata = header.metadata
        self.texts: list[str] = _list(header, "tokens", str)
        n = len(self.texts)
        self.types: list[int] = _list(header, "token_type", int, [_NORMAL] * n)
        if len(self.types) != n:
            raise UserError(f"{self.path} has {n} tokens, but types for {len(self.types)}")
        self.vocab: dict[str, int] = {}
        """Token → id, without empty and unused ones, which no text can become."""
        for i, (text, kind) in enumerate(zip(self.texts, self.types, strict=True)):
            if not text or kind == _UNUSED:
                continue
            if text in self.vocab:
                raise UserError(
                    f"the tokens {self.vocab[text]} and {i} in {self.path} are both "
                    f"{short(text)}; get another GGUF file of the model"
                )
            self.vocab[text] = i

    def special(self, key: str) -> tuple[str, int] | None:
        """A token that the metadata name by its id; None if they name none that exists."""
        i = self._metadata.get(f"{_PREFIX}{key}")
        if type(i) is not int or not 0 <= i < len(self.texts) or self.texts[i] not in self.vocab:
            return None
        return self.texts[i], i

    def added(self) -> list[dict[str, Any]]:
        """Tokens that are found in a text before it is cut: all others are made by merging."""
        return [
            {
                "id": i,
                "content": text,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": self.types[i] != _USER_DEFINED,
            }
            for text, i in self.vocab.items()
            if self.types[i] in (_UNKNOWN, _CONTROL, _USER_DEFINED)
        ]


def _byte_level(header: Header, tokens: _Tokens) -> dict[str, Any]:
    """Byte pairs in GPT-2's alphabet."""
    name = header.metadata.get(f"{_PREFIX}pre")
    if not isinstance(name, str) or name not in _RULES:
        raise UserError(
            f"the tokenizer in {header.path} cuts texts by the rule {short(name)}, which convert "
            f"does not know; it knows {', '.join(_RULES)}"
        )
    rule = _RULES[name]
    merges = []
    for text in _list(header, "merges", str):
        left, _, right = text[1:].partition(" ")  # a space may be the first character
        merges.append([text[:1] + left, right])
    return {
        "normalizer": {"type": "NFC"} if rule.nfc else None,
        "pre_tokenizer": rule.splitters[0]
        if len(rule.splitters) == 1
        else {"type": "Sequence", "pretokenizers": list(rule.splitters)},
        "decoder": _byte_pieces(use_regex=True),
        "model": _pairs(tokens.vocab, merges, ignore_merges=rule.ignore_merges),
    }


def _sentence_piece(header: Header, tokens: _Tokens) -> dict[str, Any]:
    """SentencePiece's byte pairs: the two neighbours whose joined piece scores best are merged.

    As in transformers, each way to cut a piece in two becomes a merge, ranked by the score.
    """
    scores = _list(header, "scores", float)
    if len(scores) != len(tokens.texts) or not all(map(math.isfinite, scores)):
        raise UserError(f"{header.path} has no score for each of its {len(tokens.texts)} tokens")
    pieces = {text: i for text, i in tokens.vocab.items() if tokens.types[i] == _NORMAL}
    ranked = [
        (-scores[i], -cut, text)
        for text, i in pieces.items()
        for cut in range(1, len(text))
        if text[:cut] in pieces and text[cut:] in pieces
    ]
    merges = [[text[:-cut], text[-cut:]] for _, cut, text in sorted(ranked)]
    prefix = _flag(header, "add_space_prefix", True)
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": _BLANK}
    restore = {"type": "Replace", "pattern": {"String": _BLANK}, "content": " "}
    decoders = [restore, {"type": "ByteFallback"}, {"type": "Fuse"}]
    if prefix:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    unknown = tokens.special("unknown_token_id")
    return {
        "normalizer": {
            "type": "Sequence",
            "normalizers": [{"type": "Prepend", "prepend": _BLANK}, replace]
            if prefix
            else [replace],
        },
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {
            **_pairs(tokens.vocab, merges),
            "unk_token": unknown and unknown[0],
            "fuse_unk": True,
            "byte_fallback": all(f"<0x{byte:02X}>" in tokens.vocab for byte in range(256)),
        },
    }


def _pairs(
    vocab: dict[str, int], merges: list[list[str]], *, ignore_merges: bool = False
) -> dict[str, Any]:
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": ignore_merges,
        "vocab": vocab,
        "merges": merges,
    }


def _put_first(text: str, i: int) -> dict[str, Any]:
    """The post-processor that puts a token before every text."""
    first = {"SpecialToken": {"id": text, "type_id": 0}}
    a, b = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    return {
        "type": "TemplateProcessing",
        "single": [first, a],
        "pair": [first, a, first, b],
        "special_tokens": {text: {"id": text, "ids": [i], "tokens": [text]}},
    }


def _list(header: Header, key: str, kind: type, default: list[Any] | None = None) -> list[Any]:
    """A list of the metadata. Refuses elements of another type."""
    found = header.metadata.get(f"{_PREFIX}{key}", default)
    if not isinstance(found, list) or not all(type(each) is kind for each in found):
        raise UserError(
            f"{header.path} lacks {_PREFIX}{key}, or it is not a list of the right type; get "
            "another GGUF file of the model"
        )
    return found


def _flag(header: Header, key: str, default: bool) -> bool:
    found = header.metadata.get(f"{_PREFIX}{key}", default)
    if type(found) is not bool:
        raise UserError(f"{_PREFIX}{key} in {header.path} is {short(found)}, not true or false")
    return found


def _byte_pieces(*, use_regex: bool) -> dict[str, Any]:
    """GPT-2's alphabet, and with use_regex GPT-2's rule."""
    return {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": False,
        "use_regex": use_regex,
    }


def _split(pattern: str) -> tuple[dict[str, Any], ...]:
    split = {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Isolated",
        "invert": False,
    }
    return (split, _byte_pieces(use_regex=False))


_SUFFIXES = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_LETTERS = rf"{_SUFFIXES}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+"
_SIGNS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_GPT2 = (_byte_pieces(use_regex=True),)
_DIGITS = ({"type": "Digits", "individual_digits": True}, *_GPT2)
_GPT4 = _split(rf"{_LETTERS}|\p{{N}}{{1,3}}|{_SIGNS}|{_REST}")
_QWEN2 = _split(rf"{_LETTERS}|\p{{N}}|{_SIGNS}|{_REST}")
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_TEKKEN = _split(
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"
    rf"|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_REST}"
)
_LLAMA3 = _Rule(_GPT4, ignore_merges=True)
_RULES: dict[str, _Rule] = {
    "gpt-2": _Rule(_GPT2),
    "phi-2": _Rule(_GPT2),
    "olmo": _Rule(_GPT2, nfc=True),  # GPT-NeoX's and Pythia's too
    "smollm": _Rule(_DIGITS),
    "starcoder": _Rule(_DIGITS),
    "refact": _Rule(_DIGITS),
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "dbrx": _Rule(_GPT4),
    "smaug-bpe": _Rule(_GPT4),
    "qwen2": _Rule(_QWEN2, nfc=True),
    "deepseek-r1-qwen": _Rule(_QWEN2),
    "tekken": _Rule(_TEKKEN, ignore_merges=True),
}
"""llama.cpp's name of a pre-tokenizer → its rule."""
