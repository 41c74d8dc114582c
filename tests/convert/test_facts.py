"""What comes with the weights and changes a text that is drawn: read as transformers reads it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

from convert.chat_template import read_chat_template
from convert.directory import CHAT_TEMPLATE, GENERATION
from convert.generation import read_special_tokens, valid_token_ids
from convert.vocabulary import read_vocabulary
from gpt.chat import turn
from gpt.chat_template import read_template
from gpt.checkpoint import load
from gpt.generate import Limits, generate
from gpt.models import read_config, read_manifest
from gpt.settings import Sampling
from gpt.tokenizer import BPETokenizer
from tests.convert.conftest import (
    IDS,
    MERGES,
    assert_same,
    gpt2,
    opt,
    saved,
    tiny_vocab,
    write_vocab,
)

Converted = Callable[..., tuple[Path, list[str]]]

TURNS = "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"
ROLES = "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}"


def add_file(source: Path, name: str, values: Any) -> None:
    text = values if isinstance(values, str) else json.dumps(values)
    (source / name).write_text(text, encoding="utf-8")


# Every file that save_pretrained writes


def test_every_file_that_transformers_writes_is_known(tmp_path: Path) -> None:
    """A new one must be looked at: does it change a text that is drawn?"""
    source = saved(gpt2(), tmp_path / "theirs")
    tokens = transformers.AutoTokenizer.from_pretrained(source)
    tokens.chat_template = {"default": TURNS, "tool_use": ROLES}
    tokens.add_tokens(["<x>"])
    tokens.save_pretrained(source)
    written = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
    assert written == {
        "config.json",
        "model.safetensors",
        "vocab.json",
        "merges.txt",
        "tokenizer.json",
        "tokenizer_config.json",
        GENERATION,
        CHAT_TEMPLATE,
        "additional_chat_templates/tool_use.jinja",  # for tools, of which we have none
    }


@pytest.mark.parametrize("save_jinja_files", [True, False])
@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (TURNS, TURNS),
        (ROLES, ROLES),
        ({"default": TURNS, "tool_use": ROLES}, TURNS),
        ({"default": ROLES, "tool_use": TURNS}, ROLES),
        ({"tool_use": TURNS}, None),
        (None, None),
    ],
)
def test_a_template_is_found_wherever_it_lies(
    template: Any,
    expected: str | None,
    save_jinja_files: bool,
    tmp_path: Path,
    converted: Converted,
) -> None:
    source = saved(gpt2(eos_token_id=263), tmp_path / "theirs")
    tokens = transformers.AutoTokenizer.from_pretrained(source)
    tokens.chat_template = template
    tokens.save_pretrained(source, save_jinja_files=save_jinja_files)
    directory, notices = converted(source)
    origin = read_manifest(directory).origin
    assert origin["chat_template"] is (expected is not None)
    assert not origin["ends_turns"]
    found = read_template(directory)
    assert (found and found.text) == expected
    assert not notices
    if found:
        assert found.tokens == tokens.special_tokens_map
        talk = [{"role": "user", "content": "hello"}]
        theirs = tokens.apply_chat_template(talk, add_generation_prompt=True, return_dict=False)
        assert turn(load(directory), [], "hello", template=found)[0] == theirs


def found_in(directory: Path, config: dict[str, Any], notices: list[str]) -> str | None:
    """The template of a directory with this tokenizer_config.json."""
    tokens = BPETokenizer(tiny_vocab(), MERGES)
    read = read_chat_template(directory, config, tokens, {"eos_token": 263}, notices.append)
    return read.template.text if read else None


def test_a_file_of_its_own_comes_before_the_settings(tmp_path: Path) -> None:
    add_file(tmp_path, CHAT_TEMPLATE, TURNS)
    assert found_in(tmp_path, {"chat_template": ROLES}, []) == TURNS


@pytest.mark.parametrize(
    "named", [{}, {"eos_token": "<x>"}, {"eos_token": {"content": "<x>", "lstrip": True}}]
)
def test_a_template_gets_the_names_of_special_tokens(named: Any, tmp_path: Path) -> None:
    tokens, config = BPETokenizer(tiny_vocab(), MERGES), {"chat_template": TURNS, **named}
    read = read_chat_template(
        tmp_path, config, tokens, {"bos_token": None, "eos_token": 263}, pytest.fail
    )
    assert read and read.template.tokens == {"eos_token": "<x>" if named else "<|endoftext|>"}
    assert read.end == (None if named else 263)


def test_the_end_of_the_templates_turn_ends_a_text(tmp_path: Path, converted: Converted) -> None:
    source = saved(gpt2(eos_token_id=263, vocab_size=300), tmp_path / "theirs")
    add_file(source, "added_tokens.json", {"<|im_end|>": 264})
    add_file(source, "special_tokens_map.json", {"additional_special_tokens": ["<|im_end|>"]})
    add_file(source, CHAT_TEMPLATE, TURNS.replace("eos_token", "'<|im_end|>'"))
    directory, _ = converted(source)
    assert load(directory).ends == {263, 264}
    add_file(source, CHAT_TEMPLATE, TURNS)
    directory, _ = converted(source)
    assert load(directory).ends == {263}


BAD_TEMPLATES = {
    "half": ("{% for m in", "the chat template fails"),
    "unknown tag": ("{% frobnicate %}", "the chat template fails"),
    "long": ("x" * 300_000, "at most 262,144 are read"),
    "deep": ("{{" + "(" * 100_000 + "}}", "nested too deeply"),
    "unknown name": ("{{ m.role }}", "'m' is undefined"),
    "silent": ("the eos_token", "does not show what a person writes"),
    "half a character": ("\ud800", "does not show what a person writes"),
    "number": (5, "which is not a text"),
    "table": ({"default": TURNS}, "which is not a text"),
    "list of numbers": ([{"name": "default", "template": 5}], "which is not a text"),
}


@pytest.mark.parametrize(("template", "match"), BAD_TEMPLATES.values(), ids=BAD_TEMPLATES)
def test_a_template_that_is_none_gets_a_notice(template: Any, match: str, tmp_path: Path) -> None:
    notices: list[str] = []
    assert found_in(tmp_path, {"chat_template": template}, notices) is None
    assert len(notices) == 1
    assert match in notices[0]


# Settings of generation


def drawn(directory: Path, n: int) -> list[int]:
    """What our model draws greedily after IDS."""
    loaded = load(directory)
    steps = generate(loaded.new_context(), IDS[0].tolist(), Sampling(temperature=0.0), Limits(n))
    return [step.token_id for step in steps]


@pytest.mark.parametrize("place", [GENERATION, "config.json"])
@pytest.mark.parametrize("n_ends", [0, 1, 2])
def test_a_text_ends_where_generate_ends_it(
    place: str, n_ends: int, tmp_path: Path, converted: Converted
) -> None:
    model = gpt2(eos_token_id=299)
    plain = model.generate(IDS, do_sample=False, max_new_tokens=20, pad_token_id=0, eos_token_id=-1)
    path = plain[0, IDS.size(1) :].tolist()
    ends = [299, path[5]][:n_ends] if n_ends != 1 else [path[5]]
    source = saved(model, tmp_path / "theirs")
    values = json.loads((source / place).read_text())
    add_file(source, place, {**values, "eos_token_id": ends if n_ends != 1 else ends[0]})
    if place == "config.json":
        (source / GENERATION).unlink()
    again = transformers.AutoModelForCausalLM.from_pretrained(source)
    expected = again.generate(IDS, do_sample=False, max_new_tokens=20, pad_token_id=0)
    found = drawn(converted(source)[0], 20)
    assert found == expected[0, IDS.size(1) :].tolist()
    assert len(found) == (path.index(path[5]) + 1 if n_ends else 20)


def test_settings_that_a_model_does_not_carry_are_told(
    tmp_path: Path, converted: Converted
) -> None:
    source = saved(gpt2(eos_token_id=5), tmp_path / "theirs")
    settings = {
        "do_sample": True,
        "temperature": 0.7,
        "top_p": 1.0,
        "no_repeat_ngram_size": 3,
        "num_beams": 1,
        "max_length": 50,
    }
    add_file(source, GENERATION, {"eos_token_id": 5, **settings})
    expected = [
        "generation_config.json sets temperature 0.7; a converted model does not keep such "
        "settings, so set them when you generate",
        "generation_config.json sets no_repeat_ngram_size 3, which this program does not support",
    ]
    assert converted(source)[1] == expected
    add_file(source, GENERATION, {"eos_token_id": 5, **settings, "do_sample": False})
    assert converted(source)[1] == expected[1:]


@pytest.mark.parametrize("text", ["", "{", "[]", "5", "[" * 100_000])
def test_settings_that_are_none_get_a_notice(
    text: str, tmp_path: Path, converted: Converted
) -> None:
    source = saved(gpt2(eos_token_id=5), tmp_path / "theirs")
    add_file(source, GENERATION, text)
    directory, notices = converted(source)
    assert read_config(directory).eos_id == 5
    assert len(notices) == 1
    assert GENERATION in notices[0]


_anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@given(_anything)
def test_any_value_is_ids_or_a_notice(value: Any) -> None:
    notices: list[str] = []
    found = valid_token_ids("eos_token_id", value, 300, notices.append)
    assert all(type(i) is int and 0 <= i < 300 for i in found)
    parts = [] if value is None else value if isinstance(value, list) else [value]
    good = [each for each in parts if type(each) is int and 0 <= each < 300]
    assert len(notices) == (len(good) + parts.count(None) < len(parts))
    assert all(len(notice) < 200 for notice in notices)


@given(
    st.dictionaries(st.sampled_from(["temperature", "eos_token_id", "suppress_tokens"]), _anything)
)
def test_any_settings_are_read(values: dict[str, Any]) -> None:
    read_special_tokens(
        Path("/nonexistent"), {**values, "do_sample": True}, {}, 300, lambda _: None
    )


# A byte order mark


BOM_FILES = {
    "config.json": None,
    "vocab.json": None,
    "merges.txt": None,
    GENERATION: None,
    "tokenizer_config.json": {"add_bos_token": True},
    "special_tokens_map.json": {"bos_token": "<|endoftext|>"},
    "added_tokens.json": {"<x>": 264},
    CHAT_TEMPLATE: TURNS,
    "model.safetensors.index.json": None,
}


def test_a_bom_is_skipped(tmp_path: Path, converted: Converted) -> None:
    model = gpt2(eos_token_id=263)
    source = saved(model, tmp_path / "theirs", max_shard_size="10KB")
    for name, values in BOM_FILES.items():
        if values is not None:
            add_file(source, name, values)
        path = source / name
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    directory, notices = converted(source)
    assert_same(model, directory)
    config = read_config(directory)
    assert (config.bos_id, config.eos_id) == (263, 263)
    assert read_manifest(directory).origin["chat_template"] is True
    assert notices == []
    tokens = load(directory).tokenizer
    assert tokens.encode("hello<x>") == [*tokens.encode("hello"), 264]


def test_a_bom_in_a_tokenizer_json(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("\ufeff" + byte_level(), encoding="utf-8")
    assert read_vocabulary(tmp_path).ordinary_size == 263


# What stands in front of a text


def byte_level(processor: Any = None) -> str:
    """A tokenizer.json of GPT-2's kind."""
    tokens = Tokenizer(models.BPE(vocab=tiny_vocab(("<s>", "<pad>", "</s>")), merges=MERGES))
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokens.decoder = decoders.ByteLevel()
    tokens.add_special_tokens([AddedToken(name, special=True) for name in ("<s>", "<pad>", "</s>")])
    if processor is not None:
        tokens.post_processor = processor
    return str(tokens.to_str())


