"""The chat template of a checkpoint: the text of a conversation, as the model was trained on it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gpt import models, text_file
from gpt.child import child_environment
from gpt.errors import UserError

TEMPLATE_FILE = "chat_template.jinja"
LONGEST_TEMPLATE = 1 << 18
"""Most characters of a template."""
MOST_MESSAGES = 1000
"""Most messages of a conversation."""
_PATIENCE = 30.0
"""Seconds until a template is given up, whatever its process waits for."""
_TOKENS, _LONGEST_TOKEN = 100, 200
"""Most special tokens that a template gets by name, and most characters of one."""

Message = dict[str, str]
"""`role` (system, user or assistant) and `content`."""


@dataclass(frozen=True)
class ChatTemplate:
    """A jinja2 template in the dialect of transformers."""

    text: str
    tokens: dict[str, str] = field(default_factory=dict)
    """Special tokens that it may use by name: `eos_token` → `</s>`."""


def read_template(directory: Path) -> ChatTemplate | None:
    """The template of a checkpoint; None if it has none."""
    path = directory / TEMPLATE_FILE
    if not text_file.is_file(path):
        return None
    text = text_file.read_small(path, 4 * LONGEST_TEMPLATE)
    tokens = models.read_manifest(directory).origin.get("template_tokens")
    return ChatTemplate(text, tokens_of(tokens))


def tokens_of(values: object) -> dict[str, str]:
    """Those of some values that can be special tokens of a template: name → text."""
    found = values.items() if isinstance(values, dict) else ()
    return {
        name: token
        for name, token in list(found)[:_TOKENS]
        if isinstance(name, str) and name.endswith("_token") and name.isidentifier()
        if isinstance(token, str) and token.isprintable() and len(token) <= _LONGEST_TOKEN
    }


def render(
    template: ChatTemplate, conversations: Sequence[Sequence[Message]]
) -> list[str | UserError]:
    """The text of each conversation up to the beginning of the model's turn, or why it has none.

    Raises UserError if the template takes too much time or memory.
    """
    if len(template.text) > LONGEST_TEMPLATE:
        raise UserError(
            f"the chat template has {len(template.text):,} characters; at most "
            f"{LONGEST_TEMPLATE:,} are read"
        )
    if any(len(messages) > MOST_MESSAGES for messages in conversations):
        raise UserError(f"a chat has at most {MOST_MESSAGES:,} messages; start a new one")
    contents = [len(message["content"]) for messages in conversations for message in messages]
    request = {
        "template": template.text,
        "tokens": template.tokens,
        "conversations": conversations,
        "longest": (1 << 20) + 2 * sum(contents),
    }
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "gpt.chat_sandbox"],
            input=json.dumps(request).encode(),
            capture_output=True,
            env=child_environment(),
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise UserError("the chat template takes too long") from error
    except OSError as error:
        raise UserError(f"cannot start a process for the chat template: {error}") from error
    try:
        found = json.loads(done.stdout)
    except ValueError as error:  # the system ended it
        raise UserError("the chat template takes too much time or memory") from error
    return [
        each["text"] if "text" in each else UserError(f"the chat template fails: {each['error']}")
        for each in found
    ]
