"""Tables of the sampling settings: names, steps, meanings and presets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Knob:
    """One setting: its label, how far a key press turns it, and its tooltip."""

    name: str
    label: str
    value: str
    kind: Literal["number", "integer"]
    step: float
    tip: str
    empty: str = "a number is missing"
    """Shown in the field while it is empty."""


KNOBS = (
    Knob(
        "temperature", "temperature", "0.8", "number", 0.1, "0 always picks the most probable token"
    ),
    Knob("top_k", "top-k", "0", "integer", 5, "keep only the k most probable tokens; 0 keeps all"),
    Knob(
        "top_p",
        "top-p",
        "0.95",
        "number",
        0.05,
        "keep the fewest tokens whose probabilities sum to this",
    ),
    Knob(
        "min_p",
        "min-p",
        "0",
        "number",
        0.05,
        "keep tokens with at least this share of the best one's probability",
    ),
    Knob(
        "repetition_penalty",
        "repetition",
        "1",
        "number",
        0.1,
        "above 1: avoid tokens that are in the text",
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

PRESETS: dict[str, dict[str, float]] = {
    "greedy": {"temperature": 0},
    "careful": {"temperature": 0.6, "top_p": 0.9},
    "balanced": {"temperature": 0.8, "top_p": 0.95},
    "wild": {"temperature": 1.3, "min_p": 0.02},
    "model": {},
}
NEUTRAL = {"temperature": 1, "top_k": 0, "top_p": 1, "min_p": 0, "repetition_penalty": 1}


def preset_values() -> list[tuple[str, dict[str, str]]]:
    """For each preset, its name and the values of the fields."""
    return [
        (name, {dial: f"{value:.10g}" for dial, value in (NEUTRAL | values).items()})
        for name, values in PRESETS.items()
    ]