def template() -> Any:
    return processors.TemplateProcessing(single="</s> $A", special_tokens=[("</s>", 265)])


PROCESSORS: dict[str, Any] = {
    "null": None,
    "byte level": processors.ByteLevel(),
    "template": template(),
    "both": processors.Sequence([processors.ByteLevel(), template()]),
}


@pytest.mark.parametrize("add", [..., True, False, None])
@pytest.mark.parametrize("files", ["pairs", *PROCESSORS])
@pytest.mark.parametrize("make", [gpt2, opt])
def test_the_token_in_front_is_the_one_that_transformers_puts_there(
    make: Callable[..., Any], files: str, add: Any, tmp_path: Path, converted: Converted
) -> None:
    source = tmp_path / "theirs"
    make(bos_token_id=0, eos_token_id=2).save_pretrained(source)
    if files == "pairs":
        write_vocab(source, tiny_vocab(("<s>", "<pad>", "</s>")))
    else:
        add_file(source, "tokenizer.json", byte_level(PROCESSORS[files]))
    settings = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "</s>")
    settings |= {"tokenizer_class": "GPT2Tokenizer", "pad_token": "<pad>"}
    add_file(
        source,
        "tokenizer_config.json",
        settings if add is ... else {**settings, "add_bos_token": add},
    )
    theirs = transformers.AutoTokenizer.from_pretrained(source)("hello")["input_ids"]
    directory, notices = converted(source)
    assert load(directory).new_context().encode("hello") == theirs
    assert notices == []


