"""What if, two models on one text, named continuations, by the keys that a person has."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widgets import DataTable, Input, OptionList, Static

from gpt.checkpoint import save
from gpt.settings import Sampling
from gpt.tokenizer import CharTokenizer
from tests.conftest import CHARACTERS, random_model
from tests.tui.fake import FakeBackend, app_with, main_screen, reading, running, token
from tests.tui.test_app import complaints, until_written, write
from tests.tui.test_branching import at
from tui.app import GPTApp
from tui.backend import BackendError
from tui.document import Node
from tui.sampling_words import Spelling, differences
from tui.screens.comparison import ComparisonScreen, Side, WhatIfScreen
from tui.screens.main import MainScreen
from tui.screens.model_comparison import ModelComparisonScreen
from tui.screens.models import ModelPicker
from tui.screens.options import OptionsScreen
from tui.widgets.dial import Dial
from tui.widgets.inspector import Inspector
from tui.widgets.token_view import TokenView


async def until_shown(pilot: Pilot[None], app: GPTApp, kind: type[Screen[None]]) -> None:
    for _ in range(500):
        if isinstance(app.screen, kind):
            await pilot.pause()
            return
        await pilot.pause(0.01)
    raise AssertionError(f"{app.screen} is shown")


async def test_the_same_dice_with_another_setting_beside_the_original() -> None:
    backend = FakeBackend("hello")
    app = app_with(backend, seed=7)
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        screen.query_one("#seed", Dial).value = "99"
        screen.query_one("#temperature", Dial).value = "1.5"
        await at(pilot, screen, 0)  # in the prompt: everything that was drawn
        backend.reply = "hexx"
        await pilot.press("f8")
        while not isinstance(app.screen, ComparisonScreen):
            await pilot.pause()
        request = backend.requests[-1]
        assert (request.ids, request.max_new_tokens) == ([*map(ord, "ab")], 5)
        assert (request.sampling.seed, request.sampling.temperature) == (7, 1.5)
        shown, _ = str(app.screen.query_one(Static).render()).split("\n")
        assert shown == "Same random seed; temperature 0.8 → 1.5"
        old, new = app.screen.query(TokenView)
        await pilot.pause()
        underlined = [
            "".join(s.text for s in view.render_line(0) if s.style and s.style.underline)
            for view in (old, new)
        ]
        assert underlined == ["lo", "x"]  # the first ones are selected, and look like that
        await pilot.press("escape")
        # The reader is where they were, with its numbers; the other text is a branch.
        assert main_screen(app).document.text == "abhello"
        assert screen.document.path[3].sampling != request.sampling
        assert screen.document.branches(2) == 2
        await at(pilot, screen, 4)
        await pilot.press("right_square_bracket")
        assert screen.document.text == "abhexx"
        assert screen.document.path[5].sampling == request.sampling


@pytest.mark.parametrize(
    ("key", "text", "n_branches"),
    [("escape", "abhello", 2), ("enter", "abhexx", 2), ("delete", "abhello", 1)],
)
async def test_the_reader_keeps_both_texts_or_one(key: str, text: str, n_branches: int) -> None:
    backend = FakeBackend("hello")
    app = app_with(backend, seed=7)
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        await at(pilot, screen, 0)
        backend.reply = "hexx"
        await pilot.press("f8")
        while not isinstance(app.screen, WhatIfScreen):
            await pilot.pause()
        await pilot.press(key)
        while isinstance(app.screen, WhatIfScreen):
            await pilot.pause()
        await pilot.pause()
        assert screen.document.text == text
        assert screen.document.branch_count == n_branches
        if key == "delete":
            await pilot.press("z")
            assert (screen.document.text, screen.document.branch_count) == ("abhello", 2)


async def test_what_if_wants_something_that_was_drawn() -> None:
    app = app_with(FakeBackend(), score="abcd")
    async with running(app) as pilot:
        screen = main_screen(app)
        await until_written(pilot, screen)
        await pilot.press("f8")
        assert "Nothing was sampled" in complaints(app)[-1]
        assert screen.document.text == "abcd"


def test_differences_name_settings_and_values() -> None:
    a = Sampling(temperature=0.5, seed=3)
    assert differences(a, a) == "no setting differs"
    b = Sampling(temperature=0.7, seed=3, banned=((4,),))
    assert differences(a, b) == "temperature 0.5 → 0.7, banned nothing → #4"
    assert "not known" in differences(None, b)


def test_differences_name_banned_and_boosted_tokens_as_a_person_wrote_them() -> None:
    the, king, of_king = (58, 46, 43), (9, 8), (1, 9, 8)
    spelling = Spelling(
        {" the": (the,), "king": (king, of_king), "kin": ((9,),), "": (), '"a"': ((2,),)},
        {7: b"e", 5: b"\n"},
    )
    a = Sampling(banned=(the,))
    assert differences(a, Sampling(), spelling) == 'banned " the" → nothing'
    b = Sampling(banned=((2,), the, (7,), (3, 7), king, of_king), boosted=(((5,), 2), ((6,), 2)))
    assert differences(a, b, spelling) == (
        'banned " the" → "king", " the", "a", "e", #3 #7, boosted nothing → "⏎" +2, #6 +2'
    )
    half = Sampling(banned=(king,))  # one of two forms is not the word
    assert differences(half, Sampling(), spelling) == "banned #9 #8 → nothing"


async def test_what_if_says_which_ban_is_gone() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app) as pilot:
        screen = main_screen(app)
        banned = screen.query_one("#banned", Input)
        banned.value = "·the"
        await pilot.pause()
        await write(pilot, app, "ab")
        await at(pilot, screen, 3)
        banned.value = ""
        await pilot.press("f8")
        await until_written(pilot, screen)
        while not isinstance(app.screen, ComparisonScreen):
            await pilot.pause()
        shown, _ = str(app.screen.query_one(Static).render()).split("\n")
        assert shown == 'Same random seed; banned " the" → nothing'


async def beside(pilot: Pilot[None], app: GPTApp, key: str, kind: type[Screen[None]]) -> None:
    """Press the key and choose the second model of the list."""
    await pilot.press(key)
    assert isinstance(app.screen, ModelPicker)
    app.screen.query_one(OptionList).highlighted = 1
    await pilot.press("enter")
    await until_shown(pilot, app, kind)


@pytest.fixture
def other(home: Path) -> None:
    save(home / "models" / "other", random_model(), CharTokenizer(CHARACTERS))


@pytest.mark.usefixtures("other")
async def test_two_models_of_one_vocabulary_read_the_text() -> None:
    backend = FakeBackend("hello")
    backend.divergence = [0.1, 0.0, math.log(2), 0.2, 3.0, 0.1]
    app = app_with(backend)
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        await at(pilot, screen, 0)
        await beside(pilot, app, "v", ModelComparisonScreen)
        assert backend.loaded == [("fake", False), ("other", True)]
        assert not backend.second
        facts = str(app.screen.query_one("#facts", Static).render())
        # The fake gives 20 % to every token that it reads.
        assert "other: 2.322 bits per character, perplexity 5.00" in facts
        mean = sum(backend.divergence) / 6 / math.log(2)
        assert f"KL(fake ‖ other) {mean:.3f} bits a token · 2 disagreements" in facts
        own, theirs = app.screen.query(TokenView)
        await pilot.press("d")
        await pilot.pause()
        assert (own.index, theirs.index) == (3, 3)
        here = str(app.screen.query_one("#here", Static).render())
        assert here == "here e: 1.15 bits and 2.32 bits, KL divergence 1.000 bits"
        steps = [inspector.step for inspector in app.screen.query(Inspector)]
        assert steps[0] is screen.document.path[3].step
        assert steps[1] and steps[1].logprob == math.log(0.2)
        await pilot.press("d", "d")
        assert own.index == 5
        assert complaints(app)[-1] == "No disagreement after this token."
        await pilot.press("D", "right")
        await pilot.pause()
        assert (own.index, theirs.index) == (4, 4)
        theirs.focus()
        await pilot.press("left", "left")
        await pilot.pause()
        assert (own.index, theirs.index) == (2, 2)
        await pilot.press("escape")
        assert isinstance(app.screen, MainScreen)
        assert screen.document.text == "abhello"
        await pilot.press("escape")
        await write(pilot, app, "c")  # the first model is still there
        assert screen.document.text == "abhellochello"


@pytest.mark.usefixtures("other")
async def test_two_models_of_different_vocabularies_meet_where_their_tokens_end() -> None:
    backend = FakeBackend("hello")  # its second model has tokens of two characters
    app = app_with(backend)
    async with running(app) as pilot:
        screen = await write(pilot, app, "abc")
        await at(pilot, screen, 0)
        await beside(pilot, app, "v", ModelComparisonScreen)
        facts = str(app.screen.query_one("#facts", Static).render())
        assert "other: 1.161 bits per character" in facts and "KL" not in facts
        own, theirs = app.screen.query(TokenView)
        await pilot.press("right", "right", "right")
        await pilot.pause()
        assert (own.index, theirs.index) == (3, 1)
        here = str(app.screen.query_one("#here", Static).render())
        assert here == "here ch: 1.15 bits and 2.32 bits"


@pytest.mark.usefixtures("other")
async def test_what_another_model_would_have_written() -> None:
    backend = FakeBackend("hello")
    app = app_with(backend, seed=7)
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        screen.query_one("#temperature", Dial).value = "1.5"
        await at(pilot, screen, 3)
        backend.reply = "xyz"
        await beside(pilot, app, "w", ComparisonScreen)
        request = backend.requests[-1]
        assert request.second and request.ids == [*map(ord, "abh")]
        assert (request.sampling.seed, request.sampling.temperature) == (7, 0.8)
        titles = [str(view.border_title) for view in app.screen.query(TokenView)]
        assert titles == ["fake", "other"]
        shown = str(app.screen.query_one(Static).render())
        assert "(4 tokens)" in shown and shown.endswith("(3 tokens)")
        await pilot.press("escape")
        assert screen.document.text == "abhello"  # another model's numbers are not the text's
        assert len(list(screen.document.nodes())) == 7


@pytest.mark.usefixtures("other")
async def test_at_the_end_of_a_text_all_that_was_drawn_there_is_compared() -> None:
    backend = FakeBackend("hello")
    app = app_with(backend, seed=7)
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        await at(pilot, screen, 6)
        await beside(pilot, app, "w", ComparisonScreen)
        assert backend.requests[-1].ids == [*map(ord, "ab")]
        await pilot.press("escape", "v")
        picker = app.screen
        assert isinstance(picker, ModelPicker)
        assert picker.options.highlighted == 0, "the first model that is another one"
        await pilot.press("down", "enter")
        await until_shown(pilot, app, ModelComparisonScreen)
        await pilot.pause()
        assert [view.index for view in app.screen.query(TokenView)] == [6, 3]  # two letters a token


@pytest.mark.usefixtures("other")
async def test_a_second_model_that_fails_is_said_and_gone() -> None:
    backend = FakeBackend("hello")
    app = app_with(backend)
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        await at(pilot, screen, 3)
        backend.error = BackendError("[b]too large")
        await pilot.press("v", "down", "enter")
        await until_written(pilot, screen)
        assert complaints(app)[-1] == "other: [b]too large"
        assert not backend.second
        assert isinstance(app.screen, MainScreen)


async def test_named_continuations_are_ranked_and_taken() -> None:
    backend = FakeBackend("hello")
    app = app_with(backend)
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        await at(pilot, screen, 3)
        await pilot.press("k")
        assert isinstance(app.screen, OptionsScreen)
        for text in (" no", "yes", " [b]"):
            app.screen.query_one(Input).value = text
            await pilot.press("enter")
            await pilot.pause()
        assert backend.asked_options == [([*map(ord, "abhe")], [t]) for t in (" no", "yes", " [b]")]
        table = app.screen.query_one(DataTable)
        rows = [[str(cell) for cell in table.get_row_at(i)] for i in range(table.row_count)]
        assert rows[0] == ["·no", "4.00 %", "4.64", "1.548", "·n 20.0 %  o 20.0 %"]
        assert [row[0] for row in rows] == ["·no", "yes", "·[b]"]
        backend.error = BackendError("no\x1b such character")
        app.screen.query_one(Input).value = "é"
        await pilot.press("enter")
        await pilot.pause()
        assert "no␛ such" in str(app.screen.query_one(Input).border_subtitle)
        backend.error = None
        table.focus()
        await pilot.press("down", "enter")
        await until_written(pilot, screen)
        request = backend.requests[-1]
        assert (request.ids, request.text) == ([*map(ord, "abhe")], "yes")
        assert screen.document.text == "abheyes"


async def test_a_beginning_that_is_cut_otherwise_is_not_another_beginning() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        view = screen.query_one(TokenView)
        other = [Node(step, is_prompt=False) for step in reading("abheXY")]  # two by two
        view.compare_with(other)
        await pilot.pause()
        found = "".join(s.text for s in view.render_line(0) if s.style and s.style.underline)
        assert found.strip() == "ll"  # the last token is the selected one


async def test_two_branches_are_shown_where_they_part() -> None:
    same = [Node(token(i, "word\n"), False) for i in range(200)]
    left = [*same, *(Node(token(200 + i, "left\n"), False) for i in range(100))]
    right = [*same, Node(token(200, "right\n"), False)]
    app = app_with(FakeBackend("hello"))
    async with running(app, (80, 24)) as pilot:
        screen = ComparisonScreen("", Side("a", left, 200), Side("b", right, 200))
        app.push_screen(screen)
        for _ in range(3):
            await pilot.pause()
        views = list(screen.query(TokenView))
        assert [view.index for view in views] == [200, 200]
        rows = "\n".join(row.text for row in screen._compositor.render_strips())
        assert "left" in rows and "right" in rows
