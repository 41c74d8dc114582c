"""Tokenizers of Llama, Mistral, Qwen, SmolLM and Pythia: the ids and the text of transformers."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import transformers
from tokenizers import (
    AddedToken,
    Regex,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from convert.vocabulary import read_vocabulary
from gpt import tokenizer_files
from gpt.checkpoint import load
from gpt.errors import UserError
from gpt.generate import Limits, generate, score
from gpt.settings import Sampling
from gpt.tokenizer import BPETokenizer, StreamDecoder, Tokenizer, decode
from tests.convert.conftest import llama_like
from tests.convert.test_vocabulary import texts

Made = tokenizers.Tokenizer
CORPUS = [
    "the quick brown fox jumps over the lazy dog, and the other dog sleeps there",
    "I've 1234 apples and 56 pears; we'll see what they cost in 2026: 3.50",
    "def main():\n    return 0\n\n\tif x:\r\n        pass",
    "Straße naïve café, 東京は晴れ、東京は雨。 hello world hello hello world",
]
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace("{1,3}", "")
UNMARKED = [text for text in texts(700) if not any(c in text for c in ("<s>", "</s>", "<unk>"))]
"""Odd texts without names that transformers itself would not read as characters."""


def byte_level(splitter: Any, special: list[str], **options: Any) -> Made:
    """Byte pairs over all bytes, trained on the corpus, with ids of special tokens at the end."""
    made = Made(models.BPE())
    made.pre_tokenizer = splitter
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=340, initial_alphabet=alphabet, show_progress=False)
    )
    model = json.loads(made.to_str())["model"]
    pairs = [(a, b) for a, b in model["merges"]]
    made.model = models.BPE(vocab=model["vocab"], merges=pairs, **options)
    made.decoder = decoders.ByteLevel()
    made.post_processor = processors.ByteLevel(trim_offsets=False)
    made.add_special_tokens(special)
    return made


def split(pattern: str) -> Any:
    """Cut by a regular expression, then write bytes in GPT-2's alphabet."""
    cut = pre_tokenizers.Split(Regex(pattern), "isolated")
    return pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(False, use_regex=False)])


@cache
def llama3() -> Made:
    """Llama 3: its rule, up to three digits together, and a token in front."""
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"]
    made = byte_level(split(LLAMA3), special, ignore_merges=True)
    first = special[0]
    front = processors.TemplateProcessing(
        single=f"{first} $A", special_tokens=[(first, made.token_to_id(first))]
    )
    made.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), front])
    return made


