"""The table of what is possible now; keys, footer, palette and mouse all ask it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from gpt.capabilities import Capabilities
from tui.document import Document
from tui.turns import system_prompt_at


class Refusal(NamedTuple):
    """Why an action is not possible now."""

    reason: str
    severity: Literal["error", "information"] = "error"


@dataclass(frozen=True)
class Situation:
    """Everything that the table depends on."""

    document: Document = field(default_factory=Document)
    index: int | None = None
    """Index of the selected token."""
    is_busy: bool = False
    """A run or a reading is in progress."""
    is_branching: bool = False
    """A run writes several branches."""
    has_settings: bool = True
    """The sampling settings are on the screen: a moment after the start."""
    has_typed: bool = False
    """The prompt is not empty."""
    searched: str = ""
    """Words of the latest search."""
    can_go_back: bool = False
    """The text before the latest step is still there."""
    is_in_browser: bool = False
    capabilities: Capabilities = field(default_factory=Capabilities)
    """What the model's server can answer; our own engine everything."""


Parameters = tuple[object, ...]
Need = Callable[[Situation, Parameters], Refusal | None]
"""Returns the reason against an action with these parameters; None if the need is met."""

BUSY = Refusal("The model is still at work; Esc stops it.")
NO_TEXT = Refusal("There is no text yet; type an opening line and press Enter.")
NOT_INSIDE = Refusal("A server does not show its insides.")
NO_BEGINNING = Refusal("Type an opening line first.")


def _free(now: Situation, _: Parameters) -> Refusal | None:
    return BUSY if now.is_busy else None


def _branches(now: Situation, _: Parameters) -> Refusal | None:
    return BUSY if now.is_busy and not now.is_branching else None


def _token(now: Situation, _: Parameters) -> Refusal | None:
    return NO_TEXT if now.index is None else None


def _settings(now: Situation, _: Parameters) -> Refusal | None:
    return None if now.has_settings else Refusal("The program is still starting.")


def _beginning(now: Situation, _: Parameters) -> Refusal | None:
    return None if now.has_typed or now.document.path else NO_BEGINNING


def _layers(now: Situation, _: Parameters) -> Refusal | None:
    if now.index:
        return None
    return Refusal("First token: no layer has seen anything before it.")


def _context(now: Situation, _: Parameters) -> Refusal | None:
    if now.index:
        return None
    return Refusal("First token: nothing comes before it, so it cannot be predicted.")


def _earlier(now: Situation, _: Parameters) -> Refusal | None:
    if now.index:
        return None
    return Refusal("First token: no earlier token could matter.")


def _inside(now: Situation, _: Parameters) -> Refusal | None:
    return None if now.capabilities.inside else NOT_INSIDE


def _changed(now: Situation, _: Parameters) -> Refusal | None:
    if now.document.changes:
        return None
    if not now.capabilities.inside:
        return NOT_INSIDE
    return Refusal("Nothing is changed inside the network; L changes something.", "information")


def _candidate(now: Situation, parameters: Parameters) -> Refusal | None:
    n = len(now.document.path[now.index or 0].step.candidates)
    number = parameters[0]
    if isinstance(number, int) and number <= n:
        return None
    if not n:
        return Refusal("Nothing predicts the first token, so it has no candidates.")
    return Refusal(f"This token has {n} candidates.")


def _fork(now: Situation, _: Parameters) -> Refusal | None:
    if now.document.has_fork(now.index or 0):
        return None
    return Refusal("There is no other branch at this token or before it.", "information")


def _no_system(now: Situation, _: Parameters) -> Refusal | None:
    path = now.document.path
    if not (now.document.system and system_prompt_at(path, now.index or 0)):
        return None
    return Refusal("A conversation keeps its system prompt; Ctrl+N begins another.", "information")


def _deletion(now: Situation, _: Parameters) -> Refusal | None:
    if now.document.can_undo or now.can_go_back:
        return None
    others = "[ and ] show the other branches"
    said = others if now.document.branch_count > 1 else "Del deletes from a token on"
    return Refusal(f"There is nothing to undo; {said}.", "information")


def _bookmark(now: Situation, _: Parameters) -> Refusal | None:
    if now.document.has_marks:
        return None
    return Refusal("There is no bookmark yet; m sets one.", "information")


def _drawn(now: Situation, _: Parameters) -> Refusal | None:
    if now.document.has_drawn(now.index or 0):
        return None
    if now.document.has_drawn(0):
        return Refusal("Nothing was sampled from here on; select an earlier token.")
    return Refusal("Nothing was sampled in this text yet; Ctrl+G lets the model continue it.")


def _answer(now: Situation, _: Parameters) -> Refusal | None:
    if now.document.has_drawn(0):
        return None
    return Refusal("The model has written nothing in this text yet; Ctrl+G lets it continue.")


def _search(now: Situation, _: Parameters) -> Refusal | None:
    if now.searched:
        return None
    return Refusal("There was no search yet; / searches.", "information")


def _terminal(now: Situation, _: Parameters) -> Refusal | None:
    return Refusal("An editor needs a terminal, not a browser.") if now.is_in_browser else None


def _own_files(now: Situation, _: Parameters) -> Refusal | None:
    return Refusal("A browser reads no files of this machine.") if now.is_in_browser else None


NEEDS: dict[str, tuple[Need, ...]] = {
    # text
    "read_file": (_free, _own_files),
    "send": (_free,),
    "write": (_free,),
    "go_on": (_free, _beginning),
    "write_on": (_free, _beginning),
    "replace": (_free, _token, _no_system),
    "change": (_free, _token, _no_system),
    "draw_again": (_free, _token, _context),
    "answer_again": (_free, _token, _answer),
    "take": (_free, _token, _candidate),
    "new_text": (_free,),
    "texts": (_free,),
    "models": (_free,),
    "export": (_token,),
    "copy": (_token,),
    # tree
    "branch": (_free, _token, _fork),
    "delete": (_free, _token),
    "undo": (_free, _deletion),
    "mark": (_free, _token),
    "next_mark": (_free, _token, _bookmark),
    "tree": (_branches, _token),
    # questions to the model
    "lines": (_free, _token),
    "paths": (_free, _token),
    "layers": (_inside, _free, _token, _layers),
    "attention": (_inside, _free, _token, _layers),
    "inside": (_inside, _free, _token, _layers),
    "whole_network": (_free, _changed),
    "attribution": (_inside, _free, _token, _earlier),
    "options": (_free, _token),
    "compare": (_free, _token),
    "what_if": (_free, _token, _drawn, _settings),
    "what_if_second": (_free, _token, _drawn),
    # settings
    "preset": (_settings,),
    "ban": (_token, _settings),
    "boost": (_token, _settings),
    "preferences": (_settings,),
    # moving in the text
    "search": (_token,),
    "found": (_token, _search),
    "editor": (_terminal,),
    "fork": (_token,),
    "most_surprising": (_token,),
    "move": (_token,),
    "move_row": (_token,),
    "select": (_token,),
    "extend": (_token,),
    "newest": (_token,),
    "presenter": (_token,),
}
"""The needs of each action; the first one that is not met is the reason shown. An action without an
entry is always possible."""


def refusal(action: str, parameters: Parameters, now: Situation) -> Refusal | None:
    """The reason against an action now; None if it is possible."""
    for need in NEEDS.get(action, ()):
        if found := need(now, parameters):
            return found
    return None
