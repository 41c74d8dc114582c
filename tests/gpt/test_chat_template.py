"""The text of a template is the one of transformers, and a hostile template does no harm."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from jinja2.exceptions import TemplateError

from gpt import chat_sandbox, chat_template
from gpt.chat_template import LONGEST_TEMPLATE, ChatTemplate, read_template, render, tokens_of
from gpt.errors import UserError
from tests.gpt.chatting import (
    TEMPLATES,
    TOKENS,
    WITHOUT_SYSTEM,
    byte_level,
    messages,
    theirs,
)

TALKS = [
    ["hello"],
    ["  hello \n", "fine\n\nthanks ", " 12  34"],
    ["a", "b", "c", "d"],
    ["", "<|im_end|> é 😀 {{ x }}", "</s>"],
]
SMALL = {
    "tojson": "{{ messages | tojson }}{{ {'b': '<é>', 'a': [1, none]} | tojson(indent=2) }}",
    "sorted": "{{ {'b': 1, 'a': 2} | tojson(sort_keys=true, separators=(',', ':')) }}",
    "trimmed blocks": "  {% if true %}\n  a\n  {% endif %}\nb\n",
    "loop controls": "{% for i in range(9) %}{% if i == 2 %}{% continue %}{% endif %}"
    "{% if i == 5 %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "generation": "{% set a = 1 %}{% generation %}{% set a = 2 %}{{ a }}{% endgeneration %}{{ a }}",
    "tools": "{% if tools is not none %}tools{% endif %}{% if not documents %}none{% endif %}",
    "undefined": "{{ nobody }}{% if pad_token is defined %}pad{% endif %}",
    "namespace": "{% set ns = namespace(a=1) %}{% set ns.a = 3 %}{{ ns.a }}",
    "dict": "{{ dict(a=1).a }}",
    "methods": "{{ messages[0].content.split('e')[-1] ~ messages[0]['role'][:2].upper() }}",
    "macro": "{% macro say(m) %}<{{ m.content }}>{% endmacro %}{{ say(messages[0]) }}",
}


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("system", ["", " You are a cat. "])
@pytest.mark.parametrize("begun", [True, False])
def test_the_text_is_that_of_transformers(name: str, system: str, begun: bool) -> None:
    tokenizer = theirs(byte_level(), TEMPLATES[name])
    for contents in TALKS:
        talk = messages(*contents, system=system)
        ours = chat_sandbox.render
        if system and name in WITHOUT_SYSTEM:
            with pytest.raises(TemplateError, match="only user and assistant"):
                ours(TEMPLATES[name], talk, TOKENS, add_generation_prompt=begun)
            continue
        expected = tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=begun)
        assert ours(TEMPLATES[name], talk, TOKENS, add_generation_prompt=begun) == expected


@pytest.mark.parametrize("name", SMALL)
def test_each_part_of_the_dialect_is_that_of_transformers(name: str) -> None:
    talk = messages("hello there")
    expected = theirs(byte_level(), SMALL[name]).apply_chat_template(talk, tokenize=False)
    found = chat_sandbox.render(SMALL[name], talk, TOKENS, add_generation_prompt=False)
    assert found == expected


def test_the_time_is_now() -> None:
    found = chat_sandbox.render("{{ strftime_now('%Y %d') }}", messages("a"), {})
    assert found == time.strftime("%Y %d")


def test_conversations_are_rendered_in_a_process_of_their_own() -> None:
    template = ChatTemplate(TEMPLATES["mistral"], TOKENS)
    talks = [messages("é😀\ud800"), messages("a", system="b"), messages("a", "b", "c")]
    first, second, third = render(template, talks)
    assert first == "<s>[INST] é😀\ud800 [/INST]"
    assert str(second) == "the chat template fails: only user and assistant are supported"
    assert third == "<s>[INST] a [/INST]b</s>[INST] c [/INST]"


HOSTILE = {
    "endless loop": "{% for i in range(99999) %}{% for j in range(99999) %}"
    "{% endfor %}{% endfor %}",
    "endless number": "{{ 2 ** (10 ** 10) }}",
    "endless compilation": "{{ 7 ** (7 ** (7 ** 7)) }}",
    "long text": "{% for i in range(99999) %}{{ 'a' * 10 ** 6 }}{% endfor %}",
    "huge text": "{{ 'a' * 10 ** 10 }}",
    "doubling": "{% set ns = namespace(a='aa') %}{% for i in range(99) %}"
    "{% set ns.a = ns.a ~ ns.a %}{% endfor %}",
    "range": "{{ range(10 ** 9) | list }}",
    "recursion": "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
    "nested": "{{" + "(" * 100_000 + "}}",
    "half": "{% for m in",
    "unknown tag": "{% frobnicate %}",
    "long number": "{{ " + "1" * 5000 + " }}",
    "internals": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "namespace": "{% set ns = namespace(__init__=1) %}",
    "namespace later": "{% set ns = namespace() %}{% set ns.__init__ = 1 %}",
    "changes": "{{ messages.append(1) }}",
    "file": "{% include '/etc/passwd' %}",
    "import": "{% import 'os' as os %}",
    "message": "{{ raise_exception('x' * 5000) }}",
    "long": "x" * (LONGEST_TEMPLATE + 1),
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_template_is_one_sentence(text: str) -> None:
    with pytest.raises(UserError) as raised:
        (found,) = render(ChatTemplate(text), [messages("a")])
        assert isinstance(found, UserError), found
        raise found
    assert len(str(raised.value)) < 400
    if os.name == "posix":
        assert "too long" not in str(raised.value), "the process limits itself"


def test_a_template_that_waits_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system limits no time on the CPU."""
    monkeypatch.setattr(chat_template, "_PATIENCE", 0.3)
    with pytest.raises(UserError, match="takes too long"):
        render(ChatTemplate(HOSTILE["endless loop"]), [messages("a")])


def test_a_chat_has_an_end() -> None:
    with pytest.raises(UserError, match="at most 1,000 messages"):
        render(ChatTemplate(""), [messages(*("a" for _ in range(1001)))])


def with_template(directory: Path, text: str, **origin: Any) -> Path:
    """A checkpoint that has a template."""
    (directory / "chat_template.jinja").write_text(text, encoding="utf-8", newline="")
    manifest = json.loads((directory / "manifest.json").read_text())
    manifest["origin"] |= origin
    (directory / "manifest.json").write_text(json.dumps(manifest))
    return directory


def test_a_checkpoint_keeps_its_template(tiny_directory: Path) -> None:
    assert read_template(tiny_directory) is None
    text = "{{ é }}\r\n"
    with_template(tiny_directory, text, template_tokens=TOKENS)
    assert read_template(tiny_directory) == ChatTemplate(text, TOKENS)
    with_template(tiny_directory, "x" * (4 * LONGEST_TEMPLATE + 1))
    with pytest.raises(UserError, match="at most 1048576 are read"):
        read_template(tiny_directory)


@pytest.mark.parametrize(
    "values",
    [
        *(None, 5, [], {1: "a"}, {"eos_token": 5}, {"messages": "a"}, {"x y_token": "a"}),
        *({"eos_token": "a" * 201}, {"eos_token": "\ud800"}, {"eos_token": "\x1b"}),
    ],
)
def test_other_values_are_no_special_tokens(values: object) -> None:
    assert tokens_of(values) == {}
    many = {f"t{i}_token": "a" for i in range(1000)}
    assert len(tokens_of(many)) == 100