@cache
def qwen2() -> Made:
    """Qwen 2: composed characters, digits one by one, and words that were added."""
    made = byte_level(split(QWEN2), ["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    made.normalizer = normalizers.NFC()
    made.add_tokens([AddedToken("<think>", normalized=False)])
    return made


@cache
def smollm() -> Made:
    """SmolLM: digits one by one, then GPT-2's rule; its special tokens have the first ids."""
    splitter = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    return byte_level(splitter, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"])


@cache
def pythia() -> Made:
    """GPT-NeoX: composed characters, GPT-2's rule, and runs of blanks that were added."""
    made = byte_level(pre_tokenizers.ByteLevel(False), ["<|endoftext|>", "<|padding|>"])
    made.normalizer = normalizers.NFC()
    made.add_tokens([AddedToken(" " * n, normalized=False) for n in (4, 3, 2)])
    return made


def sentence_piece() -> Made:
    """Pieces with a sign for the blank, trained on the corpus, over tokens of single bytes."""
    made = Made(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=150, show_progress=False))
    model = json.loads(made.to_str())["model"]
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    vocab = {name: i for i, name in enumerate([*names, *model["vocab"]])}
    merges = [(a, b) for a, b in model["merges"]]
    made = Made(
        models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)  # noqa: S106
    )
    back = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    made.decoder = decoders.Sequence([*back, decoders.Strip(" ", 1, 0)])
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    made.add_special_tokens(["<unk>", "<s>", "</s>"])
    return made


@cache
def llama2() -> Made:
    """Llama 1 and 2, TinyLlama, Mistral: a blank before every text, by the normaliser."""
    made = sentence_piece()
    blanks = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    made.normalizer = normalizers.Sequence(blanks)
    return made


@cache
def mistral() -> Made:
    """The newer form: a blank before a text that has none, by the pre-tokenizer."""
    made = sentence_piece()
    made.pre_tokenizer = pre_tokenizers.Metaspace("▁", "first", split=False)
    return made


KINDS = [llama3, qwen2, smollm, pythia, llama2, mistral]
kinds = pytest.mark.parametrize("kind", KINDS)


def put(directory: Path, made: Made, **settings: Any) -> Tokenizer:
    """A checkpoint's tokenizer as it is after conversion."""
    directory.mkdir(exist_ok=True)
    made.save(str(directory / "tokenizer.json"))
    values = {"tokenizer_class": "PreTrainedTokenizerFast", **settings}
    (directory / "tokenizer_config.json").write_text(json.dumps(values))
    saved = directory / "ours"
    saved.mkdir(exist_ok=True)
    read_vocabulary(directory).tokenizer.save(saved)
    return tokenizer_files.load(saved)


def reference(directory: Path) -> Any:
    """The tokenizer in transformers."""
    (directory / "config.json").write_text('{"model_type": "llama"}')
    return transformers.AutoTokenizer.from_pretrained(directory, local_files_only=True)


@kinds
def test_ids_and_texts_are_those_of_transformers(kind: Callable[[], Made], tmp_path: Path) -> None:
    found = put(tmp_path, kind())
    theirs = reference(tmp_path)
    for text in UNMARKED:
        ids = theirs.encode(text, add_special_tokens=False, split_special_tokens=True)
        assert found.encode(text) == ids, text
        again = theirs.decode(ids, clean_up_tokenization_spaces=False)
        assert decode(found, ids) == again, text
        stream = StreamDecoder(drops_blank=found.drops_blank)
        parts = [stream.feed(found.token_bytes(i)) for i in ids]
        assert "".join(parts) + stream.feed(b"", final=True) == again, text


@kinds
def test_special_and_added_tokens_are_known(kind: Callable[[], Made], tmp_path: Path) -> None:
    made = kind()
    found = put(tmp_path, made)
    assert found.added_tokens == reference(tmp_path).added_tokens_encoder
    for i, token in made.get_added_tokens_decoder().items():
        assert found.token_bytes(i) == (b"" if token.special else token.content.encode())
        if token.special and token.content != "<unk>":
            assert i not in found.encode(f"a{token.content}b {token.content}")
            assert i in found.encode_special(f"a{token.content}b")


@kinds
def test_a_text_that_continues_another_gets_no_blank(
    kind: Callable[[], Made], tmp_path: Path
) -> None:
    found = put(tmp_path, kind())
    sign = "▁" if kind in (llama2, mistral) else ""
    composes = kind in (qwen2, pythia)
    for text in UNMARKED:
        whole = f"the dog{text}".encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        expected = unicodedata.normalize("NFC", whole) if composes else whole
        ids = [*found.encode("the dog"), *found.encode_more(text)]
        ours = unicodedata.normalize("NFC", decode(found, ids)) if composes else decode(found, ids)
        assert ours == (expected.replace(sign, " ") if sign else expected), text


@pytest.mark.parametrize("kind", [llama2, mistral])
def test_a_sentence_piece_by_hand(kind: Callable[[], Made], tmp_path: Path) -> None:
    """The blank before a text, and a character that has no piece: its bytes."""
    found = put(tmp_path, kind())
    ids = found.encode("the 猫")
    assert [found.token_bytes(i) for i in ids] == [b" the", b" ", b"\xe7", b"\x8c", b"\xab"]
    assert decode(found, ids) == "the 猫"
    assert decode(found, ids, whole=False) == " the 猫"
    assert decode(found, ids[:3]) == "the \ufffd"
    assert found.token_bytes(3 + 0x0A) == b"\n"
    assert found.encode_more("\x0b\x07") == [3 + 0x0B, 3 + 0x07]
    assert found.encode_more(" the") == found.encode("the") == ids[:1]
    assert b"".join(map(found.token_bytes, found.encode_more("the"))) == b"the"
    # A blank in the text: the normaliser adds one more, the pre-tokenizer does not.
    assert decode(found, found.encode(" the")) == (" the" if kind is llama2 else "the")


def test_the_stream_of_an_empty_prompt_begins_without_the_blank(
    tmp_path: Path, converted: Any
) -> None:
    made = llama2()
    source = tmp_path / "theirs"
    put(source, made)
    llama_like("llama", vocab_size=made.get_vocab_size()).save_pretrained(source)
    context = load(converted(source)[0]).new_context()
    the = made.get_vocab()["▁the"]
    first, second, third = score(context, [1, the, the])
    assert (first.text, second.text, third.text) == ("", "the", " the")
    assert (second.bytes, third.bytes) == (b" the", b" the")
    sampling = Sampling(temperature=0, boosted=(((the,), 1000.0),))
    steps = list(generate(context, context.encode(""), sampling, Limits(2)))
    assert [step.text for step in steps] == ["the", " the"]


@pytest.mark.parametrize(
    ("kind", "bos"), [(llama3, "<|begin_of_text|>"), (llama2, "<s>"), (qwen2, None), (pythia, None)]
)
def test_what_stands_in_front_and_what_ends(
    kind: Callable[[], Made], bos: str | None, tmp_path: Path, converted: Any
) -> None:
    made = kind()
    source = tmp_path / "theirs"
    put(source, made, bos_token="<s>", add_bos_token=False)  # noqa: S106
    ids = [made.get_vocab_size() - 1, made.get_vocab_size() - 2]
    llama_like("llama", vocab_size=made.get_vocab_size(), eos_token_id=ids).save_pretrained(source)
    directory, notices = converted(source)
    assert notices == []
    checkpoint = load(directory)
    assert checkpoint.model.config.bos_id == (made.token_to_id(bos) if bos else None)
    assert checkpoint.ends == set(ids)
    theirs = reference(source).encode("the dog")
    context = checkpoint.new_context()
    assert context.encode("the dog") == theirs
    steps = list(score(context, theirs))
    assert "".join(step.text for step in steps) == "the dog"


def test_added_tokens_that_only_the_settings_have(tmp_path: Path) -> None:
    made = llama2()
    size = made.get_vocab_size()
    decoder = {
        str(size): {"content": "<|im_start|>", "special": True},
        str(size + 1): {"content": "<tool>", "special": False, "normalized": False},
        "2": {"content": "</s>", "special": True},
        "9999": {"content": "<far>", "special": True},
    }
    notices: list[str] = []
    put(tmp_path, made, added_tokens_decoder=decoder)
    found = read_vocabulary(tmp_path, notices.append).tokenizer
    del decoder["9999"]
    put(tmp_path, made, added_tokens_decoder=decoder)
    theirs = reference(tmp_path)
    assert found.added_tokens == theirs.added_tokens_encoder
    assert found.token_bytes(size) == b""
    assert found.token_bytes(size + 1) == b"<tool>"
    assert found.encode("a<tool>b") == theirs.encode("a<tool>b", add_special_tokens=False)
    assert notices == ["the added token '<far>' cannot have the id 9999; ignored"]


@pytest.mark.parametrize("name", ["Qwen2Tokenizer", "GPTNeoXTokenizerFast"])
def test_pairs_with_a_rule_of_their_own_need_a_json(name: str, tmp_path: Path) -> None:
    made = smollm()
    made.model.save(str(tmp_path))
    read_vocabulary(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name}))
    with pytest.raises(UserError, match=f"{name} cuts texts by a rule"):
        read_vocabulary(tmp_path)


def test_plain_byte_pairs_still_run_in_tiktoken(tmp_path: Path) -> None:
    made = byte_level(pre_tokenizers.ByteLevel(False), ["<|endoftext|>"])
    assert isinstance(put(tmp_path, made), BPETokenizer)
