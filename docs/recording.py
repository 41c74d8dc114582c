"""Record forty seconds of the real program as a person uses it: docs/recording.svg.

    .venv/bin/python -m docs.recording [--draw]

The cast, docs/recording.cast, is asciinema's (version 2) and too large for the repository. Its
markers say what the person does. --draw only draws it again.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pyte

from docs.drawing import EDGE, Drawing, H, Row, W, ground_of, rows, window
from docs.program import Program

CAST, SVG = (Path(__file__).with_name(f"recording.{end}") for end in ("cast", "svg"))
SIZE = (100, 30)
RATE = 6
"""Most frames of the drawing in a second."""
STILL = "The text, coloured by attention"
"""Marker of the scene that is shown if the person wants no motion: its end."""


class Act(NamedTuple):
    """What the person does."""

    says: str
    """Marker; empty to keep the one before."""
    keys: tuple[str, ...]
    """One after another."""
    apart: float
    """Seconds after each key."""
    then: float
    """Seconds of looking at the result."""


ACTS = (
    Act("Start", (), 0, 2.0),
    Act("Enter: the model continues an opening line", ("enter",), 0, 3.6),
    Act("Tab: into the text; arrow keys select a token", ("tab", "home"), 0.8, 0),
    Act("", ("right",) * 12, 0.14, 0.6),
    Act("u: to the next token where the model was uncertain", ("u", "u", "u"), 0.8, 0.4),
    Act("2: take the second candidate; the old text stays as a branch", ("2",), 0, 2.6),
    Act("[: back to the branch before", ("[",), 0, 1.8),
    Act("Ctrl+L, b: to the temperature", ("ctrl+l", "b"), 0.9, 0),
    Act("→: raise it; the bars move", ("right",) * 7, 0.35, 1.2),
    Act("", ("left",) * 7, 0.2, 0.5),
    Act("a: where the heads of a layer look", ("ctrl+l", "a", "a"), 0.4, 0.8),
    Act(STILL, ("up", "up", "right", "right", "right"), 0.7, 1),
    Act("Space: all keys of the text", ("escape", " "), 0.4, 2.6),
    Act("F1: help, with a glossary", ("escape", "f1"), 0.4, 1.2),
    Act("", tuple("entropy"), 0.15, 2.2),
)


def record() -> None:
    """Write the cast."""
    with tempfile.TemporaryDirectory() as home:
        program = Program(Path(home), SIZE, "--seed", "4", "-n", "150")
        try:
            program.see("context 0")
            events: list[tuple[float, str, str]] = []
            for act in ACTS:
                if act.says:
                    events.append((program.now, "m", act.says))
                for key in act.keys:
                    program.press(key)
                    program.rest(act.apart)
                program.rest(act.then)
            end = program.now
        finally:
            program.kill()
    events += [(time, "o", _shorter(data)) for time, data in program.drawn if time <= end]
    events.append((end, "m", ""))
    header = {"version": 2, "width": SIZE[0], "height": SIZE[1], "title": "gpt-tui"}
    lines = [header, *([round(time, 3), kind, data] for time, kind, data in sorted(events))]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    CAST.write_text(text, encoding="utf-8")


def _shorter(data: str) -> str:
    """The same output: "default looks, then these looks" as one sequence instead of two."""
    return re.sub(r"\x1b\[0?m\x1b\[([\d;]+)m", "\x1b[0;\\1m", data)


class Frame(NamedTuple):
    """What is on the screen from a time on."""

    time: float
    says: str
    rows: list[Row]


def frames(lines: list[Any]) -> tuple[list[Frame], float]:
    """Different screens, at most RATE in a second, and the time of the end."""
    header, *events = lines
    screen = pyte.Screen(header["width"], header["height"])
    stream = pyte.Stream(screen)
    found: list[Frame] = []
    says = ""
    for (time, kind, data), (following, *_) in pairwise([*events, events[-1]]):
        if kind == "m":
            says = data or says
        else:
            stream.feed(data)
        if following - (found[-1].time if found else -1) < 1 / RATE:
            continue  # the next frame comes soon, and shows this as well
        frame = Frame(time, says, rows(screen))
        if not found or found[-1][1:] != frame[1:]:
            found.append(frame)
    return found, events[-1][0]


def draw() -> None:
    """Write the SVG: a film of frames side by side, of which one is visible.

    Equal rows are drawn once.
    """
    lines = [json.loads(line) for line in CAST.read_text(encoding="utf-8").splitlines()]
    shown, end = frames(lines)
    size = lines[0]["width"], lines[0]["height"]
    drawing = Drawing(ground_of(shown[-1].rows))
    names: dict[Row, str] = {}
    film, width = [], size[0] * W + 2 * EDGE
    for index, frame in enumerate(shown):
        used = [
            f'<use href="#{names.setdefault(row, f"r{len(names)}")}" y="{y * H:g}"/>'
            for y, row in enumerate(frame.rows)
        ]
        says = f'<text class="says" y="{size[1] * H + 20:g}">{frame.says}</text>'
        film.append(f'<g transform="translate({index * width:g} 0)">{"".join(used)}{says}</g>\n')
    defined = [f'<g id="{name}">{drawing.row(row)}</g>\n' for row, name in names.items()]
    still = max(i for i, frame in enumerate(shown) if frame.says == STILL)
    style = _style([frame.time for frame in shown], end, (width, still))
    inside = (
        f"<style>{drawing.styles()}{style}</style>\n<defs>{''.join(defined)}</defs>\n"
        f'<g class="film">{"".join(film)}</g>'
    )
    words = ("gpt-tui writes a text; a person opens tokens and turns the temperature", "gpt-tui")
    SVG.write_text(window((size[0], size[1] + 2), drawing.ground, inside, words), encoding="utf-8")


def _style(times: list[float], end: float, shown: tuple[float, int]) -> str:
    """The rules that move the film. shown: width of a frame, index of the still one."""
    width, still = shown
    length = end - times[0]
    steps = "".join(
        f"{100 * (time - times[0]) / length:.2f}%{{transform:translateX({-i * width:g}px)}}"
        for i, time in enumerate(times)
    )
    return (
        f"@keyframes film{{{steps}}}.film{{animation:film {length:.2f}s step-end infinite}}"
        ".says{fill:#ffb86c;font-weight:bold}"
        "@media(prefers-reduced-motion:reduce)"
        f"{{.film{{animation:none;transform:translateX({-still * width:g}px)}}}}"
    )


def main() -> None:
    """Record and draw."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--draw", action="store_true", help="only draw the cast again")
    if not parser.parse_args().draw:
        record()
    draw()


if __name__ == "__main__":
    main()
