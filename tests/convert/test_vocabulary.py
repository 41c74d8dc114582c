"""Tokenizers of checkpoints: the same ids as transformers, and the bytes that they stand for."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import transformers
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors

from convert.vocabulary import Vocabulary, is_canonical, read_vocabulary
from gpt import tokenizer, tokenizer_files
from gpt.errors import UserError
from gpt.tokenizer import BPETokenizer, byte_alphabet
from gpt.tokenizer_json import JsonTokenizer
from tests.convert.conftest import MERGES, SHARED, tiny_vocab, write_vocab

REAL = SHARED / "gpt2-tokenizer"
needs_real = pytest.mark.skipif(
    not REAL.is_dir(), reason="GPT-2's vocabulary is not in ../shared/data/gpt2-tokenizer"
)
NASTY = [
    "",
    " ",
    "  ",
    "\n",
    "\r\n\r\n",
    "\t\tx",
    "\0",
    "a\0b",
    "\x1b[2J\x07",
    "a" * 5000,
    " " * 5000,
    " " * 5000 + "x",
    "\n" * 3000,
    "ab" * 3000,
    "!" * 3000,
    "👍🏽" * 300,
    "hello world ",
    " hello  world   ",
    "I'll we've don't 'S 'LL it's''s",
    "naïve café Straße Ǆ ﬁ",
    "東京は晴れ。 你好",
    "👩‍👩‍👧‍👦🏳️‍🌈🇩🇪",
    "e\u0301\u0323 \u200b\u200d\u202e\ufeff\u2028\u2029\u0085\u00a0\u3000x",
    "½ ² Ⅷ ٣ 1234567890",
    "\ufffd\ufffe\uffff\U0010ffff",
    "<|endoftext|>",
    "a<|endoftext|>b <|endoftext|>",
    "</s><s><pad><unk>",
    "[CLS] [SEP] [UNK] [PAD] [MASK]",
    "<0x41><0x0A>▁▁ ## Ġ Ċ",
    "hello" * 20 + "\nworld\n\n\n world",
]


def texts(n: int) -> list[str]:
    """Nasty ones and random ones."""
    dice = random.Random(0)
    alphabets = [
        "helo wrd",
        "abcdefghijklmnopqrstuvwxyzABC ,.;:!?'\"0123456789\n\t -_()",
        "äöüßéèñçøåÀÉ ",
        "".join(chr(dice.randrange(0x20, 0x2FFF)) for _ in range(400)),
        "".join(chr(dice.randrange(0x4E00, 0x9FFF)) for _ in range(200)) + " 。、",
        "".join(chr(dice.randrange(0x1F300, 0x1F6FF)) for _ in range(100)) + "\u200d\ufe0f ",
        "".join(map(chr, range(0xA1))),
        "<|>/sendoftx[]CLSEPUNK ▁#Ġ0x",
    ]
    found = list(NASTY)
    while len(found) < n:
        alphabet = dice.choice(alphabets)
        found.append("".join(dice.choices(alphabet, k=dice.randrange(1, 60))))
    return found


def reference(directory: Path, kind: str = "gpt2") -> Callable[[str], list[int]]:
    """transformers' ids of a text in which nothing is special."""
    (directory / "config.json").write_text(json.dumps({"model_type": kind}))
    loaded = transformers.AutoTokenizer.from_pretrained(directory, local_files_only=True)
    (directory / "config.json").unlink()

    def encode(text: str) -> list[int]:
        return loaded.encode(text, add_special_tokens=False, split_special_tokens=True)

    return encode


def assert_agrees(directory: Path, found: Vocabulary, n: int, kind: str = "gpt2") -> None:
    """Our ids are theirs, before and after we wrote our own files."""
    theirs = reference(directory, kind)
    saved = directory / "ours"
    saved.mkdir()
    found.tokenizer.save(saved)
    again = tokenizer_files.load(saved)
    wrong = [
        text
        for text in texts(n)
        if not theirs(text) == found.tokenizer.encode(text) == again.encode(text)
    ]
    assert wrong == []


def assert_writes_what_it_read(found: tokenizer.Tokenizer, n: int) -> None:
    """The bytes of a text's tokens are the text's bytes."""
    for text in texts(n):
        data = b"".join(found.token_bytes(i) for i in found.encode(text))
        assert data == text.encode("utf-8", "replace")


# GPT-2's kind


