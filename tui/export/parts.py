"""What is exported: one or more branches of a text."""

from __future__ import annotations

import math
from codecs import getincrementaldecoder
from collections.abc import Iterable, Sequence
from dataclasses import fields
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from gpt.sanitize import one_line
from gpt.setting_names import setting_name
from gpt.settings import Sampling
from gpt.step import Step
from tui.changes import described, stretch
from tui.dials import said_order
from tui.document import Document, Node
from tui.labels import percent
from tui.node import NOTHING, Author, Remark, places_of
from tui.sampling_words import Spelling, said_setting, spelling_of

if TYPE_CHECKING:
    from gpt.interventions import Intervention


class Part(NamedTuple):
    """A branch."""

    number: int
    """From 1, in the order of the tree."""
    nodes: Sequence[Node]
    remark: Remark = NOTHING

    @property
    def title(self) -> str:
        """Its name or its number, with its star; one line, safe for a terminal."""
        name = one_line(self.remark.name) or f"Branch {self.number}"
        return f"★ {name}" if self.remark.is_starred else name

    @property
    def texts(self) -> list[str]:
        """The text of each token; half a character is added to the token that completes it.

        Empty for a special token.
        """
        decode = getincrementaldecoder("utf-8")("replace").decode
        found = [decode(node.step.added) for node in self.nodes]
        if found:
            found[-1] += decode(b"", final=True)
        return found

    @property
    def shown(self) -> list[str]:
        """The texts for a picture of the tokens: a special token has its name."""
        both = zip(self.nodes, self.texts, strict=True)
        return [text or ("" if node.step.bytes else node.step.name) for node, text in both]

    @property
    def text(self) -> str:
        """Its text; bytes that are not UTF-8 become U+FFFD."""
        return "".join(self.texts)

    @property
    def settings(self) -> list[Sampling]:
        """The settings that its tokens were sampled with, in the order of their first use."""
        return list(dict.fromkeys(node.sampling for node in self.nodes if node.sampling))

    @property
    def inside(self) -> list[tuple[Intervention, ...]]:
        """What was changed inside the network for its tokens, in the order of first use."""
        return list(dict.fromkeys(node.changes for node in self.nodes if node.changes))

    @property
    def facts(self) -> str:
        """Number of tokens, and perplexity of the sampled ones."""
        known = [
            node.step.logprob
            for node in self.nodes
            if not node.is_prompt and node.step.logprob is not None
        ]
        said = "1 token" if len(self.nodes) == 1 else f"{len(self.nodes):,} tokens"
        if known:
            nats = -math.fsum(known) / len(known)
            said += f", perplexity of the drawn tokens {math.exp(min(700.0, nats)):,.2f}"
        return said


class Export(NamedTuple):
    """The content of a file."""

    parts: Sequence[Part]
    model: str
    written: datetime

    @property
    def name(self) -> str:
        """The model, safe for a terminal."""
        return one_line(self.model)

    @property
    def title(self) -> str:
        """What the file is."""
        what = "A text" if len(self.parts) == 1 else f"{len(self.parts)} texts"
        return f"{what} with {self.name}"

    @property
    def date(self) -> str:
        """Day and minute."""
        return f"{self.written:%Y-%m-%d %H:%M}"


def shown(document: Document) -> list[Part]:
    """The branch on the screen, as far as it is there."""
    return [Part(document.branch_number, list(document.path), document.remark)]


def starred(document: Document) -> list[Part]:
    """The branches with a star."""
    return [part for part in every(document) if part.remark.is_starred]


def every(document: Document) -> list[Part]:
    """All branches."""
    return [
        Part(number, document.path_to(branch.end), branch.remark)
        for number, branch in enumerate(document.all_branches(), 1)
    ]


AUTHORS: dict[Author, str] = {
    "person": "given, not drawn",
    "template": "written by the chat template",
    "model": "written by the model",
}
"""Author → words about a token."""


def probability(step: Step) -> str:
    """The model's own probability of a token."""
    return "–" if step.logprob is None else percent(math.exp(step.logprob))


def whose(parts: Sequence[Part]) -> str:
    """Whose the probabilities of tokens are."""
    if any(part.inside for part in parts):
        return "those of the network that each token came from"
    return "the model's own"


_SHOWN = 3
"""Most settings that are written out, and most seeds of one."""


def said_settings(settings: Iterable[Sampling], nodes: Sequence[Node] = ()) -> str:
    """The values that are not the default, and the seeds: "temperature 0.8, top-p 0.95, seed 7".

    nodes: the text, whose tokens and candidates are named if they are banned or boosted.
    """
    seeds: dict[str, list[int]] = {}
    spelling = spelling_of({}, nodes)
    for each in settings:
        seeds.setdefault(_said(each, spelling), []).append(each.seed)
    found = [", ".join(filter(None, (said, _seeds(n)))) for said, n in seeds.items()]
    return "; ".join(found[:_SHOWN]) + _more(len(found))


def said_inside(part: Part) -> str:
    """What was changed inside the network for which tokens; empty if nothing was."""
    found = [
        f"{described(changes)} for {stretch(places)}"
        for changes, places in places_of(part.nodes).items()
    ]
    if not found:
        return ""
    how = f"(of {len(part.nodes)}, counted from 0; they were read or written so)"
    return f"{'; '.join(found[:_SHOWN])}{_more(len(found))} {how}"


def _said(sampling: Sampling, spelling: Spelling) -> str:
    values = [
        f"{setting_name(field.name)} {said_setting(sampling, field.name, spelling)}"
        for field in fields(Sampling)
        if field.name in sampling.active - {"order"}
    ]
    if "order" in sampling.active:
        values.append(f"in the order {said_order(sampling)}")
    return ", ".join(values)


def _seeds(seeds: list[int]) -> str:
    noun = "seed" if len(seeds) == 1 else "seeds"
    return f"{noun} {', '.join(map(str, seeds[:_SHOWN]))}" + _more(len(seeds))


def _more(count: int) -> str:
    return f" and {count - _SHOWN} more" if count > _SHOWN else ""
