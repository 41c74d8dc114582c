"""A conversation as the text that a model goes on from; it knows no terminal."""

from __future__ import annotations

from collections.abc import Sequence

from gpt.checkpoint import Checkpoint
from gpt.tokenizer import decode

PERSON, MODEL = "User:", "Assistant:"


def turn(checkpoint: Checkpoint, ids: Sequence[int], text: str) -> tuple[list[int], list[str]]:
    """The path with a person's turn behind it, and the texts that end the model's own turn.

    A model that was trained on turns (DialoGPT, Zhang et al. 2019, arXiv:1911.00536) gets its
    end-of-text token behind the turn and ends its own with it. A plain base model is shown a
    dialogue with names, and stops where it begins to speak for the person.
    """
    encode, eos = checkpoint.tokenizer.encode, checkpoint.model.config.eos_id
    if checkpoint.manifest.origin.get("ends_turns") and eos is not None:
        return [*ids, *encode(text), eos], []
    before = decode(checkpoint.tokenizer, ids[-64:])
    if before.endswith(PERSON):  # the stop text of the turn before has already said it
        opening = ""
    else:
        opening = PERSON if not before or before.endswith("\n") else "\n" + PERSON
    return [*ids, *encode(f"{opening} {text}\n{MODEL}")], ["\n" + PERSON]