def test_a_tiny_vocabulary(tmp_path: Path) -> None:
    write_vocab(tmp_path)
    found = read_vocabulary(tmp_path)
    assert isinstance(found.tokenizer, BPETokenizer)
    assert (found.ordinary_size, found.bos_id) == (263, None)
    assert_agrees(tmp_path, found, 3000)
    assert_writes_what_it_read(found.tokenizer, 1000)


@needs_real
def test_the_real_vocabulary(tmp_path: Path) -> None:
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_bytes((REAL / name).read_bytes())
    found = read_vocabulary(tmp_path)
    assert isinstance(found.tokenizer, BPETokenizer)
    assert_agrees(tmp_path, found, 4000)
    assert_writes_what_it_read(found.tokenizer, 1000)
    assert found.tokenizer.encode("Hello world") == [15496, 995]
    assert found.tokenizer.token_bytes(50256) == b""


@needs_real
def test_opt_through_the_real_merges(tmp_path: Path) -> None:
    """OPT's ids are GPT-2's tokens in another order behind four special ones."""
    vocab = json.loads((REAL / "vocab.json").read_text(encoding="utf-8"))
    ordinary = [name for name in vocab if name != "<|endoftext|>"]
    random.Random(1).shuffle(ordinary)
    names = ["<s>", "<pad>", "</s>", "<unk>", *ordinary, "madeupword0000"]
    (tmp_path / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(names)}))
    (tmp_path / "merges.txt").write_bytes((REAL / "merges.txt").read_bytes())
    settings = {"tokenizer_class": "GPT2Tokenizer", "add_bos_token": True}
    settings |= dict.fromkeys(("bos_token", "eos_token", "unk_token"), "</s>")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**settings, "pad_token": "<pad>"}))
    found = read_vocabulary(tmp_path)
    assert isinstance(found.tokenizer, BPETokenizer)
    assert found.bos_id == 2
    assert_agrees(tmp_path, found, 3000, "opt")
    assert_writes_what_it_read(found.tokenizer, 1000)
    assert found.tokenizer.token_bytes(2) == b""


def byte_level(**changes: Any) -> tokenizers.Tokenizer:
    """A tokenizer.json of GPT-2's kind."""
    vocab = tiny_vocab(())
    made = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=MERGES, **changes))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.post_processor = processors.ByteLevel(trim_offsets=False)
    made.add_special_tokens(["<|endoftext|>"])
    return made


def put(directory: Path, made: tokenizers.Tokenizer, **settings: Any) -> Vocabulary:
    """A checkpoint's tokenizer.json, read."""
    made.save(str(directory / "tokenizer.json"))
    values = {"tokenizer_class": "PreTrainedTokenizerFast", **settings}
    (directory / "tokenizer_config.json").write_text(json.dumps(values))
    return read_vocabulary(directory)


def test_a_byte_level_json_goes_through_tiktoken(tmp_path: Path) -> None:
    found = put(tmp_path, byte_level())
    assert isinstance(found.tokenizer, BPETokenizer)
    assert (found.ordinary_size, found.bos_id) == (263, None)
    assert found.tokenizer.vocab_size == 264
    assert_agrees(tmp_path, found, 1000)


def test_merges_as_lines_of_text(tmp_path: Path) -> None:
    """As tokenizer.json had them until 2024."""
    values = json.loads(byte_level().to_str())
    values["model"]["merges"] = [" ".join(pair) for pair in values["model"]["merges"]]
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))
    assert isinstance(read_vocabulary(tmp_path).tokenizer, BPETokenizer)


