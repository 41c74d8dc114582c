"""The heat map as an SVG picture."""

from __future__ import annotations

from io import StringIO

from rich.console import Console
from rich.style import Style
from rich.text import Text

from gpt.sanitize import one_line, sanitize
from tui.export.parts import Export, Part, said_inside
from tui.heat import STEPS, heat
from tui.node import Author

WIDTH = 80
_INKS: dict[Author, str] = {
    "person": "italic bright_yellow",
    "template": "white",
    "model": "bright_white",
}
_COLD, _HOT = (18, 18, 22), (198, 18, 52)
"""Red, green and blue of heat 0 and of the greatest heat."""


def to_svg(export: Export) -> str:
    """Each text with its tokens coloured by probability; several with their titles."""
    console = Console(record=True, width=WIDTH, file=StringIO(), force_terminal=True)
    for i, part in enumerate(export.parts):
        if len(export.parts) > 1:
            console.print(Text(("\n" if i else "") + part.title, Style(bold=True, underline=True)))
        console.print(_drawn(part))
        if inside := said_inside(part):
            console.print(Text(f"inside the network: {one_line(inside)}", "dim"))
    return console.export_svg(title=f"{export.name} · {export.date}")


def _drawn(part: Part) -> Text:
    drawn = Text()
    for node, text in zip(part.nodes, part.shown, strict=True):
        level = heat(node.step.logprob)
        share = level / (STEPS - 1)
        mixed = (round(a + (b - a) * share) for a, b in zip(_COLD, _HOT, strict=True))
        ground = "on rgb({},{},{})".format(*mixed) if level else ""
        drawn.append(sanitize(text), f"{_INKS[node.author]} {ground}")
    return drawn
