"""Tables of the sampling settings: names, steps, meanings and presets."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple


class Knob(NamedTuple):
    """One setting: its label, how far a key press turns it, and its tooltip."""

    name: str
    label: str
    value: str
    kind: Literal["number", "integer"]
    step: float
    tip: str
    empty: str = "missing"
    """Shown in the field while it is empty."""
    ends: tuple[float, float] | None = None
    """Values at the ends of its slider; a field takes others too. None: no slider."""
    most: float = math.inf
    """The largest value that a key turns it to."""


KNOBS = (
    Knob(
        "temperature",
        "temperature",
        "0.8",
        "number",
        0.1,
        "0 always picks the most probable token",
        ends=(0, 2),
    ),
    Knob(
        "top_k",
        "top-k",
        "0",
        "integer",
        5,
        "keep only the k most probable tokens; 0 keeps all",
        ends=(0, 100),
    ),
    Knob(
        "top_p",
        "top-p",
        "0.95",
        "number",
        0.05,
        "keep the fewest tokens whose probabilities sum to this",
        ends=(0, 1),
        most=1,
    ),
    Knob(
        "min_p",
        "min-p",
        "0",
        "number",
        0.05,
        "keep tokens with at least this share of the best one's probability",
        ends=(0, 0.5),
        most=1,
    ),
    Knob(
        "repetition_penalty",
        "repetition",
        "1",
        "number",
        0.1,
        "above 1: avoid tokens that are in the text",
        ends=(1, 2),
    ),
    Knob(
        "seed",
        "seed",
        "",
        "integer",
        1,
        "the same random seed repeats the same text; empty: a new seed each run",
        "random",
    ),
    Knob("length", "length", "200", "integer", 50, "most tokens of a run"),
    Knob("branches", "branches", "1", "integer", 1, "number of runs from the same place"),
)

WORDS = {
    "banned": "tokens that are never sampled: king, ·king with its space, or #12 by id; x bans one",
    "boosted": "more or less likely tokens: king:2 adds 2 nats to its logits; + and - in the text",
}


class Preset(NamedTuple):
    """Values of the sampling settings under a name."""

    tip: str
    values: dict[str, float]
    """Those that differ from NEUTRAL."""


PRESETS = {
    "greedy": Preset("always the most probable token", {"temperature": 0}),
    "careful": Preset("few surprises", {"temperature": 0.6, "top_p": 0.9}),
    "balanced": Preset("the default", {"temperature": 0.8, "top_p": 0.95}),
    "wild": Preset("many surprises, without nonsense", {"temperature": 1.3, "min_p": 0.02}),
    "model": Preset("the model's own probabilities, nothing changed", {}),
}
NEUTRAL = {"temperature": 1, "top_k": 0, "top_p": 1, "min_p": 0, "repetition_penalty": 1}


def preset_fields(name: str) -> dict[str, str]:
    """What a preset writes into the fields."""
    values = NEUTRAL | PRESETS[name].values
    return {dial: f"{value:.10g}" for dial, value in values.items()}
