"""The chat template of a checkpoint of transformers: where it is, and whether it can be used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert.directory import CHAT_TEMPLATE, read_text
from convert.events import Notify
from convert.family import short
from gpt.chat import end_of_turn
from gpt.chat_template import TEMPLATE_FILE, ChatTemplate, tokens_of
from gpt.errors import UserError
from gpt.tokenizer import Tokenizer


@dataclass(frozen=True)
class CheckedTemplate:
    """A template that makes a text of a message."""

    template: ChatTemplate
    end: int | None
    """Token that ends the model's turn, if the template names one."""

    def save(self, directory: Path) -> None:
        """Write chat_template.jinja."""
        (directory / TEMPLATE_FILE).write_text(self.template.text, encoding="utf-8", newline="")


def read_chat_template(
    directory: Path,
    tokenizer_config: dict[str, Any],
    tokenizer: Tokenizer,
    ids: Mapping[str, int | None],
    notify: Notify,
) -> CheckedTemplate | None:
    """The chat template of a checkpoint. One that cannot be used causes a notice.

    Args:
        tokenizer_config: the contents of tokenizer_config.json.
        ids: special tokens that count if tokenizer_config does not name them: `eos_token` → id.
    """
    text = _find_template(directory, tokenizer_config, notify)
    if not text:
        return None
    text = text.encode("utf-8", "replace").decode()  # JSON can hold half a character
    names = {i: name for name, i in tokenizer.added_tokens.items()}
    tokens = {name: names[i] for name, i in ids.items() if i in names}
    template = ChatTemplate(text, tokens | named_tokens(tokenizer_config))
    try:
        return CheckedTemplate(template, end_of_turn(tokenizer, template))
    except UserError as error:
        notify(f"{error}; ignored, so that chats are written with User: and Assistant:")
        return None


def chat_facts(chat: CheckedTemplate | None, eos: Sequence[int], model: str) -> dict[str, Any]:
    """The manifest's entries about turns, and the tokens that end a text after the first of eos.

    model: name of the source.
    """
    end = chat.end if chat else None
    return {
        "chat_template": chat is not None,
        "template_tokens": chat.template.tokens if chat else {},
        # Fine-tunes of DialoGPT without a chat template are recognised by their name.
        "ends_turns": chat is None and "dialogpt" in model.lower(),
        "also_ends": [*eos[1:], *([] if end in (None, *eos) else [end])],
    }


def _find_template(directory: Path, tokenizer_config: dict[str, Any], notify: Notify) -> str | None:
    """The template that transformers uses by default. A separate file takes precedence.

    A value that is not a text causes a notice.
    """
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


def named_tokens(tokenizer_config: Mapping[str, Any]) -> dict[str, str]:
    """The special tokens of a tokenizer_config.json: `eos_token` → `</s>`."""
    contents = {
        name: value.get("content") if isinstance(value, dict) else value
        for name, value in tokenizer_config.items()
    }
    return tokens_of(contents)
