"""Take the pictures of the README and of docs/using.md again, from the shipped model.

    .venv/bin/python docs/pictures.py [--data tinyshakespeare.txt]

The second model is a table of pairs (`--preset bigram`), which is trained first, in seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from textual.pilot import Pilot
from textual.screen import Screen

from tui.app import GPTApp
from tui.backend import Connection
from tui.local_backend import LocalBackend
from tui.screens.main import MainScreen, Opening
from tui.session import Session

HERE = Path(__file__).parent
MODEL = "shakespeare"
TOKEN = 34
"""Index of the selected token."""


def connect(model: str) -> Connection:
    """An engine that does not depend on compiled code, so that the pictures repeat."""
    backend = LocalBackend(device="cpu", dtype="auto", threads=1, compile="off").start()
    return backend, backend.load(model)


@asynccontextmanager
async def program(size: tuple[int, int]) -> AsyncIterator[tuple[MainScreen, Pilot[None]]]:
    """The program after a run of 180 tokens, with a token selected."""
    session = Session(connect, connect(MODEL), MODEL)
    screen = MainScreen(session, Opening(prompt="ROMEO:", seed=1, length=180))
    app = GPTApp(screen)
    async with app.run_test(size=size) as pilot:
        while session.is_busy or len(session.document.path) < TOKEN:
            await pilot.pause(0.1)
        await press(pilot, "tab", "home", *["right"] * TOKEN)
        yield screen, pilot


async def press(pilot: Pilot[None], *keys: str) -> None:
    """Press keys, and wait until the screen has drawn what follows."""
    await pilot.press(*keys)
    await pilot.pause(1)


async def until_shown(pilot: Pilot[None], name: str) -> None:
    """Wait for a screen by the name of its class."""
    while type(pilot.app.screen).__name__ != name:
        await pilot.pause(0.1)
    await pilot.pause(1)


def save(screen: Screen[object], name: str) -> None:
    """Write the screen as docs/NAME.svg."""
    picture = screen.app.export_screenshot(title="gpt-tui")
    # What Textual leaves at the end of lines would be a difference in the next picture.
    lines = (line.rstrip() for line in picture.splitlines())
    (HERE / f"{name}.svg").write_text("\n".join(lines) + "\n", encoding="utf-8")


async def take() -> None:
    """All pictures, each of a size that suits it."""
    async with program((120, 32)) as (screen, pilot):
        save(screen, "main")
        await press(pilot, "f2")
        save(screen, "settings")
    async with program((112, 24)) as (screen, pilot):
        await pilot.press("home")
        if screen.controls:
            screen.controls.set("temperature", 1.2)
        await press(pilot, "f8")
        await until_shown(pilot, "ComparisonScreen")
        save(pilot.app.screen, "what-if")
    async with program((110, 32)) as (_, pilot):
        await press(pilot, "home", "v", "home", "down", "enter")
        await until_shown(pilot, "ModelComparisonScreen")
        await press(pilot, "d")
        save(pilot.app.screen, "two-models")


def main() -> None:
    """Train the second model in a home of its own, then take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", help="tiny Shakespeare; default: download it")
    data = parser.parse_args().data
    with tempfile.TemporaryDirectory() as home:
        os.environ["GPT_TUI_HOME"] = home
        command = [sys.executable, "-m", "gpt", "train", "--preset", "bigram"]
        command += ["--out", f"{home}/models/bigram", *(["--data", data] if data else [])]
        subprocess.run(command, check=True)
        asyncio.run(take())


if __name__ == "__main__":
    main()
