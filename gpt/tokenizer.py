"""Text → token ids → text: tokenizers of characters and of byte pairs."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from gpt.errors import UserError

if TYPE_CHECKING:
    import tiktoken

CHARACTERS_FILE = "characters.json"
VOCAB_FILE = "vocab.json"
MERGES_FILE = "merges.txt"
JSON_FILE = "tokenizer.json"

LONGEST_TEXT = 10_000_000
"""Characters in the longest text that is accepted at once; more would fill the memory."""
# The pieces into which GPT-2 cuts a text before it merges bytes (Radford et al. 2019, encoder.py).
# The possessive quantifiers are those of tiktoken's r50k_base: the same pieces, no backtracking.
GPT2_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
# The pattern still backtracks over blanks; tiktoken's stack overflows at about a million of them.
_LONGEST_BLANK = 500_000


class Tokenizer(Protocol):
    """What every tokenizer can do."""

    drops_blank: bool
    """Whether the first token of a text begins with a blank that the text does not have."""

    @property
    def vocab_size(self) -> int:
        """Number of ids: the highest one plus 1."""

    def encode(self, text: str) -> list[int]:
        """Ids of a text. The name of a special token in it is read as ordinary characters."""

    def encode_more(self, text: str) -> list[int]:
        """Ids of a text that continues another one: as encode, but no blank is put before it."""

    @property
    def added_tokens(self) -> dict[str, int]:
        """Name → id of the tokens that are not pieces of text, such as special tokens."""

    def encode_special(self, text: str) -> list[int]:
        """Ids of a text in which the name of an added token becomes that token."""

    def token_bytes(self, token_id: int) -> bytes:
        """Bytes of a token; empty for a special token and for an id that is not used."""

    def save(self, directory: Path) -> None:
        """Write the files that gpt/tokenizer_files.py reads."""


class CharTokenizer:
    """Each character is a token: the lecture's tokenizer."""

    drops_blank = False

    def __init__(self, characters: Iterable[str]) -> None:
        self.characters = list(characters)
        self._ids = {character: i for i, character in enumerate(self.characters)}
        is_text = all(len(c) == 1 and not "\ud800" <= c <= "\udfff" for c in self.characters)
        if len(self._ids) != len(self.characters) or not is_text:
            raise UserError("a character vocabulary must be a list of distinct single characters")

    @classmethod
    def from_corpus(cls, text: str) -> CharTokenizer:
        """A tokenizer for the characters of a text, in the order of their code points."""
        return cls(sorted(set(text)))

    @property
    def vocab_size(self) -> int:
        """Number of characters."""
        return len(self.characters)

    def encode(self, text: str) -> list[int]:
        """One id for each character. Unknown characters are refused by name."""
        if unknown := sorted(set(text) - self._ids.keys()):
            names = ", ".join(f"{c!r} (U+{ord(c):04X})" for c in unknown[:5])
            more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
            raise UserError(f"this model knows {self.vocab_size} characters, but not {names}{more}")
        return [self._ids[character] for character in text]

    def encode_more(self, text: str) -> list[int]:
        """As encode, because nothing is put before a text."""
        return self.encode(text)

    @property
    def added_tokens(self) -> dict[str, int]:
        """None."""
        return {}

    def encode_special(self, text: str) -> list[int]:
        """As encode, because there are no special tokens."""
        return self.encode(text)

    def token_bytes(self, token_id: int) -> bytes:
        """The character in UTF-8; empty for an id that is not used."""
        if not 0 <= token_id < len(self.characters):
            return b""
        return self.characters[token_id].encode()

    def save(self, directory: Path) -> None:
        """Write characters.json."""
        text = json.dumps(self.characters, ensure_ascii=False, indent=0)
        (directory / CHARACTERS_FILE).write_text(text + "\n", encoding="utf-8")


