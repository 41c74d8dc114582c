from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
import tiktoken
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers

from gpt import tokenizer, tokenizer_files
from gpt.errors import UserError
from gpt.tokenizer import (
    LONGEST_TEXT,
    BPETokenizer,
    CharTokenizer,
    StreamDecoder,
    byte_alphabet,
    decode,
)
from gpt.tokenizer_json import JsonTokenizer, growth

ROMEO = CharTokenizer.from_corpus("ROMEO: é\n")


def bpe() -> BPETokenizer:
    """GPT-2's bytes and a few merges, with ids that do not follow the ranks, as OPT's."""
    merges = [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), ("Ġ", "hello"), ("Ã", "©")]
    tokens = [*byte_alphabet(), *(a + b for a, b in merges)]
    vocab = {token: 7 + (i * 5) % len(tokens) for i, token in enumerate(tokens)}
    assert len(set(vocab.values())) == len(tokens)
    return BPETokenizer(vocab | {"<|endoftext|>": 0}, merges)


@given(st.text(alphabet="ROME: é\n"))
def test_characters_round_trip(text: str) -> None:
    assert decode(ROMEO, ROMEO.encode(text)) == text


def test_an_unknown_character_is_named() -> None:
    with pytest.raises(UserError, match=r"'ß' \(U\+00DF\)") as error:
        ROMEO.encode("Rß")
    assert "knows 8 characters" in str(error.value)


def test_bpe_merges_what_gpt2_would_merge() -> None:
    tokens = bpe()
    words = [tokens.token_bytes(i) for i in tokens.encode("hello hello, é")]
    assert words == [b"hello", b" hello", b",", b" ", "é".encode()]


@given(st.text())
def test_bpe_round_trips_all_text(text: str) -> None:
    tokens = bpe()
    expected = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert decode(tokens, tokens.encode(text)) == expected


def test_text_never_becomes_a_special_token() -> None:
    tokens = bpe()
    ids = tokens.encode("<|endoftext|>")
    assert 0 not in ids
    assert decode(tokens, ids) == "<|endoftext|>"
    assert tokens.token_bytes(0) == b""
    assert tokens.token_bytes(10**6) == b""


