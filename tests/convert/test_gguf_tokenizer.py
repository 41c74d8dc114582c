"""Tokenizers of GGUF files: each rule, SentencePiece's scores, and what is refused."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import gguf
import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from convert.gguf_header import read_header
from convert.gguf_source import unpack
from convert.gguf_tokenizer import read_tokenizer
from convert.vocabulary import Vocabulary, read_vocabulary
from convert.write import ConversionOptions, convert
from gpt.checkpoint import load
from gpt.errors import UserError
from gpt.tokenizer import byte_alphabet
from tests.convert.conftest import llama_like
from tests.convert.gguf_files import SetTokenizer, byte_level, sentence_piece, write_gguf

CORPUS = (
    "The year 1234 and 1200 they'll see it's 12 a  b   c    d\n\n\nNew line\r\n\tTAB THEY'LL "
    "été naïve 東京 東京 don't x=1; y == 22; ==== caféS 10,000 3.14 ½ ² and the the they "
) * 20
ODD_TEXTS = (
    *("", " ", "  ", "hello the year", "  two  blanks", "1234 5,678 Ⅷ ½ ٣ 12 ²", "a  1  22   333"),
    *("tab\tand\r\n\n line \n\n x", "naïve e\u0301té été", "東京タワー 😀 🇩🇪", "x=1;y+=2**10 ===="),
    *("I'm they'LL 'tis THEY'LL don't", "\x00\x7f", "\u00a0nbsp\u2003em \u200b", "the  \n  \n\t"),
)
_WORDS, _REST = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+",
    r"\s*[\r\n]+|\s+(?!\S)|\s+",
)
_SIGNS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
PATTERNS = {
    "gpt-2": _GPT2,
    "olmo": _GPT2,
    "smollm": r"\p{N}|\s+(?=\p{N})|" + _GPT2.replace(r"| ?\p{N}+", ""),
    "llama-bpe": rf"{_WORDS}|\p{{N}}{{1,3}}|{_SIGNS}|{_REST}",
    "dbrx": rf"{_WORDS}|\p{{N}}{{1,3}}|{_SIGNS}|{_REST}",
    "qwen2": rf"{_WORDS}|\p{{N}}|{_SIGNS}|{_REST}",
    "deepseek-r1-qwen": rf"{_WORDS}|\p{{N}}|{_SIGNS}|{_REST}",
    "tekken": (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|"
        rf"\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_REST}"
    ),
}
NORMALISED = {"qwen2", "olmo"}


@cache
def merges() -> list[tuple[str, str]]:
    """Byte pairs of the corpus, some of which cross what a rule keeps apart."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(
        vocab_size=500, initial_alphabet=alphabet, max_token_length=6, show_progress=False
    )
    tokenizer.train_from_iterator([CORPUS[i : i + 7] for i in range(0, len(CORPUS), 5)], trainer)
    return [(a, b) for a, b in json.loads(tokenizer.to_str())["model"]["merges"]]


def vocabulary_of(directory: Path, set_tokenizer: SetTokenizer, **changes: Any) -> Vocabulary:
    """The tokenizer of a new file."""
    return vocabulary(write_file(directory, set_tokenizer, **changes))


def vocabulary(path: Path) -> Vocabulary:
    """The tokenizer of a file."""
    unpacked = unpack(path)  # its directory lives as long as it does
    return read_vocabulary(unpacked.directory)


def write_file(
    directory: Path,
    set_tokenizer: SetTokenizer,
    change: Callable[[gguf.GGUFWriter], object] = lambda writer: None,
) -> Path:
    """A file with a tokenizer and a tiny network."""
    return write_gguf(directory / "m.gguf", llama_like("llama"), set_tokenizer, change=change)


@pytest.mark.parametrize("pre", PATTERNS)
def test_each_rule(pre: str, tmp_path: Path) -> None:
    """The same ids as tiktoken's with the rule as a pattern."""
    alphabet = byte_alphabet()
    tokens = [*alphabet, *(a + b for a, b in merges())]
    ranks = {bytes(alphabet[c] for c in token): i for i, token in enumerate(tokens)}
    expected = tiktoken.Encoding(
        pre, pat_str=PATTERNS[pre], mergeable_ranks=ranks, special_tokens={}
    )
    found = vocabulary_of(tmp_path, byte_level(pre=pre, merges=merges(), n_tokens=0)).tokenizer
    for text in ODD_TEXTS:
        wanted = unicodedata.normalize("NFC", text) if pre in NORMALISED else text
        assert found.encode(text) == expected.encode(wanted), text


@pytest.mark.parametrize("pre", ["default", "gpt-4o", "", None])
def test_an_unknown_rule_is_refused(pre: str | None, tmp_path: Path) -> None:
    path = write_file(tmp_path, byte_level(pre=pre or "x" * 9))
    if pre is None:
        path.write_bytes(path.read_bytes().replace(b"tokenizer.ggml.pre", b"tokenizer.ggml.xre"))
    with pytest.raises(UserError, match="does not know; it knows gpt-2, phi-2, olmo, smollm"):
        unpack(path)


@pytest.mark.parametrize(("pre", "add"), [("gpt-2", False), ("llama-bpe", True)])
def test_the_token_before_a_text(pre: str, add: bool, tmp_path: Path) -> None:
    """By the file's flag; without one as llama.cpp does."""
    path = write_file(tmp_path, byte_level(pre=pre, add_bos=not add))
    assert (vocabulary(path).bos_id is None) is add
    path.write_bytes(path.read_bytes().replace(b"ggml.add_bos_token", b"ggml.add_xos_token"))
    assert (vocabulary(path).bos_id is not None) is add


