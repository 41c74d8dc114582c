"""Tokens and probabilities as short labels; no widgets."""

from __future__ import annotations

from rich.cells import cell_len, set_cell_size

from gpt.sanitize import one_line

SHOWN = 8
"""Number of tokens of the prompt that are shown, counted from its end."""


def shortened(message: str, longest: int = 300) -> str:
    """A message as one line; of a long one the middle is left out, for the end has the reason."""
    line = one_line(message)
    if len(line) <= longest:
        return line
    end = longest // 3
    return f"{line[: longest - end - 1]}…{line[-end:]}"


def visible(data: bytes, token_id: int) -> str:
    """A token as a label: signs for spaces and line breaks, hexadecimal for stray bytes."""
    if not data:
        return f"<{token_id}>"
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


def fit(label: str, width: int) -> str:
    """A label cut or padded to exactly `width` cells of the terminal."""
    if cell_len(label) > width:
        label = set_cell_size(label, width - 1) + "…"
    return set_cell_size(label, width)


def cut(parts: list[bytes], *, joins_spaces: bool) -> str:
    """A line about a prompt with these tokens; empty for an empty prompt.

    joins_spaces: the model has tokens that start with a space.
    """
    if not parts:
        return ""
    last = "│".join(visible(part, 0) for part in parts[-SHOWN:])
    more = "…" if len(parts) > SHOWN else ""
    noun = "token" if len(parts) == 1 else "tokens"
    said = f"{len(parts)} {noun}: {more}{last}"
    if joins_spaces and parts[-1] == b" ":
        said += "   ends with a space: remove it, this model's words start with one"
    return said