def prefixed(made: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return made


def lowered(made: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    made.normalizer = normalizers.Lowercase()
    return made


def with_words(made: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    made.add_tokens([AddedToken("<user>", normalized=False), "ello"])
    return made


def digits(made: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    return made


@pytest.mark.parametrize("change", [prefixed, lowered, with_words, digits])
def test_what_tiktoken_cannot_say_goes_through_the_library(
    change: Callable[[tokenizers.Tokenizer], tokenizers.Tokenizer], tmp_path: Path
) -> None:
    found = put(tmp_path, change(byte_level()))
    assert isinstance(found.tokenizer, JsonTokenizer)
    assert_agrees(tmp_path, found, 1000)


def test_vocabulary_lookups_before_merges_go_through_the_library(tmp_path: Path) -> None:
    found = put(tmp_path, byte_level(ignore_merges=True))
    assert isinstance(found.tokenizer, JsonTokenizer)
    assert 263 not in found.tokenizer.encode("<|endoftext|> <|endoftext|>")


def test_a_prefix_space_in_the_settings(tmp_path: Path) -> None:
    write_vocab(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(
        '{"add_prefix_space": true, "tokenizer_class": "GPT2Tokenizer"}'
    )
    found = read_vocabulary(tmp_path)
    assert isinstance(found.tokenizer, JsonTokenizer)
    assert_agrees(tmp_path, found, 1000)
    assert found.tokenizer.token_bytes(263) == b""


def test_added_words_are_found_in_a_text_and_added_special_tokens_are_not(tmp_path: Path) -> None:
    write_vocab(tmp_path)
    (tmp_path / "added_tokens.json").write_text('{"<user>": 264, "<bot>": 265, "[PAD]": 266}')
    (tmp_path / "special_tokens_map.json").write_text('{"pad_token": "[PAD]"}')
    found = read_vocabulary(tmp_path)
    assert found.tokenizer.encode("<user>h[PAD]")[:2] == [264, tiny_vocab()["h"]]
    assert 266 not in found.tokenizer.encode("[PAD]")
    assert found.tokenizer.token_bytes(265) == b"<bot>"
    assert found.tokenizer.token_bytes(266) == b""
    assert (found.ordinary_size, found.tokenizer.vocab_size) == (266, 267)


def test_an_added_special_token_beyond_the_network_does_no_harm(tmp_path: Path) -> None:
    write_vocab(tmp_path)
    (tmp_path / "added_tokens.json").write_text('{"[PAD]": 264}')
    (tmp_path / "special_tokens_map.json").write_text('{"pad_token": {"content": "[PAD]"}}')
    found = read_vocabulary(tmp_path)
    assert isinstance(found.tokenizer, BPETokenizer)
    assert found.ordinary_size == 263


# Merges that tiktoken would read otherwise


@needs_real
def test_gpt2_is_canonical() -> None:
    merges = tokenizer_files.read_merges((REAL / "merges.txt").read_text(encoding="utf-8"))
    assert len(merges) == 50_000
    assert is_canonical(merges)


@pytest.mark.parametrize(
    "merges",
    [
        [("a", "b"), ("ab", "c"), ("b", "c"), ("a", "bc")],  # the same token twice
        [("b", "c"), ("a", "b"), ("ab", "c")],  # abc is never reached from ab
        [("a", "b"), ("c", "d"), ("b", "cd")],
        [("x", "yz")],  # yz is never made
    ],
)
def test_merges_that_are_not_canonical(merges: list[tuple[str, str]], tmp_path: Path) -> None:
    tokens = list(dict.fromkeys([*byte_alphabet(), *(a + b for a, b in merges), "yz"]))
    canonical = is_canonical(merges)
    (tmp_path / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}))
    (tmp_path / "merges.txt").write_text("\n".join(" ".join(pair) for pair in merges))
    found = read_vocabulary(tmp_path)
    assert isinstance(found.tokenizer, BPETokenizer) == canonical
    theirs = reference(tmp_path)
    dice = random.Random(0)
    for _ in range(500):
        text = "".join(dice.choices("abcdxyz ", k=9))
        assert found.tokenizer.encode(text) == theirs(text)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_tiktoken_merges_as_the_library_does_where_it_is_canonical(data: st.DataObject) -> None:
    """Random merges over few letters, whatever their order."""
    made = ["a", "b", "c", " "]
    merges: list[tuple[str, str]] = []
    for _ in range(data.draw(st.integers(1, 8))):
        pair = (data.draw(st.sampled_from(made)), data.draw(st.sampled_from(made)))
        if "".join(pair) not in made:
            merges.append(pair)
            made.append("".join(pair))
    merges = [(a.replace(" ", "Ġ"), b.replace(" ", "Ġ")) for a, b in merges]
    vocab = {t: i for i, t in enumerate([*byte_alphabet(), *(a + b for a, b in merges)])}
    library = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=merges))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if is_canonical(merges):
        for _ in range(5):
            text = data.draw(st.text("abc ", max_size=20))
            assert BPETokenizer(vocab, merges).encode(text) == library.encode(text).ids


# Other kinds


def word_piece() -> tokenizers.Tokenizer:
    """BERT's kind, as Chinese GPT-2 models have it."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hel", "##lo", "world", ",", "你", "好"]
    letters = [*"abcdefghijklmnopqrstuvwxyz<>/|[]"]
    words += [*letters, *(f"##{c}" for c in letters)]
    vocab = {word: i for i, word in enumerate(dict.fromkeys(words))}
    made = tokenizers.Tokenizer(models.WordPiece(vocab=vocab, unk_token="[UNK]"))  # noqa: S106
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece(cleanup=False)
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    made.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    return made


def sentence_piece() -> tokenizers.Tokenizer:
    """A unigram model with byte fallback, as GPT-SW3 and rinna have it."""
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0)]
    pieces += [(f"<0x{i:02X}>", -9.0) for i in range(256)]
    pieces += [(c, -5.0) for c in "▁abcdefghijklmnopqrstuvwxyz</>"]
    pieces += [("▁hello", -2.0), ("▁wor", -3.0), ("ld", -3.0), ("▁▁", -4.0)]
    made = tokenizers.Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    made.add_special_tokens(["<unk>", "<s>", "</s>"])
    return made


def llama() -> tokenizers.Tokenizer:
    """Byte pairs over sentence pieces."""
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2}
    vocab |= {f"<0x{i:02X}>": i + 3 for i in range(256)}
    merges = [("▁", "h"), ("▁h", "e"), ("l", "l"), ("o", "r")]
    for token in [*"▁abcdefghijklmnopqrstuvwxyz<>/", *(a + b for a, b in merges)]:
        vocab[token] = len(vocab)
    made = tokenizers.Tokenizer(
        models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)  # noqa: S106
    )
    made.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    made.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    made.add_special_tokens(["<unk>", "<s>", "</s>"])
    return made


def old_pairs() -> tokenizers.Tokenizer:
    """Byte pairs with a mark at the end of a word."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    merges = [("l", "o</w>"), ("h", "e")]
    tokens = ["<unk>", *letters, *(f"{c}</w>" for c in letters), *(a + b for a, b in merges)]
    made = tokenizers.Tokenizer(
        models.BPE(
            vocab={t: i for i, t in enumerate(tokens)},
            merges=merges,
            unk_token="<unk>",  # noqa: S106
            end_of_word_suffix="</w>",
        )
    )
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.decoder = decoders.BPEDecoder(suffix="</w>")
    made.add_special_tokens(["<unk>"])
    return made


def words() -> tokenizers.Tokenizer:
    """Whole words and nothing else."""
    vocab = {"[UNK]": 0, "hello": 1, "world": 2, "</s>": 3}
    made = tokenizers.Tokenizer(models.WordLevel(vocab=vocab, unk_token="[UNK]"))  # noqa: S106
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.add_special_tokens(["[UNK]", "</s>"])
    return made


KINDS = [word_piece, sentence_piece, llama, old_pairs, words, byte_level]


def no_special_names(text: str) -> bool:
    """Whether transformers itself would not take a part of this for a special token."""
    return not any(name in text for name in ("</s>", "<s>", "<unk>", "[UNK]", "[CLS]", "[SEP]"))


@pytest.mark.parametrize("kind", KINDS)
def test_other_kinds_agree_with_transformers(
    kind: Callable[[], tokenizers.Tokenizer], tmp_path: Path
) -> None:
    found = put(tmp_path, kind())
    theirs = reference(tmp_path)
    for text in filter(no_special_names, texts(1000)):
        assert found.tokenizer.encode(text) == theirs(text), text


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    text=st.lists(
        st.sampled_from(
            [
                "</s>",
                "<s>",
                "<unk>",
                "[CLS]",
                "[MASK]",
                "[SEP]",
                "<|endoftext|>",
                "＜/s＞",
                " ",
                "he",
            ]
        )
        | st.text(max_size=3)
    ).map("".join)
)
@example("</s>")
@example("[MASK]")
@example("<|endoftext|>")
@pytest.mark.parametrize("kind", KINDS)
def test_a_text_never_becomes_a_special_token(
    kind: Callable[[], tokenizers.Tokenizer], text: str
) -> None:
    made = kind()
    found = JsonTokenizer(made.to_str())
    special = {i for i, token in made.get_added_tokens_decoder().items() if token.special}
    unknown = {made.token_to_id(name) for name in ("<unk>", "[UNK]")}
    assert not (set(found.encode(text)) & (special - unknown))
    assert all(found.token_bytes(i) == b"" for i in special)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=st.text(st.characters()))
