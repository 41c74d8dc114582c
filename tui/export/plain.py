"""Formats for editors and programs: text, Markdown, JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby, takewhile
from typing import Any

from gpt.sanitize import one_line, sanitize
from gpt.step import Step
from tui.changes import Table
from tui.export.parts import Export, Part, probability, said_inside, said_settings, whose
from tui.labels import name_of, rank_of

_LEAST_EXPECTED = 20


def to_text(export: Export) -> str:
    """Only the text; several branches with a line before each one that is in none of them."""
    texts = [part.text for part in export.parts]
    if len(texts) == 1:
        return texts[0]
    rule = "-" * 8
    while any(rule in text for text in texts):
        rule += "-"
    titles = (part.title for part in export.parts)
    return "\n".join(f"{rule} {title}\n{text}" for title, text in zip(titles, texts, strict=True))


def to_markdown(export: Export) -> str:
    """Each text with its prompt or turns, and a table of its least expected tokens."""
    single = len(export.parts) == 1
    what = "A text" if single else f"{len(export.parts)} texts"
    found = [f"# {what} by `{code(export.name)}`", f"Written on {export.date}."]
    for part in export.parts:
        if not single:
            found.append(f"## `{code(part.title)}`")
        found += _about(part) + _written(part, "##" if single else "###")
    return "\n\n".join(found) + "\n"


def _about(part: Part) -> list[str]:
    """Facts, name and note of a branch."""
    found = [f"{part.facts}."]
    if settings := said_settings(part.settings, part.nodes):
        found.append(f"Settings: {settings}.")
    if inside := said_inside(part):
        found.append(f"Inside the network: {inside}.")
    if part.remark.note:
        found.append(f"Note: `{code(one_line(part.remark.note))}`")
    return found


def _written(part: Part, level: str) -> list[str]:
    is_chat = any(node.author == "template" for node in part.nodes)
    found = list((_messages if is_chat else _one_text)(part, level))
    known = [node for node in part.nodes if node.step.logprob is not None]
    least = sorted(known, key=lambda node: node.step.logprob or 0)[:_LEAST_EXPECTED]
    rows = [
        f"| {node.step.position} | `{_cell(node.step)}` | {probability(node.step)} | "
        f"{rank_of(node.step)} |"
        for node in least
    ]
    return [
        *found,
        f"{level} Least expected tokens\n\nProbabilities are {whose([part])}, at temperature 1.",
        "\n".join(["| position | token | probability | rank |", "|---|---|---|---|", *rows]),
    ]


def _messages(part: Part, level: str) -> Iterator[str]:
    """The turns of a chat."""
    both = zip(part.nodes, part.shown, strict=True)
    for author, run in groupby(both, lambda each: each[0].author):
        text = "".join(text for _, text in run)
        if author == "template":
            yield f"Chat template: `{code(one_line(text))}`"
        else:
            yield _fenced(level, _TITLES[author], text)


def _one_text(part: Part, level: str) -> Iterator[str]:
    """The prompt and what follows, whole also where a person took another candidate in a word."""
    begun = sum(1 for _ in takewhile(lambda node: node.author == "person", part.nodes))
    for author, shown in (("person", part.shown[:begun]), ("model", part.shown[begun:])):
        if shown:
            yield _fenced(level, _TITLES[author], "".join(shown))
    if chosen := sum(node.author == "person" for node in part.nodes[begun:]):
        yield f"Of these tokens, {chosen} {'was' if chosen == 1 else 'were'} given, not drawn."


_TITLES: dict[str, str] = {"person": "Prompt", "model": "The model"}


def _fenced(level: str, title: str, text: str) -> str:
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{level} {title}\n\n{fence}\n{sanitize(text)}\n{fence}"


def _cell(step: Step) -> str:
    return code(name_of(step)).replace("|", "\\|")


def code(text: str) -> str:
    """A text without backticks, safe inside inline code."""
    return text.replace("`", "ˋ") or " "


def to_json(export: Export) -> str:
    """The trace: every Step as in docs/engine.md, who wrote it, and with which settings.

    One branch is an object, several are a list of objects.
    """
    traces = [_trace(part, export) for part in export.parts]
    return json.dumps(traces[0] if len(traces) == 1 else traces, indent=1) + "\n"


def _trace(part: Part, export: Export) -> dict[str, Any]:
    settings = {sampling: i for i, sampling in enumerate(part.settings)}
    inside = Table(part.inside)
    return {
        "model": export.model,
        "written": export.written.isoformat(timespec="seconds"),
        "branch": part.number,
        **part.remark.to_dict(),
        "text": part.text,
        "settings": [sampling.to_dict() for sampling in settings],
        **inside.to_head(),
        "tokens": [
            {
                **node.step.to_dict(),
                "is_prompt": node.is_prompt,
                "author": node.author,
                "setting": settings[node.sampling] if node.sampling else None,
                **inside.to_line(node.changes),
            }
            for node in part.nodes
        ],
    }
