"""A page for a browser: the heat map; pointing at a token shows what else it could have been.

It has no scripts and loads nothing, so it works from a file, and text from outside can do nothing.
"""

from __future__ import annotations

import html
import math

from rich.style import Style

from gpt.sanitize import one_line, sanitize
from gpt.step import Step
from tui.bars import bar, full_bar
from tui.changes import described
from tui.document import Node
from tui.export.page_style import STYLE
from tui.export.parts import (
    AUTHORS,
    Export,
    Part,
    probability,
    said_inside,
    said_settings,
    whose,
)
from tui.heat import SCALES, STEPS, heat
from tui.labels import equally_likely, name_of, percent, rank_of, without_number
from tui.node import Author, is_seam

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="generator" content="gpt-tui">
<title>{title}</title>
<style>{style}{heats}</style>
</head>
<body>
<header>
<fieldset class="look">
<legend>Colours</legend>
<label><input type="radio" name="look" id="system" checked> system</label>
<label><input type="radio" name="look" id="light"> light</label>
<label><input type="radio" name="look" id="dark"> dark</label>
</fieldset>
<h1>{title}</h1>
<p class="facts">Written on {date}.</p>
{menu}<p class="legend">Probability: {legend} {authors}</p>
</header>
<aside>Point at a token, or press Tab to go from token to token: here is what else it could have
been. Probabilities are {whose}, at temperature 1.</aside>
<main>
{sections}
</main>
</body>
</html>
"""


def to_html(export: Export) -> str:
    """One section a branch; several with a menu."""
    several = len(export.parts) > 1
    return _PAGE.format(
        style=STYLE,
        heats=_heats(),
        title=html.escape(export.title),
        date=export.date,
        menu=_menu(export) if several else "",
        legend=_legend(),
        authors=_PERSON
        + _TEMPLATE * any(map(_has_template, export.parts))
        + _SEAM * any(part.inside for part in export.parts),
        whose=whose(export.parts),
        sections="\n".join(_section(part, has_title=several) for part in export.parts),
    )


_PERSON = '<span class="p">italic: given, not drawn</span>'
_TEMPLATE = ' <span class="c">grey: written by the chat template</span>'
_SEAM = ' <span class="n">green line: another network begins</span>'


def _has_template(part: Part) -> bool:
    return any(node.author == "template" for node in part.nodes)


def _heats() -> str:
    """A rule for each heat; the letters of hot tokens have the usual colour to be readable."""
    levels = range(1, STEPS)
    rules = [
        f".h{level} {{ background: rgb(220 38 38 / {0.08 + 0.62 * level / (STEPS - 1):.2f}); }}"
        for level in levels
    ]
    hot = ", ".join(f".{who}.h{level}" for level in levels if level > STEPS // 4 for who in "pc")
    return "\n".join([*rules, f"{hot} {{ color: var(--ink); }}\n"])


def _menu(export: Export) -> str:
    rows = "\n".join(
        f'<li><a href="#branch-{part.number}">{html.escape(part.title)}</a>'
        f" <small>{part.facts}</small></li>"
        for part in export.parts
    )
    return f'<nav aria-label="Branches">\n<ul>\n{rows}\n</ul>\n</nav>\n'


def _legend() -> str:
    return " ".join(
        f'<i class="h{level}">{html.escape(label)}</i>' for label, level in SCALES[0].legend.items()
    )


def _section(part: Part, *, has_title: bool) -> str:
    title = f"<h2>{html.escape(part.title)}</h2>\n"
    note = html.escape(one_line(part.remark.note))
    settings = said_settings(part.settings, part.nodes)
    inside = said_inside(part)
    facts = part.facts + (f"; {settings}" if settings else "")
    facts += f"; inside the network: {inside}" if inside else ""
    tokens = "".join(
        _token(node, text, begins=is_seam(part.nodes, i))
        for i, (node, text) in enumerate(zip(part.nodes, part.shown, strict=True))
    )
    return (
        f'<section id="branch-{part.number}">\n'
        + title * (has_title or bool(part.remark.name))
        + (f'<p class="note">{note}</p>\n' if note else "")
        + f'<p class="facts">{html.escape(facts)}</p>\n<p class="text">{tokens}</p>\n</section>'
    )


_BAR = 10
"""Cells of a candidate's bar."""
_CLASSES: dict[Author, str] = {"person": " p", "template": " c", "model": ""}


def _token(node: Node, text: str, *, begins: bool) -> str:
    """begins: another network than that of the token before."""
    names = f"t h{heat(node.step.logprob)}{_CLASSES[node.author]}{' n' * begins}"
    card = html.escape("\n".join(_card(node))).replace("\n", "&#10;")
    shown = html.escape(sanitize(text))
    return f'<b class="{names}" tabindex="0" data-card="{card}">{shown}</b>'


def _card(node: Node) -> list[str]:
    """What is known about a token, line by line."""
    step = node.step
    lines = [f"{name_of(step)}   position {step.position}, id {step.token_id}"]
    if step.logprob is None:
        return [*lines, without_number(step), AUTHORS[node.author]]
    lines.append(f"{probability(step)}, rank {rank_of(step)}")
    if step.entropy is not None:
        lines.append(equally_likely(step))
    if step.sampling_logprob is not None:
        lines.append(f"sampled at {percent(math.exp(step.sampling_logprob))} after settings")
    elif node.author != "model":
        lines.append(AUTHORS[node.author])
    if node.changes:
        lines.append(f"inside: {described(node.changes)}")
    return [*lines, "", *_candidates(step)] if step.candidates else lines


def _candidates(step: Step) -> list[str]:
    """A line with a bar for each candidate, a sign at the token itself; then what a bar means."""
    found, most = [], full_bar(math.exp(each.logprob) for each in step.candidates)
    for each in step.candidates:
        p = math.exp(each.logprob)
        sign = "▸" if each.token_id == step.token_id else " "
        found.append(f"{percent(p):>7} {bar(p / most, _BAR, Style()).plain} {sign}{name_of(each)}")
    return [*found, f"full bar {most:.0%}"]
