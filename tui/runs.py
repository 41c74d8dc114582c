"""What a run is given, and what the program says at its end; no widgets."""

from __future__ import annotations

from typing import NamedTuple

from gpt.settings import Sampling
from tui.backend import Done
from tui.news import State

READY = State("Enter sends")
FINISHED = {
    "length": "Done: {n} tokens",
    "eos": "Done: the model ended its text",
    "stop": "Done: the model wrote a stop text",
    "context full": 'Context full. Turn on "Slide context when full"',
    "cancelled": "Stopped",
}


class RunSettings(NamedTuple):
    """Settings of a run."""

    sampling: Sampling
    length: int
    """Most tokens of a branch."""
    branches: int = 1
    slide: bool = False
    chat: bool = False


def finished(done: Done) -> State:
    """What to say after a run."""
    if done.finish_reason == "length" and not done.tokens:
        return READY
    said = FINISHED.get(done.finish_reason or "", READY.message).format(n=done.tokens)
    return State(said.replace(" 1 tokens", " 1 token"))
