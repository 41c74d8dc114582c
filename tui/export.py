"""Writes a text with its numbers to a file for others; no widgets, no model."""

from __future__ import annotations

import html
import json
import math
import os
from codecs import getincrementaldecoder
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from io import StringIO
from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.text import Text

from gpt.errors import UserError
from gpt.sanitize import one_line, sanitize
from gpt.step import Step
from tui.document import Node
from tui.heat import STEPS, heat
from tui.labels import percent, visible


def write(path: Path, nodes: Sequence[Node], model: str) -> None:
    """Write a path of tokens in the format that the file name ends with."""
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise UserError(f"the name {path.name} must end with one of {', '.join(FORMATS)}")
    text = kind(nodes, model)
    try:
        with ExitStack() as undo, path.open("x", encoding="utf-8", newline="") as file:
            undo.callback(path.unlink)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            undo.pop_all()
    except FileExistsError as error:
        raise UserError(f"{path} exists already; choose another name") from error
    except (OSError, ValueError) as error:  # ValueError: not a valid file name
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"cannot write {path}: {reason}") from error


def _texts(nodes: Sequence[Node]) -> list[str]:
    """The text of each token; half a character is added to the token that completes it."""
    decode = getincrementaldecoder("utf-8")("replace").decode
    texts = [decode(node.step.bytes) for node in nodes]
    if texts:
        texts[-1] += decode(b"", final=True)
    return texts


def _text(nodes: Sequence[Node]) -> str:
    return "".join(_texts(nodes))


def to_text(nodes: Sequence[Node], model: str) -> str:
    """Only the text."""
    return _text(nodes)


def to_markdown(nodes: Sequence[Node], model: str) -> str:
    """The parts of the text with their authors, and a table of the least expected tokens."""
    parts = [
        _fenced("prompt" if is_prompt else "the model", "".join(text for _, text in part))
        for is_prompt, part in groupby(
            zip(nodes, _texts(nodes), strict=True), lambda each: each[0].is_prompt
        )
    ]
    known = [node for node in nodes if node.step.logprob is not None]
    rows = [
        f"| {node.step.position} | `{_cell(node.step)}` | {_probability(node.step)} | "
        f"{node.step.rank} |"
        for node in sorted(known, key=lambda node: node.step.logprob or 0)[:20]
    ]
    return "\n\n".join(
        [
            f"# A text with `{_code(one_line(model))}`",
            *parts,
            "## Least expected tokens\n\nBy the model's own probability, at temperature 1.",
            "| position | token | probability | rank |\n|---|---|---|---|\n" + "\n".join(rows),
        ]
    )


def _fenced(title: str, text: str) -> str:
    fence = "```"
    while fence in text:
        fence += "`"
    return f"## {title.capitalize()}\n\n{fence}\n{sanitize(text)}\n{fence}"


def _cell(step: Step) -> str:
    return _code(visible(step.bytes, step.token_id)).replace("|", "\\|")


def _code(text: str) -> str:
    """A text without backticks, safe inside inline code."""
    return text.replace("`", "ˋ")


def _probability(step: Step) -> str:
    return "–" if step.logprob is None else percent(math.exp(step.logprob))


def to_json(nodes: Sequence[Node], model: str) -> str:
    """The trace: every Step as in docs/engine.md, and who wrote it."""
    tokens = [{**node.step.to_dict(), "is_prompt": node.is_prompt} for node in nodes]
    trace = {"model": model, "text": _text(nodes), "tokens": tokens}
    return json.dumps(trace, indent=1) + "\n"


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font: 16px/1.7 ui-monospace, monospace; max-width: 48em; margin: 2em auto; padding: 0 1em;
  background: #fff; color: #111; }}
.text {{ white-space: pre-wrap; overflow-wrap: anywhere; }}
.t {{ position: relative; }}
.p {{ font-style: italic; color: #0550ae; }}
.t > span {{ display: none; position: absolute; left: 0; top: 1.6em; z-index: 1; padding: .5em .8em;
  background: #111; color: #eee; font: 13px/1.4 ui-monospace, monospace; white-space: pre; }}
.t:hover > span, .t:focus > span {{ display: block; }}
{heats}
</style>
<h1>{title}</h1>
<p>Coloured by the model's own probability of each token, at temperature 1: white is 70 % and more.
Point at a token to see its other candidates.</p>
<p class="text">{tokens}</p>
"""


def to_html(nodes: Sequence[Node], model: str) -> str:
    """A page without scripts: the heat map; pointing at a token shows its candidates."""
    heats = "\n".join(
        f".h{level} {{ background: rgb(220 38 38 / {0.08 + 0.62 * level / (STEPS - 1):.2f}); }}"
        for level in range(1, STEPS)
    )
    tokens = "".join(map(_span, nodes, _texts(nodes)))
    title = html.escape(f"A text with {one_line(model)}")
    return _PAGE.format(title=title, heats=heats, tokens=tokens)


def _span(node: Node, text: str) -> str:
    step = node.step
    names = f"t h{heat(step.logprob)}" + (" p" if node.is_prompt else "")
    lines = [f"{visible(step.bytes, step.token_id)}  {_probability(step)}, rank {step.rank}"]
    if step.logprob is None:
        lines = ["first token: nothing to predict it from"]
    if step.sampling_logprob is not None:
        lines.append(f"drawn at {percent(math.exp(step.sampling_logprob))} after settings")
    lines += [
        f"{percent(math.exp(c.logprob)):>8}  {visible(c.bytes, c.token_id)}"
        for c in step.candidates
    ]
    shown = html.escape(sanitize(text))
    return f'<b class="{names}" tabindex="0" style="font-weight:inherit">{shown}<span>' + (
        html.escape("\n".join(lines)) + "</span></b>"
    )


def to_svg(nodes: Sequence[Node], model: str) -> str:
    """The heat map as an SVG picture."""
    console = Console(record=True, width=80, file=StringIO(), force_terminal=True)
    picture = Text()
    for node, text in zip(nodes, _texts(nodes), strict=True):
        level = heat(node.step.logprob)
        ground = f"on rgb({18 + 12 * level},18,{22 + 2 * level})" if level else ""
        ink = "italic bright_yellow" if node.is_prompt else "bright_white"
        picture.append(sanitize(text), f"{ink} {ground}")
    console.print(picture)
    return console.export_svg(title=one_line(model))


FORMATS: dict[str, Callable[[Sequence[Node], str], str]] = {
    ".txt": to_text,
    ".md": to_markdown,
    ".json": to_json,
    ".html": to_html,
    ".svg": to_svg,
}
