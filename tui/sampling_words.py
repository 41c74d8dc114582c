"""How sampling settings are said, and what a server makes of them; no widgets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import NamedTuple

from gpt.capabilities import Capabilities
from gpt.sanitize import one_line
from gpt.setting_names import setting_name
from gpt.settings import Ids, Sampling
from tui.dials import said_order
from tui.document import Node

_SEEDS = {
    "strict": "Same random seed, started again here",
    "best effort": "Same random seed, which this server may not repeat exactly",
    "none": "This server takes no random seed",
}
"""What a comparison of two runs at a server says about their noise, which is the server's own."""


def said_seed(capabilities: Capabilities) -> str:
    """What a comparison of two runs says about their noise: ours depends on the position alone."""
    return _SEEDS[capabilities.seed] if capabilities.server else "Same random seed"


def said_ignored(names: tuple[str, ...]) -> str:
    """A sentence about settings that the server ignores."""
    return f"The server ignores: {', '.join(map(setting_name, names))}."


class Spelling(NamedTuple):
    """How banned and boosted tokens are written."""

    words: Mapping[str, tuple[Ids, ...]] = {}
    """Word that the person typed → the ids of its forms."""
    texts: Mapping[int, bytes] = {}
    """Token id → what it adds to a text, for tokens that were banned by their id."""

    def said(self, found: Iterable[Ids]) -> list[str]:
        """These tokens as words in quotes; a token whose text is not known by its id."""
        rest = dict.fromkeys(found)
        said = list[str]()
        for word, forms in sorted(self.words.items(), key=lambda item: -len(item[1])):
            if forms and all(ids in rest for ids in forms):
                rest = {ids: None for ids in rest if ids not in forms}
                said.append(one_line(word) if word.startswith('"') else _quoted(word))
        return said + [self._text(ids) for ids in rest]

    def _text(self, ids: Ids) -> str:
        if all(self.texts.get(each) for each in ids):
            return _quoted(b"".join(self.texts[each] for each in ids).decode("utf-8", "replace"))
        return " ".join(f"#{each}" for each in ids)


def spelling_of(words: Mapping[str, tuple[Ids, ...]], nodes: Iterable[Node]) -> Spelling:
    """How tokens are written in a text with these nodes: as typed, or else as they stand there."""
    texts = dict[int, bytes]()
    for node in nodes:
        texts |= {each.token_id: each.bytes for each in node.step.candidates}
        texts[node.step.token_id] = node.step.bytes
    return Spelling(words, texts)


UNKNOWN = Spelling()
"""Every token by its id."""


def _quoted(text: str) -> str:
    return f'"{one_line(text)}"'


def said_setting(sampling: Sampling, name: str, spelling: Spelling) -> str:
    """The value of a setting."""
    match name:
        case "order":
            return said_order(sampling)
        case "banned":
            return ", ".join(spelling.said(sampling.banned)) or "nothing"
        case "boosted":
            boosts = dict.fromkeys(nats for _, nats in sampling.boosted)
            found = {
                nats: spelling.said(ids for ids, each in sampling.boosted if each == nats)
                for nats in boosts
            }
            said = (f"{word} {nats:+g}" for nats, words in found.items() for word in words)
            return ", ".join(said) or "nothing"
    value = getattr(sampling, name)
    return f"{value:g}" if isinstance(value, float) else str(value)


def differences(old: Sampling | None, new: Sampling | None, spelling: Spelling = UNKNOWN) -> str:
    """The settings that differ, with old and new values."""
    if old is None or new is None:
        return "the settings of one text are not known"
    found = [
        f"{setting_name(each.name)} "
        f"{said_setting(old, each.name, spelling)} → {said_setting(new, each.name, spelling)}"
        for each in fields(Sampling)
        if each.name != "mirostat_mu"  # depends on the other settings and on the text
        and getattr(old, each.name) != getattr(new, each.name)
    ]
    return ", ".join(found) or "no setting differs"
