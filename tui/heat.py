"""Heats of tokens by a number, for colours and marks; no widgets, no colours."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from rich.cells import cell_len

from gpt.sanitize import one_line
from gpt.step import Step
from tui.document import Node
from tui.labels import fit

STEPS = 12
"""As many as can be told apart on every theme of Textual."""
_LONGEST = 14
"""Most cells of a name in a legend."""
CERTAIN = 0.7
"""Tokens at least this probable have no colour, so that real choices stand out."""


PLAIN_TITLE = "Text"
"""Of a text with one of the usual ways to colour it, where that one is not named."""


class Scale(NamedTuple):
    """One way to colour tokens."""

    title: str
    heat: Callable[[Step], int]
    """0 (no colour, or no number) to STEPS - 1; as far below 0 if the scale has a sign."""
    legend: dict[str, int]
    """Label → heat of a few example values, from the lowest to the highest."""
    unit: str = ""
    """Of the examples; empty if the labels say it."""
    ends: tuple[str, str] = ("", "")
    """What the legend says before and after the examples: what a sign means."""
    is_signed: bool = False


def heat(logprob: float | None) -> int:
    """Heat of a probability: 0 from 70 % up, then a step each time it halves."""
    if logprob is None or logprob >= math.log(CERTAIN):
        return 0
    return _limit(1 + (math.log(CERTAIN) - logprob) / math.log(2))


def _rank(rank: int | None) -> int:
    """A step for every doubling of the rank."""
    return 0 if rank is None or rank < 2 else _limit(1 + math.log2(rank - 1))


def _entropy(nats: float | None) -> int:
    """Steps of 0.75 bits."""
    return 0 if nats is None else _limit(nats / math.log(2) / 0.75)


def _change(before: float | None, after: float | None) -> int:
    """Heat of a change of probability: a step for each 0.25 bits, below 0 if it became smaller."""
    if before is None or after is None:
        return 0
    return _signed((after - before) / math.log(2) / 0.25)


def _limit(value: float) -> int:
    return int(max(0.0, min(STEPS - 1.0, value)))  # also if it is infinite


def _signed(value: float) -> int:
    return int(math.copysign(_limit(abs(value)), value))


def _legend(heat_of: Callable[[float], int], values: dict[str, float]) -> dict[str, int]:
    return {label: heat_of(value) for label, value in values.items()}


_TIMES = {"÷4": 1 / 4, "÷2": 1 / 2, "×1": 1.0, "×2": 2.0, "×4": 4.0}
SCALES = (
    Scale(
        f"{PLAIN_TITLE} · colour: probability",
        lambda step: heat(step.logprob),
        _legend(
            lambda p: heat(math.log(p)),
            {"70 %+": 0.7, "50": 0.5, "20": 0.2, "5": 0.05, "1": 0.01, ".1 %": 0.001},
        ),
    ),
    Scale(
        f"{PLAIN_TITLE} · colour: rank (1 is the first choice)",
        lambda step: _rank(step.rank),
        _legend(lambda r: _rank(int(r)), {"1": 1, "2": 2, "5": 5, "20": 20, "100": 100}),
        ends=("rank", ""),
    ),
    Scale(
        f"{PLAIN_TITLE} · colour: number of equally likely tokens",
        lambda step: _entropy(step.entropy),
        _legend(lambda n: _entropy(math.log(n)), {"1": 1, "2": 2, "5": 5, "20": 20, "100": 100}),
        "tokens",
    ),
    Scale(
        f"{PLAIN_TITLE} · colour: change by the settings",
        lambda step: _change(step.logprob, step.sampling_logprob),
        _legend(lambda f: _change(0.0, math.log(f)), _TIMES),
        ends=("probability", ""),
        is_signed=True,
    ),
)
"""All except the last one show the model's own numbers: temperature 1, no other setting."""


def titled(caption: str, scale: Scale, others: Iterable[str], room: int) -> str:
    """The title of a text that is coloured by a scale, for `room` cells.

    caption: what the text is; empty: the title names the usual colours as well. others: what is
    said after it, where it is not empty.
    """
    names = [caption] if caption else []
    if not caption or scale is not SCALES[0]:
        names.append(scale.title)
    more = [each for each in others if each]
    title = " · ".join([*names, *more])
    if more and not caption and scale in SCALES and cell_len(title) > room:
        # The legend tells the colours, too; nothing else tells which branch and network it is.
        return " · ".join([PLAIN_TITLE, *more])
    return title


def _bits(bits: float) -> int:
    """A step for each 0.4 bits; a negative number has a negative heat."""
    return _signed(bits / 0.4)


