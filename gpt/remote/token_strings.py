"""Exact bytes of tokens, from a server that turns text into tokens and back.

Turning one token back loses half characters, and some tokenizers lose blanks. The strings that
tokenizing gives are exact. So a token's text is asked for first, then that text is tokenized, and
all strings that come back are learned.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence

from gpt.remote.alphabet import bytes_of, is_byte_level, may_be_special
from gpt.remote.server import Piece

_MARK = "\x1e"
"""A character between tokens that is in no token but its own."""
_AT_ONCE = 4096
"""Tokens that one request asks for."""
_CHARACTERS_AT_ONCE = 8192
_UNKNOWN = Piece("\N{REPLACEMENT CHARACTER}".encode())


class TokenStrings:
    """The pieces of a server's vocabulary, learned when they are needed."""

    def __init__(
        self,
        tokenize: Callable[[str], list[tuple[int, str]]],
        detokenize: Callable[[Sequence[int]], str],
        is_special: Callable[[int], bool],
        vocab_size: Callable[[], int] = lambda: 0,
    ) -> None:
        """tokenize: a text → ids and their strings in the vocabulary; is_special: whether a token
        that looks like a special one is one; vocab_size: 0 if it is not known."""
        self._tokenize, self._detokenize = tokenize, detokenize
        self._is_special, self._vocab_size = is_special, vocab_size
        self._pieces: dict[int, Piece] = {}
        self._byte_level: bool | None = None
        self._line: list[int] = []
        """The tokens of the mark."""
        self._knows_halves = False

    def pieces(self, ids: Sequence[int]) -> dict[int, Piece]:
        """The piece of each of these tokens."""
        missing = sorted({i for i in ids if i not in self._pieces})
        if missing and not self._pieces:  # low ids are common, and one request costs as much
            missing = sorted({*missing, *range(min(self._vocab_size(), _AT_ONCE))})
        for start in range(0, len(missing), _AT_ONCE):
            self._find(missing[start : start + _AT_ONCE])
        return {i: self._pieces[i] for i in ids}

    def _find(self, ids: Sequence[int]) -> None:
        texts = self._texts(ids)
        whole = {i: text for i, text in texts.items() if "\N{REPLACEMENT CHARACTER}" not in text}
        self._learn(_MARK.join(whole.values()))
        # A tokenizer that tidies up takes the blank before a full stop away.
        lost = [text for i, text in whole.items() if i not in self._pieces]
        self._learn(_MARK.join(" " + text for text in lost))
        if len(whole) < len(texts) and not self._knows_halves:
            self._learn_halves()
        for i, text in texts.items():
            if i not in self._pieces:
                self._pieces[i] = Piece(text.encode("utf-8", "replace")) if text else _UNKNOWN
            if text and may_be_special(text) and self._is_special(i):
                self._pieces[i] = Piece(b"", text)

    def _texts(self, ids: Sequence[int]) -> dict[int, str]:
        """The text of each token, perhaps with signs in place of half characters."""
        if not self._line:
            self._line = [i for i, _ in self._tokenize(_MARK)]
        asked = self._line + [i for each in ids for i in (each, *self._line)]
        parts = self._detokenize(asked).split(_MARK)
        if len(parts) == len(ids) + 2:
            return dict(zip(ids, parts[1:-1], strict=True))
        if len(ids) == 1:  # a token that has the mark, or a tokenizer that loses it
            return {ids[0]: self._detokenize(ids)}
        half = len(ids) // 2
        return self._texts(ids[:half]) | self._texts(ids[half:])

    def _learn(self, text: str) -> None:
        """Tokenize a text and keep the bytes of every token in it."""
        if not text:
            return
        if self._byte_level is None:
            self._byte_level = is_byte_level([string for _, string in self._tokenize("é a")])
        for i, string in self._tokenize(text):
            if string and i not in self._pieces:
                self._pieces[i] = Piece(bytes_of(string, byte_level=self._byte_level))

    def _learn_halves(self) -> None:
        """Tokenize all characters, so that every part of one that occurs is known."""
        self._knows_halves = True
        characters = list(_characters())
        for start in range(0, len(characters), _CHARACTERS_AT_ONCE):
            self._learn(_MARK.join(characters[start : start + _CHARACTERS_AT_ONCE]))


def _characters() -> Iterator[str]:
    """Characters of two bytes and more, so that each part of an assigned one is in them."""
    for code in range(0x80, 0x110000):
        category = unicodedata.category(chr(code))
        step = 1 if category not in ("Cn", "Co") else 64 if code < 0x10000 else 4096
        if category != "Cs" and code % step == 0:
            yield chr(code)
