"""What a checkpoint's chat template says of its turns; no template is ever run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, TemplateSyntaxError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser

from convert.directory import CHAT_TEMPLATE, read_text
from convert.family import short
from convert.generation import Note

_LONGEST = 1 << 18
"""Characters of a template that is looked at."""


class _Generation(Extension):
    """`{% generation %}`, with which transformers' templates mark what a model wrote."""

    tags = {"generation"}  # noqa: RUF012 (as jinja2 declares it)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


_JINJA = Environment(extensions=["jinja2.ext.loopcontrols", _Generation])  # noqa: S701 (none is run)


def ends_turns(directory: Path, config: dict[str, Any], note: Note) -> bool:
    """Whether the model was trained on turns that end with its end-of-text token and nothing
    else: DialoGPT and its like, whose chat template knows no roles.

    config: what tokenizer_config.json says. A template that cannot be used gets a notice.
    """
    template = _default_template(directory, config, note)
    if template is None:
        return False
    try:
        if len(template) > _LONGEST:
            raise ValueError(f"it has {len(template)} characters")
        tree = _JINJA.parse(template)
    except (TemplateSyntaxError, ValueError, RecursionError) as error:
        note(f"the chat template does not parse ({str(error)[:200]}); ignored")
        return False
    if "role" in _names(tree):
        note("the chat template names roles; a conversation is written with User: and Assistant:")
        return False
    return any(name.name == "eos_token" for name in tree.find_all(nodes.Name))


def _names(tree: nodes.Template) -> set[Any]:
    """The fields of messages that a template asks for, as in `m.role` and `m["role"]`."""
    dotted = {each.attr for each in tree.find_all(nodes.Getattr)}
    return dotted | {each.value for each in tree.find_all(nodes.Const) if type(each.value) is str}


def _default_template(directory: Path, config: dict[str, Any], note: Note) -> str | None:
    """The template that transformers takes if none is named; a file of its own comes first."""
    if (text := read_text(directory, CHAT_TEMPLATE)) is not None:
        return text
    found = config.get("chat_template")
    if isinstance(found, list):
        named = [each for each in found if isinstance(each, dict)]
        found = next((e.get("template") for e in reversed(named) if e.get("name") == "default"), ())
        if found == ():
            return None
    if found is not None and not isinstance(found, str):
        note(f"chat_template in tokenizer_config.json is {short(found)}, which is no text; ignored")
        return None
    return found
