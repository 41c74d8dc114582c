"""Turns of a conversation as ids that the model continues."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gpt.chat_template import ChatTemplate, Message, render
from gpt.checkpoint import Checkpoint
from gpt.errors import UserError
from gpt.tokenizer import Tokenizer, decode, encode_more_special, split_at

PERSON, MODEL = "User:", "Assistant:"
# Characters that Unicode keeps free for such uses; a person's are taken out.
_OPEN, _CLOSE, _ANSWER, _NEXT = "\ufdd0", "\ufdd1", "\ufdd2", "\ufdd3"
_FREE = re.compile(f"[{_OPEN}-{_NEXT}]")
_MARKED = re.compile(f"{_OPEN}([^{_OPEN}{_CLOSE}]*){_CLOSE}|[{_OPEN}-{_NEXT}]")


def turn(
    checkpoint: Checkpoint,
    ids: Sequence[int],
    text: str,
    *,
    system: str = "",
    template: ChatTemplate | None = None,
) -> tuple[list[int], list[str]]:
    """Add a person's turn to a text: the ids of both, and the strings that end the model's turn.

    The ids so far stay as they are, so that the KV cache is still valid. Nothing in what a person
    writes becomes a special token.

    Without a template, a model that was trained on turns (DialoGPT, Zhang et al. 2019,
    arXiv:1911.00536) gets its end-of-text token after the turn and ends its own turn with the same
    token. Any other base model gets a dialogue with names, and its turn ends when it writes the
    person's name.

    Args:
        ids: the text so far.
        system: what the model is told before the first turn. It has no effect on later ones.
        template: the checkpoint's own; None: it has none.
    """
    if template is not None:
        return _by_template(checkpoint, ids, text, system, template)
    tokenizer, eos = checkpoint.tokenizer, checkpoint.model.config.eos_id
    encode = tokenizer.encode_more if ids else tokenizer.encode
    if checkpoint.manifest.origin.get("ends_turns") and eos is not None:
        if system and not ids:
            raise UserError("this model has no place for a system prompt; leave it out")
        return [*ids, *encode(text), eos], []
    before = decode(tokenizer, ids[-64:]) if ids else system and system + "\n\n"
    if before.endswith(PERSON):  # the model wrote it at the end of its previous turn
        opening = ""
    else:
        opening = PERSON if not before or before.endswith("\n") else "\n" + PERSON
    preface = "" if ids else before
    return [*ids, *encode(f"{preface}{opening} {text}\n{MODEL}")], ["\n" + PERSON]


def _by_template(
    checkpoint: Checkpoint, ids: Sequence[int], text: str, system: str, template: ChatTemplate
) -> tuple[list[int], list[str]]:
    """`turn` with a template.

    The first turn is what the template makes of the messages. A later one is what it puts after
    an answer: the end of the model's turn, if the model did not write it, and the person's turn.
    """
    tokenizer = checkpoint.tokenizer
    names = control_tokens(tokenizer, template)
    said, told = _marked(text, names), _marked(system, names)
    before = [_message("user", "x"), _message("assistant", _ANSWER)]
    later, pattern, first, system_shown = render(
        template,
        [
            [*before, _message("user", said)],
            [*before, _message("user", _NEXT)],
            [*([_message("system", told)] if told else []), _message("user", said)],
            [_message("system", _NEXT), _message("user", said)],
        ],
    )
    between = _between(pattern)
    ends_by_token = len(split_at(between, names)) > 1
    stop = "\n" * between.startswith("\n") + between.strip()
    stops = [] if ends_by_token or not stop.strip() else [stop]
    if not ids:
        if isinstance(first, UserError):
            raise first
        if told and _NEXT not in str(system_shown):
            raise UserError("this model's chat template ignores a system prompt; leave it out")
        return _encode(tokenizer, first, names), stops
    if isinstance(later, UserError):
        raise later
    _, is_shown, rest = later.rpartition(_ANSWER)
    if not is_shown:
        raise UserError(
            "this model's chat template shows no answers, so that a chat has one turn; "
            "start a new text"
        )
    if stops and decode(tokenizer, ids[-64:]).endswith(stop):
        rest = rest[len(between.rstrip()) :]  # the model wrote it at the end of its turn
    added = _encode(tokenizer, rest, names, continues=True)
    if ends_by_token and ids[-1] in checkpoint.ends:
        special = set(names.values())
        closing = next((i for i, each in enumerate(added) if each in special), -1)
        added = added[closing + 1 :]  # the model wrote the end of its turn
    return [*ids, *added], stops


def end_of_turn(tokenizer: Tokenizer, template: ChatTemplate) -> int | None:
    """The token that a template puts after an answer; None if it puts none.

    Raises UserError if the template does not even show a single message.
    """
    first, pattern = render(
        template,
        [
            [_message("user", _NEXT)],
            [_message("user", "x"), _message("assistant", _ANSWER), _message("user", _NEXT)],
        ],
    )
    if isinstance(first, UserError):
        raise first
    if _NEXT not in first:
        raise UserError("the chat template does not show what a person writes")
    names = control_tokens(tokenizer, template)
    parts = split_at(_between(pattern), names)
    return names[parts[1]] if len(parts) > 1 else None


def control_tokens(tokenizer: Tokenizer, template: ChatTemplate) -> dict[str, int]:
    """Tokens that only the template may write, name → id: the special ones, and added ones in it.

    Other added tokens are ordinary words, such as a run of blanks.
    """
    return {
        name: i
        for name, i in tokenizer.added_tokens.items()
        if not tokenizer.token_bytes(i) or (name in template.text and not name.isspace())
    }


def _encode(
    tokenizer: Tokenizer, text: str, names: dict[str, int], *, continues: bool = False
) -> list[int]:
    """Ids of a rendered template: its special tokens are tokens, marked names are ordinary text.

    continues: whether other tokens stand before the text.
    """
    ids: list[int] = []
    for i, part in enumerate(_MARKED.split(text)):
        if not part:
            continue
        if i % 2:
            ids += _encode_name(tokenizer, part, names)
        elif ids or continues:
            ids += encode_more_special(tokenizer, part)
        else:
            ids += tokenizer.encode_special(part)
    return ids


def _encode_name(tokenizer: Tokenizer, name: str, names: dict[str, int]) -> list[int]:
    """Ids of the name of a control token as ordinary text."""
    found = tokenizer.encode_more(name)
    if names.get(name) in found:  # the tokenizer finds added tokens that are not special
        found = tokenizer.encode_more(name[:1]) + tokenizer.encode_more(name[1:])
    return found


def _marked(text: str, names: dict[str, int]) -> str:
    """A person's text in which the names of special tokens are between marks."""
    parts = split_at(_FREE.sub("", text), names)
    return "".join(f"{_OPEN}{part}{_CLOSE}" if i % 2 else part for i, part in enumerate(parts))


def _between(pattern: str | UserError) -> str:
    """What a template puts between an answer and the next message; empty if it fails."""
    if isinstance(pattern, UserError):
        return ""
    _, is_shown, rest = pattern.rpartition(_ANSWER)
    between, is_next, _ = rest.partition(_NEXT)
    return between if is_shown and is_next else ""


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}
