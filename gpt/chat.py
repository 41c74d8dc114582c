"""Turns of a conversation as ids that the model continues."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import takewhile
from typing import NamedTuple

from gpt.chat_template import ChatTemplate, Message, render
from gpt.checkpoint import Checkpoint
from gpt.errors import UserError
from gpt.tokenizer import Tokenizer, decode, encode_more_special, split_at

PERSON, MODEL = "User:", "Assistant:"
# Characters that Unicode keeps free for such uses; a person's are taken out.
_OPEN, _CLOSE, _ANSWER, _NEXT = "\ufdd0", "\ufdd1", "\ufdd2", "\ufdd3"
_FREE = re.compile(f"[{_OPEN}-{_NEXT}]")
_MARKED = re.compile(f"{_OPEN}([^{_OPEN}{_CLOSE}]*){_CLOSE}|[{_OPEN}-{_NEXT}]")
_STAND_IN = ":"
"""A text that every model knows which knows PERSON."""


class Turn(NamedTuple):
    """A text with a person's new turn at its end."""

    ids: list[int]
    stops: list[str]
    """Strings that end the model's turn."""
    template: frozenset[int] = frozenset()
    """Positions of the tokens of this turn that were put around what the person wrote. A token that
    holds both is the person's."""


def turn(
    checkpoint: Checkpoint,
    ids: Sequence[int],
    text: str,
    *,
    system: str = "",
    template: ChatTemplate | None = None,
) -> Turn:
    """Add a person's turn to a text.

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
        whole = [*ids, *encode(text), eos]
        return Turn(whole, [], frozenset([len(whole) - 1]))
    before = decode(tokenizer, ids[-64:]) if ids else system and system + "\n\n"
    if before.endswith(PERSON):  # the model wrote it at the end of its previous turn
        opening = ""
    else:
        opening = PERSON if not before or before.endswith("\n") else "\n" + PERSON
    preface, answer = "" if ids else before, f"\n{MODEL}"
    added = encode(f"{preface}{opening} {text}{answer}")
    around = [
        encode(f"{preface}{opening} ") + tokenizer.encode_more(answer),
        encode(f"{preface}{opening} {_STAND_IN}{answer}"),
    ]
    spans = [_between_same(added, around)]
    if preface:
        rest = f"\n\n{opening} {text}{answer}"
        spans.append(_between_same(added, [encode(rest), encode(_STAND_IN + rest)]))
    return _turn(ids, added, stops_of(checkpoint, None), spans)


def _by_template(
    checkpoint: Checkpoint, ids: Sequence[int], text: str, system: str, template: ChatTemplate
) -> Turn:
    """`turn` with a template.

    The first turn is what the template makes of the messages. A later one is what it puts after
    an answer: the end of the model's turn, if the model did not write it, and the person's turn.
    """
    tokenizer = checkpoint.tokenizer
    names = control_tokens(tokenizer, template)
    said, told = _marked(text, names), _marked(system, names)
    before = [_message("user", "x"), _message("assistant", _ANSWER)]
    start = [_message("system", told)] if told else []
    later, pattern, first, first_pattern, system_shown = render(
        template,
        [
            [*before, _message("user", said)],
            [*before, _message("user", _NEXT)],
            [*start, _message("user", said)],
            [*start, _message("user", _NEXT)],
            [_message("system", _NEXT), _message("user", said)],
        ],
    )
    between = _between(pattern)
    stops, ends_by_token = _stops(between, names), len(split_at(between, names)) > 1
    if not ids:
        if isinstance(first, UserError):
            raise first
        if told and _NEXT not in str(system_shown):
            raise UserError("this model's chat template ignores a system prompt; leave it out")

        def encode(text: str) -> list[int]:
            return _encode(tokenizer, text, names)

        shown = [first_pattern, system_shown] if told else [first_pattern]
        added = encode(first)
        spans = [_between_same(added, _around(each, encode)) for each in shown]
        return _turn([], added, stops, spans)
    if isinstance(later, UserError):
        raise later
    if _ANSWER not in later:
        raise UserError(
            "this model's chat template shows no answers, so that a chat has one turn; "
            "start a new text"
        )
    # What the model wrote at the end of its turn is not written again.
    cut = len(between.rstrip()) if stops and decode(tokenizer, ids[-64:]).endswith(stops[0]) else 0
    closing = set(names.values()) if ends_by_token and ids[-1] in checkpoint.ends else set()

    def encode_later(text: str) -> list[int]:
        rest = text.rpartition(_ANSWER)[2][cut:]
        found = _encode(tokenizer, rest, names, continues=True)
        return found[1 + next((i for i, each in enumerate(found) if each in closing), -1) :]

    added = encode_later(later)
    return _turn(ids, added, stops, [_between_same(added, _around(pattern, encode_later))])


def stops_of(checkpoint: Checkpoint, template: ChatTemplate | None) -> list[str]:
    """The strings that end the model's turn; none if a token does."""
    if template is None:
        ends_turns = checkpoint.manifest.origin.get("ends_turns")
        by_token = ends_turns and checkpoint.model.config.eos_id is not None
        return [] if by_token else ["\n" + PERSON]
    names = control_tokens(checkpoint.tokenizer, template)
    return _stops(_pattern_of(template.text, tuple(template.tokens.items())), names)


@lru_cache(maxsize=8)
def _pattern_of(text: str, tokens: tuple[tuple[str, str], ...]) -> str:
    """What a template puts after an answer; a template is a process of its own, so once."""
    talk = [_message("user", "x"), _message("assistant", _ANSWER), _message("user", _NEXT)]
    return _between(render(ChatTemplate(text, dict(tokens)), [talk])[0])


def _stops(between: str, names: Iterable[str]) -> list[str]:
    """The strings that end the model's turn. between: what the template puts after an answer."""
    ends_by_token = len(split_at(between, names)) > 1
    stop = "\n" * between.startswith("\n") + between.strip()
    return [] if ends_by_token or not stop.strip() else [stop]


def _turn(
    before: Sequence[int], added: list[int], stops: list[str], spans: Iterable[range]
) -> Turn:
    """spans: indices in `added` of what the person wrote."""
    persons = {i for span in spans for i in span}
    template = (len(before) + i for i in range(len(added)) if i not in persons)
    return Turn([*before, *added], stops, frozenset(template))


def _around(pattern: str | UserError, encode: Callable[[str], list[int]]) -> list[list[int]]:
    """Ids of a rendered template that has _NEXT in the place of a text, in two variants."""
    if isinstance(pattern, UserError) or _NEXT not in pattern:
        return []
    return [encode(pattern), encode(pattern.replace(_NEXT, _STAND_IN))]


def _between_same(ids: Sequence[int], others: Sequence[Sequence[int]]) -> range:
    """The indices between the start and the end that ids have in common with all others.

    The others have another text in some place, so this is what that text became. One other is not
    enough: its text may begin with the same token. All indices, if there are no others.
    """
    starts = [_in_common(ids, other) for other in others]
    ends = [_in_common(ids[::-1], other[::-1]) for other in others]
    start = min(starts, default=0)
    return range(start, max(start, len(ids) - min(ends, default=0)))


def _in_common(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the common start."""
    both = zip(one, other, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], both))


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