# SentencePiece


@cache
def scores() -> dict[str, float]:
    """Pieces with SentencePiece's scores: the earlier it was merged the higher."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = BpeTrainer(vocab_size=300, show_progress=False)
    tokenizer.train_from_iterator([CORPUS, CORPUS.replace(" ", "   ")], trainer)
    vocab = tokenizer.get_vocab()
    pieces = sorted(vocab, key=lambda piece: (len(piece) == 1, vocab[piece]))
    return {piece: -float(i) for i, piece in enumerate([*pieces, "▁▁", "▁▁▁▁"])}


def by_scores(text: str, ids: dict[str, int], values: dict[str, float]) -> list[int]:
    """SentencePiece's own way: join the best-scoring neighbours, the leftmost of equal ones."""
    parts = list(text)
    while True:
        joined = [
            (values[a + b], -i) for i, (a, b) in enumerate(pairwise(parts)) if a + b in values
        ]
        if not joined:
            break
        at = -max(joined)[1]
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return [
        i
        for part in parts
        for i in ([ids[part]] if part in ids else [3 + byte for byte in part.encode()])
    ]


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    """A SentencePiece tokenizer with a space before every text."""
    return vocabulary_of(tmp_path_factory.mktemp("pieces"), sentence_piece(scores()))


@settings(max_examples=200, deadline=None)
@given(
    text=st.one_of(st.sampled_from(ODD_TEXTS), st.text(alphabet="the yar12 \n'é東😀=", max_size=40))
)
def test_scores_decide(text: str, pieces: Vocabulary) -> None:
    ids = {piece: 259 + i for i, piece in enumerate(scores())}
    prepared = ("▁" + text if text else "").replace(" ", "▁")
    found = pieces.tokenizer.encode(text)
    assert found == by_scores(prepared, ids, scores())
    written = b"".join(map(pieces.tokenizer.token_bytes, found)).decode()
    assert written == (f" {text}" if text else "")


def test_sentence_piece_is_converted(tmp_path: Path) -> None:
    n_tokens = 259 + len(scores())
    model = llama_like("llama", vocab_size=n_tokens + 4)
    path = write_gguf(
        tmp_path / "m.gguf",
        model,
        sentence_piece(scores(), n_tokens=n_tokens + 4, add_prefix=False),
    )
    done = convert(str(path), verify=False, options=ConversionOptions(out=tmp_path / "out"))
    checkpoint = load(done.directory)
    assert (checkpoint.model.config.bos_id, checkpoint.model.config.eos_id) == (1, 2)
    tokenizer = checkpoint.tokenizer
    ids = {piece: 259 + i for i, piece in enumerate(scores())}
    assert tokenizer.encode("the") == by_scores("the", ids, scores())
    assert tokenizer.encode("ω") == [3 + byte for byte in "ω".encode()]
    assert not {0, 1, 2} & set(tokenizer.encode("<s></s><unk>"))
    assert tokenizer.token_bytes(3 + 0xE4) == b"\xe4"


# What is refused


@pytest.mark.parametrize(
    ("set_tokenizer", "change", "match"),
    [
        (byte_level(), lambda w: w.add_tokenizer_model("bert"), "kind 'bert'; convert reads gpt2"),
        (byte_level(), lambda w: w.add_token_types([1] * 5), "types for 5"),
        (byte_level(), lambda w: w.add_token_list([*"ab", "a"] * 100), "are both 'a'"),
        (byte_level(), lambda w: w.add_token_merges(["h e", "zz q"]), "tokenizer.json"),
        (byte_level(), lambda w: w.add_token_merges(["he"]), "tokenizer.json"),
        (byte_level(), lambda w: w.add_uint32("tokenizer.ggml.merges", 5), "lacks .*merges"),
        (byte_level(), lambda w: w.add_uint32("tokenizer.ggml.add_bos_token", 5), "is 5, not true"),
        (sentence_piece({"a": 0.0}), lambda w: w.add_token_scores([0.0]), "no score for each"),
        (sentence_piece({"a": float("nan")}), lambda w: None, "no score for each"),
    ],
)
def test_broken_tokenizers(
    set_tokenizer: SetTokenizer,
    change: Callable[[gguf.GGUFWriter], object],
    match: str,
    tmp_path: Path,
) -> None:
    def write(writer: gguf.GGUFWriter) -> None:
        set_tokenizer(writer)
        kept = dict(writer.kv_data[0])
        writer.kv_data[0].clear()
        change(writer)
        writer.kv_data[0].update({**kept, **writer.kv_data[0]})

    path = write_file(tmp_path, write)
    with pytest.raises(UserError, match=match):
        vocabulary(path)


def test_the_contents_are_those_of_the_file(tmp_path: Path) -> None:
    values = read_tokenizer(read_header(write_file(tmp_path, byte_level())))
    assert [token["content"] for token in values["added_tokens"]] == [
        "<|end|>",
        "<|start|>",
        "<tag>",
    ]
    assert [token["special"] for token in values["added_tokens"]] == [True, True, False]
    assert not any(re.match(r"\[PAD", token) for token in values["model"]["vocab"])
