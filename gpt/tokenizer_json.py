"""Tokenizers in the format of the `tokenizers` library: a tokenizer.json."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, pre_tokenizers

from gpt.errors import UserError
from gpt.tokenizer import JSON_FILE, LONGEST_TEXT, byte_alphabet, panics_as_errors
from gpt.tokenizer_parts import drops_blank, flatten, without_prefix

_MOST_GROWTH = 64
"""Most times as long as a normaliser may make a text; several real ones replace a ligature by 18
letters."""
_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")


class JsonTokenizer:
    """WordPiece, SentencePiece and the byte-level kinds that GPT-2's two files cannot describe."""

    def __init__(self, text: str) -> None:
        """text: the contents of a tokenizer.json. A kind whose bytes are not known is refused."""
        self._text = text
        values = _parse(text)
        with panics_as_errors(f"{JSON_FILE} cannot be read"):
            self._tokenizer = Tokenizer.from_str(text)
        grows = growth(values.get("normalizer"))
        if grows > _MOST_GROWTH:
            raise UserError(
                f"{JSON_FILE} has a normaliser that makes a text up to {grows:,.0f} times as long; "
                f"at most {_MOST_GROWTH} times is safe"
            )
        self._longest = int(LONGEST_TEXT / max(1, grows))
        self._bytes_of = _bytes_of_piece(values)
        self.drops_blank = drops_blank(values)
        with panics_as_errors(f"{JSON_FILE} cannot be read"):
            self._continuing = without_prefix(values)
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        added = self._tokenizer.get_added_tokens_decoder()
        self._special = {i for i, token in added.items() if token.special}
        self._verbatim = {i: token.content for i, token in added.items() if not token.special}
        self._tokenizer.encode_special_tokens = True
        model = values["model"]
        if model.get("type") != "BPE" or model.get("ignore_merges"):
            for library in (self._tokenizer, self._continuing):
                if library is not None:
                    self._cut_special_names(library, model.get("vocab"))
        name = model.get("unk_token")
        self._unknown = self._tokenizer.token_to_id(name) if name else model.get("unk_id")
        self._vocab_size = max(self._tokenizer.get_vocab().values(), default=-1) + 1

    @property
    def vocab_size(self) -> int:
        """Number of ids: the highest one plus 1."""
        return self._vocab_size

    @property
    def ordinary_size(self) -> int:
        """The highest id that `encode` can return, plus 1."""
        ids = self._tokenizer.get_vocab().values()
        return max((i for i in ids if i not in self._special), default=-1) + 1

    def encode(self, text: str) -> list[int]:
        """Ids of a text. The name of a special token in it is read as ordinary characters.

        A character that the vocabulary does not have is dropped or becomes its unknown token.
        """
        ids = self._library_ids(text)
        return [i for i in ids if i not in self._special or i == self._unknown]

    def encode_more(self, text: str) -> list[int]:
        """Ids of a text that continues another one: as encode, but no blank is put before it."""
        if self._continuing is None:
            return self.encode(text)
        library, continuing = self._tokenizer, self._continuing
        before = library.normalizer, library.pre_tokenizer
        library.normalizer, library.pre_tokenizer = continuing.normalizer, continuing.pre_tokenizer
        try:
            return self.encode(text)
        finally:
            library.normalizer, library.pre_tokenizer = before

    def _library_ids(self, text: str) -> list[int]:
        """Ids of a text that is not too long, as the library is set."""
        if len(text) > self._longest:
            raise UserError(
                f"the text has {len(text):,} characters; this model's tokenizer accepts at most "
                f"{self._longest:,} characters at once"
            )
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        with panics_as_errors("the tokenizer failed on this text"):
            ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    @property
    def added_tokens(self) -> dict[str, int]:
        """Name → id of the tokens that were added to the model's vocabulary."""
        added = self._tokenizer.get_added_tokens_decoder()
        return {token.content: i for i, token in added.items()}

    def encode_special(self, text: str) -> list[int]:
        """Ids of a text in which the name of an added token becomes that token."""
        self._tokenizer.encode_special_tokens = False
        try:
            return self._library_ids(text)
        finally:
            self._tokenizer.encode_special_tokens = True

    def token_bytes(self, token_id: int) -> bytes:
        """Bytes of a token, with its leading space; empty for a special token."""
        if token_id in self._verbatim:
            return self._verbatim[token_id].encode()
        if token_id in self._special or not 0 <= token_id < self._vocab_size:
            return b""
        piece = self._tokenizer.id_to_token(token_id)
        return b"" if piece is None else self._bytes_of(piece)

    def save(self, directory: Path) -> None:
        """Write tokenizer.json."""
        (directory / JSON_FILE).write_text(self._text, encoding="utf-8")

    def _cut_special_names(self, library: Tokenizer, pieces: Any) -> None:
        """Keep `encode` from finding the name of a special token in a text.

        SentencePiece vocabularies, for example, contain the piece `</s>`. Such a name is cut after
        its first character wherever a text contains it. Byte pairs do not need this: no merge
        makes a special token.

        pieces: the vocabulary of the model, without the tokens that were added to it.
        """
        known = {p[0] for p in pieces} if isinstance(pieces, list) else set(pieces or ())
        names = {self._tokenizer.id_to_token(i) or "" for i in self._special} & known
        cuts = [
            pre_tokenizers.Split(Regex(f"{re.escape(n[0])}(?={re.escape(n[1:])})"), "isolated")
            for n in sorted(names)
            if len(n) > 1
        ]
        before = library.pre_tokenizer
        if cuts:
            library.pre_tokenizer = pre_tokenizers.Sequence(
                ([before] if before is not None else []) + cuts
            )


