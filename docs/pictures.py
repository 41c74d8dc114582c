"""Take the pictures in the documents again: the real program, the model that ships.

    .venv/bin/python -m docs.pictures [NAME ...] [--data tinyshakespeare.txt]

The second model is a table of pairs (`--preset bigram`), which is trained first, in seconds.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from docs.drawing import picture
from docs.program import Program

HERE = Path(__file__).parent
TOKEN = 34
"""Index of the selected token."""
LARGE, MIDDLE = (120, 40), (100, 30)
SELECTED = ("tab", "home", *["right"] * TOKEN)
WRITTEN = ("?Done: ", *SELECTED)
"""The run is complete, and a token is selected."""
SLIDING = (
    *("?context 0", "ctrl+p", "set slide", "?Tick: Slide context", "enter", " ", "escape"),
    *("ROMEO:", "enter", *WRITTEN),
)
"""The same with a text that is longer than the context."""
NAME = "KING RICHARD"
NAMED = ("?Done: ", "tab", "home", *["right"] * len(NAME), "L")
"""The inside at the token after a name."""
LIGHT = 'theme = "textual-light"'
COLOUR_BLIND = 'heat_map = "colour-blind"'
TEMPERATURE = ("ctrl+p", "set temperature", "?Set temperature", "enter", *["right"] * 5)
"""Go to the temperature, and raise it by half."""


@dataclass(frozen=True)
class Picture:
    """How one picture comes about."""

    title: str
    """What it shows, for people who do not see it."""
    steps: tuple[str, ...] = ()
    """Keys of tests/terminal.py; "?PATTERN" waits for a text on the screen."""
    size: tuple[int, int] = LARGE
    length: int = 220
    """Most tokens of a run."""
    prompt: str = "ROMEO:"
    preferences: str = ""
    """The settings file."""


PICTURES = {
    "main": Picture(
        "A text, the selected token's candidates, and the sampling settings",
        SLIDING,
        length=700,
        prompt="",
    ),
    "welcome": Picture("An empty text with opening lines", ("?context 0",), MIDDLE, prompt=""),
    "settings": Picture(
        "The temperature was raised: bars move, and a table shows each setting's effect",
        (*WRITTEN, "f2", *TEMPERATURE),
    ),
    "layers": Picture(
        "Each layer's guess, and where its heads look",
        (*WRITTEN, "a", "?looks at", "up", "up", "right"),
    ),
    "branches": Picture(
        "A text with four branches, one with a star, one with a name",
        (
            *(*WRITTEN, "2", "home", *["right"] * 70, "2"),
            *("home", *["right"] * TOKEN, "3"),
            *("t", "s", "up", "n", "the king", "enter"),
        ),
        length=110,
    ),
    "which-key": Picture("All keys of the text, in groups", (*WRITTEN, " ")),
    "presenter": Picture("Presenter mode: the text and large bars", (*WRITTEN, "P"), MIDDLE),
    "80x24": Picture("A terminal of 80 columns and 24 rows", WRITTEN, (80, 24)),
    "60x20": Picture("A terminal of 60 columns and 20 rows", WRITTEN, (60, 20)),
    "light": Picture("A light theme", SLIDING, MIDDLE, length=700, prompt="", preferences=LIGHT),
    "colour-blind": Picture(
        "The heat map for colour-blind people",
        SLIDING,
        MIDDLE,
        length=700,
        prompt="",
        preferences=COLOUR_BLIND,
    ),
    "what-if": Picture(
        "The same random seed at two temperatures, side by side",
        (*WRITTEN, *TEMPERATURE, "ctrl+l", "a", "home", "f8", "?What if"),
        (112, 30),
    ),
    "inside-lens": Picture(
        "The logit lens over a text: the name is decided in the last three layers",
        (*NAMED, "1"),
        MIDDLE,
        prompt=NAME,
        length=60,
    ),
    "inside-why": Picture(
        "The parts of a logit: the MLP of layer 6 wrote most of it",
        (*NAMED, "4"),
        MIDDLE,
        prompt=NAME,
        length=60,
    ),
    "inside-knockout": Picture(
        "The text without the MLP of layer 6, coloured by what changed",
        (*NAMED, "7", "H", " "),
        MIDDLE,
        prompt=NAME,
        length=60,
    ),
    "two-models": Picture(
        "Two models read one text, side by side",
        (*WRITTEN, "home", "v", "home", "down", "enter", "?bits per character", "d"),
        (110, 32),
    ),
}


def take(name: str, home: Path) -> None:
    """Write docs/NAME.svg. home: directory of models, texts and preferences."""
    how = PICTURES[name]
    (home / "settings.toml").write_text(how.preferences + "\n", encoding="utf-8")
    start = ["--prompt", how.prompt] if how.prompt else []
    program = Program(home, how.size, "--seed", "1", "-n", str(how.length), *start)
    try:
        for step in how.steps:
            if step.startswith("?"):
                program.see(step[1:])
            else:
                program.press(step)
                if step not in ("left", "right", "up", "down"):
                    program.settle()
        program.settle()
        (HERE / f"{name}.svg").write_text(picture(program.rows, how.title), encoding="utf-8")
    finally:
        program.kill()


def train(home: Path, data: str | None) -> None:
    """The second model."""
    command = [sys.executable, "-m", "gpt", "train", "--preset", "bigram"]
    command += ["--out", f"{home}/models/bigram", *(["--data", data] if data else [])]
    subprocess.run(command, check=True)


def main() -> None:
    """Take those that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PICTURES))
    parser.add_argument("--data", help="tiny Shakespeare; default: download it")
    arguments = parser.parse_args()
    names = arguments.names or list(PICTURES)
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        if "two-models" in names:
            train(home, arguments.data)
        for name in names:
            take(name, home)


if __name__ == "__main__":
    main()
