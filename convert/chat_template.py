"""Whether a chat template ends turns with the end-of-text token. No template is ever rendered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, TemplateSyntaxError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser

from convert.directory import CHAT_TEMPLATE, read_text
from convert.events import Notify
from convert.family import short

_MAX_CHARACTERS = 1 << 18
"""Longer templates are not parsed."""


class _GenerationTag(Extension):
    """`{% generation %}`, which marks the model's words in templates of transformers."""

    tags = {"generation"}  # noqa: RUF012 (as jinja2 declares it)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


_JINJA = Environment(  # noqa: S701 (it only parses)
    extensions=["jinja2.ext.loopcontrols", _GenerationTag]
)


def ends_turns(directory: Path, tokenizer_config: dict[str, Any], notify: Notify) -> bool:
    """Whether the chat template has no roles and ends each turn with the end-of-text token.

    DialoGPT and similar models were trained on such texts. tokenizer_config: the contents of
    tokenizer_config.json. A template that cannot be used causes a notice.
    """
    template = _default_template(directory, tokenizer_config, notify)
    if template is None:
        return False
    try:
        if len(template) > _MAX_CHARACTERS:
            raise ValueError(f"it has {len(template)} characters")
        tree = _JINJA.parse(template)
    except (TemplateSyntaxError, ValueError, RecursionError) as error:
        notify(f"the chat template does not parse ({str(error)[:200]}); ignored")
        return False
    if "role" in _names(tree):
        notify(
            "the chat template uses roles, which are not supported; chats are written with "
            "User: and Assistant:"
        )
        return False
    return any(name.name == "eos_token" for name in tree.find_all(nodes.Name))


def _names(tree: nodes.Template) -> set[Any]:
    """All attributes and strings of a template, such as `role` in `m.role` and `m["role"]`."""
    attributes = {each.attr for each in tree.find_all(nodes.Getattr)}
    strings = {each.value for each in tree.find_all(nodes.Const) if type(each.value) is str}
    return attributes | strings


def _default_template(
    directory: Path, tokenizer_config: dict[str, Any], notify: Notify
) -> str | None:
    """The template that transformers uses by default. A separate file takes precedence."""
    if (text := read_text(directory, CHAT_TEMPLATE)) is not None:
        return text
    found = tokenizer_config.get("chat_template")
    if isinstance(found, list):
        named = [each for each in found if isinstance(each, dict)]
        found = next((e.get("template") for e in reversed(named) if e.get("name") == "default"), ())
        if found == ():
            return None
    if found is not None and not isinstance(found, str):
        notify(
            f"chat_template in tokenizer_config.json is {short(found)}, which is not a text; "
            "ignored"
        )
        return None
    return found