def growth(normalizer: Any) -> float:
    """How many times as long, at most, the normaliser of a tokenizer.json makes a text.

    Unicode's normal forms are not counted, because several of them do not multiply.
    """
    times = 1.0
    for part in flatten(normalizer, "normalizers"):
        if growth_of := _GROWTH.get(str(part.get("type"))):
            times *= max(1.0, growth_of(part))
    return times


def _growth_by_replacing(part: dict[str, Any]) -> float:
    """Growth by Replace. A pattern may match nothing, so its content may follow each character."""
    content, pattern = len(str(part.get("content", ""))), part.get("pattern")
    text = pattern.get("String") if isinstance(pattern, dict) else None
    if isinstance(text, str) and text:
        return content / len(text)
    return content if content <= 1 else 1 + content


def _growth_by_table(part: dict[str, Any]) -> float:
    """Growth by SentencePiece's table: 4 bytes size of an index, the index, texts ended by NUL."""
    data = base64.b64decode(str(part.get("precompiled_charsmap", "")))
    texts = data[4 + int.from_bytes(data[:4], "little") :].split(b"\0")
    return max(len(text.decode("utf-8", "replace")) for text in texts)


_GROWTH: dict[str, Callable[[dict[str, Any]], float]] = {
    "Replace": _growth_by_replacing,
    "Prepend": lambda part: 1 + len(str(part.get("prepend", ""))),
    "Precompiled": _growth_by_table,
    "ByteLevel": lambda part: 4,
}
"""For each type of normaliser: how many times as long it makes a text."""


def _parse(text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{JSON_FILE} is not JSON: {error}") from error
    if not isinstance(values, dict) or not isinstance(values.get("model"), dict):
        raise UserError(f"{JSON_FILE} does not describe a tokenizer")
    return values


def _bytes_of_piece(values: dict[str, Any]) -> Callable[[str], bytes]:
    """The function from a piece of the vocabulary to its bytes, chosen by the decoder's type."""
    parts = {str(part.get("type")): part for part in flatten(values.get("decoder"), "decoders")}
    blank = next(
        (
            str(part.get("pattern", {}).get("String", part.get("replacement")))
            for part in (parts.get("Metaspace"), parts.get("Replace"))
            if part is not None
        ),
        None,
    )
    if "ByteLevel" in parts:
        return partial(_byte_level, byte_alphabet())
    if blank is not None or "ByteFallback" in parts:
        return partial(_metaspace, blank or "▁")
    if "WordPiece" in parts:
        return partial(_word_piece, str(parts["WordPiece"].get("prefix", "##")))
    if "BPEDecoder" in parts:
        return partial(_suffixed, str(parts["BPEDecoder"].get("suffix", "</w>")))
    if not parts and values["model"].get("type") == "WordLevel":
        return lambda piece: f" {piece}".encode()
    kinds = ", ".join(sorted(parts)) or "none"
    raise UserError(f"{JSON_FILE} has a decoder that this program does not know ({kinds})")


def _byte_level(alphabet: dict[str, int], piece: str) -> bytes:
    """Bytes of a piece in GPT-2's printable alphabet; any other piece is plain text."""
    if all(c in alphabet for c in piece):
        return bytes(alphabet[c] for c in piece)
    return piece.encode()


def _metaspace(blank: str, piece: str) -> bytes:
    """Bytes of a SentencePiece: a visible sign stands for the space, `<0xE4>` for a single byte."""
    if found := _BYTE_TOKEN.fullmatch(piece):
        return bytes([int(found[1], 16)])
    return piece.replace(blank, " ").encode()


def _word_piece(prefix: str, piece: str) -> bytes:
    """Bytes of a piece of BERT's: `##` continues a word; ideographs are words without spaces."""
    if piece.startswith(prefix):
        return piece.removeprefix(prefix).encode()
    return piece.encode() if _is_ideograph(piece[:1]) else f" {piece}".encode()


def _is_ideograph(character: str) -> bool:
    """Whether BERT makes this character a word (Devlin et al. 2018, tokenization.py)."""
    return any(low <= character <= high for low, high in _IDEOGRAPHS)


_IDEOGRAPHS = (
    ("\u3400", "\u4dbf"),
    ("\u4e00", "\u9fff"),
    ("\uf900", "\ufaff"),
    ("\U00020000", "\U0002ceaf"),
    ("\U0002f800", "\U0002fa1f"),
)


def _suffixed(suffix: str, piece: str) -> bytes:
    """Bytes of a piece of older byte-pair vocabularies, in which a word ends with `</w>`."""
    return piece.replace(suffix, " ").encode()