class BPETokenizer:
    """GPT-2's byte pairs with the vocabulary of a checkpoint; tiktoken does the merging."""

    drops_blank = False

    def __init__(self, vocab: dict[str, int], merges: list[tuple[str, str]]) -> None:
        """A tokenizer from the contents of vocab.json and merges.txt.

        Args:
            vocab: token, written in GPT-2's printable alphabet → id.
            merges: pairs in the order in which they were learned, which is tiktoken's rank. Ids
                need not have that order: OPT's do not.
        """
        alphabet = byte_alphabet()
        ranked = [*alphabet, *(a + b for a, b in merges)]
        missing = [token for token in ranked if token not in vocab]
        if missing:
            raise UserError(f"the vocabulary lacks the token {missing[0]!r} that its merges need")
        if len(set(ranked)) != len(ranked):
            raise UserError("the merges make the same token twice")
        if not all(isinstance(i, int) and 0 <= i < 2**31 for i in vocab.values()):
            raise UserError(
                f"the vocabulary has an id that is not a whole number from 0 to {2**31 - 1}"
            )
        if len(set(vocab.values())) != len(vocab):
            raise UserError("the vocabulary has two tokens with the same id")
        self._vocab, self._merges = vocab, merges
        self._id_of_rank = [vocab[token] for token in ranked]
        # Tokens that no merge makes are special: they have an id but no text.
        ordinary = set(ranked)
        self._bytes = {
            i: bytes(alphabet[c] for c in token) for token, i in vocab.items() if token in ordinary
        }
        self._ranks = {self._bytes[i]: rank for rank, i in enumerate(self._id_of_rank)}
        self._encoding: tiktoken.Encoding | None = None

    @property
    def vocab_size(self) -> int:
        """Number of ids: the highest one plus 1."""
        return max(self._vocab.values()) + 1

    @property
    def ordinary_ids(self) -> list[int]:
        """All ids that `encode` can return."""
        return self._id_of_rank

    def encode(self, text: str) -> list[int]:
        """Ids of a text. `<|endoftext|>` in it is read as ordinary characters."""
        if has_blanks(text, _LONGEST_BLANK):
            raise UserError(f"the text has {_LONGEST_BLANK:,} blanks in a row; remove some")
        if self._encoding is None:
            import tiktoken

            self._encoding = tiktoken.Encoding(
                "checkpoint",
                pat_str=GPT2_PATTERN,
                mergeable_ranks=self._ranks,
                special_tokens={},
            )
        with panics_as_errors("the tokenizer failed on this text"):
            return [self._id_of_rank[rank] for rank in self._encoding.encode_ordinary(text)]

    def encode_more(self, text: str) -> list[int]:
        """As encode, because nothing is put before a text."""
        return self.encode(text)

    @property
    def added_tokens(self) -> dict[str, int]:
        """Name → id of the tokens that no merge makes."""
        return {name: i for name, i in self._vocab.items() if i not in self._bytes}

    def encode_special(self, text: str) -> list[int]:
        """Ids of a text in which the name of a special token becomes that token."""
        added = self.added_tokens
        ids = []
        for i, part in enumerate(split_at(text, added)):
            ids += [added[part]] if i % 2 else self.encode(part)
        return ids

    def token_bytes(self, token_id: int) -> bytes:
        """Bytes of a token; empty for a special token and for an id that is not used."""
        return self._bytes.get(token_id, b"")

    def save(self, directory: Path) -> None:
        """Write vocab.json and merges.txt."""
        vocab = json.dumps(self._vocab, ensure_ascii=False)
        (directory / VOCAB_FILE).write_text(vocab + "\n", encoding="utf-8")
        lines = ["#version: 0.2", *(f"{a} {b}" for a, b in self._merges)]
        (directory / MERGES_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")


def split_at(text: str, names: Iterable[str]) -> list[str]:
    """Cut a text at all these names, the longest first: text, name, text, …, name, text."""
    longest_first = sorted(filter(None, names), key=len, reverse=True)
    if not any(name in text for name in longest_first):
        return [text]
    return re.split(f"({'|'.join(map(re.escape, longest_first))})", text)


def encode_more_special(tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids of a text that continues another one; the name of an added token is that token."""
    head, *rest = split_at(text, tokenizer.added_tokens)
    ids = tokenizer.encode_more(head) if head else []
    return ids + tokenizer.encode_special("".join(rest)) if rest else ids


def has_blanks(text: str, longest: int) -> bool:
    """Whether a text has at least `longest` blanks in a row.

    A run of that length contains a character whose index + 1 is a multiple of `longest`, so only
    the neighbours of those characters are searched.
    """
    for i in range(longest - 1, len(text), longest):
        before, after = text[i - longest + 1 : i + 1], text[i + 1 : i + longest]
        blanks_before = len(before) - len(before.rstrip())
        blanks_after = len(after) - len(after.lstrip())
        if blanks_before and blanks_before + blanks_after >= longest:
            return True
    return False


@contextmanager
def panics_as_errors(what: str) -> Iterator[None]:
    """Turn any failure of a tokenizer library into a UserError that begins with `what`.

    These libraries are written in Rust; their panics are BaseExceptions and not Exceptions.
    """
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise UserError(f"{what}: {error}") from error


def byte_alphabet() -> dict[str, int]:
    """The 256 printable characters that stand for bytes in GPT-2's files: character → byte.

    They are in the order of their ranks: first the printable bytes, each as the character with its
    number; then the others, as the characters from U+0100 on.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    others = [b for b in range(256) if b not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}


class StreamDecoder:
    """Turns the bytes of successive tokens into text; waits until each character is complete."""

    def __init__(self, *, drops_blank: bool = False) -> None:
        """drops_blank: leave out a blank at the start (see Tokenizer.drops_blank)."""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._drops_blank = drops_blank

    def feed(self, data: bytes, *, final: bool = False) -> str:
        """The characters that these bytes complete.

        final: no more bytes follow, so an incomplete character becomes U+FFFD.
        """
        if data and self._drops_blank:
            data, self._drops_blank = data.removeprefix(b" "), False
        return self._decoder.decode(data, final)


def decode(tokenizer: Tokenizer, ids: Iterable[int], *, whole: bool = True) -> str:
    """The text of a sequence of ids; bytes that are not UTF-8 become U+FFFD.

    whole: the ids are a text from its start; otherwise they are a part of one.
    """
    data = b"".join(map(tokenizer.token_bytes, ids))
    if whole and tokenizer.drops_blank:
        data = data.removeprefix(b" ")
    return data.decode("utf-8", "replace")
