"""Tokens and probabilities as short labels; no widgets."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from textual.content import Content

from gpt.capabilities import Capabilities
from gpt.sanitize import one_line
from gpt.step import Candidate, Step

SHOWN = 12
"""Number of tokens of the prompt that are shown, counted from its end."""
BOXES = ("$text on $primary 40%", "$text on $secondary 40%")
"""Styles of neighbouring tokens; the colours are the theme's."""
NO_CONTEXT = "First token: nothing to predict it from"


def shortened(message: str, longest: int = 300) -> str:
    """A message as one line; of a long one the middle is left out, for the end has the reason."""
    line = one_line(message)
    if len(line) <= longest:
        return line
    end = longest // 3
    return f"{line[: longest - end - 1]}…{line[-end:]}"


def sentence(message: str) -> str:
    """A message with a capital at its beginning, unless it begins with a name."""
    word = message.partition(" ")[0]
    return capital(message) if word.isalpha() and word.islower() else message


def capital(words: str) -> str:
    """Words with a capital at the beginning; the others stay as they are."""
    return words[:1].upper() + words[1:]


def name_of(token: Step | Candidate) -> str:
    """A token as a label; a special token by its name."""
    return visible(token.bytes, token.token_id, token.name)


def visible(data: bytes, token_id: int, name: str = "") -> str:
    """A token as a label: signs for spaces and line breaks, hexadecimal for stray bytes.

    name: stands for a token without bytes, instead of its id.
    """
    if not data:
        return one_line(name) or f"<{token_id}>"
    text = data.decode("utf-8", "backslashreplace")
    return one_line(text).replace(" ", "·")


def percent(p: float) -> str:
    """A probability with three digits; 0 % means impossible and 100 % certain."""
    if p in (0, 1):
        return f"{p:.0%}".replace("%", " %")
    if p < 0.0001:
        return "<.01 %"
    if p >= 0.9995:
        return ">99.9 %"
    return f"{100 * p:.{2 if p < 0.09995 else 1}f} %"


def rank_of(step: Step) -> str:
    """The rank of a token; a server may only show that it is not among the best."""
    if step.rank is not None:
        return f"{step.rank:,}"
    return f"below the first {len(step.candidates)}" if step.candidates else "–"


def equally_likely(step: Step) -> str:
    """How many equally likely tokens would be as uncertain; ≥ if only a bound is known."""
    if step.entropy is None:
        return "uncertainty unknown"
    among = math.exp(step.entropy)
    number = f"{among:,.0f}" if among >= 10 else f"{among:.2g}"
    return f"{'≥' if step.entropy_is_bound else '≈'} {number} equally likely"


def entropy_of(step: Step) -> str:
    """The entropy in nats; ≥ if only a bound is known."""
    if step.entropy is None:
        return "entropy unknown"
    return f"entropy {'≥ ' * step.entropy_is_bound}{step.entropy:.2f} nats"


def without_number(step: Step) -> str:
    """Why a token has no probability."""
    if step.position:
        return "The server gives no probability for it"
    return NO_CONTEXT


def model_name(name: str) -> str:
    """A model's name for a person; of a path, its last part."""
    parts = [part for part in name.replace("\\", "/").split("/") if part]
    is_path = name[:1] in "/.~" or name[1:3] == ":\\" or name.lower().endswith(".gguf")
    return one_line(parts[-1] if parts and is_path else name)


def server_at(capabilities: Capabilities) -> str:
    """That a model is at a server: its kind, without its version, and where it is."""
    words = capabilities.server.split()
    kind = " ".join(word for word in words if not any(map(str.isdigit, word)))
    place = capabilities.address.partition("://")[2] or capabilities.address
    return one_line(f"{kind or capabilities.server} server at {place}")


def offset(position: int, at: int) -> str:
    """How far before a position another one is: "0" is itself, "−1" the one before it.

    Every table of earlier tokens counts from the position where the selected token is predicted.
    """
    return f"−{at - position}" if position < at else "0"


def fit(label: str, width: int) -> str:
    """A label cut or padded to exactly `width` cells of the terminal."""
    if cell_len(label) > width:
        label = set_cell_size(label, width - 1) + "…"
    return set_cell_size(label, width)


def fit_hints(hints: str, width: int) -> str:
    """As many hints of keys, separated by " · ", as fit whole, from the first one."""
    first, *others = hints.split(" · ")
    for hint in others:
        if cell_len(first) + cell_len(hint) + 3 > width:
            break
        first += f" · {hint}"
    return first


def fit_one(ways: Sequence[str], width: int) -> str:
    """The first of several ways to say something that fits, padded; the last one may be cut."""
    return fit(next((each for each in ways if cell_len(each) <= width), ways[-1]), width)


def fit_end(text: str, width: int) -> str:
    """The end of a text, cut or padded to exactly `width` cells of the terminal."""
    if cell_len(text) > width:
        text = text[-max(1, width) :]  # a character has at most two cells, and most have one
        while cell_len(text) >= width and text:
            text = text[1:]
        text = f"…{text}"
    return set_cell_size(text, width)


def boxes(parts: Sequence[bytes], *, joins_spaces: bool, room: float = math.inf) -> Content:
    """A line about a prompt with these tokens, each in its box; empty for an empty prompt.

    joins_spaces: the model has tokens that start with a space. room: tokens that it can still read;
    of a prompt that is longer it says only that.
    """
    if not parts:
        return Content("")
    if len(parts) > room:
        noun = "token is" if len(parts) == 1 else "tokens are"
        said = f"{len(parts):,} {noun} too many: the context has room for {max(0, room):,}"
        return Content.styled(said, "bold")
    noun = "token" if len(parts) == 1 else "tokens"
    more = "…" if len(parts) > SHOWN else ""
    found = [Content(f"{len(parts)} {noun}:{more}")]
    for i, part in enumerate(parts[-SHOWN:], max(0, len(parts) - SHOWN)):
        found.append(Content.styled(visible(part, 0), BOXES[i % 2]))
    if joins_spaces and parts[-1] == b" ":
        found.append(Content("  ends with a space: remove it, this model's words start with one"))
    return Content(" ").join(found)  # a border mixes up styles that touch
