from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st

from gpt import tokenizer
from gpt.errors import UserError
from gpt.tokenizer import BPETokenizer, CharTokenizer, StreamDecoder, byte_alphabet, decode

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
    again = tokenizer.load(tmp_path)
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
        tokenizer.load(tmp_path)


def test_no_tokenizer_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no tokenizer"):
        tokenizer.load(tmp_path)


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


GPT2 = Path(__file__).parents[2].parent / "shared" / "data" / "gpt2-tokenizer"


@pytest.mark.skipif(not GPT2.exists(), reason="GPT-2's vocabulary is not beside the checkout")
def test_gpt2s_own_vocabulary() -> None:
    tokens = tokenizer.load(GPT2)
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