@example("\ud800")
@example("a\udfffb")
@example("\ud83d\ude00")
def test_any_text_comes_back(text: str) -> None:
    """Lone surrogates become U+FFFD; everything else is what it was."""
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    vocab = tiny_vocab(())
    for found in (BPETokenizer(vocab, MERGES), JsonTokenizer(byte_level().to_str())):
        ids = found.encode(text)
        assert b"".join(found.token_bytes(i) for i in ids).decode() == whole
    pieces = JsonTokenizer(sentence_piece().to_str())
    joined = b"".join(pieces.token_bytes(i) for i in pieces.encode(text)).decode()
    blank = whole.replace("▁", " ").replace("</s>", "").replace("<s>", "").replace("<unk>", "")
    assert joined.lstrip(" ") == blank.lstrip(" ") or "<" in whole


def test_bytes_of_other_kinds() -> None:
    pieces = JsonTokenizer(sentence_piece().to_str())
    assert pieces.token_bytes(0) == b""
    assert pieces.token_bytes(3 + 0xE6) == b"\xe6"
    assert b"".join(map(pieces.token_bytes, pieces.encode("hello 東"))) == " hello 東".encode()
    bert = JsonTokenizer(word_piece().to_str())
    data = b"".join(map(bert.token_bytes, bert.encode("Hello, world 你好")))
    assert data == " hello , world你好".encode()
    old = JsonTokenizer(old_pairs().to_str())
    assert b"".join(map(old.token_bytes, old.encode("hello world"))) == b"hello world "
    assert JsonTokenizer(words().to_str()).token_bytes(2) == b" world"
    assert JsonTokenizer(words().to_str()).token_bytes(99) == b""


