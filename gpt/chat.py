"""Turns of a conversation as a text that the model continues."""

from __future__ import annotations

from collections.abc import Sequence

from gpt.checkpoint import Checkpoint
from gpt.tokenizer import decode

PERSON, MODEL = "User:", "Assistant:"


def turn(checkpoint: Checkpoint, ids: Sequence[int], text: str) -> tuple[list[int], list[str]]:
    """Add a person's turn to a text: the ids of both, and the strings that end the model's turn.

    A model that was trained on turns (DialoGPT, Zhang et al. 2019, arXiv:1911.00536) gets its
    end-of-text token after the turn and ends its own turn with the same token. Any other base
    model gets a dialogue with names, and its turn ends when it writes the person's name.

    ids: the text so far.
    """
    encode, eos = checkpoint.tokenizer.encode, checkpoint.model.config.eos_id
    if checkpoint.manifest.origin.get("ends_turns") and eos is not None:
        return [*ids, *encode(text), eos], []
    before = decode(checkpoint.tokenizer, ids[-64:])
    if before.endswith(PERSON):  # the model wrote it at the end of its previous turn
        opening = ""
    else:
        opening = PERSON if not before or before.endswith("\n") else "\n" + PERSON
    return [*ids, *encode(f"{opening} {text}\n{MODEL}")], ["\n" + PERSON]