def between(title: str, bits: Sequence[float | None]) -> Scale:
    """A scale by a number of bits, 0 or more, for each position of a text."""
    legend = _legend(_bits, {f"{n:g}": n for n in (0, 0.5, 1, 2, 4)})
    return Scale(title, lambda step: abs(_bits(_at(bits, step))), legend, "bits")


def diverging(title: str, bits: Sequence[float | None], labels: tuple[str, str]) -> Scale:
    """A scale by a number of bits with a sign for each position of a text.

    labels: what a negative and a positive number mean, in a word or two.
    """
    below, above = (fit(one_line(label), _LONGEST).rstrip() for label in labels)
    legend = _legend(_bits, {"−4": -4, "−1": -1, "0": 0, "+1": 1, "+4": 4})
    return Scale(
        title, lambda step: _bits(_at(bits, step)), legend, "bits", (below, above), is_signed=True
    )


def influence(title: str, bits: Sequence[float | None]) -> Scale:
    """A scale by how much each token adds to the log-probability of another one, in bits."""
    return diverging(title, bits, ("less likely", "more likely"))


class Measure(NamedTuple):
    """A number that each layer has for each token, and how it is coloured."""

    name: str
    """Of the field of a LensGrid."""
    title: str
    heat: Callable[[float | None], int]
    legend: dict[str, int]
    unit: str = ""

    def scale(self, where: str, values: Mapping[int, float | None]) -> Scale:
        """A scale of a text by its position → the number there. where: which layer has them."""

        def heat(step: Step) -> int:
            return self.heat(values.get(step.position))

        return Scale(f"{self.title}, {where}", heat, self.legend, self.unit)


MEASURES = (
    Measure("logprobs", "P of the top guess", heat, SCALES[0].legend),
    Measure("chosen_logprobs", "P of the token in the text", heat, SCALES[0].legend),
    Measure("entropies", "Number of equally likely tokens", _entropy, SCALES[2].legend, "tokens"),
    Measure(
        "divergences",
        "KL divergence to the output",
        lambda nats: abs(_bits((nats or 0.0) / math.log(2))),
        _legend(_bits, {f"{n:g}": n for n in (0, 0.5, 1, 2, 4)}),
        "bits",
    ),
)
"""Ways to colour a grid of the logit lens."""


def norm_scale(title: str, norms: Mapping[int, float]) -> Scale:
    """A scale by position → length of a vector, from the shortest to the longest, logarithmic."""
    low, high = min(norms.values(), default=0.0), max(norms.values(), default=0.0)

    def heat_of(norm: float) -> int:
        span = math.log(high / low) if 0 < low < high < math.inf else 0.0
        return _limit((STEPS - 0.5) * math.log(max(norm, low) / low) / span) if span else 0

    middle = math.sqrt(low * high)
    legend = _legend(heat_of, {f"{norm:.3g}": norm for norm in (low, middle, high)})
    return Scale(title, lambda s: heat_of(norms.get(s.position, low)), legend, "long")


def patch_scale(title: str, heats: Mapping[int, int]) -> Scale:
    """A scale by position → heat with a sign: how far a cell moves towards another text."""
    legend = {"away": 1 - STEPS, "0": 0, "half": STEPS // 2, "as the other text": STEPS - 1}
    return Scale(title, lambda s: heats.get(s.position, 0), legend, is_signed=True)


def _at(bits: Sequence[float | None], step: Step) -> float:
    return (bits[step.position] or 0.0) if step.position < len(bits) else 0.0


def attention_scale(title: str, nodes: Sequence[Node], weights: Sequence[float]) -> Scale:
    """A scale by attention weights, of the last tokens before the selected one."""
    first = len(nodes) - 1 - len(weights)
    by_position = {
        node.step.position: weight for node, weight in zip(nodes[first:-1], weights, strict=True)
    }

    def heat(step: Step) -> int:
        return attention_heat(by_position.get(step.position, 0.0))

    legend = {f"{100 * w:g}": attention_heat(w) for w in (0.01, 0.05, 0.2, 0.5, 1)}
    return Scale(title, heat, legend, "% of attention")


def attention_heat(weight: float) -> int:
    """Heat by the square root, so that small weights differ: 1 % is 1, 100 % the hottest."""
    return max(0, min(STEPS - 1, int((STEPS - 1) * math.sqrt(weight) + 0.5)))


SURPRISED = math.log(0.05)
UNCERTAIN = math.log(4)
FORKS: dict[str, Callable[[Step], bool]] = {
    "uncertain token (4 or more equally likely)": lambda s: (s.entropy or 0) >= UNCERTAIN,
    "token that was not the first choice": lambda s: (s.rank or 1) > 1,
    "surprising token (5 % or less)": lambda s: s.logprob is not None and s.logprob <= SURPRISED,
}
"""Kinds of tokens worth a look, by the model's own numbers."""
