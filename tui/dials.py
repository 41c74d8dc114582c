"""Tables of the sampling settings: names, steps, meanings and presets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from gpt.setting_names import setting_name
from gpt.settings import ORDER, Sampling
from gpt.typed_values import check, is_flag, is_list, is_text, is_whole, or_none


class Knob(NamedTuple):
    """One setting: its name in code, how far a key press turns it, and its tooltip."""

    name: str
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
    least: float = 0.0
    """The smallest one."""

    @property
    def label(self) -> str:
        """What it is called."""
        return setting_name(self.name)


_USUAL = (
    Knob(
        "temperature",
        "0.8",
        "number",
        0.1,
        "0 always picks the most probable token",
        ends=(0, 2),
    ),
    Knob(
        "top_k",
        "0",
        "integer",
        5,
        "keep only the k most probable tokens; 0 keeps all",
        ends=(0, 100),
    ),
    Knob(
        "top_p",
        "0.95",
        "number",
        0.05,
        "keep the fewest tokens whose probabilities sum to this",
        ends=(0, 1),
        most=1,
    ),
    Knob(
        "min_p",
        "0",
        "number",
        0.05,
        "keep tokens with at least this share of the best one's probability",
        ends=(0, 0.5),
        most=1,
    ),
    Knob(
        "repetition_penalty",
        "1",
        "number",
        0.1,
        "above 1: avoid tokens that are in the text",
        ends=(1, 2),
    ),
    Knob(
        "seed",
        "",
        "integer",
        1,
        "the same random seed repeats the same text; empty: a new seed each run",
        "random",
    ),
    Knob("length", "200", "integer", 50, "a run writes at most this many tokens"),
    Knob("branches", "1", "integer", 1, "texts written at once, each with the next random seed"),
)
# fmt: off
MORE = (
    Knob("presence_penalty", "0", "number", 0.1,
         "nats taken from the logit of each token that is in the text", ends=(0, 2), least=-100),
    Knob("frequency_penalty", "0", "number", 0.1,
         "the same, once for each time that the token is in the text", ends=(0, 2), least=-100),
    Knob("penalty_window", "0", "integer", 16,
         "the penalties see only so many tokens at the end of the text; 0: all", ends=(0, 512)),
    Knob("dry_multiplier", "0", "number", 0.1,
         "strength of the penalty on a token that makes a repetition longer; 0: off", ends=(0, 2)),
    Knob("dry_base", "1.75", "number", 0.05,
         "what each more repeated token multiplies that penalty by", ends=(1, 3), least=1),
    Knob("dry_allowed_length", "2", "integer", 1,
         "the shortest repetition that counts, in tokens", ends=(1, 20), least=1),
    Knob("dry_window", "0", "integer", 64,
         "DRY looks at this many tokens at the end of the text; 0: all", ends=(0, 2048)),
    Knob("dynatemp_range", "0", "number", 0.1,
         "the temperature falls by up to this much where the model is certain, and rises by it "
         "where it is not; 0: off",
         ends=(0, 2)),
    Knob("dynatemp_exponent", "1", "number", 0.1,
         "above 1: only great uncertainty raises the temperature", ends=(0.1, 3), least=0.1),
    Knob("top_n_sigma", "0", "number", 0.1,
         "keep tokens so many standard deviations of the logits below the best; 0 keeps all",
         ends=(0, 5)),
    Knob("typical_p", "1", "number", 0.05,
         "keep the fewest tokens of average surprisal whose probabilities sum to this",
         ends=(0, 1), most=1),
    Knob("xtc_probability", "0", "number", 0.1,
         "how often to remove all top choices but the least probable one; 0: never",
         ends=(0, 1), most=1),
    Knob("xtc_threshold", "0.1", "number", 0.05,
         "the probability from which on a token is a top choice", ends=(0, 0.5), most=1),
    Knob("mirostat_tau", "0", "number", 0.5,
         "surprisal in bits that the text keeps to on average; 0: off", ends=(0, 10)),
    Knob("mirostat_eta", "0.1", "number", 0.05,
         "how fast mirostat adapts", ends=(0, 1), most=10),
)
# fmt: on
"""Settings that few people need."""
KNOBS = (*_USUAL, *MORE)

WORDS = {
    "banned": 'words that are never completed, · being a space: king, ·king; or "king", exactly '
    "this text, or #12, the token with id 12; of a word of several tokens, the last one cannot "
    "follow the others; x bans one token",
    "boosted": "more or less likely tokens: king:2 adds 2 nats to its logits; + and - in the text",
}


class Preset(NamedTuple):
    """Values of the sampling settings under a name."""

    tip: str
    values: dict[str, float]
    """Those that differ from NEUTRAL."""


PRESETS = {
    "greedy": Preset("the most probable", {"temperature": 0}),
    "careful": Preset("few surprises", {"temperature": 0.6, "top_p": 0.9}),
    "balanced": Preset("used at the start", {"temperature": 0.8, "top_p": 0.95}),
    "wild": Preset("many surprises", {"temperature": 1.3, "min_p": 0.02}),
    "model": Preset("as the model says", {}),
}
USUAL = "balanced"
"""The preset that a new text begins with."""
SAMPLED = tuple(knob for knob in KNOBS if hasattr(Sampling(), knob.name) and knob.name != "seed")
"""The dials of the settings that change a distribution."""
NEUTRAL: dict[str, float] = {knob.name: getattr(Sampling(), knob.name) for knob in SAMPLED}

STAGES = {
    "model": "model",
    "banned": "banned",
    "boosted": "boosted",
    **{knob.name: knob.label for knob in SAMPLED if knob.name in ORDER[1:]},
}
"""Short names of the stages between the model's distribution and the one that is drawn from."""


def preset_fields(name: str) -> dict[str, str]:
    """What a preset writes into the fields."""
    values = NEUTRAL | PRESETS[name].values
    return {dial: f"{value:.10g}" for dial, value in values.items()}


def said_order(sampling: Sampling) -> str:
    """The settings that act, in their order."""
    return ", ".join(STAGES[name] for name in sampling.stages)


class Setup(NamedTuple):
    """What the fields of the settings hold, and where the reader is: a text is left like that."""

    texts: Mapping[str, str]
    """Name of a setting → what its field holds."""
    order: tuple[str, ...] = ()
    slide: bool = False
    chat: bool = False
    cursor: int | None = None
    """Index of the selected token; None for the newest one."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**self._asdict(), "texts": dict(self.texts)}

    @classmethod
    def from_untrusted(cls, values: Any) -> Setup | None:
        """The reverse of to_dict, for values from a file, which may hold anything.

        None if there are none. A setting that this program does not know is left out. Raises
        ValueError or UserError if it is no such record.
        """
        if values is None:
            return None
        check(values, _SETUP)
        texts = {name: text for name, text in values["texts"].items() if name in _FIELDS}
        if not all(is_text(text) and len(text) <= _LONGEST for text in texts.values()):
            raise ValueError("a setting must be a short text")
        order = Sampling(order=tuple(values["order"])).order
        return cls(texts, order, values["slide"], values["chat"], values.get("cursor"))


_SETUP = {
    "texts": lambda value: isinstance(value, dict),
    "order": is_list,
    "slide": is_flag,
    "chat": is_flag,
    "cursor": or_none(is_whole),
}
_FIELDS = frozenset({*(knob.name for knob in KNOBS), *WORDS})
_LONGEST = 10_000