@pytest.mark.parametrize("kind", [ROMEO, bpe()], ids=["characters", "bpe"])
def test_saved_and_loaded_is_the_same(kind: tokenizer.Tokenizer, tmp_path: Path) -> None:
    kind.save(tmp_path)
    again = tokenizer_files.load(tmp_path)
    text = "ROMEO: é"
    assert again.encode(text) == kind.encode(text)
    assert again.vocab_size == kind.vocab_size


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("characters.json", "[1, 2]"),
        ("characters.json", '["ab"]'),
        ("characters.json", '["a", "a"]'),
        ("characters.json", "nonsense"),
        ("vocab.json", '{"a": 0}'),
        ("vocab.json", "[]"),
    ],
)
def test_a_broken_tokenizer_file_is_one_sentence(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    (tmp_path / "merges.txt").write_text("a b\n")
    with pytest.raises(UserError):
        tokenizer_files.load(tmp_path)


def test_no_tokenizer_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no tokenizer file"):
        tokenizer_files.load(tmp_path)


@given(st.text(), st.data())
def test_stream_decoder_shows_no_half_characters(text: str, data: st.DataObject) -> None:
    raw = text.encode("utf-8", "replace")
    decoder, shown, at = StreamDecoder(), "", 0
    while at < len(raw):
        n = data.draw(st.integers(1, 3))
        shown += decoder.feed(raw[at : at + n])
        at += n
        assert raw.decode().startswith(shown)
    assert shown + decoder.feed(b"", final=True) == raw.decode()


def test_stream_decoder_marks_what_never_becomes_a_character() -> None:
    decoder = StreamDecoder()
    assert decoder.feed("é".encode()[:1]) == ""
    assert decoder.feed(b"", final=True) == "\ufffd"


BLANKS = st.sampled_from([" ", "\n", "\u3000", "\x85", "a"])


@given(st.lists(st.tuples(BLANKS, st.integers(0, 9)), max_size=9))
def test_long_blanks_are_found_anywhere(runs: list[tuple[str, int]]) -> None:
    text = "".join(blank * n for blank, n in runs)
    for longest in range(1, 12):
        expected = re.search(rf"\s{{{longest}}}", text) is not None
        assert tokenizer.has_blanks(text, longest) == expected


class Counted(str):
    """A text that counts the characters that are read."""

    seen = 0

    def __getitem__(self, key: Any) -> str:
        part = str(self)[key]
        self.seen += len(part)
        return part


@pytest.mark.parametrize("blanks", [0, 80_000, 499_999])
def test_blanks_are_searched_in_one_scan(blanks: int) -> None:
    text = Counted(("x" * 50 + " " * blanks) * (2_000_000 // (50 + blanks)))
    assert not tokenizer.has_blanks(text, 500_000)
    assert text.seen <= 2 * len(text)


# Tokenizers from other programs


def made(**parts: Any) -> str:
    """A tokenizer.json of byte pairs with these parts."""
    library = tokenizers.Tokenizer(
        models.BPE(vocab={c: i for i, c in enumerate("ab ▁")}, merges=[])
    )
    library.decoder = decoders.Metaspace()
    for name, part in parts.items():
        setattr(library, name, part)
    return library.to_str()


def test_a_panic_of_a_library_is_one_sentence() -> None:
    pattern = pre_tokenizers.Split(tokenizers.Regex("(a+)+$"), "isolated")
    found = JsonTokenizer(made(pre_tokenizer=pattern))
    assert found.encode("ab") == [0, 1]
    with pytest.raises(UserError, match="the tokenizer failed on this text"):
        found.encode("a" * 40 + "b")
    assert found.encode("ab") == [0, 1]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_error_that_is_not_a_panic_is_not_changed(error: type[BaseException]) -> None:
    with pytest.raises(error), tokenizer.panics_as_errors("x"):
        raise error


def doubled(n: int) -> normalizers.Normalizer:
    return normalizers.Sequence([normalizers.Replace("a", "aa") for _ in range(n)])


@pytest.mark.parametrize(
    "normalizer",
    [
        doubled(7),
        doubled(40),
        normalizers.Replace("a", "a" * 100),
        normalizers.Replace(tokenizers.Regex("a?"), "b" * 100),
        normalizers.Prepend("a" * 100),
        normalizers.Sequence([doubled(3), normalizers.Sequence([doubled(4)])]),
    ],
)
def test_a_normaliser_that_multiplies_a_text_is_refused(
    normalizer: normalizers.Normalizer,
) -> None:
    with pytest.raises(UserError, match=r"makes a text up to [\d,]+ times as long"):
        JsonTokenizer(made(normalizer=normalizer))


def test_a_table_of_replacements_that_multiplies_a_text_is_refused() -> None:
    values = json.loads(made())
    for longest, refused in ((18, False), (1000, True)):
        table = b"\4\0\0\0" + b"\0" * 4 + b"x\0" + b"y" * longest + b"\0"
        values["normalizer"] = {
            "type": "Precompiled",
            "precompiled_charsmap": base64.b64encode(table).decode(),
        }
        assert (growth(values["normalizer"]) > 64) == refused


@pytest.mark.parametrize(
    "normalizer",
    [
        doubled(6),
        normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]),
        normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase(), normalizers.NFKD()]),
        normalizers.Sequence([normalizers.Replace(tokenizers.Regex(r"\s+"), " ")] * 9),
        normalizers.BertNormalizer(),
        normalizers.ByteLevel(),
    ],
)
def test_normalisers_of_real_tokenizers_are_accepted(normalizer: normalizers.Normalizer) -> None:
    assert JsonTokenizer(made(normalizer=normalizer)).encode("a")


def test_a_text_that_would_fill_the_memory_is_refused() -> None:
    found = JsonTokenizer(made(normalizer=doubled(5)))
    longest = LONGEST_TEXT // 32
    with pytest.raises(UserError, match=f"at most {longest:,} characters"):
        found.encode("b" * (longest + 1))


GPT2 = Path(__file__).parents[2].parent / "shared" / "data" / "gpt2-tokenizer"


@pytest.mark.skipif(not GPT2.exists(), reason="needs GPT-2's vocabulary in shared/data")
def test_gpt2s_own_vocabulary() -> None:
    tokens = tokenizer_files.load(GPT2)
    text = "Hello, my dog is a little café 🦊\n\n  def f(x):"
    ids = tokens.encode(text)
    assert ids[:7] == [15496, 11, 616, 3290, 318, 257, 1310]
    assert decode(tokens, ids) == text
    ranks = {bytes_: i for i in range(50256) if (bytes_ := tokens.token_bytes(i))}
    reference = tiktoken.Encoding(
        "gpt2", pat_str=tokenizer.GPT2_PATTERN, mergeable_ranks=ranks, special_tokens={}
    )
    assert ids == reference.encode_ordinary(text)
    vocab = json.loads((GPT2 / "vocab.json").read_text(encoding="utf-8"))
    assert tokens.vocab_size == len(vocab) == 50257