# Values of a wrong kind


WRONG: dict[str, tuple[str, Any]] = {
    "eos as text": ("config.json", {"eos_token_id": "5"}),
    "eos as number": ("config.json", {"eos_token_id": 2.5}),
    "eos as table": ("config.json", {"eos_token_id": {"a": 1}}),
    "eos true": ("config.json", {"eos_token_id": [True]}),
    "eos outside": ("config.json", {"eos_token_id": [4, 10**30]}),
    "pad as text": ("config.json", {"pad_token_id": "5"}),
    "bos flag": ("tokenizer_config.json", {"add_bos_token": "yes"}),
    "space flag": ("tokenizer_config.json", {"add_prefix_space": 1}),
    "bos unknown": ("tokenizer_config.json", {"add_bos_token": True, "bos_token": "<nobody>"}),
    "decoder as list": ("tokenizer_config.json", {"added_tokens_decoder": [1]}),
    "decoder of texts": ("tokenizer_config.json", {"added_tokens_decoder": {"x": "<x>"}}),
    "decoder's id": ("tokenizer_config.json", {"added_tokens_decoder": {"9" * 5000: "<x>"}}),
    "decoder's token": ("tokenizer_config.json", {"added_tokens_decoder": {"264": 5}}),
    "settings as list": ("tokenizer_config.json", []),
    "names as list": ("special_tokens_map.json", []),
    "added as list": ("added_tokens.json", []),
    "added as text": ("added_tokens.json", {"<x>": "264"}),
    "added outside": ("added_tokens.json", {"<x>": -1, "<y>": None}),
    "template": ("tokenizer_config.json", {"chat_template": "{% if"}),
}


@pytest.mark.parametrize(("name", "values"), WRONG.values(), ids=WRONG)
def test_wrong_values_get_a_notice(
    name: str, values: Any, tmp_path: Path, converted: Converted
) -> None:
    model = gpt2(eos_token_id=5)
    source = saved(model, tmp_path / "theirs")
    if name == "config.json":
        (source / GENERATION).unlink()
        values = {**json.loads((source / name).read_text()), **values}
    add_file(source, name, values)
    directory, notices = converted(source)
    assert notices
    assert all(len(notice) < 300 for notice in notices)
    assert torch.isfinite(load(directory).model(IDS)).all()


def test_special_tokens_of_wrong_kinds_do_no_harm(tmp_path: Path, converted: Converted) -> None:
    source = saved(gpt2(eos_token_id=5), tmp_path / "theirs")
    wrong = {
        "bos_token": 5,
        "eos_token": [1, {"content": 3}],
        "additional_special_tokens": {"a": 1},
    }
    add_file(source, "tokenizer_config.json", wrong)
    add_file(source, "special_tokens_map.json", wrong)
    assert converted(source)[1] == []