def test_what_stands_in_front_of_a_text(tmp_path: Path) -> None:
    assert put(tmp_path, sentence_piece()).bos_id == 1
    assert put(tmp_path, word_piece()).bos_id == 2
    assert put(tmp_path, byte_level()).bos_id is None


# What cannot be read


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("tokenizer.json", "", "not JSON"),
        ("tokenizer.json", "[" * 100_000, "not JSON"),
        ("tokenizer.json", "[]", "does not describe a tokenizer"),
        ("tokenizer.json", "{}", "does not describe a tokenizer"),
        ("tokenizer.json", '{"model": {"type": "BPE"}}', "cannot be read"),
        ("tokenizer.json", '{"model": {"type": "Magic"}}', "cannot be read"),
        ("vocab.json", "[]", "not a table"),
        ("vocab.json", "{", "not valid JSON"),
        ("vocab.json", '{"a": "b"}', "not a table"),
        ("vocab.json", '{"a": -1}', "not a table"),
        ("vocab.json", '{"a": 1e9}', "not a table"),
        ("vocab.json", "{}", "cannot be used"),
        ("merges.txt", "a b c\n", "not a pair"),
        ("merges.txt", "x yz\n", "cannot be used"),
        ("tokenizer_config.json", "{", "cannot read"),
        ("added_tokens.json", '{"<user>": 999}', "cannot have the id"),
    ],
)
def test_files_that_are_broken(name: str, text: str, match: str, tmp_path: Path) -> None:
    write_vocab(tmp_path)
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=match):
        read_vocabulary(tmp_path)


def test_a_decoder_that_nobody_knows() -> None:
    values = json.loads(byte_level().to_str())
    values["decoder"] = {
        "type": "CTC",
        "pad_token": "x",
        "word_delimiter_token": "|",
        "cleanup": True,
    }
    with pytest.raises(UserError, match=r"decoder .*CTC"):
        JsonTokenizer(json.dumps(values))


def test_a_doubled_id_is_an_error_and_no_panic() -> None:
    vocab = {**tiny_vocab(()), "he": 5}
    with pytest.raises(UserError, match="two tokens with the same id"):
        BPETokenizer(vocab, MERGES)


def test_a_million_blanks_are_an_error_and_no_panic() -> None:
    found = BPETokenizer(tiny_vocab(()), MERGES)
    assert len(found.encode(" " * 400_000 + "x")) == 400_001
    with pytest.raises(UserError, match="blanks in a row"):
        found.encode(" " * 1_100_000 + "x")


def test_reading_a_vocabulary_needs_no_transformers(tmp_path: Path) -> None:
    write_vocab(tmp_path)
    code = (
        "import sys, pathlib, convert.write, convert.vocabulary as v\n"
        "v.read_vocabulary(pathlib.Path(sys.argv[1]))\n"
        "assert not {'transformers', 'huggingface_hub'} & sys.modules.keys()\n"
    )
    repository = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=repository, check=True)
